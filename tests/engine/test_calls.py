"""``ctx.step.call`` against a small HTTP server of our own."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from django_hookflow import CallResponse, RetryPolicy
from django_hookflow.exceptions import CallFailed

from .harness import World


class Api:
    """Answers with what ``answers`` says, in turn, and keeps what it was asked."""

    def __init__(self):
        self.answers, self.requests = [], []
        api = self

        class Answering(BaseHTTPRequestHandler):
            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                api.requests.append(
                    (self.command, self.path, dict(self.headers), self.rfile.read(length))
                )
                status, headers, body = api.answers.pop(0) if api.answers else (200, {}, b"{}")
                if status is None:  # charged, and the answer lost
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


JSON = {"Content-Type": "application/json"}


@pytest.fixture
def api():
    api = Api()
    yield api
    api.close()


def calling(*args, **kwargs):
    async def flow(ctx):
        response = await ctx.step.call("call", *args, **kwargs)
        return [response.status_code, response["data"]]

    return flow


def test_a_call_is_made_once_and_its_answer_replayed(world, api):
    api.answers = [(200, JSON, b'{"id": 7}')]
    seen = []

    async def flow(ctx):
        response = await ctx.step.call("charge", f"{api.url}/charge", "post", {"amount": 5})
        seen.append(response)
        await ctx.step.sleep("nap", 60)
        return response["data"]["id"]

    assert world.run(flow).result == 7
    assert seen[0] == seen[1]
    assert isinstance(seen[0], CallResponse)
    assert seen[0].headers["content-type"] == "application/json"
    [(method, path, headers, body)] = api.requests
    assert (method, path, json.loads(body)) == ("POST", "/charge", {"amount": 5})
    assert len(headers["Idempotency-Key"]) == 64


def test_a_def_workflow_calls_too(world, api):
    api.answers = [(200, {"Content-Type": "text/plain"}, b"plain")]

    def flow(ctx):
        return ctx.step.call("x", api.url, params={"q": "a b"}).data

    assert world.run(flow).result == "plain"
    assert api.requests[0][1] in {"/?q=a+b", "/?q=a%20b"}  # of httpx 0.28, and of 0.27


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_transient_answers_are_tried_again_under_one_key(world, api, status):
    api.answers = [(status, {}, b""), (None, {}, b""), (200, JSON, b'"ok"')]
    assert world.run(calling(api.url, "POST")).result == [200, "ok"]
    keys = {headers["Idempotency-Key"] for _, _, headers, _ in api.requests}
    assert (len(api.requests), len(keys)) == (3, 1)


def test_another_4xx_fails_at_once(world, api):
    api.answers = [(402, JSON, b'{"error": "declined"}')]

    async def flow(ctx):
        try:
            await ctx.step.call("charge", api.url)
        except CallFailed as error:
            await ctx.step.sleep("nap", 60)
            return [error.attempts, error.response.status_code, error.response.data["error"]]

    assert world.run(flow).result == [1, 402, "declined"]
    assert len(api.requests) == 1


def test_without_raise_for_status_every_answer_is_a_value(world, api):
    api.answers = [(402, JSON, b'"declined"')]
    assert world.run(calling(api.url, raise_for_status=False)).result == [402, "declined"]
    api.answers = [(500, {}, b"down")] * 2
    world2 = World()
    run = world2.run(
        calling(api.url, raise_for_status=False),
        retry=RetryPolicy(max_attempts=2, initial_delay=0),
    )
    assert run.result == [500, "down"]


def test_retry_after_is_honoured(world, api):
    api.answers = [(429, {"Retry-After": "120"}, b""), (200, JSON, b"1")]
    before = world.clock.monotonic()
    assert world.run(calling(api.url)).result == [200, 1]
    assert world.clock.monotonic() - before >= 120
    if world.usual:
        assert world.messages == 2


def test_no_answer_is_a_failed_call_without_a_response(world):
    async def flow(ctx):
        try:
            await ctx.step.call("gone", "http://127.0.0.1:9/")
        except CallFailed as error:
            return [error.attempts, error.response, error.error_type.rpartition(".")[2]]

    run = world.run(flow, retry=RetryPolicy(max_attempts=2, initial_delay=0))
    assert run.result == [2, None, "CallError"]


@pytest.mark.parametrize("url", ["ftp://x/", "nonsense", None, "http:///x"])
def test_a_url_that_can_never_work_is_refused_before_anything_executes(world, url):
    run = world.run(calling(url))
    assert run.status == "failed"
    assert "an http:// or https:// URL" in run.error.message
    assert world.steps() == []


@pytest.mark.parametrize(
    ("given", "sent"), [(None, 64), ("mine", "mine"), (False, None)], ids=["own", "given", "none"]
)
def test_idempotency_keys(world, api, given, sent):
    world.run(calling(api.url, idempotency_key=given))
    key = api.requests[0][2].get("Idempotency-Key")
    assert len(key) == sent if isinstance(sent, int) else key == sent


def test_a_header_of_the_user_s_wins(world, api):
    world.run(calling(api.url, headers={"idempotency-key": "theirs", "X-A": "b"}))
    headers = {name.lower(): value for name, value in api.requests[0][2].items()}
    assert (headers["idempotency-key"], headers["x-a"]) == ("theirs", "b")


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ("text", b"text"),
        (b"bytes", b"bytes"),
        ([1, 2], b"[1,2]"),
        ({"a": "b"}, b'{"a":"b"}'),
        (None, b""),
    ],
)
def test_bodies(world, api, body, sent):
    world.run(calling(api.url, "POST", body))
    assert api.requests[0][3].replace(b" ", b"") == sent


def test_set_cookie_is_not_journaled(world, api):
    api.answers = [(200, {"Set-Cookie": "session=secret", **JSON}, b"1")]
    world.run(calling(api.url))
    assert "secret" not in world.steps()[0].value


def test_a_call_that_takes_too_long_is_a_failed_attempt(world, api):
    hold = threading.Event()

    class Waiting(list):
        def pop(self, index):
            hold.wait(1)
            return (200, {}, b"")

    api.answers = Waiting([1])
    policy = RetryPolicy(max_attempts=1)
    run = world.run(calling(api.url, timeout=0.1), retry=policy)
    hold.set()
    assert run.status == "failed"
    assert "no answer in 0.1 s" in run.error.message
