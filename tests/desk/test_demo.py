"""`manage.py demo` on a machine without servers: a real start, the printed links, and an end that leaves nothing behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from apps.accounts.models import User
from apps.desk.demo.prepare import ensure_admin, ensure_links
from apps.desk.demo.processes import Children
from tests.factories import RecruitmentLinkFactory, StudyFactory

TAGS = ["en-US", "en-IN", "hi-IN", "fr-FR", "it-IT", "pt-BR"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(folder: Path) -> dict[str, str]:
    """The newcomer's: no server configured. Children are found by the folder that they all carry."""
    hidden = {"DATABASE_URL", "REDIS_URL", "PYTEST_XDIST_WORKER", "DJANGO_SETTINGS_MODULE", "POLYPHONY_ENVIRONMENT"}
    return {name: value for name, value in os.environ.items() if name not in hidden} | {
        "POLYPHONY_VAR_DIR": str(folder),
        "OFFLINE_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}/v1",  # not the usual port: demos of other tests run at the same time
    }


def processes_of(folder: Path) -> dict[int, str]:
    """pid → command line of every process that was started with `folder` as its var/."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"POLYPHONY_VAR_DIR={folder}\0".encode() in (entry / "environ").read_bytes() + b"\0":
                found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
        except (OSError, UnicodeDecodeError):
            continue
    return found


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


class Demo:
    """One start of the demo."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.base, self.log = folder, f"http://127.0.0.1:{port}", folder / "demo.log"
        self.started = time.monotonic()
        with self.log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "demo", "--port", str(port)],
                cwd=settings.BASE_DIR, env=environment(folder), stdout=stream, stderr=stream, start_new_session=True,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self.log.read_text()

    def ready(self) -> float:
        """Seconds until the links were printed."""
        assert wait_until(lambda: "Ctrl-C stops everything" in self.output or self.process.poll() is not None, 90), self.output
        assert self.process.poll() is None, self.output
        return time.monotonic() - self.started

    def end(self, number: int) -> int:
        """Send the signal to the demo alone, as a supervisor would; returns its exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def get(self, url: str) -> str:
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310  (loopback)
            assert response.status == 200
            return response.read().decode()


@pytest.fixture
def folder(tmp_path) -> Iterator[Path]:
    yield tmp_path
    for pid in processes_of(tmp_path):  # only what this test started
        os.kill(pid, signal.SIGKILL)


def test_the_demo_starts_prints_working_links_ends_cleanly_and_starts_again_quickly(folder):
    demo = Demo(folder, free_port())
    first = demo.ready()
    links = dict(re.findall(r"^  ([a-z]{2}-[A-Z]{2})  (\S+)$", demo.output, flags=re.MULTILINE))
    assert list(links) == TAGS
    for tag, link in links.items():
        assert f'lang="{tag}"' in demo.get(link)
    assert "Polyphony" in demo.get(f"{demo.base}/")
    assert json.loads(demo.get(f"{demo.base}/healthz/")) == {"status": "ok"}
    assert "password" in demo.get(f"{demo.base}/admin/login/")
    demo.get(f"{demo.base}/api/v1/docs/")
    assert "60 of 60 candidate sets ready" in demo.output
    names = " ".join(processes_of(folder).values())
    for program in ("offline_endpoint", "celery", "gunicorn", "manage.py demo"):
        assert program in names
    password = re.search(r"user admin, password (\S+)", demo.output)[1]
    notes = folder / "demo.json"
    assert json.loads(notes.read_text())["password"] == password
    assert notes.stat().st_mode & 0o777 == 0o600
    assert demo.end(signal.SIGINT) == 0
    assert wait_until(lambda: not processes_of(folder), 10), processes_of(folder)

    again = Demo(folder, free_port())
    second = again.ready()
    assert dict(re.findall(r"^  ([a-z]{2}-[A-Z]{2})  \S+(/join/\S+)$", again.output, flags=re.MULTILINE)) == {
        tag: link[link.index("/join/") :] for tag, link in links.items()
    }
    assert f"password {password}" in again.output
    assert again.end(signal.SIGTERM) == 0
    assert wait_until(lambda: not processes_of(folder), 10), processes_of(folder)
    # Promised: 30 s and 10 s on an idle machine; tests run side by side.
    assert first < 60
    assert second < 20


def test_when_a_process_dies_the_demo_says_which_and_ends_the_rest(folder):
    demo = Demo(folder, free_port())
    demo.ready()
    worker = next(pid for pid, command in processes_of(folder).items() if "celery" in command and os.getpgid(pid) == pid)
    os.kill(worker, signal.SIGKILL)
    assert demo.process.wait(timeout=30) == 1
    assert "The worker ended by itself" in demo.output
    assert "worker.log" in demo.output
    assert wait_until(lambda: not processes_of(folder), 10), processes_of(folder)


@pytest.mark.parametrize(
    ("port", "said"), [("http", "PORT=http is not a number"), ("70000", "There is no port 70000"), (None, "is taken by another program")]
)
def test_a_port_that_cannot_be_had_is_told_in_one_line(folder, port, said):
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        command = [sys.executable, "manage.py", "demo", "--port", port or str(occupant.getsockname()[1])]
        result = subprocess.run(command, cwd=settings.BASE_DIR, env=environment(folder), capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert said in line
    assert not result.stdout
    assert not (folder / "db.sqlite3").exists()


def test_the_demo_does_not_run_with_production_settings(folder):
    production = {
        "POLYPHONY_ENVIRONMENT": "production",
        "SECRET_KEY": "Zx9-qLm2vTn8yRsHgJ4cFaEo6iXtRwQeYzUbVpMk9sDhJ5gTnCe", "ALLOWED_HOSTS": "x.org",
        "PSEUDONYM_KEY": "Pq7-wErTyUiOp5aSdFgHjKl3zXcVbNm2qWeRtYuIoP8sDfGhJk", "DATABASE_URL": "postgres://a@127.0.0.1/b",
        "PANEL_KEY": "Wb4-nHcTqEu7mZsLvXk9yRgJpDfAo2iQwKtBxYzUhVrMl6sPdN8",
        "IDENTITY_KEY": "Gm3-zKpWrXs8vNyQbTj5cFhLuEa9oDiRwMtHxBkYgVqUl7sZdP2",
        "REDIS_URL": "redis://127.0.0.1/0",
    }  # fmt: skip
    command = [sys.executable, "manage.py", "demo", "--port", str(free_port())]
    result = subprocess.run(
        command, cwd=settings.BASE_DIR, env=environment(folder) | production, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert "POLYPHONY_ENVIRONMENT=production" in result.stderr


def test_children_that_ignore_the_kind_signal_are_ended_for_good(tmp_path, monkeypatch):
    monkeypatch.setattr(Children, "patience", 0.5)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    with Children(log_folder=tmp_path, environment=dict(os.environ), working_folder=tmp_path) as children:
        child = children.start("deaf child", [sys.executable, "-c", deaf], "deaf.log")
        assert wait_until(lambda: "deaf" in child.log.read_text(), 10)
    assert child.process.returncode == -signal.SIGKILL


def test_r_sabotage_without_the_end_a_child_stays(tmp_path, monkeypatch):
    """The guard of the tests above is `_end_all`; without it they would find a process left behind."""
    monkeypatch.setattr(Children, "_end_all", lambda self: None)
    with Children(log_folder=tmp_path, environment=dict(os.environ), working_folder=tmp_path) as children:
        child = children.start("child", [sys.executable, "-c", "import time; time.sleep(60)"], "child.log")
    try:
        assert child.process.poll() is None
    finally:
        child.process.kill()
        child.process.wait()


@pytest.mark.django_db
def test_links_of_the_study_are_reused_and_missing_ones_made_once():
    study = StudyFactory()
    english, french = study.locales.all()
    RecruitmentLinkFactory(study=study, name="both")
    own = RecruitmentLinkFactory(study=study, name="panel", locales=[french])
    first = {link.tag: link.token for link in ensure_links(study=study)}
    assert first[french.tag] == own.token
    assert first == {link.tag: link.token for link in ensure_links(study=study)}
    made = study.recruitment_links.get(token=first[english.tag])
    assert list(made.locales.all()) == [english]


@pytest.mark.django_db
def test_the_password_is_kept_until_the_researcher_sets_another(tmp_path):
    study, notes = StudyFactory(), tmp_path / "demo.json"
    password = ensure_admin(study=study, notes=notes)
    assert password == ensure_admin(study=study, notes=notes)
    assert study.memberships.get().role == "OWNER"
    researcher = User.objects.get(username="admin")
    researcher.set_password("something of my own")
    researcher.save()
    assert ensure_admin(study=study, notes=notes) is None
    notes.unlink()
    renewed = ensure_admin(study=study, notes=notes)
    assert renewed != password
    researcher.refresh_from_db()
    assert researcher.check_password(renewed)
