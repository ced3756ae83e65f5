"""Database connections under real servers: pools, restarts, kills, PgBouncer, lost clients.

``HOOKFLOW_CONNECTION_RUNS=200`` runs every test at full size (some minutes); without it the
number of runs is one that a test suite can afford. PostgreSQL only.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import django
import pytest
from django.conf import settings
from django.db import connections

from django_hookflow.core.messages import Wake
from django_hookflow.transports.signing import sign
from tests.app.models import Effect

from .databases import Cluster, Cutter, Pooler, pgbouncer_binary, server_binaries
from .processes import WEBHOOK, Deployment, listens, wait_until

psycopg = pytest.importorskip("psycopg")

pytestmark = [
    pytest.mark.django_db(databases="__all__", transaction=True),
    pytest.mark.skipif("postgres" not in settings.DATABASES, reason="needs PostgreSQL"),
]

ALIAS = "postgres"
RUNS = int(os.environ.get("HOOKFLOW_CONNECTION_RUNS", "12"))
POOL = 8
#: The bodies that have to run once in each run.
SYNC_BODIES = {"wait#1", "read#1", "book#1", "after#1"}
BODIES = SYNC_BODIES | {"left#1", "right#1", "beside#1"}
#: Steps whose body asks the database: it fails with it, and is tried again.
USES_DATABASE = {"read#1", "left#1", "right#1", "book#1"}

STARTER = """
import json, sys, django
django.setup()
import tests.e2e.servers
from django_hookflow import Start
from django_hookflow.registry import registry
workflow, data, ids = json.loads(sys.argv[1])
registry.find(workflow, "").trigger_many([Start(data, run_id=run_id) for run_id in ids])
"""

needs_pool = pytest.mark.skipif(django.VERSION < (5, 1), reason="Django 5.1 brought the pool")
needs_binaries = pytest.mark.skipif(server_binaries() is None, reason="no PostgreSQL binaries")


class Scene:
    """A deployment over one PostgreSQL database, whose connections have a name."""

    def __init__(self, deployment, database, name):
        self.deployment = deployment
        self.name = name
        self.runs = []
        self._database = database
        self.process = None

    def connect(self):
        """A connection of the observer's own, past pools and proxies."""
        database = self._database
        return psycopg.connect(
            host=database["HOST"], port=database["PORT"], user=database["USER"],
            password=database["PASSWORD"], dbname=database["NAME"], autocommit=True,
        )  # fmt: skip

    def serve(self, command=None, workers=1):
        """Start a server whose processes end with its group."""
        port = str(self.deployment.port)
        command = command or [
            "uvicorn", "tests.e2e.servers:asgi", "--port", port, "--no-access-log",
            "--log-level", "warning", "--workers", str(workers), "--backlog", "1024",
        ]  # fmt: skip
        with (self.deployment.folder / f"server-{self.name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], env=self.deployment.environment,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.process = process
        wait_until(lambda: listens(self.deployment.port) or process.poll() is not None, 90)
        assert process.poll() is None, self.deployment.logs()

    def migrate(self):
        command = [sys.executable, "-m", "django", "migrate", "--skip-checks", "--database", ALIAS]
        done = subprocess.run(
            command, env=self.deployment.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def start(self, count=RUNS, workflow="e2e.connections"):
        ids = [f"{self.name}-{len(self.runs) + n}" for n in range(count)]
        self.runs += ids
        # Not one of the servers, whose connections are counted.
        changes = json.loads(self.deployment.environment["HOOKFLOW_E2E_DATABASE"])
        changes["OPTIONS"]["application_name"] = "starter"
        subprocess.run(
            [sys.executable, "-c", STARTER, json.dumps([workflow, {"alias": ALIAS}, ids])],
            env=self.deployment.environment | {"HOOKFLOW_E2E_DATABASE": json.dumps(changes)},
            check=True,
        )  # fmt: skip

    def statuses(self):
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT status FROM django_hookflow_workflowrun WHERE run_id LIKE %s",
                [f"{self.name}-%"],
            )
            return Counter(status for (status,) in rows)

    def finish(self, seconds=120):
        """Wait for the end of all; none may have failed."""
        wait_until(
            lambda: self.statuses()["completed"] == len(self.runs),
            seconds,
            lambda: f"{self.statuses()}\n{self.deployment.logs()[-6000:]}",
        )

    def opened(self):
        """How many connections the servers hold just now."""
        with self.connect() as connection:
            return _opened(connection, self.name)

    def settle(self, baseline, seconds=15):
        """Connections come back to what they were."""
        wait_until(lambda: self.opened() <= baseline, seconds, lambda: f"{self.opened()} open")

    @contextmanager
    def sampling(self):
        """Sample the number of connections; gives the list of samples.

        A backend whose client has closed its connection is listed for a moment more: what counts
        is who is there at three looks in a row, as everybody is whom a pool keeps.
        """
        samples, done = [], threading.Event()

        def sample():
            looks = deque(maxlen=3)
            with self.connect() as connection:
                while not done.wait(0.02):
                    looks.append(_backends(connection, self.name))
                    if len(looks) == looks.maxlen:
                        samples.append(len(set.intersection(*looks)))

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield samples
        finally:
            done.set()
            thread.join()

    def repeated(self, bodies=BODIES):
        """How many bodies ran once more than they had to, by step."""
        counts = Counter()
        for line in self.deployment.ledger.read_text().splitlines():
            run, step, *_ = line.split()
            counts[run, step] += 1
        expected = {(run, step) for run in self.runs for step in bodies}
        assert set(counts) == expected, "bodies that never ran, or should not have"
        more = Counter({step: 0 for _, step in counts})
        for (_, step), count in counts.items():
            more[step] += count - 1
        return +more

    def bodies(self, runs):
        """How often each step's body ran in these runs together."""
        lines = (line.split() for line in self.deployment.ledger.read_text().splitlines())
        wanted = set(runs)
        return Counter(step for run, step, *_ in lines if run in wanted)

    def kill(self):
        """End every connection of the servers, as an administrator would; how many."""
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = %s",
                [self.name],
            )
            return len(rows.fetchall())

    def deliver(self, run_id, seconds):
        """Deliver a run's first message; go away after so many seconds, or in the body at 0."""
        with self.connect() as connection:
            id = connection.execute(
                "SELECT id FROM django_hookflow_workflowrun WHERE run_id = %s", [run_id]
            ).fetchone()[0]
        body = Wake(run=id, number=1).encode().encode()
        signature = sign(
            key=self.deployment.devserver.current_key, url=WEBHOOK, body=body,
            now=int(time.time()), jti="jwt_x",
        )  # fmt: skip
        request = (
            "POST /hookflow/ HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n"
            f"Upstash-Signature: {signature}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        with socket.create_connection(("127.0.0.1", self.deployment.port)) as client:
            if seconds is None:
                client.sendall(request)
                while client.recv(4096):
                    pass
            else:
                client.sendall(request[: -1 if seconds < 0.05 else None])
                time.sleep(seconds)

    def effects(self):
        """Rows of the atomic step: one per run, whatever happened."""
        with self.connect() as connection:
            rows = connection.execute(
                f"SELECT run_id FROM {Effect._meta.db_table} WHERE step = 'book'"
            )
            return Counter(run for (run,) in rows if run.startswith(f"{self.name}-"))

    def failures(self):
        """Answers other than 200, of all deliveries."""
        answers = Counter(d.status for d in self.deployment.devserver.deliveries())
        return {status: count for status, count in answers.items() if status != 200}

    def report(self, **facts):
        print(self.name, json.dumps({"runs": len(self.runs), **facts}, default=str))


def _opened(connection, name):
    return len(_backends(connection, name))


def _backends(connection, name):
    rows = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name = %s", [name]
    )
    return {pid for (pid,) in rows}


@pytest.fixture
def scene(tmp_path):
    """Make a scene: ``scene(name, database={...}, **environment)``."""
    opened = []

    def make(name, database=None, observed=None, lease=60, options=(), **environment):
        options = {"application_name": name, **dict(options)}
        changes = {**(database or {}), "OPTIONS": options}
        environment = {
            "HOOKFLOW_E2E_DATABASE": json.dumps(changes),
            "DJANGO_HOOKFLOW_LEASE_SECONDS": str(lease),
            "HOOKFLOW_LOG": "WARNING",
            **environment,
        }
        deployment = Deployment(tmp_path, ALIAS, concurrency=256, **environment)
        deployment.__enter__()
        made = Scene(deployment, observed or connections[ALIAS].settings_dict, name)
        opened.append(made)
        return made

    yield make
    for made in opened:
        made.stop()
        made.deployment.__exit__()
    connections[ALIAS].close()


@pytest.fixture
def cluster():
    with Cluster(server_binaries()) as cluster:
        yield cluster


def pooled():
    return {"pool": {"min_size": 2, "max_size": POOL, "max_idle": 0.5}}


@needs_pool
@pytest.mark.parametrize("workers", [1, 2])
def test_concurrent_runs_share_a_small_pool(scene, workers):
    pool = scene(f"pool{workers}", options=pooled())
    pool.serve(workers=workers)
    began = time.monotonic()
    with pool.sampling() as samples:
        pool.start()
        pool.finish()
    seconds = time.monotonic() - began
    pool.report(seconds=seconds, peak=max(samples), failures=pool.failures())
    assert max(samples) <= POOL * workers
    assert pool.failures() == {}
    assert pool.repeated() == {}
    assert set(pool.effects().values()) == {1}
    assert "Error" not in pool.deployment.logs()
    pool.settle(2 * workers, 30)


@needs_pool
def test_a_pool_of_one_connection_is_enough(scene):
    """Whatever waits has given its connection back: nobody waits for itself."""
    pool = scene("one", options={"pool": {"min_size": 1, "max_size": 1}})
    pool.serve()
    with pool.sampling() as samples:
        pool.start(min(RUNS, 50))
        pool.start(min(RUNS, 50), workflow="e2e.connections.sync")
        pool.finish()
    assert max(samples) == 1
    assert pool.failures() == {}
    half = len(pool.runs) // 2
    assert set(pool.effects().values()) == {1}
    assert pool.bodies(pool.runs[:half]) == dict.fromkeys(BODIES, half)
    assert pool.bodies(pool.runs[half:]) == dict.fromkeys(SYNC_BODIES, half)


@needs_pool
@needs_binaries
def test_a_restart_of_the_database_in_the_middle_loses_and_repeats_nothing(scene, cluster):
    database = cluster.database
    # Redelivered for as long as it takes a busy machine to have the database back.
    pool = scene("restart", database, observed=database, lease=20, options=pooled(),
                 DJANGO_HOOKFLOW_QSTASH_RETRIES="20")  # fmt: skip
    pool.migrate()
    baseline = pool.opened()
    pool.serve()
    began = time.monotonic()
    pool.start()
    wait_until(lambda: pool.statuses()["completed"] >= len(pool.runs) // 8, 60)
    cluster.stop()
    time.sleep(2)
    cluster.start()
    with pool.sampling() as samples:
        pool.finish()
    seconds = time.monotonic() - began
    peak = max(samples, default=0)  # none if all was over before the first look
    pool.report(seconds=seconds, peak=peak, failures=pool.failures(),
                repeated=pool.repeated())  # fmt: skip
    assert peak <= POOL
    assert set(pool.effects().values()) == {1}
    # A step that failed because its own query did is tried again; so is an atomic one.
    assert pool.repeated().keys() <= USES_DATABASE
    pool.stop()
    pool.settle(baseline)


def servers():
    """Servers and ways to keep connections; all of them at full size only."""
    ages = [(0, False), (600, False), (None, True), (0, True), (600, True), (None, False)]
    for server in ("uvicorn", "gthread"):
        for age, checks in ages if RUNS >= 100 else ages[1:2]:
            yield pytest.param(server, age, checks, id=f"{server}-{age}-{checks}")


@pytest.mark.parametrize(("server", "age", "checks"), list(servers()))
def test_connections_do_not_pile_up_and_dead_ones_heal(scene, server, age, checks):
    name = f"{server}-{age}-{checks}"
    kept = scene(name, {"CONN_MAX_AGE": age, "CONN_HEALTH_CHECKS": checks})
    kept.serve(gthread(kept) if server == "gthread" else None)
    count = min(RUNS, 50)  # two deliveries each
    kept.start(count, workflow="e2e.connections.sync")
    kept.finish()
    # A thread of gunicorn keeps its connection; uvicorn has no thread that stays.
    kept.settle(2 if server == "gthread" and age != 0 else 0)
    assert kept.kill() <= 2
    kept.start(count, workflow="e2e.connections.sync")
    kept.finish()
    kept.report(failures=kept.failures(), open=kept.opened())
    assert kept.repeated(SYNC_BODIES) == {}
    assert kept.failures() == {}


def gthread(scene):
    return [
        "gunicorn", "tests.e2e.servers:wsgi", "--bind", f"127.0.0.1:{scene.deployment.port}",
        "--worker-class", "gthread", "--threads", "2", "--workers", "1",
        "--log-level", "warning",
    ]  # fmt: skip


@pytest.mark.parametrize("way", ["plain", pytest.param("pool", marks=needs_pool)])
def test_killed_backends_repeat_no_step_but_those_that_used_the_database(scene, way):
    killed = scene(f"killed-{way}", lease=10, options=pooled() if way == "pool" else {})
    killed.serve()
    killed.start(min(RUNS, 50))
    chance, kills = random.Random(3), 0
    while not kills or killed.statuses()["completed"] < len(killed.runs) // 2:
        if killed.statuses()["completed"] == len(killed.runs):
            killed.start(len(killed.runs))  # they were too quick to be hit
        kills += killed.kill()
        time.sleep(chance.uniform(0.2, 0.8) if kills else 0.02)
    killed.finish()
    killed.report(kills=kills, failures=killed.failures(), repeated=killed.repeated())
    assert kills
    assert killed.repeated().keys() <= USES_DATABASE
    assert killed.effects() == dict.fromkeys(killed.runs, 1)


def test_an_answer_to_commit_that_is_lost_repeats_nothing_that_was_done(scene):
    target = connections[ALIAS].settings_dict
    verdicts = {2: "before", 5: "after", 8: "late"}
    with Cutter((target["HOST"], target["PORT"]), lambda n: verdicts.get(n % 11, "")) as proxy:
        cut = scene("cut", {"HOST": "127.0.0.1", "PORT": proxy.port}, lease=3,
                    options={"sslmode": "disable", "gssencmode": "disable"},
                    DJANGO_HOOKFLOW_QSTASH_RETRIES="20")  # fmt: skip
        cut.serve()
        count = min(RUNS // 2, 50)
        cut.start(count)
        cut.start(count, workflow="e2e.connections.sync")
        cut.finish()
        cut.stop()
    cut.report(cuts=proxy.cuts, failures=cut.failures())
    assert all(proxy.cuts.values())
    assert cut.effects() == dict.fromkeys(cut.runs, 1)
    for runs, bodies in ((cut.runs[:count], BODIES), (cut.runs[count:], SYNC_BODIES)):
        counts = cut.bodies(runs)
        assert counts.pop("book#1") >= count  # an atomic one that was not committed, whole
        assert counts == dict.fromkeys(bodies - {"book#1"}, count)


def test_clients_that_go_away_leave_no_connection_and_no_run_behind(scene):
    gone = scene("gone")
    gone.serve()
    gone.deployment.devserver.drop_next(RUNS)  # the first delivery of each is ours
    gone.start()
    chance = random.Random(5)
    clients = [
        threading.Thread(target=gone.deliver, args=(run, chance.uniform(0, 0.8)))
        for run in gone.runs
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    with ThreadPoolExecutor(16) as redelivery:  # as QStash does for what was not answered
        list(redelivery.map(lambda run: gone.deliver(run, None), gone.runs))
    gone.finish()
    gone.settle(0)
    assert gone.repeated() == {}
    assert gone.effects() == dict.fromkeys(gone.runs, 1)


@pytest.mark.skipif(pgbouncer_binary() is None, reason="pgbouncer is not installed")
def test_runs_go_through_pgbouncer_in_transaction_mode(scene):
    target = connections[ALIAS].settings_dict
    with Pooler(pgbouncer_binary(), target, size=4) as pooler:
        database = {
            "HOST": "127.0.0.1", "PORT": pooler.port, "DISABLE_SERVER_SIDE_CURSORS": True,
        }  # fmt: skip
        behind = scene("bouncer", database)
        behind.serve(workers=2)
        with behind.sampling() as samples:
            behind.start(min(RUNS, 50))
            behind.start(min(RUNS, 50), workflow="e2e.connections.sync")
            behind.finish()
        behind.stop()
    behind.report(peak=max(samples), failures=behind.failures())
    assert 0 < max(samples) <= 4
    assert behind.failures() == {}
    assert behind.effects() == dict.fromkeys(behind.runs, 1)
