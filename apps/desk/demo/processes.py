"""Starting, watching and ending the processes of the demo."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

_PR_SET_PDEATHSIG = 1


class Stopped(BaseException):
    """The person (Ctrl-C), or the machine, asked the demo to end. Not an `Exception`: nothing on the way may swallow it."""


class ChildEnded(BaseException):
    """A process that should run for as long as the demo ended by itself."""

    def __init__(self, child: "Child", status: int) -> None:
        self.child, self.status = child, status
        super().__init__(f"The {child.name} ended by itself (exit status {status}).")


class PortTaken(Exception):
    """Somebody else listens on the port, or this user may not."""


@dataclass(frozen=True)
class Child:
    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def last_lines(self, count: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


def claim_port(port: int) -> None:
    """Make sure that the web server will get `port` on the loopback address. Raises `PortTaken`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError as error:
            raise PortTaken(f"This user may not listen on port {port}. Choose one above 1023: make demo PORT=8000") from error
        except OverflowError as error:
            raise PortTaken(f"There is no port {port}. Choose one from 1024 to 65535: make demo PORT=8000") from error
        except OSError as error:
            raise PortTaken(f"Port {port} is taken by another program. Choose another one: make demo PORT={_suggestion(port)}") from error


def free_port() -> int:
    """A port on the loopback address that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _suggestion(port: int) -> int:
    return port + 1 if port < 65535 else 8000


def _end_with_parent() -> None:
    """In the child, before it starts: Linux sends it SIGTERM should the demo itself be killed."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    except (AttributeError, OSError):  # not Linux: then only an orderly end takes the children along
        return


class Children:
    """Child processes, each the head of its own process group, so that Ctrl-C reaches the demo alone and nothing stays behind.

    As a context: SIGINT, SIGTERM and SIGHUP raise `Stopped` and a child's end raises `ChildEnded`, both in the main thread,
    wherever it is; leaving the context ends every group, first kindly, then for good.
    """

    patience = 5.0  # seconds from SIGTERM to SIGKILL

    def __init__(self, *, log_folder: Path, environment: dict[str, str], working_folder: Path) -> None:
        self.log_folder, self.environment, self.working_folder = log_folder, environment, working_folder
        self.children: list[Child] = []
        self._handlers: dict[signal.Signals, Any] = {}
        self._starting = False
        self._pending: BaseException | None = None

    def __enter__(self) -> "Children":
        self.log_folder.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, self._on_stop)
        self._handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, self._on_child)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # From here on a second Ctrl-C must not leave anything behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._end_all()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def start(self, name: str, command: Sequence[str], log_name: str) -> Child:
        log = self.log_folder / log_name
        # A signal between the start of a process and its entry in the list would leave it behind: it waits until then.
        self._starting = True
        with log.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603  (the demo's own fixed commands)
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.working_folder,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        child = Child(name=name, process=process, log=log)
        self.children.append(child)
        self._starting = False
        if self._pending:
            raise self._pending
        return child

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self._interrupt(Stopped())

    def _on_child(self, number: int, frame: FrameType | None) -> None:
        for child in self.children:
            status = child.process.poll()
            if status is not None:
                self._interrupt(ChildEnded(child, status))

    def _interrupt(self, error: BaseException) -> None:
        if not self._starting:
            raise error
        self._pending = error

    def _end_all(self) -> None:
        # A head that has ended may have left members of its group behind, so the groups are signalled, not the heads.
        groups = {child.process.pid for child in self.children}
        for group in groups:
            _signal_group(group, signal.SIGTERM)
        deadline = time.monotonic() + self.patience
        while time.monotonic() < deadline and any(_is_alive(child) for child in self.children):
            time.sleep(0.05)
        for child in self.children:
            _signal_group(child.process.pid, signal.SIGKILL)
            child.process.wait()


def _is_alive(child: Child) -> bool:
    child.process.poll()
    return _signal_group(child.process.pid, 0)


def _signal_group(group: int, number: int) -> bool:
    """Send the signal (0: only look) to a process group. Returns whether the group still has a member."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True
