"""The confirmation page in a real browser: looking does nothing, the keyboard can confirm.

Driven over Chromium's pipe for debuggers; without a Chromium the tests are skipped and say so.
"""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.test import Client

from django_hookflow import workflow
from tests.django.harness import drain, hookflow_settings, messages, post, row

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path"),
]

QUESTION = "Approve <script>document.title='owned'</script> order 42?"

mailed: list[str] = []


@workflow(workflow_id="tests.callback_browser.asks")
def asks(ctx: Any) -> Any:
    cb = ctx.step.callback("approve", confirm=QUESTION)
    ctx.step.run("mail", mailed.append, cb.url)
    return ctx.step.wait_for_callback(cb)


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def base() -> Iterator[str]:
    server = ThreadedWSGIServer(("127.0.0.1", 0), Quiet, connections_override={})
    server.set_app(WSGIHandler())
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    with hookflow_settings(DJANGO_HOOKFLOW_WEBHOOK_PATH="/hookflow/"):
        messages()
        mailed.clear()
        yield address
        messages()
    server.shutdown()
    thread.join()
    server.server_close()


class Browser:
    """One tab, over the pipe: a message of JSON, a NUL, and so back."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back = to, back
        self._number, self._left = 0, b""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]

    _session = ""

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            read = os.read(self._back, 65_536)
            assert read, "the browser is gone"
            self._left += read
        text, _, self._left = self._left.partition(b"\0")
        return dict(json.loads(text))

    def value(self, expression: str) -> Any:
        return self.ask("Runtime.evaluate", expression=expression)["result"].get("value")

    def open(self, url: str) -> None:
        self.ask("Page.navigate", url=url)
        self.wait_for("document.readyState == 'complete'")

    def press(self, key: str, code: int) -> None:
        text = {"text": "\r"} if key == "Enter" else {}
        facts = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **facts, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **facts)

    def wait_for(self, expression: str) -> None:
        until = time.monotonic() + 20
        while not self.value(expression):
            assert time.monotonic() < until, self.value("document.documentElement.outerHTML")
            time.sleep(0.05)


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    ours, theirs = os.pipe(), os.pipe()
    command = (
        f'exec "$0" --headless --no-sandbox --disable-gpu --disable-background-networking'
        f" --disable-component-update --remote-debugging-pipe --user-data-dir={folder}"
        f" about:blank 3<&{ours[0]} 4>&{theirs[1]}"
    )
    process = subprocess.Popen(
        ["bash", "-c", command, str(CHROMIUM)],
        pass_fds=(ours[0], theirs[1]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(ours[0])
    os.close(theirs[1])
    try:
        yield Browser(ours[1], theirs[0])
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours[1])
        os.close(theirs[0])


def test_a_person_confirms_by_keyboard(base: str, tmp_path: Path) -> None:
    run_id = asks.trigger()
    [first] = messages()
    post(Client(), first.body.encode())
    [expiry] = messages()
    url = mailed[0].replace("https://app.example", base)
    with chromium(tmp_path / "profile") as browser:
        browser.open(url)
        assert browser.value("document.querySelector('h1').textContent") == QUESTION
        assert browser.value("document.title") == QUESTION
        weight = "getComputedStyle(document.querySelector('button')).fontWeight"
        assert browser.value(weight) == "600", "its own policy refuses its style"
        assert row(run_id).events.count() == 0
        browser.press("Tab", 9)
        assert browser.value("document.activeElement.tagName") == "BUTTON"
        browser.press("Enter", 13)
        browser.wait_for("document.querySelector('h1').textContent == 'Thank you'")
        browser.open(url)
        browser.value("document.querySelector('button').click()")
        browser.wait_for("document.querySelector('h1').textContent == 'Nothing was changed'")
    assert expiry.delay > 86_400
    drain(Client())
    run = row(run_id)
    assert (run.status, run.result) == ("completed", {"confirmed": True})
    assert run.events.count() == 1
