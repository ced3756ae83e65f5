"""Two applications on Upstash's own workflow package, for ``test_upstash_workflow.py``.

``python workflow_apps.py fastapi`` (or ``flask``) serves one on a free port and prints its URL.
Signatures are checked: the keys come by the environment.
"""

from __future__ import annotations

import json
import sys
import time
import wsgiref.simple_server
from socketserver import ThreadingMixIn

DONE: list[list[object]] = []
HOUR = 3_600


def body(name: str, value: object) -> object:
    DONE.append([name, value])
    return value


def fastapi_app():
    from fastapi import FastAPI
    from upstash_workflow.fastapi import Serve

    app = FastAPI()
    serve = Serve(app)

    async def failed(context, status, response, headers):
        sent = {name.lower(): value for name, value in context.headers.items()}
        body("failed", [context.request_payload, status, response, sent.get("x-shop")])

    @serve.post("/order", retries=1, failure_function=failed)
    async def order(context):
        total = await context.run("total", lambda: body("total", context.request_payload["n"] * 2))
        await context.sleep("an hour", HOUR)
        charge = await context.call(
            "charge", url=context.request_payload["bank"], method="POST",
            body={"total": total}, headers={"X-Shop": "us"}, retries=1,
        )  # fmt: skip
        paid = await context.run("paid", lambda: body("paid", [charge.status, charge.body]))
        await context.sleep_until("two hours later", time.time() + 4 * HOUR)
        await context.run("thank", lambda: body("thank", paid))

    @serve.post("/broken", retries=1, failure_function=failed)
    async def broken(context):
        await context.run("first", lambda: body("first", "ok"))

        def breaks():
            body("breaks", "")
            raise ValueError("out of stock")

        await context.run("second", breaks)

    @app.get("/done")
    async def done():
        return DONE

    return app


def flask_app():
    from flask import Flask, jsonify
    from upstash_workflow.flask import Serve

    app = Flask("shop")
    serve = Serve(app)

    def failed(context, status, response, headers):
        sent = {name.lower(): value for name, value in context.headers.items()}
        body("failed", [context.request_payload, status, response, sent.get("x-shop")])

    @serve.route("/order", retries=1, failure_function=failed)
    def order(context):
        total = context.run("total", lambda: body("total", context.request_payload["n"] * 2))
        context.sleep("an hour", HOUR)
        charge = context.call(
            "charge", url=context.request_payload["bank"], method="POST",
            body={"total": total}, headers={"X-Shop": "us"}, retries=1,
        )  # fmt: skip
        paid = context.run("paid", lambda: body("paid", [charge.status, charge.body]))
        context.sleep_until("two hours later", time.time() + 4 * HOUR)
        context.run("thank", lambda: body("thank", paid))

    @serve.route("/broken", retries=1, failure_function=failed)
    def broken(context):
        context.run("first", lambda: body("first", "ok"))

        def breaks():
            body("breaks", "")
            raise ValueError("out of stock")

        context.run("second", breaks)

    @app.get("/done")
    def done():
        return jsonify(DONE)

    return app


class Threads(ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


def main(which: str) -> None:
    if which == "fastapi":
        import socket

        import uvicorn

        # Importing takes a while: who reads the URL expects an answer at once.
        config = uvicorn.Config(fastapi_app(), log_level="warning")
        listener = socket.create_server(("127.0.0.1", 0))
        print(json.dumps(f"http://127.0.0.1:{listener.getsockname()[1]}"), flush=True)
        uvicorn.Server(config).run(sockets=[listener])
        return
    with wsgiref.simple_server.make_server("127.0.0.1", 0, flask_app(), Threads) as server:
        print(json.dumps(f"http://127.0.0.1:{server.server_port}"), flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
