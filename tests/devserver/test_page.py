"""The page for people, in a real browser: what it shows, by keyboard, at both widths and schemes.

Without a Chromium and its driver the tests in it are skipped and say so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from django_hookflow.devserver.config import DEFAULT_TOKEN
from django_hookflow.devserver.server import DevServer
from tests.devserver.browser import CHROMIUM, DRIVER, ENTER, SPACE, Browser, browsing
from tests.devserver.conftest import Answer, Destination, raw_client

in_browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="NOT run: the page in a browser (no chromium, or no chromedriver, on the path)",
)
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
DESKTOP, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def server() -> Iterator[DevServer]:
    with DevServer() as running:
        yield running


@pytest.fixture
def shop(server: DevServer, destination: Destination) -> DevServer:
    """A server with something of everything."""

    def plan(arrival):
        if arrival.path.startswith("/bad"):
            return Answer(status=500, body=b"out of <b>stock</b>")
        return (
            Answer(status=503, headers={"Retry-After": "600"})
            if "later" in arrival.path
            else (Answer())
        )

    destination.plan = plan
    with raw_client(server) as http:

        def publish(path: str, **options: str) -> None:
            headers = {f"Upstash-{name.replace('_', '-')}": v for name, v in options.items()}
            answer = http.post(f"/v2/publish/{destination.url}{path}", headers=headers)
            assert answer.is_success, answer.text

        publish("/orders/41/paid", Label="orders")
        publish("/bad/one", Retries="0", Label="orders,urgent")
        # One after the other: the lists have the newest first.
        server.wait_for(lambda: len(server.dead_letters()) == 1)
        publish("/bad/two", Retries="0")
        publish("/later", Label="mail")
        publish("/report", Delay="2h", Label=HOSTILE.replace(",", ""))
        publish("/limited", Flow_Control_Key="bank", Flow_Control_Value="rate=10,period=1m")
        cron = "upstash-cron=CRON_TZ=Europe/Berlin%2030%208%20*%20*%201&upstash-schedule-id=weekly"
        http.post(f"/v2/schedules/{destination.url}/weekly?{cron}")
        http.post("/v2/queues", json={"queueName": "mails", "parallelism": 2, "paused": True})
        http.post(f"/v2/enqueue/mails/{destination.url}/mail/1")
    server.wait_for(lambda: len(server.dead_letters()) == 2 and destination.count("/later"))
    return server


@in_browser
def test_everything_is_shown_and_nothing_is_run(browser: Browser, shop: DevServer) -> None:
    browser.look(*DESKTOP, "light")
    browser.open(shop.url)
    browser.wait("document.querySelectorAll('#rows-messages tr').length === 7")
    text = browser.text()
    for wanted in ("/orders/41/paid", "delivered", "given up", "waits for its retry", "in 10 min",
                   "in 2 h", "CRON_TZ=Europe/Berlin 30 8 * * 1", "queue mails", "rate 1 of 10 in",
                   "paused", HOSTILE, "its turn in the queue mails", "500"):  # fmt: skip
        assert wanted in text, (wanted, text)
    assert browser.run("return document.title") == "Local QStash"
    # Its own three files and its own API, and nothing of anybody else.
    fetched = browser.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert {httpx.URL(one).host for one in fetched} == {"127.0.0.1"}
    assert {httpx.URL(one).path for one in fetched} == {"/page.css", "/page.js", "/page/state"}
    assert browser.complaints() == []


@in_browser
def test_its_actions_work_by_keyboard(
    browser: Browser, shop: DevServer, destination: Destination
) -> None:
    destination.plan = lambda arrival: Answer()
    browser.look(*DESKTOP, "light")
    browser.open(shop.url)
    browser.wait("document.querySelectorAll('#rows-dead tr').length === 2")

    # A dead letter is opened, then published again; the focus goes on to the next one.
    browser.tab_to("it.closest('#rows-dead') && it.dataset.act === 'open'")
    browser.press(ENTER)
    browser.wait("document.querySelector('#rows-dead .more')?.innerText.includes('<b>stock</b>')")
    assert browser.run("return document.activeElement.getAttribute('aria-expanded')") == "true"
    browser.tab_to("it.dataset.act === 'Retry'")
    browser.press(ENTER)
    shop.wait_for(lambda: destination.count("/bad/two") == 2)
    browser.wait("document.querySelectorAll('#rows-dead tr').length === 1")
    assert browser.run("return document.activeElement.dataset.act") == "Retry"
    assert "Published again" in browser.text()
    browser.tab_to("it.dataset.act === 'Delete'")
    browser.press(SPACE)
    browser.wait("document.querySelector('#dead').classList.contains('none')")
    assert shop.dead_letters() == []

    # A schedule is paused and resumed; its button keeps the focus while its words change.
    browser.tab_to("it.closest('#rows-schedules') && it.dataset.act === 'Pause'")
    browser.press(ENTER)
    browser.wait("document.querySelector('#rows-schedules').innerText.includes('paused')")
    assert browser.run("return document.activeElement.dataset.act") == "Resume"
    browser.press(ENTER)
    browser.wait("!document.querySelector('#rows-schedules').innerText.includes('paused')")

    # A queue goes on.
    browser.tab_to("it.getAttribute('aria-label') === 'Resume: mails'")
    browser.press(ENTER)
    shop.wait_for(lambda: destination.count("/mail/1") == 1)

    # The slash leads to the filter, which narrows the lists; clearing shows all again.
    browser.press("/")
    browser.press(*"/later")
    browser.wait("document.querySelectorAll('#rows-messages tr').length === 1")
    browser.tab_to("it.dataset.act === 'open' && it.closest('#rows-messages')")
    browser.press(ENTER)
    browser.wait("document.querySelector('#rows-messages .more')?.innerText.includes('503')")
    browser.tab_to("it.dataset.act === 'Cancel'")
    browser.press(ENTER)
    browser.wait("document.querySelector('#rows-messages').innerText.includes('to be cancelled')")
    browser.run("document.querySelector('#filter input').focus()")
    browser.press(*"orders")
    browser.wait("document.querySelector('#messages').classList.contains('none')")
    browser.tab_to("it.type === 'reset'")
    browser.press(ENTER)
    browser.wait("document.querySelectorAll('#rows-messages tr').length > 5")
    assert browser.complaints() == []


@in_browser
def test_a_filter_by_label(browser: Browser, shop: DevServer) -> None:
    browser.look(*DESKTOP, "light")
    browser.open(shop.url)
    browser.wait("document.querySelectorAll('#rows-messages tr').length === 7")
    browser.run("document.querySelector('#filter input[name=label]').focus()")
    browser.press(*"orders")
    browser.wait("document.querySelectorAll('#rows-messages tr').length === 2")
    browser.wait("document.querySelectorAll('#rows-dead tr').length === 1")


CONTRAST = """
const channel = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 };
const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(channel);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b };
const ground = (node) => { for (; node; node = node.parentElement) {
  const c = getComputedStyle(node).backgroundColor;
  if (!/, 0\\)$/.test(c)) return c } return getComputedStyle(document.body).backgroundColor };
const poor = [];
for (const node of document.querySelectorAll('body *')) {
  const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  if (!own || !node.getClientRects().length) continue;
  const [a, b] = [light(getComputedStyle(node).color), light(ground(node))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(node.outerHTML.slice(0, 120));
}
return poor;
"""


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_fits_and_can_be_read(
    browser: Browser, shop: DevServer, tmp_path: Path, scheme: str, size: tuple[int, int]
) -> None:
    browser.look(*size, scheme)
    browser.open(shop.url)
    browser.wait("document.querySelectorAll('#rows-messages tr').length === 7")
    browser.run("document.querySelector('#rows-dead .open').click()")
    browser.wait("document.querySelector('#rows-dead .more')")
    assert browser.run("return document.documentElement.scrollWidth") <= size[0]
    assert browser.run(CONTRAST) == []
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    brightness = int(re.findall(r"\d+", ground)[0])
    assert (brightness > 128) == (scheme == "light")
    if size == PHONE:
        heights = browser.run("return [...document.querySelectorAll('td.acts button')]"
                              ".map((b) => b.getBoundingClientRect().height)")  # fmt: skip
        assert min(heights) >= 40
    # For whoever wants to look: HOOKFLOW_TEST_PICTURES names a folder.
    folder = Path(os.environ.get("HOOKFLOW_TEST_PICTURES", tmp_path))
    browser.picture(folder / f"page-{size[0]}-{scheme}.png")


@in_browser
def test_a_secret_token_is_asked_for(browser: Browser) -> None:
    with DevServer(token="secret") as server:
        browser.look(*DESKTOP, "light")
        browser.open(server.url)
        browser.wait("!document.querySelector('#ask').hidden")
        browser.tab_to("it.name === 'token'")
        browser.press(*"secret", ENTER)
        browser.wait("document.querySelector('#ask').hidden")
        browser.wait("document.querySelector('#clock').innerText !== ''")
        browser.run("sessionStorage.clear()")


# --- without a browser


def test_the_token_stands_in_the_page_under_a_name_of_this_machine_only(idle_server) -> None:
    with httpx.Client(base_url=idle_server.url, trust_env=False) as stranger:
        page = stranger.get("/")
        assert f'data-token="{DEFAULT_TOKEN}"' in page.text
        foreign = stranger.get("/", headers={"Host": "evil.example"})
        assert 'data-token=""' in foreign.text
        assert stranger.get("/page/state").status_code == 401
        for path in ("/", "/page.css", "/page.js"):
            answer = stranger.get(path)
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert "http://" not in answer.text.replace("http://www.w3.org", "")
    with DevServer(token="secret") as server:
        assert "secret" not in httpx.get(server.url, trust_env=False).text


def test_the_page_shows_no_more_than_it_can(server: DevServer) -> None:
    with raw_client(server) as http:
        item = {"destination": "http://127.0.0.1:9/", "headers": {"Upstash-Delay": "1h"}}
        http.post("/v2/batch", json=[item] * 300)
        state = http.get("/page/state").json()
        assert (len(state["messages"]), state["waiting"]) == (200, 300)
        assert http.get("/page/state?url=nowhere").json()["messages"] == []
