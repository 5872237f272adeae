"""Servers are killed while people work; whatever they were told is saved is stored, once, as they sent it.

People go through the real pages (questions, claim, comparison, message) and write a ledger; after each kill `books.py` compares the
ledgers with the database, the export API and the quota board. Short forms run with the other tests; `make faults` runs the long ones
too, with twenty kills each or FAULT_ROUNDS.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.endpoints import offline_endpoint, wait_until
from tests.faults.crowd import Crowd
from tests.faults.servers import ROOT, CeleryWorker, Postgres, Redis, Web

__all__ = ["offline_endpoint"]

pytestmark = [pytest.mark.postgresql, pytest.mark.redis]

ROUNDS = int(os.environ.get("FAULT_ROUNDS", "20"))
PEOPLE, MEN = 24, 18  # two in three who say “man” find a place
SHORT = {"people": PEOPLE, "prompts": 300, "conversations": 40, "turns": 1, "men": MEN}
LONG = {"people": PEOPLE, "prompts": 3000, "conversations": 400, "turns": 1, "men": MEN}
TALKING = {"people": PEOPLE, "prompts": 100, "conversations": 10, "turns": 2, "men": MEN}
TALKING_LONG = TALKING | {"prompts": 2000, "conversations": 200}


class Books:
    """`books.py` as a process; its commands are methods."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.books"],
                cwd=ROOT,
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )

    def __getattr__(self, command: str):
        def ask(**arguments):
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps({"do": command} | arguments) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            assert answer, f"the books ended:\n{self._log.read_text()[-3000:]}"
            return json.loads(answer)

        return ask

    def close(self) -> None:
        self._process.communicate(timeout=30)


@dataclass
class Ground:
    """Where runs are played: the servers of this test session, and a database for each kind of study to copy from."""

    folder: Path
    postgres: Postgres
    redis: Redis
    made: dict[str, dict]

    def environment(self, database: str) -> dict[str, str]:
        return {
            "DATABASE_URL": self.postgres.url(database),
            "REDIS_URL": self.redis.url,
            "POLYPHONY_VAR_DIR": str(self.folder / "var"),
            "POLYPHONY_ENVIRONMENT": "development",
            "PYTEST_XDIST_WORKER": "",
            "LOG_LEVEL": "WARNING",
        }

    def study(self, **measures: int) -> tuple[str, dict]:
        """The name of a database with such a study, made once, and the sessions of its people."""
        name = "study_" + "_".join(str(value) for value in measures.values())
        if name not in self.made:
            self._copy_migrated(name)
            books = Books(self.environment(name), self.folder / "books.log")
            self.made[name] = books.make(**measures)
            books.close()
        return name, self.made[name]

    def _copy_migrated(self, name: str) -> None:
        if "migrated" not in self.made:
            self.postgres.run("CREATE DATABASE migrated")
            command = [sys.executable, "manage.py", "migrate", "-v", "0"]
            subprocess.run(command, cwd=ROOT, env=os.environ | self.environment("migrated"), check=True)
            self.made["migrated"] = {}
        self.postgres.copy("migrated", name)


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    folder = Path(tempfile.mkdtemp(prefix="polyphony-faults-"))
    folder.chmod(0o755)  # user postgres walks through it
    for name in ("postgres", "redis", "var"):
        (folder / name).mkdir()
    ground = Ground(folder, Postgres(folder / "postgres"), Redis(folder / "redis"), {})
    try:
        ground.postgres.make()
        ground.postgres.start()
        ground.redis.start()
        yield ground
    finally:
        for server in (ground.postgres, ground.redis):
            if server.process is not None:
                server.kill()
        shutil.rmtree(folder)


class Run:
    """One study on a database of its own, its web, its people and its books."""

    def __init__(self, ground: Ground, measures: dict[str, int], application: str = "annotation_site.wsgi", **environment: str) -> None:
        template, self.study = ground.study(**measures)
        self.name = f"run_{uuid.uuid4().hex}"
        ground.postgres.copy(template, self.name)
        self.folder = ground.folder / self.name
        (self.folder / "ledgers").mkdir(parents=True)
        self.environment = ground.environment(self.name) | environment
        self.web = Web(self.folder)
        self.worker: CeleryWorker | None = None
        self.books = Books(self.environment, self.folder / "books.log")
        self.web.start(self.environment, application)
        self.crowd = Crowd(self.web.port, self.study["sessions"], self.folder / "ledgers")
        self.kills, self.started = 0, time.monotonic()

    def start_worker(self) -> CeleryWorker:
        self.worker = self.worker or CeleryWorker(self.folder)
        self.worker.start(self.environment)
        return self.worker

    def tend_worker(self) -> None:
        """Start the worker again if it ended, as a container platform would: a full broker is the end of Celery's worker."""
        assert self.worker is not None
        if self.worker.process is None or self.worker.process.poll() is not None:
            self.start_worker()

    def drain(self, seconds: float = 120, *, sweeps: bool = True) -> None:
        """Until every live turn that waits now has its candidates; keeps the worker up and sweeps meanwhile, as beat does."""
        waiting, ends = set(self.books.waiting()), time.monotonic() + seconds
        while waiting:
            assert time.monotonic() < ends, f"{len(waiting)} live turns still wait:\n{self.log_of_worker()}"
            self.tend_worker()
            if sweeps:
                self.books.sweep()
            time.sleep(0.5)
            waiting &= set(self.books.waiting())

    def log_of_worker(self) -> str:
        return (self.folder / "CeleryWorker.log").read_text()[-3000:]

    def check(self) -> dict:
        return self.books.check(ledgers=str(self.folder / "ledgers"), port=self.web.port, token=self.study["token"])

    def expect_all_well(self) -> None:
        found = self.check()
        assert found["problems"] == []
        assert found["saved"] > 0
        assert self.crowd.answers[500] == 0, "somebody saw a server error"

    def end(self) -> None:
        self.crowd.give_up()
        self.books.close()
        for server in (self.web, self.worker):
            if server is not None and server.process is not None:
                server.kill()

    def finish(self, capsys) -> None:
        """Everybody gets their last receipt; then the ledgers agree to the letter."""
        self.crowd.go_home()
        self.expect_all_well()
        found, seconds = self.check(), time.monotonic() - self.started
        with capsys.disabled():
            print(
                f"\n{self.kills} kills, {found['saved']} acknowledged, {found['stored']} stored, {found['twice']} twice, "
                f"{seconds:.0f} s; people saw {dict(self.crowd.answers)}"
            )


@pytest.fixture
def play(ground) -> Iterator:
    runs: list[Run] = []

    def play(measures: dict[str, int] = SHORT, **options: str) -> Run:
        flush(ground.redis)
        runs.append(Run(ground, measures, **options))
        runs[-1].crowd.start()
        return runs[-1]

    yield play
    for run in runs:
        run.end()


def rounds(short: int) -> list:
    """A short form and, for `make faults`, a long one, as parameters `kills` and `measures`."""
    return [
        pytest.param(short, SHORT, id="short"),
        pytest.param(ROUNDS, LONG, id="long", marks=pytest.mark.nightly),
    ]


# --- Web workers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kills", "measures"), rounds(3))
def test_r1_answers_survive_killed_web_workers(play, capsys, kills, measures):
    run, chance = play(measures), random.Random(1)
    for _ in range(kills):
        run.crowd.wait_for_receipts(15)
        time.sleep(chance.random() * 0.3)
        wait_until(lambda: run.web.workers, 30)
        for pid in chance.sample(run.web.workers, chance.randint(1, len(run.web.workers))):
            os.kill(pid, signal.SIGKILL)
        run.kills += 1
        run.expect_all_well()
    run.finish(capsys)


def test_r1_sabotage_a_receipt_before_the_commit(play):
    """The control: a web that acknowledges first and saves afterwards."""
    run = play(application="tests.faults.hasty")
    run.crowd.wait_for_receipts(60)
    for pid in run.web.workers:
        os.kill(pid, signal.SIGKILL)
    run.crowd.give_up()
    assert any("acknowledged, but not stored: comparison" in problem for problem in run.check()["problems"])


# --- PostgreSQL -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kills", "measures"), rounds(2))
def test_r2_answers_survive_a_killed_database(play, ground, capsys, kills, measures):
    run, chance = play(measures), random.Random(2)
    for number in range(kills):
        run.crowd.wait_for_receipts(15)
        if number % 2:
            time.sleep(chance.random() * 0.3)
        ground.postgres.kill()
        run.kills += 1
        ground.postgres.start()
        run.expect_all_well()
    run.crowd.wait_for_receipts(15)
    run.finish(capsys)


def test_r2_sabotage_a_commit_that_is_not_on_disk(play, ground):
    """The control: `synchronous_commit=off`, and the process that writes the log a little later held up. The database forgets."""
    run = play()
    run.crowd.wait_for_receipts(15)
    ground.postgres.stop()
    ground.postgres.start(synchronous_commit="off", wal_buffers="64MB", autovacuum="off")
    try:
        os.kill(ground.postgres.pid_of("walwriter"), signal.SIGSTOP)
        run.crowd.wait_for_receipts(15)
        ground.postgres.kill()
    finally:
        run.crowd.give_up()
        if ground.postgres.process is not None:
            ground.postgres.stop()
        ground.postgres.start()
    assert any("acknowledged, but not stored" in problem for problem in run.check()["problems"])


# --- A database that is slow or full ----------------------------------------------------------------------------------


def lock_people(ground: Ground, run: Run):
    """Another session that holds every annotator's row."""
    other = psycopg.connect(ground.postgres.url(run.name))
    other.execute("SELECT 1 FROM annotators_annotator FOR UPDATE")
    return other


@pytest.mark.nightly
@pytest.mark.parametrize("seconds", [pytest.param(8, id="short"), pytest.param(30, id="long")])
def test_r3_a_held_lock_is_answered_with_503_and_nothing_is_half_written(play, ground, capsys, seconds):
    run = play()
    run.crowd.wait_for_receipts(15)
    with lock_people(ground, run) as other:
        time.sleep(seconds)
        assert run.check()["problems"] == []
        other.rollback()
    assert run.crowd.answers[503] > 0, "nobody was told to try later"
    run.crowd.wait_for_receipts(15)
    run.finish(capsys)


@pytest.mark.nightly
def test_r3_sabotage_without_a_limit_people_wait_for_as_long_as_the_lock_is_held(play, ground):
    """The control: a web that waits for locks without end."""
    run = play(application="tests.faults.patient")
    run.crowd.wait_for_receipts(15)
    with lock_people(ground, run) as other:
        time.sleep(8)
        other.rollback()
    assert run.crowd.answers[503] == 0


def test_r3_a_full_database_is_answered_with_503(play, ground, capsys):
    """Every connection that the web lets go of is taken by others."""
    run = play()
    run.crowd.wait_for_receipts(15)
    taken = []
    ground.postgres.stop()
    ground.postgres.start(max_connections=8)
    try:
        with suppress(psycopg.OperationalError):
            while True:
                taken.append(psycopg.connect(ground.postgres.url("postgres")))
        wait_until(lambda: run.crowd.answers[503] > 0, 60)
    finally:
        for connection in taken:
            connection.close()
        ground.postgres.stop()
        ground.postgres.start()
    run.crowd.wait_for_receipts(15)
    run.finish(capsys)


# --- The broker and its worker ----------------------------------------------------------------------------------------


def kill(redis: Redis) -> None:
    redis.kill()


def flush(redis: Redis) -> None:
    with redis.client() as client:
        client.flushall()


def fill(redis: Redis) -> None:
    with redis.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")


def mend(redis: Redis) -> None:
    if redis.process is None:
        redis.start()
    with redis.client() as client:
        client.config_set("maxmemory", "0")


@pytest.mark.parametrize(
    ("measures", "faults"),
    [
        pytest.param(TALKING, [kill, flush, fill], id="short"),
        pytest.param(TALKING_LONG, [kill, flush, kill, fill] * (ROUNDS // 2), id="long", marks=pytest.mark.nightly),
    ],
)
def test_r4_answers_go_on_without_the_broker_and_its_work_is_done_later(play, ground, capsys, offline_endpoint, measures, faults):
    run = play(measures, OFFLINE_ENDPOINT_URL=offline_endpoint.url)
    run.start_worker()
    for fault in faults:
        run.drain()  # else all might wait for a live turn, and nobody could answer
        try:
            fault(ground.redis)
            run.kills += fault is kill
            run.crowd.wait_for_receipts(3)
            run.expect_all_well()
        finally:
            mend(ground.redis)
    run.drain()
    run.finish(capsys)


@pytest.mark.nightly
def test_r4_sabotage_without_handling_a_refusing_broker_people_see_errors(play, ground):
    """The control: the broker's refusal reaches the request."""
    run = play(TALKING, application="tests.faults.trusting")
    for fault in (kill, fill):
        seen = run.crowd.answers[500]
        try:
            fault(ground.redis)
            wait_until(lambda seen=seen: run.crowd.answers[500] > seen, 120)
        finally:
            mend(ground.redis)


@pytest.mark.nightly
def test_r4_sabotage_without_the_sweep_a_flushed_broker_leaves_people_waiting(play, ground, offline_endpoint):
    """The control: the worker does what comes after the flush; nobody looks for what was on its way."""
    run = play(TALKING, OFFLINE_ENDPOINT_URL=offline_endpoint.url)
    wait_until(lambda: len(run.books.waiting()) >= 3, 120)
    lost = run.books.waiting()
    flush(ground.redis)
    run.start_worker()
    wait_until(lambda: offline_endpoint.calls and not offline_endpoint.in_flight, 120)
    assert set(lost) & set(run.books.waiting())
    run.drain()


@pytest.mark.parametrize(
    ("kills", "measures"),
    [
        pytest.param(2, TALKING, id="short", marks=pytest.mark.nightly),
        pytest.param(ROUNDS, TALKING_LONG, id="long", marks=pytest.mark.nightly),
    ],
)
def test_live_turns_survive_killed_workers(play, capsys, offline_endpoint, kills, measures):
    run = play(measures, OFFLINE_ENDPOINT_URL=offline_endpoint.url)
    worker, chance = run.start_worker(), random.Random(3)
    for _ in range(kills):
        wait_until(lambda: offline_endpoint.in_flight, 120)
        time.sleep(chance.random() * 0.1)
        worker.kill()
        run.kills += 1
        run.start_worker()
        run.expect_all_well()
        run.drain()
    run.finish(capsys)
