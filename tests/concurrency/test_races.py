"""Races on PostgreSQL, each with a control that shows the race without its guard."""

import time
import uuid

import pytest
from django.db import IntegrityError

from apps.annotation.errors import NoWorkAvailable
from apps.annotation.models import Assignment, Change, Comparison
from apps.annotation.policies import fill_to_overlap
from apps.annotation.selectors import current_work
from apps.annotation.services import claim_next_assignment, show_turn, submit_comparison
from apps.quotas.errors import QuotaCellFull
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.quotas.services import place_annotator, placing
from apps.studies.models import TaskDesign
from tests.annotation.fieldwork import NOW, REASON, admitted_annotator, seated_study
from tests.factories import AnnotatorFactory

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
PEOPLE, PROMPTS, OVERLAP = 32, 30, 3


def race_for_everything(at_once, study) -> list:
    """Thirty-two people of one locale work until nothing is left; the exceptions that were not `NoWorkAvailable`."""
    TaskDesign.objects.filter(study=study).update(min_turns=1, max_turns=1)
    locale = study.locales.first()
    people = [admitted_annotator(study, study_locale=locale) for _ in range(PEOPLE)]

    def work(annotator):
        while True:
            try:
                claim_next_assignment(annotator=annotator, submission_id=uuid.uuid4(), now=NOW)
            except NoWorkAvailable:
                return
            turn = current_work(annotator).turn
            show_turn(turn=turn, device_class="desktop", now=NOW)
            submit_comparison(
                annotator=annotator, turn_number=1, chosen_position=0, explanation=REASON, layout="", submission_id=uuid.uuid4(), now=NOW
            )

    results = at_once([lambda person=person: work(person) for person in people])
    return [result for result in results if result is not None]


def conversations_per_prompt(study) -> list[int]:
    counted = Assignment.objects.counted().filter(annotator__study=study).values_list("prompt_id", flat=True)
    return sorted(list(counted).count(prompt) for prompt in set(counted))


def test_r7_overlap_never_exceeded(at_once):
    """32 annotators racing for 30 prompts × overlap 3 hold exactly 90 counted conversations."""
    study = seated_study(prompts=PROMPTS, overlap=OVERLAP, conversations_per_annotator=100)
    assert race_for_everything(at_once, study) == []
    assert conversations_per_prompt(study) == [OVERLAP] * PROMPTS
    assert Assignment.objects.counted().count() == PROMPTS * OVERLAP
    pairs = list(Assignment.objects.values_list("annotator_id", "prompt_id"))
    assert len(pairs) == len(set(pairs))


def test_r7_sabotage_without_the_lock(at_once, monkeypatch):
    """The control: claiming without the row lock makes claims collide on the database's last line of defence."""

    monkeypatch.setattr(fill_to_overlap, "lock_next_slot", lambda slots, *, now: slots.select_related("prompt").unclaimed().first())
    study = seated_study(prompts=PROMPTS, overlap=OVERLAP, conversations_per_annotator=100)
    errors = race_for_everything(at_once, study)
    surplus = Assignment.objects.exclude(state=Assignment.State.COMPLETED).exists()
    assert any(isinstance(error, IntegrityError) for error in errors) or surplus or conversations_per_prompt(study) != [OVERLAP] * PROMPTS


def test_one_person_pressing_in_many_tabs_gets_one_assignment(at_once):
    study = seated_study()
    annotator = admitted_annotator(study)
    results = at_once([lambda: claim_next_assignment(annotator=annotator, submission_id=uuid.uuid4(), now=NOW) for _ in range(12)])
    assert len({result.pk for result in results}) == 1
    assert Assignment.objects.count() == 1


def test_r5_parallel_presses_of_one_form_store_one_comparison(at_once):
    study = seated_study()
    annotator = admitted_annotator(study)
    claim_next_assignment(annotator=annotator, submission_id=uuid.uuid4(), now=NOW)
    show_turn(turn=current_work(annotator).turn, device_class="", now=NOW)
    key = uuid.uuid4()

    def press():
        return submit_comparison(
            annotator=annotator, turn_number=1, chosen_position=1, explanation=REASON, layout="", submission_id=key, now=NOW
        )

    results = at_once([press] * 12)
    assert {result.pk for result in results} == {Comparison.objects.get().pk}
    assert Change.objects.count() == 1


def quota(study, target) -> QuotaCell:
    row = Quota.objects.create(study=study, key="all", kind=Quota.Kind.HARD)
    row.locales.set(study.locales.all())
    return QuotaCell.objects.create(quota=row, key="all", target=target)


def admit_many(at_once, study, many=24) -> list:
    people = [AnnotatorFactory(study=study) for _ in range(many)]
    return at_once([lambda person=person: place_annotator(annotator=person, now=NOW) for person in people])


def test_r8_no_placement_above_the_target(at_once):
    study = seated_study(prompts=1)
    cell = quota(study, 7)
    results = admit_many(at_once, study)
    assert sum(isinstance(result, QuotaCellFull) for result in results) == 24 - 7
    assert cell.placements.exclude(state=Placement.State.RELEASED).count() == 7


def slow_counts(monkeypatch, seconds: float) -> None:
    """Let time pass between counting the places of a cell and taking one."""
    counting = placing._free

    def counted_slowly(*arguments):
        free = counting(*arguments)
        time.sleep(seconds)
        return free

    monkeypatch.setattr(placing, "_free", counted_slowly)


def test_r8_sabotage_without_the_lock_the_cell_overfills(at_once, monkeypatch):
    """The control: count and insert without locking the cell, with a pause in between, and the cell overfills."""
    from django.db.models import QuerySet

    monkeypatch.setattr(QuerySet, "select_for_update", lambda self, **options: self)
    slow_counts(monkeypatch, 0.2)
    study = seated_study(prompts=1)
    cell = quota(study, 7)
    admit_many(at_once, study)
    monkeypatch.undo()
    assert cell.placements.exclude(state=Placement.State.RELEASED).count() > 7


def test_r8_the_locked_check_holds_with_the_same_pause(at_once, monkeypatch):
    """The guard under the very pause that breaks the control."""
    slow_counts(monkeypatch, 0.05)
    study = seated_study(prompts=1)
    cell = quota(study, 7)
    admit_many(at_once, study)
    monkeypatch.undo()
    assert cell.placements.exclude(state=Placement.State.RELEASED).count() == 7
