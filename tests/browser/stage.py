"""What the browser tests play on: the demo study in French and the rest, a worker, and what the browser complained of."""

import threading
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from django.db import connection
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import BrowserContext, ConsoleMessage, Request

from apps.annotation.services import seat_study
from apps.annotators.models import RecruitmentLink
from apps.desk.management.commands.demo import PRESET
from apps.desk.study_file import load_study_file
from apps.generation.models import CandidateSet
from apps.generation.services import generate_set
from apps.studies.models import Study


def demo_study(language: str, *, conversations: int = 1) -> Study:
    """The shipped study, seated, with the candidates of one language made by the offline endpoint."""
    load_study_file(PRESET)
    Study.objects.update(conversations_per_annotator=conversations)
    study = Study.objects.get()
    seat_study(study=study)
    for pk in CandidateSet.objects.filter(language=language).values_list("pk", flat=True):
        generate_set(candidate_set_id=pk, now=timezone.now())
    return study


def link_to(server_url: str, tag: str) -> str:
    """The address by which people of one locale join."""
    country = tag.split("-")[1]
    link = RecruitmentLink.objects.get(name=tag, locales__country=country)
    return server_url + reverse("annotation:join", args=[link.token])


class Worker(threading.Thread):
    """Makes live candidates as a Celery worker does, from the rows alone; `pause` seconds after it sees them."""

    def __init__(self, pause: float = 1.5) -> None:
        super().__init__(daemon=True)
        self.pause = pause
        self.stopped = threading.Event()
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self.stopped.wait(0.1):
                for pk in list(CandidateSet.objects.due(timezone.now()).filter(is_live=True).values_list("pk", flat=True)):
                    self.stopped.wait(self.pause)
                    generate_set(candidate_set_id=pk, now=timezone.now())
        except Exception as error:  # told to the test when it stops the worker
            self.error = error
        finally:
            connection.close()

    def stop(self) -> None:
        self.stopped.set()
        self.join(10)
        if self.error is not None:
            raise self.error


@dataclass
class Complaints:
    """Console errors, refused contents (CSP violations are console errors too) and requests to anywhere but our own origin."""

    origin: str
    found: list[str] = field(default_factory=list)

    def listen(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self.found.append(f"error: {error.error}"))
        context.on("request", self._request)
        context.on("requestfailed", lambda request: self.found.append(f"failed: {request.url}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.found.append(f"console: {message.text}")

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme != "data" and f"{parts.scheme}://{parts.netloc}" != self.origin:
            self.found.append(f"elsewhere: {request.url}")
