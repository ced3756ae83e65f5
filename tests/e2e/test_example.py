"""``python3 example_asgi``, as a newcomer starts it: what it promises is what it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: The demo itself takes 12 and 18 seconds; the rest is for a machine that does more.
PATIENCE = 400
#: Of the payment provider, which has to be answering when the server is killed: the first, which
#: is the demo's own, is long enough unless the machine is busy, and then the next one is tried.
ANSWER_SECONDS = (0.5, 2, 5)

pytestmark = pytest.mark.slow

either_server = pytest.mark.parametrize(
    "server", [pytest.param([], id="uvicorn"), pytest.param(["--wsgi"], id="gunicorn")]
)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A folder of its own keeps it apart from a demo that somebody looks at."""
    # Counts of messages hold for deliveries that are not cut because the machine was busy.
    unhurried = {"DJANGO_HOOKFLOW_DELIVERY_SECONDS": "60"}
    return {**os.environ, **unhurried, "ORDERS_VAR": str(folder), **more}


def demo(folder: Path, *arguments: str) -> str:
    """What it prints."""
    code, said = try_demo(folder, *arguments)
    assert code == 0, said
    return said


def try_demo(folder: Path, *arguments: str, **more: str) -> tuple[int, str]:
    """Its exit code, and what it prints."""
    ended = subprocess.run(
        [sys.executable, str(ROOT / "example_asgi"), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(folder, **more),
    )
    return ended.returncode, ended.stdout + (f"\n{ended.stderr}" if ended.returncode else "")


@either_server
def test_once_ends_when_all_runs_ended_as_expected(tmp_path: Path, server: list[str]) -> None:
    said = demo(tmp_path, "--once", *server)

    assert "OK: all 10 runs ended as expected, and nobody was charged twice." in said
    # The provider's bad moments are part of the show.
    assert re.search(r"Note: order \d+: the payment API was busy \(503\)", said)
    assert re.search(r"Note: order \d+: the answer to its charge was lost \(504\)", said)
    assert "order-3 is completed" in re.sub(" +", " ", said)
    assert re.search(r"order-3 .* completed \(declined\) ", said)
    # Approved by a link, shipped by a run of its own whose end an event brings.
    assert re.search(r"order-5 +fulfil_large_order +completed +7 ", said)
    assert re.search(r"order-5/ship +ship_parcels +completed +5 ", said)
    # The carrier says no: what was done is undone.
    assert re.search(r"order-6/ship +ship_parcels +failed ", said)
    assert re.search(r"order-6 +fulfil_large_order +failed +9 +\d+ +[\d.]+ +\d+ +1 x +1 x", said)
    # Two workflows of six and four steps, one wait each: two messages.
    assert re.search(r"order-1 +fulfil_order_async +completed +6 +\d+ +[\d.]+ +2 +1 x", said)
    assert re.search(r"order-2 +process_order +completed +4 +\d+ +[\d.]+ +2 +1 x", said)


@either_server
def test_a_killed_web_server_repeats_nothing_that_was_recorded(
    tmp_path: Path, server: list[str]
) -> None:
    for seconds in ANSWER_SECONDS:
        answering = {"PAYMENTS_ANSWER_SECONDS": str(seconds)}
        code, said = try_demo(tmp_path, "--once", "--kill", *server, **answering)
        # No run was being charged at any look, or the answer came before the kill.
        if not re.search(r"web server was never killed|was charged 1 time, by 1 requests", said):
            break
    assert code == 0, said
    killed = re.search(
        r"Killed the web server \(SIGKILL\) while (order-\d+) was being charged", said
    )
    assert killed
    assert "The web server is back." in said
    assert f"OK: {killed[1]} finished although its web server was killed" in said
    assert re.search(r"OK: What was recorded did not run again: validate, (ask, )?reserve of", said)
    assert re.search(r"OK: Order \d+ was charged 1 time, by [2-9] requests under 1 idemp", said)
    assert "OK: all 11 runs ended as expected, and nobody was charged twice." in said


def test_a_second_demo_does_not_take_the_first_ones_database_away(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "example_asgi")]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(tmp_path))
    try:
        assert first.stdout
        assert any("Web server http://127.0.0.1:" in line for line in first.stdout)
        second = subprocess.run(
            [*command, "--once"],
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=environment(tmp_path),
        )
    finally:
        first.terminate()
        first.stdout.close()
        first.wait(PATIENCE)

    assert second.returncode == 1
    assert "another demo is running" in second.stdout
