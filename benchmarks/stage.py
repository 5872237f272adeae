"""What the benchmarks stand on: a database of their own beside the configured one, a stub endpoint, a worker process."""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import redis
from django.conf import settings
from django.db import connection

from apps.desk.demo.processes import free_port
from apps.desk.management.commands.demo import wait_until_healthy

ROOT = Path(__file__).resolve().parent.parent
QUEUES = ["interactive", "maintenance", "bulk"]
WORDS = ("walk read cook talk rest write paint plant swim sing " + "build learn visit call plan sort mend share listen dance").split()


class StubEndpoint(ThreadingHTTPServer):
    """Answers each completion after `latency` seconds, `places` at a time, with answers that pass every check."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, *, latency: float, places: int) -> None:
        self.latency, self.places = latency, threading.BoundedSemaphore(places)
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536
    disable_nagle_algorithm = True
    server: StubEndpoint

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.places:
            time.sleep(self.server.latency)
        text = answers(asked["messages"], asked.get("seed") or 0)
        body = json.dumps(
            {
                "object": "chat.completion",
                "model": "stub",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 60, "completion_tokens": len(text.split())},
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def answers(messages: list[dict[str, str]], seed: int) -> str:
    """Three marked answers where the instruction asks for a marker, else one; all of different words."""
    start = seed % len(WORDS)
    words = WORDS[start:] + WORDS[:start]
    texts = [
        f"On day {seed}{i} you could {words[i * 5]} in the morning and {words[i * 5 + 1]} with a friend later. Some people "
        f"{words[i * 5 + 2]} when they are tired, and that is fine too. In the evening it may help to {words[i * 5 + 3]} "
        f"or to {words[i * 5 + 4]} for a little while."
        for i in range(4)
    ]
    if "[[answer]]" in messages[0]["content"]:
        return "\n".join(f"[[answer]]\n{text}" for text in texts[:3])
    return texts[3]


@contextmanager
def own_database() -> Iterator[str]:
    """A fresh migrated database beside the configured one, dropped at the end; its URL."""
    if connection.vendor != "postgresql":
        sys.exit("This benchmark needs DATABASE_URL on PostgreSQL.")
    name = connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield f"{settings.DATABASE_URL.rsplit('/', 1)[0]}/{name}"
    finally:
        connection.creation.destroy_test_db(settings.DATABASES["default"]["NAME"], verbosity=0)


@contextmanager
def stub(*, latency: float, places: int) -> Iterator[StubEndpoint]:
    """Served from a thread of its own process' main program, as cheap as Python can."""
    server = StubEndpoint(latency=latency, places=places)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.shutdown()


@contextmanager
def worker(database_url: str, *, threads: int, queues: list[str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """One worker process; its log goes to var/benchmark-worker.log."""
    empty_queues()
    command = [sys.executable, "-m", "celery", "-A", "annotation_site", "worker", "-P", "threads", "--concurrency", str(threads)]
    command += [
        "-Q",
        ",".join(queues or QUEUES),
        "--without-gossip",
        "--without-mingle",
        "-n",
        f"{uuid.uuid4().hex}@%h",
        "--loglevel",
        "WARNING",
    ]
    log = Path(settings.VAR_DIR) / "benchmark-worker.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"DATABASE_URL": database_url}, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)
        empty_queues()


@contextmanager
def web(database_url: str) -> Iterator[str]:
    """The web server in the shape of the image's command; its address. Its log goes to var/benchmark-web.log."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "gunicorn", "annotation_site.wsgi", "--bind", address, "--no-control-socket"]
    command += ["--worker-class", "gthread", "--workers", "2", "--threads", "8"]
    with (Path(settings.VAR_DIR) / "benchmark-web.log").open("ab") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | {"DATABASE_URL": database_url}, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        wait_until_healthy(f"http://{address}")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(30)


def empty_queues() -> None:
    """Of the broker in REDIS_URL: use one that serves nobody else."""
    if not settings.REDIS_URL:
        sys.exit("This benchmark needs REDIS_URL.")
    client = redis.Redis.from_url(settings.REDIS_URL)
    client.delete(*QUEUES, "unacked", "unacked_index", "unacked_mutex")
    client.close()


def resident_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"process {pid} tells no VmRSS")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far, in user and kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
