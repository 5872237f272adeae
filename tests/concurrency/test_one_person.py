"""One person in many windows: one task at a time, and never more than the study or the day allows."""

import time
import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError

from apps.annotation.errors import DailyLimitReached, NoWorkAvailable, StaleForm
from apps.annotation.models import Assignment, Comparison, Conversation, Slot
from apps.annotation.selectors import current_work
from apps.annotation.services import assignment, claim_next_assignment, show_turn, submit_comparison, withdraw
from apps.annotators.models import Annotator
from apps.core.statements import CompiledSelect
from apps.studies.models import Study, TaskDesign
from tests.annotation.fieldwork import NOW, REASON, admitted_annotator, claim, seated_study

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
WINDOWS = 12


def one_turn_study(**fields) -> Study:
    study = seated_study(**{"prompts": 8, "overlap": 2} | fields)
    TaskDesign.objects.filter(study=study).update(min_turns=1, max_turns=1)
    return Study.objects.get(pk=study.pk)


def work(annotator: Annotator, now=NOW) -> str:
    """Claim and answer in one window until no more may be begun; why that is."""
    while True:
        try:
            claim_next_assignment(annotator=annotator, submission_id=uuid.uuid4(), now=now)
        except (NoWorkAvailable, DailyLimitReached) as refusal:
            return refusal.code
        try:
            window = current_work(annotator)
            if window is None:
                continue  # another window has finished it
            show_turn(turn=window.turn, device_class="", now=now)
            submit_comparison(
                annotator=annotator, turn_number=1, chosen_position=0, explanation=REASON, layout="", submission_id=uuid.uuid4(), now=now
            )
        except StaleForm:
            continue  # another window was faster


def work_in_windows(at_once, annotator: Annotator, now=NOW) -> set:
    """The same in twelve windows; what they were told at the end, or the errors."""
    return set(map(repr_of, at_once([lambda: work(annotator, now)] * WINDOWS)))


def repr_of(result: object) -> str:
    return result if isinstance(result, str) else type(result).__name__


def unlock_the_person(monkeypatch, seconds: float = 0.05) -> None:
    """Take the lock of the person away from the claim, and let time pass between the checks and the claim."""
    checking = assignment.day_is_full_until
    related = ["study__assignment_plan", "study__task_design", "study_locale", "recruitment_link"]

    def check_slowly(*arguments):
        until = checking(*arguments)
        time.sleep(seconds)
        return until

    unlocked = CompiledSelect(lambda pk: Annotator.objects.select_related(*related).filter(pk=pk))
    monkeypatch.setattr(assignment, "_LOCKED", unlocked)
    monkeypatch.setattr(assignment, "day_is_full_until", check_slowly)


def test_one_person_in_twelve_windows_does_exactly_what_the_study_allows(at_once):
    annotator = admitted_annotator(one_turn_study(conversations_per_annotator=5))
    assert work_in_windows(at_once, annotator) == {"no_work_available"}
    assert Assignment.objects.counted().count() == Conversation.objects.count() == Comparison.objects.count() == 5
    assert Slot.objects.exclude(state="OPEN").count() == 5


def test_one_person_in_twelve_windows_does_exactly_what_the_day_allows(at_once):
    annotator = admitted_annotator(one_turn_study(conversations_per_annotator=7, max_conversations_per_day=3))
    for day, done in enumerate((3, 6, 7)):
        told = work_in_windows(at_once, annotator, NOW + timedelta(days=day))
        assert told == {"daily_limit_reached" if done < 7 else "no_work_available"}
        assert Assignment.objects.counted().count() == done


def test_sabotage_without_the_lock_of_the_person_windows_begin_two_tasks(at_once, monkeypatch):
    """The control: what then stops the second task is the database, with an error in the person's face."""
    unlock_the_person(monkeypatch)
    annotator = admitted_annotator(one_turn_study(conversations_per_annotator=5))
    assert "IntegrityError" in work_in_windows(at_once, annotator)


def claims_in_windows(at_once, annotator: Annotator) -> list:
    return at_once([lambda: claim(annotator)] * WINDOWS)


def test_one_person_pressing_in_many_windows_gets_one_task(at_once):
    annotator = admitted_annotator(one_turn_study())
    assert {result.pk for result in claims_in_windows(at_once, annotator)} == {Assignment.objects.get().pk}


def test_sabotage_without_the_lock_of_the_person_pressing_in_many_windows_fails(at_once, monkeypatch):
    unlock_the_person(monkeypatch)
    results = claims_in_windows(at_once, admitted_annotator(one_turn_study()))
    assert any(isinstance(result, IntegrityError) for result in results)


def test_leaving_in_one_window_while_others_work_keeps_nothing_counted(at_once):
    annotator = admitted_annotator(one_turn_study(conversations_per_annotator=8))

    def leave():
        time.sleep(0.1)
        withdraw(annotator=annotator, now=NOW)

    told = {repr_of(result) for result in at_once([leave, *[lambda: work(annotator)] * WINDOWS])}
    assert told <= {"NoneType", "StaleForm", "no_work_available"}
    assert set(Slot.objects.values_list("state", flat=True)) == {"OPEN"}
    assert set(Assignment.objects.values_list("state", flat=True)) <= {"WITHDRAWN"}
