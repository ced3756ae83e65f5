"""What every store promises, and what the one in a file adds: being there the next time."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from django_hookflow.core.expressions import parse_retry_delay
from django_hookflow.devserver.answers import Refused
from django_hookflow.devserver.config import Config
from django_hookflow.devserver.database import APPLICATION, SCHEMA
from django_hookflow.devserver.dead_letters import Answer
from django_hookflow.devserver.events import MOST_EVENTS, State
from django_hookflow.devserver.file_store import FileStore
from django_hookflow.devserver.filters import read_filters
from django_hookflow.devserver.memory_store import MemoryStore
from django_hookflow.devserver.messages import Message, Phase
from django_hookflow.devserver.store import Store, StoreError
from tests.devserver.conftest import spec

Make = Callable[..., Store]

GONE = Answer(status=500, headers={"X-Why": ["no"]}, body=b"bad", error="answered with status 500")


@pytest.fixture(params=["memory", "file"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    stores: list[Store] = []

    def store(**settings: object) -> Store:
        config = Config(**settings)
        made: Store = MemoryStore(config)
        if request.param == "file":
            made = FileStore(config, tmp_path / f"{len(stores)}.db")
        made.open(0.0)
        stores.append(made)
        return made

    yield store
    for made in stores:
        # What the suite did must be something that can be kept.
        made.commit()
        made.close()


def added(store: Store, **changes: object) -> Message:
    message, _ = store.add(spec(**changes))
    assert message is not None
    return message


def test_a_message_is_there_once_added(make: Make) -> None:
    store = make()
    first, second = added(store, body=b"1"), added(store, body=b"2")
    assert store.get(first.id) is first
    assert store.get("msg_none") is None
    assert list(store.unfinished()) == [first, second]
    store.commit()
    assert list(store.unfinished()) == [first, second]


def test_finished_messages_are_forgotten_after_a_while(make: Make) -> None:
    store = make(keep_finished=2, keep_seconds=60, max_stored=100)
    messages = [added(store, body=b"x" * 20) for _ in range(4)]
    for message in messages[:3]:
        store.finish(message, 1.0)
    assert [store.get(m.id) is not None for m in messages] == [False, True, True, True]
    assert list(store.unfinished()) == messages[3:]
    store.add(spec(now=2.0, body=b"x" * 50))  # no room for all of them
    assert store.get(messages[1].id) is None
    store.add(spec(now=62.0))
    assert [store.get(m.id) is not None for m in messages] == [False, False, False, True]


def test_what_waits_is_bounded(make: Make) -> None:
    store = make(max_waiting=2, max_stored=10)
    added(store, body=b"x" * 6)
    with pytest.raises(Refused, match="6 bytes are waiting"):
        store.add(spec(body=b"x" * 5))
    second = added(store)
    with pytest.raises(Refused, match="2 messages are waiting"):
        store.add(spec())
    store.finish(second, 0.0)
    added(store)


def test_deduplication_window_is_ten_minutes(make: Make) -> None:
    store = make()
    _, first = store.add(spec(now=0.0, deduplication_id="d"))
    assert store.add(spec(now=599.0, deduplication_id="d")) == (None, first)
    again, second = store.add(spec(now=600.0, deduplication_id="d"))
    assert again is not None
    assert second != first


def test_a_discarded_message_never_was(make: Make) -> None:
    store = make(max_stored=10)
    message = added(store, body=b"x" * 10, deduplication_id="d")
    store.discard(message)
    assert store.get(message.id) is None
    assert list(store.unfinished()) == []
    again, _ = store.add(spec(body=b"x" * 10, deduplication_id="d"))
    assert again is not None


def test_the_log_is_in_order(make: Make) -> None:
    store = make()
    message = added(store)
    store.log(message, State.CREATED, 1.0, nextDeliveryTime=5)
    store.log(message, State.ACTIVE, 1.0)
    events = store.events.snapshot()
    assert [(e.state.value, e.time, e.facts["messageId"]) for e in events] == [
        ("CREATED", 1000, message.id),
        ("ACTIVE", 1000, message.id),
    ]
    assert events[0].details == {"nextDeliveryTime": 5}


def test_dead_letters_come_and_go(make: Make) -> None:
    store = make()
    message = added(store, body=b"\xff", labels=("lab",))
    letters = [store.bury(message, GONE, 2.0) for _ in range(2)]
    # The clock may be set back; ids grow nevertheless.
    letters.append(store.bury(message, GONE, 1.0))
    assert [letter.id for letter in letters] == ["2000-0", "2000-1", "2000-2"]
    assert store.dead_letters.get("2000-1") is letters[1]
    assert store.remove_dead_letter("2000-1") is True
    assert store.remove_dead_letter("2000-1") is False
    assert store.dead_letters.get("2000-1") is None
    assert store.dead_letters.snapshot() == [letters[0], letters[2]]
    shown = letters[0].as_json()
    assert (shown["messageId"], shown["bodyBase64"], shown["label"]) == (message.id, "/w==", "lab")
    assert (shown["dlqId"], shown["responseStatus"]) == ("2000-0", 500)
    assert (shown["responseBody"], shown["responseHeader"]) == ("bad", {"X-Why": ["no"]})


def test_pages_of_dead_letters_do_not_shift(make: Make) -> None:
    store = make()
    message = added(store)
    ids = [store.bury(message, GONE, float(second)).id for second in range(1, 6)]

    def page(cursor: str, *, newest_first: bool = False) -> tuple[list[str], str | None]:
        found, following = store.dead_letters.page(
            read_filters([]), count=2, cursor=cursor, newest_first=newest_first
        )
        return [letter.id for letter in found], following

    first, cursor = page("")
    assert (first, cursor) == (ids[:2], ids[1])
    store.remove_dead_letter(ids[1])  # the one that the cursor names
    store.bury(message, GONE, 9.0)
    assert page(ids[1]) == (ids[2:4], ids[3])
    assert page("", newest_first=True) == (["9000-0", ids[4]], ids[4])
    assert page(ids[2], newest_first=True) == ([ids[0]], None)


def test_dead_letters_are_bounded_in_number_bytes_and_age(make: Make) -> None:
    def left(bodies: list[bytes], **settings: object) -> list[int]:
        store = make(**settings)
        for second, body in enumerate(bodies, 1):
            store.bury(added(store, body=body), GONE, float(second))
        return [letter.milliseconds // 1000 for letter in store.dead_letters.snapshot()]

    assert left([b""] * 4, keep_dead=2) == [3, 4]
    assert left([b"x" * 40] * 4, keep_dead_bytes=100) == [3, 4]
    assert left([b"", b"x" * 1000], keep_dead_bytes=100) == [2]
    assert left([b""] * 4, keep_dead_seconds=2) == [3, 4]


# --- the file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hookflow.db"


def opened(path: Path, *, now: float = 0.0, **settings: object) -> FileStore:
    store = FileStore(Config(**settings), path)
    store.open(now)
    return store


def test_everything_is_there_after_it_was_opened_again(path: Path) -> None:
    store = opened(path)
    given = spec(
        now=10.25, body=b"\x00\xff", due=99.125, timeout=30.5, retries=7, content_type="a/b",
        headers=(("X-A", "\xfc"), ("X-A", "2")), labels=("l", "m"), deduplication_id="\xe4",
        retry_delay=parse_retry_delay("1000 * (1 + retried)"),
    )  # fmt: skip
    waiting, _ = store.add(given)
    assert waiting is not None
    waiting.retried, waiting.due = 2, 120.5
    store.save(waiting)
    done, cancelled, active = added(store), added(store), added(store)
    store.finish(done, 11.0)
    cancelled.cancel_requested = True
    store.save(cancelled)
    active.phase = Phase.ACTIVE
    store.log(waiting, State.ERROR, 12.5, responseHeader={"X": ["1"]}, error="e")
    letter = store.bury(done, Answer(status=0, headers={}, body=b"\xff", error="\ud800"), 13.0)
    store.commit()
    store.close()

    again = opened(path, now=14.0)
    found = {message.id: message for message in again.unfinished()}
    assert list(found) == [waiting.id, cancelled.id, active.id]
    first = found[waiting.id]
    assert first.as_json() == waiting.as_json()
    assert (first.retried, first.due, first.cancel_requested) == (2, 120.5, False)
    assert first.spec.retry_delay is not None
    assert first.spec.retry_delay.seconds(3) == 4.0
    assert first.spec.content_id() == given.content_id()
    assert (first.spec.timeout, first.spec.headers) == (given.timeout, given.headers)
    assert found[cancelled.id].cancel_requested
    assert found[active.id].phase is Phase.WAITING
    kept = again.get(done.id)
    assert kept is not None
    assert kept.phase is Phase.FINISHED
    assert again.add(spec(now=20.0, deduplication_id="\xe4")) == (None, waiting.id)
    assert again.events.snapshot() == store.events.snapshot()
    assert [one.as_json() for one in again.dead_letters.snapshot()] == [letter.as_json()]
    # The log and the dead letters go on where they were.
    again.log(first, State.RETRY, 21.0)
    assert [event.number for event in again.events.snapshot()] == [1, 2]
    assert again.bury(first, GONE, 1.0).order > letter.order
    again.close()


def test_what_is_over_is_forgotten_in_the_file_too(path: Path) -> None:
    store = opened(path, keep_seconds=60, keep_dead_seconds=60)
    done = added(store, deduplication_id="d")
    store.finish(done, 1.0)
    store.bury(done, GONE, 1.0)
    store.commit()
    store.close()
    again = opened(path, now=700.0, keep_seconds=60, keep_dead_seconds=60)
    assert again.get(done.id) is None
    assert again.dead_letters.snapshot() == []
    fresh, _ = again.add(spec(now=700.0, deduplication_id="d"))
    assert fresh is not None
    again.discard(fresh)
    again.commit()
    again.close()
    with sqlite3.connect(path) as connection:
        for table in ("message", "body", "deduplication", "dead_letter"):
            assert connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,), table
    connection.close()


def test_the_log_in_the_file_is_as_long_as_the_one_in_memory(path: Path) -> None:
    store = opened(path)
    message = added(store)
    for _ in range(3):
        for _ in range(MOST_EVENTS // 2):
            store.log(message, State.ACTIVE, 1.0)
        store.commit()
    store.close()
    again = opened(path)
    assert again.events.snapshot() == store.events.snapshot()
    assert len(again.events.snapshot()) == MOST_EVENTS
    again.close()


def test_what_was_not_committed_is_lost_as_a_whole(path: Path) -> None:
    store = opened(path)
    kept = added(store)
    store.commit()
    store.log(added(store, deduplication_id="d"), State.CREATED, 1.0)
    store.close()
    again = opened(path)
    assert [message.id for message in again.unfinished()] == [kept.id]
    assert again.events.snapshot() == []
    assert again.add(spec(deduplication_id="d"))[0] is not None
    again.close()


def test_a_commit_that_failed_is_made_up_for_by_the_next(path: Path) -> None:
    store = opened(path)
    lost = added(store)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.commit()
    store.discard(lost)
    kept = added(store)
    # The disk has room again, so to speak.
    store._connection = sqlite3.connect(path, isolation_level=None)
    store.commit()
    store.close()
    again = opened(path)
    assert [message.id for message in again.unfinished()] == [kept.id]
    again.close()


def test_a_file_that_can_grow_no_more_refuses_and_recovers(path: Path) -> None:
    store = opened(path)
    connection = store._connection
    assert connection is not None
    connection.execute("PRAGMA max_page_count = 20")
    large = added(store, body=b"x" * 200_000)
    with pytest.raises(StoreError, match=r"cannot write .*hookflow\.db"):
        store.commit()
    store.discard(large)
    small = added(store, body=b"y")
    store.commit()
    store.close()
    again = opened(path)
    assert [message.id for message in again.unfinished()] == [small.id]
    again.close()


# --- files that cannot be used


def refused(path: Path) -> str:
    store = FileStore(Config(), path)
    with pytest.raises(StoreError) as told:
        store.open(0.0)
    assert str(path) in str(told.value)
    return str(told.value)


def test_a_file_in_use_is_refused_until_it_is_let_go(path: Path) -> None:
    store = opened(path)
    message = added(store)
    store.commit()
    assert "is in use, perhaps by another devserver" in refused(path)
    # To be refused did not loosen the lock of the first.
    assert "is in use" in refused(path)
    store.close()
    again = opened(path)
    assert again.get(message.id) is not None
    again.close()


@pytest.mark.parametrize(
    ("application", "schema", "told"),
    [
        (APPLICATION, SCHEMA + 1, "newer version of django-hookflow"),
        (APPLICATION, SCHEMA - 1, "does not know"),
        (0, 0, "something else"),
        (1234, SCHEMA, "something else"),
    ],
)
def test_a_database_of_another_kind_or_schema_is_left_alone(
    path: Path, application: int, schema: int, told: str
) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE mine (a)")
        connection.execute("INSERT INTO mine VALUES ('kept')")
        connection.execute(f"PRAGMA application_id = {application}")
        connection.execute(f"PRAGMA user_version = {schema}")
    connection.close()
    before = path.read_bytes()
    text = refused(path)
    assert told in text
    assert "another file" in text
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    path.write_text("SECRET_KEY = 'not a database'\n" * 200)
    before = path.read_bytes()
    assert "is no SQLite database" in refused(path)
    assert path.read_bytes() == before


def test_an_empty_file_is_taken(path: Path) -> None:
    path.touch()
    opened(path).close()
    opened(path).close()


@pytest.mark.parametrize("statement", ["UPDATE message SET spec = '{'", "DROP TABLE event"])
def test_a_damaged_file_is_told(path: Path, statement: str) -> None:
    store = opened(path)
    added(store)
    store.commit()
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    assert "damaged" in refused(path)
    assert "Move it away" in refused(path)


def test_a_path_that_cannot_be_is_told(tmp_path: Path) -> None:
    assert "no folder" in refused(tmp_path / "missing" / "hookflow.db")
    (tmp_path / "folder").mkdir()
    assert "it is no file" in refused(tmp_path / "folder")
    (tmp_path / "file").touch()
    assert "no folder" in refused(tmp_path / "file" / "hookflow.db")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
@pytest.mark.parametrize("which", ["folder", "file"])
def test_a_path_without_the_right_to_write_is_told(tmp_path: Path, which: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "hookflow.db"
    opened(file).close()
    locked = folder if which == "folder" else file
    locked.chmod(0o500)
    try:
        assert "is not writable" in refused(file)
    finally:
        locked.chmod(0o700)


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="a file system where nothing can be made"
)
def test_a_file_system_that_takes_no_file_is_told() -> None:
    assert "Choose another file" in refused(Path("/proc/self/hookflow.db"))
