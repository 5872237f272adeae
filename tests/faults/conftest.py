"""Real workers that get killed: processes on the test's database, Redis and the offline endpoint."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from django.conf import settings
from django.db import connection

from tests.endpoints import offline_endpoint

__all__ = ["offline_endpoint"]

QUEUES = ["interactive", "maintenance", "bulk"]


@dataclass
class Fleet:
    """Workers with their crash points, and one beat. `tend()` starts again what was killed, as a container platform would."""

    folder: Path
    endpoint_url: str
    environments: dict[str, dict[str, str]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    restarts: int = 0

    def add_worker(self, name: str, *, concurrency: int = 1, **environment: str) -> None:
        self.environments[name] = environment | {"CONCURRENCY": str(concurrency)}
        self._start(name)

    def add_beat(self) -> None:
        self.environments["beat"] = {}
        self._start("beat")

    def tend(self) -> None:
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                self.restarts += 1
                self._start(name)

    def is_up(self) -> bool:
        """Every worker takes messages."""
        return all((self.folder / f"{name}.ready").exists() for name in self.processes if name != "beat")

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)
        self.processes.clear()

    def crash_once(self, point: str, *arguments: str, **environment: str) -> datetime:
        """Run one process of `tests.faults.worker` that has to end at `point` by SIGKILL; when it did."""
        (self.folder / point).touch()
        process = subprocess.run(
            [sys.executable, "-m", "tests.faults.worker", *arguments],
            cwd=settings.BASE_DIR,
            env=self._environment(environment | {"FAULT_POINT": point}),
            capture_output=True,
            timeout=60,
        )
        assert process.returncode == -signal.SIGKILL, process.stderr.decode()
        return datetime.fromtimestamp(json.loads((self.folder / f"{point}.killed").read_text())["at"], UTC)

    def _environment(self, extra: dict[str, str]) -> dict[str, str]:
        database = f"{settings.DATABASE_URL.rsplit('/', 1)[0]}/{connection.settings_dict['NAME']}"
        return os.environ | extra | {
            "DATABASE_URL": database,
            "OFFLINE_ENDPOINT_URL": self.endpoint_url,
            "POLYPHONY_VAR_DIR": str(settings.VAR_DIR),
            "FAULT_DIR": str(self.folder),
        }  # fmt: skip

    def _start(self, name: str) -> None:
        extra = self.environments[name]
        (self.folder / f"{name}.ready").unlink(missing_ok=True)
        if name == "beat":
            role = ["beat", "--schedule", str(self.folder / "schedule"), "--pidfile", ""]
        else:
            role = ["worker", "-P", "threads", "--concurrency", extra["CONCURRENCY"], "-Q", ",".join(QUEUES), "-n", f"{name}@%h"]
            role += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "tests.faults.worker", *role, "--loglevel", "WARNING"],
                cwd=settings.BASE_DIR,
                env=self._environment(extra),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


class Broker:
    """The queues of this test process; beside others, their names carry its prefix."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._prefix = settings.CELERY_BROKER_TRANSPORT_OPTIONS.get("global_keyprefix", "")

    def llen(self, queue: str) -> int:
        return self._client.llen(self._prefix + queue)

    def empty(self) -> None:
        self._client.delete(*(self._prefix + key for key in [*QUEUES, "unacked", "unacked_index", "unacked_mutex"]))


@pytest.fixture
def broker() -> Iterator[Broker]:
    """The broker without a message of ours, before and after."""
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        broker = Broker(client)
        broker.empty()
        yield broker
        broker.empty()


@pytest.fixture
def fleet(tmp_path, broker, offline_endpoint) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, offline_endpoint.url)
    yield fleet
    fleet.stop()


def watch(fleet: Fleet, done, seconds: float) -> bool:
    """Tend the fleet until `done()` or for `seconds`."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        fleet.tend()
        if done():
            return True
        time.sleep(0.2)
    return bool(done())
