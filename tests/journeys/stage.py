"""What journeys are played on: people with browsers, a worker, and a ledger of every row."""

import hashlib
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.db import connection
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext, ngettext

from apps.annotators.models import Annotator, RecruitmentLink
from apps.desk.simulation.bot import Bot
from apps.desk.simulation.browser import Browser
from apps.desk.simulation.pages import Page
from apps.generation.models import CandidateSet
from apps.generation.services import generate_set
from apps.studies.models import Study
from tests.annotation.fieldwork import make_ready

REASON = "B est plus claire que A et va droit au but."


class Worker:
    """A real Celery worker with beat in its own process, on the test's database and the broker of the settings."""

    def __init__(self, endpoint_url: str) -> None:
        self.endpoint_url = endpoint_url
        self.log = Path(settings.VAR_DIR) / "worker.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        queues = ["-Q", "interactive,maintenance,bulk", "--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
        environment = os.environ | {
            "DATABASE_URL": _test_database_url(),
            "POLYPHONY_VAR_DIR": str(settings.VAR_DIR),
            "OFFLINE_ENDPOINT_URL": self.endpoint_url,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "annotation_site", "worker", "-P", "solo", "-B", *queues],
                cwd=settings.BASE_DIR,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None


def _test_database_url() -> str:
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return f"{settings.DATABASE_URL.rsplit('/', 1)[0]}/{name}"


def work_off() -> None:
    """Make every pending set as a worker would, without sitting out the pauses between its tries."""
    moment = timezone.now()
    while CandidateSet.objects.filter(state=CandidateSet.State.PENDING).exists():
        for pk in list(CandidateSet.objects.due(moment).values_list("pk", flat=True)):
            generate_set(candidate_set_id=pk, now=moment)
        moment += timedelta(minutes=1)


def finish_live_sets() -> None:
    """Give every pending set its candidates without asking any model."""
    for candidate_set in CandidateSet.objects.filter(state=CandidateSet.State.PENDING):
        make_ready(candidate_set)


def link_to(study: Study, server: str, tag: str = "fr-FR", **fields) -> str:
    """The address of a recruitment link for one locale."""
    link = RecruitmentLink.objects.create(study=study, name=f"{tag} {RecruitmentLink.objects.count()}", **fields)
    link.locales.set([locale for locale in study.locales.all() if locale.tag == tag])
    return f"{server}{reverse('annotation:join', args=[link.token])}"


def person(study: Study, server: str, tag: str = "fr-FR", seed: str = "1", **link_fields) -> Bot:
    """Somebody at the door of the study."""
    return Bot(link=link_to(study, server, tag, **link_fields), tag=tag, seed=seed, patience=20)


def annotator() -> Annotator:
    """The last one who joined."""
    return Annotator.objects.order_by("-pk")[0]


def says(page: Page, message: str, language: str = "fr") -> bool:
    """Whether the page tells `message` in `language`: translated, so not in the English of the source."""
    with translation.override(language):
        told = gettext(message)
    assert told != message, f"{message!r} has no {language} translation"
    return _in_one_line(told) in page.text


def says_number(page: Page, one: str, many: str, count: int, language: str = "fr", **values: int) -> bool:
    """The same for a message with a singular and a plural."""
    with translation.override(language):
        told = ngettext(one, many, count)
    assert told not in (one, many), f"{many!r} has no {language} translation"
    return _in_one_line(told % values) in page.text


def _in_one_line(text: str) -> str:
    """As `Page.text` has it: French puts narrow spaces before some signs."""
    return " ".join(text.split())


def has_a_way_on(page: Page) -> bool:
    """A form or a link in the content: nobody is left standing."""
    return page.form is not None or bool(page.links)


def compare_form(bot: Bot) -> dict[str, list[str]]:
    """A good answer to the comparison page that is open."""
    return bot.browser.page.form.untouched() | {"choice": ["1"], "explanation": [REASON]}


def ledger() -> dict[str, str]:
    """Table → number of rows and hash of their contents, over every table."""
    entries = {}
    for model in apps.get_models(include_auto_created=True):
        rows = sorted(map(repr, model._base_manager.values_list()))
        entries[model._meta.label] = f"{len(rows)} {hashlib.sha256(''.join(rows).encode()).hexdigest()}"
    return entries


def everything_stored() -> str:
    """All rows of all tables as text, to look for words that should be gone."""
    return "\n".join(repr(row) for model in apps.get_models(include_auto_created=True) for row in model._base_manager.values_list())


def walk_to(bot: Bot, *names: str) -> Page:
    """Walk until one of these pages, with live candidates made as soon as they are wanted."""
    while (page := bot.walk_to("wait", *names)).name not in names:
        finish_live_sets()
        bot.browser.open(page.url)
    return page


def other_device(bot: Bot) -> Browser:
    """A browser without the person's cookies."""
    return Browser(language=bot.journey.tag, user_agent="Mozilla/5.0 (Linux; Android 14; Mobile)")
