"""The same over real HTTP: fifty browsers, gunicorn as in production, a target and the overlap edited meanwhile."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from apps.annotation.models import Assignment, Comparison, Slot
from apps.annotation.services import change_overlap
from apps.annotators.models import Annotator
from apps.quotas.models import QuotaCell
from apps.quotas.services import set_target
from apps.studies.models import Study
from tests.faults.books import impossible_states, make, wrong_counts
from tests.faults.crowd import Crowd
from tests.faults.servers import Web, wait_for

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
CROWD = 50
WOMEN = 5  # of the crowd, by their names


@pytest.fixture
def web(alone, transactional_db, tmp_path) -> Iterator[Web]:
    server = Web(tmp_path)
    address = f"{settings.DATABASE_URL.rsplit('/', 1)[0]}/{connection.settings_dict['NAME']}"
    server.start({"DATABASE_URL": address, "DATABASE_POOL_SIZE": "8", "POLYPHONY_VAR_DIR": str(settings.VAR_DIR)})
    yield server
    server.stop()


@contextmanager
def crowd_at(web: Web, sessions: list[str], done: Callable[[], bool]) -> Iterator[Crowd]:
    """People at work; at the end, until `done`. Nobody has seen an error by then."""
    crowd = Crowd(web.port, sessions, web.folder)
    crowd.start()
    try:
        yield crowd
        wait_for(done, 120, f"the end; people saw {crowd.answers}")
        crowd.go_home()
    finally:
        crowd.give_up()
    assert {status for status in crowd.answers if status >= 500} <= {503}


def test_r8_fifty_browsers_fill_a_cell_to_the_target_that_was_lowered_meanwhile(web, journal):
    sessions = make(people=CROWD, prompts=20, conversations=1, turns=1, men=40)["sessions"]
    men = QuotaCell.objects.get(key="man")
    Study.objects.get().locales.get().questionnaires.filter(stage="AFTER").delete()
    with crowd_at(web, sessions, lambda: not Annotator.objects.filter(state="ACTIVE").exists()):
        wait_for(lambda: men.placements.count() >= 3, 60, "the first places")
        set_target(cell=men, target=20, version=1, user=None, now=timezone.now())
    assert Counter(Annotator.objects.values_list("state", flat=True)) == {"COMPLETED": 20 + WOMEN, "QUOTA_FULL": CROWD - 20 - WOMEN}
    assert set(Annotator.objects.values_list("end_reason", flat=True)) == {"", "CELL_FULL"}
    assert men.placements.filter(state="COMPLETED", is_over=False).count() == men.placements.count() == 20
    assert journal.taken_above() == []
    assert [*impossible_states(), *wrong_counts(Study.objects.get())] == []


def is_full() -> bool:
    return not Slot.objects.filter(state__in=["OPEN", "CLAIMED"]).exists()


def test_r7_eighty_browsers_fill_every_prompt_to_the_last_overlap(web):
    """More people than seats: who finds no work after the first conversation is done and goes."""
    sessions = make(people=80, prompts=8, conversations=8, turns=1, men=80)["sessions"]
    now = timezone.now()
    Annotator.objects.update(admitted_at=now, guideline_read_at=now, practice_passed_at=now)
    study = Study.objects.get()
    study.locales.get().questionnaires.filter(stage="AFTER").delete()
    with crowd_at(web, sessions, lambda: Slot.objects.filter(state="FILLED").count() == 40) as crowd:
        for overlap in (2, 4, 1, 5):
            wanted = crowd.saved + 8
            wait_for(lambda wanted=wanted: crowd.saved >= wanted or is_full(), 120, f"8 more receipts; people saw {crowd.answers}")
            change_overlap(study=study, overlap=overlap)
    counted = Counter(Assignment.objects.counted().values_list("prompt", flat=True))
    assert Counter(counted.values()) == {5: 8}
    surplus = Assignment.objects.filter(state="SURPLUS").count()
    assert Comparison.objects.count() == 40 + surplus
    assert not Assignment.objects.exclude(state__in=["COMPLETED", "SURPLUS"]).exists()
