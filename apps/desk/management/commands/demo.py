import fcntl
import json
import os
import sys
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.urls import reverse

from apps.desk.catalogues import compile_catalogues
from apps.desk.demo.prepare import ADMIN_NAME, STUDY_SLUG, LocaleLink, ensure_admin, ensure_links
from apps.desk.demo.processes import ChildEnded, Children, PortTaken, Stopped, claim_port, free_port
from apps.studies.models import Study

PRESET = Path(__file__).resolve().parents[2] / "presets" / "community_alignment.yaml"


class Command(BaseCommand):
    help = "Start everything on this machine with the demo study: model endpoint, worker and web server. Ctrl-C ends it all."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", default="8000", help="port of the web server (default 8000)")

    def handle(self, *, port: str, **options: Any) -> None:
        if settings.PRODUCTION:
            raise CommandError("The demo makes its own secrets and accounts; it does not run with POLYPHONY_ENVIRONMENT=production.")
        if not port.isdecimal():
            raise CommandError(f"PORT={port} is not a number. For example: make demo PORT=8001")
        try:
            claim_port(int(port))
        except PortTaken as error:
            raise CommandError(str(error)) from error
        lock = hold_var(settings.VAR_DIR)
        endpoint_port = endpoint_port_of_choice()
        environment = {**os.environ, "OFFLINE_ENDPOINT_URL": f"http://127.0.0.1:{endpoint_port}/v1", "PYTHONUNBUFFERED": "1"}
        children = Children(log_folder=settings.VAR_DIR / "log", environment=environment, working_folder=settings.BASE_DIR)
        try:
            with children:
                try:
                    self.run(children, port=int(port), endpoint_port=endpoint_port)
                except Stopped:
                    self.say("\nStopping …")
                    raise
        except Stopped:
            self.stdout.write("Everything is stopped. `make demo` goes on where you left off.")
        except ChildEnded as ended:
            log = os.path.relpath(ended.child.log)
            raise CommandError(f"{ended} The rest is stopped too. Its last lines, from {log}:\n{ended.child.last_lines()}") from None
        finally:
            lock.close()

    def run(self, children: Children, *, port: int, endpoint_port: int) -> None:
        started = time.monotonic()
        endpoint = [sys.executable, "-m", "apps.generation.offline_endpoint", "--port", str(endpoint_port)]
        children.start("offline model endpoint", endpoint, "endpoint.log")
        for folder in settings.LOCALE_PATHS:
            compile_catalogues(Path(folder))
        self.say("Preparing the database …")
        call_command("migrate", verbosity=0, interactive=False, skip_checks=True)
        children.start("worker", self.worker_command(), "worker.log")
        children.start("web server", self.web_command(port), "web.log")
        study = self.load_study()
        password = ensure_admin(study=study, notes=settings.VAR_DIR / "demo.json")
        links = ensure_links(study=study)
        call_command("pregenerate", STUDY_SLUG, stdout=self.stdout, stderr=self.stderr, skip_checks=True)
        base = f"http://127.0.0.1:{port}"
        wait_until_healthy(base)
        keep_links(settings.VAR_DIR / "demo.json", base, links)
        self.welcome(base, links, password, seconds=time.monotonic() - started)
        connections.close_all()  # nothing of this process stays open on the database while it waits
        while True:
            time.sleep(60)  # a signal or the end of a child interrupts this by an exception

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def worker_command(self) -> list[str]:
        queues = ["-Q", "interactive,maintenance,bulk", "--loglevel", "INFO"]
        alone = ["--without-gossip", "--without-mingle", "--without-heartbeat"]  # there is no other worker to talk to
        return [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "annotation_site",
            "worker",
            "-P",
            "threads",
            "--concurrency",
            "8",
            "-B",
            *queues,
            *alone,
        ]

    def web_command(self, port: int) -> list[str]:
        threads = ["--worker-class", "gthread", "--workers", "1", "--threads", "8", "--graceful-timeout", "3"]
        return [sys.executable, "-m", "gunicorn", "annotation_site.wsgi", "--bind", f"127.0.0.1:{port}", "--no-control-socket", *threads]

    def load_study(self) -> Study:
        """The demo study; loaded and seated at the first start, later left as the researcher has made it."""
        from apps.annotation.services import seat_study
        from apps.desk.study_file import load_study_file

        study = Study.objects.filter(slug=STUDY_SLUG).first()
        if study is None:
            self.say("Loading the demo study …")
            load_study_file(PRESET)
            study = Study.objects.get(slug=STUDY_SLUG)
        seat_study(study=study)
        return study

    def welcome(self, base: str, links: Iterable[LocaleLink], password: str | None, seconds: float) -> None:
        secret = f"password {password}" if password else "with the password that you set"
        lines = ["", f"Polyphony runs on {base}  (ready in {seconds:.0f} s)", "", "Take part as an annotator:"]
        lines += [f"  {link.tag}  {base}{reverse('annotation:join', args=[link.token])}" for link in links]
        lines += [
            "",
            f"Researcher's desk:  {base}{reverse('admin:index')}   user {ADMIN_NAME}, {secret}",
            f"API documentation:  {base}/api/v1/docs/",
            "",
            "Send twelve synthetic annotators through the pages, from a second terminal:",
            f"  .venv/bin/python manage.py simulate {STUDY_SLUG} --annotators 12 --seed 1 --base-url {base}",
            "",
            "Ctrl-C stops everything.",
        ]
        self.say("\n".join(lines))


def endpoint_port_of_choice() -> int:
    """The port that other commands expect by default, so that `judge_candidates` in a second terminal finds the endpoint too."""
    expected = urlsplit(settings.OFFLINE_ENDPOINT_URL).port
    if expected is None:
        return free_port()
    try:
        claim_port(expected)
    except PortTaken:
        return free_port()
    return expected


def hold_var(folder: Path) -> IO[str]:
    """Keep a second demo off the same database and queue, until the returned file is closed. Raises `CommandError`."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "demo.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise CommandError(f"A demo already runs on {folder.name}/. Stop it first (Ctrl-C in its terminal).") from None
    return lock


def keep_links(notes: Path, base: str, links: Iterable[LocaleLink]) -> None:
    """Add the links to the demo's notes, where `manage.py simulate` looks for them."""
    known = json.loads(notes.read_text())
    addresses = {link.tag: f"{base}{reverse('annotation:join', args=[link.token])}" for link in links}
    notes.write_text(json.dumps(known | {"study": STUDY_SLUG, "base_url": base, "links": addresses}))


def wait_until_healthy(base: str, seconds: float = 30) -> None:
    """Return once the web server answers its health check. Raises `CommandError` after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{base}/healthz/", timeout=2) as response:  # noqa: S310  (our own loopback address)
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise CommandError(f"The web server did not answer within {seconds:.0f} s; see var/log/web.log.")
