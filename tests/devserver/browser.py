"""A headless Chromium, spoken to by the WebDriver protocol, with nothing but httpx."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
TAB, ENTER, SPACE, END = "\ue004", "\ue007", " ", "\ue010"


class Browser:
    """One window."""

    def __init__(self, http: httpx.Client, session: str) -> None:
        self._http = http
        self._base = f"/session/{session}"

    def _post(self, path: str, **body: Any) -> Any:
        answer = self._http.post(self._base + path, json=body)
        assert answer.is_success, answer.text
        return answer.json()["value"]

    def devtools(self, command: str, **params: Any) -> Any:
        return self._post("/goog/cdp/execute", cmd=command, params=params)

    def open(self, url: str) -> None:
        self._post("/url", url=url)

    def run(self, script: str, *arguments: Any) -> Any:
        return self._post("/execute/sync", script=script, args=list(arguments))

    def press(self, *keys: str) -> None:
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._post("/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def tab_to(self, script: str) -> None:
        """Press Tab until the focus is where ``script`` says, of ``document.activeElement``."""
        for _ in range(60):
            self.press(TAB)
            if self.run(f"const it = document.activeElement; return Boolean({script})"):
                return
        raise AssertionError(f"Tab never comes to {script}")

    def wait(self, script: str, seconds: float = 10.0) -> None:
        end = time.monotonic() + seconds
        while not self.run(f"return Boolean({script})"):
            assert time.monotonic() < end, f"never: {script}\n{self.text()}"
            time.sleep(0.05)

    def text(self) -> str:
        return self.run("return document.body.innerText")

    def look(self, width: int, height: int, scheme: str) -> None:
        """Be a window of that size in which this colour scheme is preferred."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height,
                      deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.devtools("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, path: Path) -> None:
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=False)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """What the console said."""
        return [entry["message"] for entry in self._post("/se/log", type="browser")]


@contextmanager
def browsing(profile: Path) -> Iterator[Browser]:
    driver = subprocess.Popen([str(DRIVER), "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout is not None
        port = next(
            found[1]
            for line in driver.stdout
            if (found := re.search(r"started successfully on port (\d+)", line))
        )
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                   "--hide-scrollbars", "--disable-background-networking",
                   "--disable-component-update", f"--user-data-dir={profile}"]  # fmt: skip
        wanted = {"goog:chromeOptions": {"args": options, "binary": CHROMIUM},
                  "goog:loggingPrefs": {"browser": "ALL"}}  # fmt: skip
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as http:
            answer = http.post("/session", json={"capabilities": {"alwaysMatch": wanted}})
            assert answer.is_success, answer.text
            session = answer.json()["value"]["sessionId"]
            try:
                yield Browser(http, session)
            finally:
                http.delete(f"/session/{session}")
    finally:
        driver.terminate()
        driver.communicate()


Open = Callable[[str], Browser]
