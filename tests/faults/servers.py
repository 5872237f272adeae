"""Servers to be killed: PostgreSQL, Redis, the web and a Celery worker, each a process of its own on a private loopback port."""

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
import redis

ROOT = Path(__file__).resolve().parent.parent.parent
# The command of the Dockerfile.
GUNICORN = [
    "-m",
    "gunicorn",
    "--worker-class",
    "gthread",
    "--workers",
    "2",
    "--threads",
    "8",
    "--no-control-socket",
    "--log-level",
    "warning",
]
CELERY = [
    "-m",
    "celery",
    "-A",
    "annotation_site",
    "worker",
    "-P",
    "threads",
    "--concurrency",
    "4",
    "-Q",
    "interactive,maintenance,bulk",
    "-n",
    "killed@%h",
]
CELERY += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]


def free_port() -> int:
    """Below the ports that the system gives to clients: one of theirs may be gone when the server starts, first or again."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"waited {seconds:g} s in vain for {what}"
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if int(parent) == pid and state != "Z":
                found.append(int(entry.name))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@dataclass
class Server:
    """One server process; `kill()` takes its children with it, so that none of them tidies up."""

    folder: Path
    process: subprocess.Popen[bytes] | None = None

    def spawn(self, command: list[str], **options) -> None:
        with (self.folder / f"{type(self).__name__}.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)

    def kill(self) -> None:
        """SIGKILL to the whole family; stopped first, the parent starts no further child meanwhile."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)
        family = [self.process.pid, *children_of(self.process.pid)]
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(20)
        wait_for(lambda: not any(is_running(pid) for pid in family), 20, "the killed processes to be gone")
        self.process = None

    def stop(self, sign: int = signal.SIGTERM) -> None:
        if self.process is None:
            return
        self.process.send_signal(sign)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None


def postgresql_programs() -> Path:
    """The folder of initdb and postgres, which Debian keeps off the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("no initdb on this machine (Debian: apt-get install postgresql)")
    return folders[-1]


@dataclass
class Postgres(Server):
    """A cluster of its own, made by `make()`. It refuses to run as root, then user postgres runs it."""

    port: int = field(default_factory=free_port)

    def make(self) -> None:
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        command = [postgresql_programs() / "initdb", "-D", self.folder / "data", "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"]
        subprocess.run([*command, "--locale", "C.UTF-8"], check=True, capture_output=True, **self._owner)

    def start(self, **settings: object) -> None:
        """Settings go on the command line: they last for this start. Processes die here, not the machine, so nothing needs fsync."""
        usual = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": 60, "fsync": "off"}
        settings = usual | settings
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.spawn([str(postgresql_programs() / "postgres"), "-D", str(self.folder / "data"), *options], **self._owner)
        wait_for(self._answers, 60, "PostgreSQL to answer")

    def stop(self, sign: int = signal.SIGINT) -> None:
        super().stop(sign)

    def url(self, database: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def run(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def pid_of(self, backend: str) -> int:
        with psycopg.connect(self.url("postgres")) as connection:
            row = connection.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = %s", [backend]).fetchone()
        assert row is not None, f"PostgreSQL has no {backend}"
        return row[0]

    def copy(self, source: str, name: str) -> str:
        """A new database that holds what `source` holds; its address."""
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
        return self.url(name)

    @property
    def _owner(self) -> dict[str, object]:
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        return {"cwd": self.folder, **user}

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "PostgreSQL ended; see its log"
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


@dataclass
class Redis(Server):
    port: int = field(default_factory=free_port)

    def start(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("no redis-server on this machine (Debian: apt-get install redis-server)")
        self.spawn(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(self.folder)]
        )
        wait_for(self._answers, 20, "Redis to answer")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@dataclass
class Web(Server):
    """gunicorn as in production: a master that starts killed workers again."""

    port: int = field(default_factory=free_port)

    def start(self, environment: dict[str, str], application: str = "annotation_site.wsgi") -> None:
        command = [sys.executable, *GUNICORN, "--bind", f"127.0.0.1:{self.port}", application]
        self.spawn(command, cwd=ROOT, env=os.environ | environment)
        wait_for(self._answers, 180, "the web to answer")

    @property
    def workers(self) -> list[int]:
        assert self.process is not None
        return children_of(self.process.pid)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=20) as probe:
                probe.sendall(b"GET /healthz/ HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
                return b" 200 " in probe.recv(100)
        except OSError:
            return False


@dataclass
class CeleryWorker(Server):
    def start(self, environment: dict[str, str]) -> None:
        self.spawn([sys.executable, *CELERY], cwd=ROOT, env=os.environ | environment)
