"""gunicorn as in production, and what it and PostgreSQL cost: CPU seconds read from /proc of this machine."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.stage import ROOT

_TICKS = os.sysconf("SC_CLK_TCK")
# The command of the Dockerfile, less the restarts after some thousand requests, which would fall in some rounds and not in others.
_COMMAND = ["-m", "gunicorn", "--worker-class", "gthread", "--workers", "2", "--threads", "8"]
_COMMAND += ["--no-control-socket", "--log-level", "warning"]


@contextmanager
def gunicorn(application: str, *, environment: dict[str, str], log: Path) -> Iterator[tuple[int, int]]:
    """Serve `application` on a free port of loopback; yields the port and the process id of the master."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, *_COMMAND, "--bind", f"127.0.0.1:{port}", application],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        _wait_for(port, process)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit(f"gunicorn ended with {process.returncode}; see the log.")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("gunicorn does not listen.")


def _times(pid: int | str) -> tuple[float, float, int]:
    """Own CPU seconds, those of ended children, and the parent of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own, ended = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return own / _TICKS, ended / _TICKS, int(fields[1])


def tree_seconds(pid: int) -> float:
    """CPU seconds of a process and of its children, also ended ones."""
    own, ended, _ = _times(pid)
    total = own + ended
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                child, grandchildren, parent = _times(entry.name)
            except OSError:
                continue
            if parent == pid:
                total += child + grandchildren
    return total


class DatabaseMeter:
    """CPU seconds of the backends (and autovacuum workers) of one database since the meter was made.

    Other databases of the same server are left out, so a shared server may be used. A process that ends is counted as last seen.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: dict[int, float] = {}
        self._last: dict[int, float] = {}
        self._stop = threading.Event()
        self._look()
        self._first = dict(self._last)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    title = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
                    if title[:1] == ["postgres:"] and self._name in title:
                        self._last[int(entry.name)] = _times(entry.name)[0]
                except OSError:
                    continue

    def _watch(self) -> None:
        while not self._stop.wait(1):
            self._look()

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        self._look()
        return sum(seconds - self._first.get(pid, 0) for pid, seconds in self._last.items())
