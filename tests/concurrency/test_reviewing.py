"""A set is rejected at the moment when somebody asks for work, with a control that shows the race without its guard."""

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.utils import timezone

from apps.annotation.errors import NoWorkAvailable
from apps.annotation.models import Slot, Turn
from apps.annotation.services import claim_next_assignment
from apps.annotation.services import reviewing as guarded
from apps.generation.models import CandidateSet
from apps.generation.services import reviewing
from tests.annotation.fieldwork import NOW, admitted_annotator, seated_study

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


def somebody_waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # else each look within one transaction is the first one again
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        return cursor.fetchone()[0] > 0


def came_true(condition: Callable[[], bool]) -> bool:
    gives_up = time.monotonic() + 20
    while not condition() and time.monotonic() < gives_up:
        time.sleep(0.05)
    return condition()


def claim_while_a_set_is_rejected(monkeypatch) -> tuple[CandidateSet, object]:
    """The rejected set, and what a claim came to that ran after the check that nobody has seen it and before the rejection."""
    study = seated_study(prompts=1, overlap=1)
    annotator = admitted_annotator(study)
    candidate_set = CandidateSet.objects.get(language="en")
    reject_set, claims, pool = reviewing.reject_set, [], ThreadPoolExecutor(1)

    def claim():
        try:
            return claim_next_assignment(annotator=annotator, submission_id=uuid.uuid4(), now=NOW)
        except NoWorkAvailable as nothing:
            return nothing
        finally:
            connection.close()

    def interrupted(**arguments):
        claims.append(pool.submit(claim))
        assert came_true(lambda: claims[0].done() or somebody_waits_for_a_lock())
        return reject_set(**arguments)

    monkeypatch.setattr(reviewing, "reject_set", interrupted)
    guarded.reject_candidate_set(candidate_set=candidate_set, reason="Too alike.", reviewer=None, now=timezone.now())
    candidate_set.refresh_from_db()
    assert candidate_set.state == "REJECTED"
    with pool:
        return candidate_set, claims[0].result(timeout=20)


def test_nobody_is_given_a_set_that_is_being_rejected(monkeypatch):
    rejected, outcome = claim_while_a_set_is_rejected(monkeypatch)
    assert isinstance(outcome, NoWorkAvailable)
    assert not Turn.objects.filter(candidate_set=rejected).exists()
    assert not Slot.objects.filter(candidate_set=rejected).exists()


def test_control_without_the_lock_somebody_judges_a_rejected_set(monkeypatch):
    monkeypatch.setattr(guarded, "_hold_slots", lambda candidate_set: None)
    rejected, _ = claim_while_a_set_is_rejected(monkeypatch)
    assert Turn.objects.filter(candidate_set=rejected).exists()
