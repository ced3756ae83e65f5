"""``hookflow doctor --live`` through the local QStash server to a real web server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_hookflow.probing import Probe
from django_hookflow.transports.qstash import PublishConfig
from tests.ports import free_port

from .processes import DOMAIN, Deployment

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)


def ask(deployment, **changes):
    """What the command tells of the delivery, in JSON and in words, and whether it ended well."""
    # Its keys are public, which an error of the checks rightly says.
    silenced = ["django_hookflow.E004"]
    with override_settings(
        **{**deployment.settings, "SILENCED_SYSTEM_CHECKS": silenced, **changes}
    ):
        out, words = StringIO(), StringIO()
        well = True
        try:
            call_command("hookflow", "doctor", "--live", "--json", stdout=out)
        except CommandError:
            well = False
        try:
            call_command("hookflow", "doctor", "--live", stdout=words)
        except CommandError:
            assert not well
    return json.loads(out.getvalue())["live"], words.getvalue(), well


@pytest.fixture
def deployment(tmp_path):
    with Deployment(tmp_path, "default") as made:
        yield made


class Server:
    """Any server but ours, where the deployment's would be."""

    def __init__(self, port, status, body=b"", **headers):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = HTTPServer(("127.0.0.1", port), Handler)

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn-sync"])
def test_all_is_right(deployment, server):
    deployment.serve(server=server)
    live, words, well = ask(deployment)
    assert well
    assert (live["layer"], live["ok"], live["status"]) == ("webhook", True, 200)
    assert 0 < live["published_in"] < 10
    assert 0 <= live["delivered_in"] < 10
    assert "The webhook took the delivery. (answered after " in words
    assert f"{deployment.devserver.url} -> {DOMAIN}/hookflow/" in words


def test_a_wrong_path_is_told_from_the_server_that_answers_404(deployment):
    deployment.serve()
    live, words, well = ask(deployment, DJANGO_HOOKFLOW_WEBHOOK_PATH="/elsewhere/")
    assert not well
    assert (live["layer"], live["status"]) == ("server", 404)
    assert "Not Found" in live["answer"]
    assert "URLconf" in live["hint"]
    assert "answered 404, and not the webhook" in words


def test_an_application_that_is_down_is_told(deployment):
    live, words, well = ask(deployment)
    assert not well
    assert (live["layer"], live["status"]) == ("network", None)
    assert "could not reach the webhook: Connection" in words
    assert "the server running?" in live["hint"]


def test_wrong_keys_on_the_server_are_told(tmp_path):
    wrong = {"QSTASH_CURRENT_SIGNING_KEY": "sig_" + "x" * 28,
             "QSTASH_NEXT_SIGNING_KEY": "sig_" + "y" * 28}  # fmt: skip
    with Deployment(tmp_path, "default", **wrong) as deployment:
        deployment.serve()
        live, words, well = ask(deployment)
    assert not well
    assert (live["layer"], live["status"]) == ("webhook", 401)
    assert "QSTASH_CURRENT_SIGNING_KEY" in live["hint"]
    assert "does not take the signature" in words


def test_another_domain_on_the_server_is_told_as_a_refused_signature(tmp_path):
    with Deployment(tmp_path, "default", DJANGO_HOOKFLOW_DOMAIN="https://localhost") as deployment:
        deployment.serve()
        live, _, well = ask(deployment)
    assert not well
    assert (live["layer"], live["status"]) == ("webhook", 401)


def test_a_refused_token_is_told_without_showing_it(deployment):
    live, words, well = ask(deployment, QSTASH_TOKEN="not-the-token")
    assert not well
    assert (live["layer"], live["status"]) == ("qstash", None)
    assert "answered 401" in live["sentence"]
    assert "check QSTASH_TOKEN" in words
    assert "not-the-token" not in words + json.dumps(live)


def test_a_qstash_that_is_not_there_is_told(deployment):
    live, _, well = ask(deployment, QSTASH_URL=f"http://127.0.0.1:{free_port()}")
    assert not well
    assert live["layer"] == "qstash"
    assert "cannot be reached" in live["sentence"]


def test_a_server_that_is_no_qstash_is_told(deployment):
    with Server(port := free_port(), 200, b"<html>welcome</html>"):
        live, _, well = ask(deployment, QSTASH_URL=f"http://127.0.0.1:{port}")
    assert not well
    assert "is QSTASH_URL right?" in live["sentence"]


@pytest.mark.parametrize(
    ("status", "body", "headers", "layer", "words"),
    [
        (200, b"<h1>Parked</h1>", {}, "server", "Something that is not the webhook"),
        (301, b"", {"Location": "https://www.app.example/"}, "server", "follows no redirect"),
        (400, b"Bad Request", {}, "server", "ALLOWED_HOSTS"),
        (401, b"", {"WWW_Authenticate": "Basic"}, "server", "password"),
        (401, b"login", {}, "server", "answered 401, and not the webhook"),
        (403, b"CSRF", {}, "server", "forbids"),
        (502, b"nginx", {}, "server", "nobody behind it"),
        (503, b"<html>", {}, "server", "nobody behind it"),
        (503, b'{"status": "signing keys are not to be had"}', {}, "webhook", "are not to be had"),
        (489, b"", {"Upstash_NonRetryable_Error": "true"}, "webhook", "does not know this message"),
        (418, b"\x1b[31mtea\x1b[0m", {}, "server", "tea"),
    ],
)
def test_whoever_answers_instead_is_told(deployment, status, body, headers, layer, words):
    with Server(deployment.port, status, body, **headers):
        live, told, well = ask(deployment)
    assert not well
    assert (live["layer"], live["status"]) == (layer, status)
    assert words in told
    assert "\x1b" not in told


def test_without_settings_nothing_is_sent(deployment):
    with override_settings(**{**deployment.settings, "QSTASH_TOKEN": None}):
        out = StringIO()
        with pytest.raises(CommandError):
            call_command("hookflow", "doctor", "--live", stdout=out)
    assert "Nothing was sent: QSTASH_TOKEN is missing" in out.getvalue()
    assert deployment.messages() == []


def test_a_message_whose_fate_is_not_told_is_waited_for_so_long(deployment):
    deployment.devserver.drop_next()
    lines = []
    config = PublishConfig(
        token=deployment.devserver.token, base_url=deployment.devserver.url,
        destination=f"{DOMAIN}/hookflow/", retries=0, timeout=5,
    )  # fmt: skip
    verdict = Probe(config=config, progress=lines.append, patience=1.0).run()
    assert not verdict.ok
    assert verdict.layer == "qstash"
    assert "has not told its fate after 1 s" in verdict.sentence
    assert lines[0].split()[3] in verdict.hint
