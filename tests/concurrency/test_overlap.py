"""R7: fifty people on 30 prompts × overlap 3 while the overlap goes up and down."""

import threading
import time
import uuid
from collections import Counter
from functools import partial

import pytest
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet

from apps.annotation.errors import NoWorkAvailable
from apps.annotation.models import Assignment, Slot
from apps.annotation.selectors import current_work
from apps.annotation.services import change_overlap, claim_next_assignment, seating, show_turn, submit_comparison, withdraw
from apps.annotators.models import Annotator
from apps.studies.models import Study, TaskDesign
from tests.annotation.fieldwork import NOW, REASON, admitted_annotator, claim, judge, seated_study
from tests.concurrency.conftest import run_sql

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
CROWD, PROMPTS, OVERLAP = 50, 30, 3


def one_turn_study(prompts: int = PROMPTS, overlap: int = OVERLAP) -> Study:
    study = seated_study(prompts=prompts, overlap=overlap, conversations_per_annotator=1000)
    TaskDesign.objects.filter(study=study).update(min_turns=1, max_turns=1)
    study.locales.get(language="fr").slots.all().delete()
    return Study.objects.get(pk=study.pk)


def work(annotator: Annotator, most: int = 1000) -> int:
    """Claim and judge until nothing is left; how many conversations that were."""
    for done in range(most):
        try:
            claim_next_assignment(annotator=annotator, submission_id=uuid.uuid4(), now=NOW)
        except NoWorkAvailable:
            return done
        show_turn(turn=current_work(annotator).turn, device_class="", now=NOW)
        submit_comparison(
            annotator=annotator, turn_number=1, chosen_position=0, explanation=REASON, layout="", submission_id=uuid.uuid4(), now=NOW
        )
    return most


def edit(overlaps: list[int]) -> None:
    for overlap in overlaps:
        time.sleep(0.1)
        change_overlap(study=Study.objects.get(), overlap=overlap)


# One statement, so one moment: prompts whose live seats are not as many as the overlap, or as are filled where that is more.
WRONG = """
    SELECT prompt_id, count(*) FILTER (WHERE live), count(*) FILTER (WHERE s.state = 'FILLED'), max(overlap)
    FROM (SELECT *, state <> 'RETIRED' AND NOT is_excess AS live FROM annotation_slot) s, studies_study
    GROUP BY prompt_id, study_locale_id
    HAVING count(*) FILTER (WHERE live) <> greatest(max(overlap), count(*) FILTER (WHERE s.state = 'FILLED'))
"""


def audited(at_once, workers: list) -> list:
    """What the workers brought about, with whatever an auditor who looks all the time has found wrong."""
    found, at_work = [], threading.Semaphore(0)

    def look() -> int:
        looks = finished = 0
        while finished < len(workers):
            found.extend(run_sql(WRONG))
            looks += 1
            finished += at_work.acquire(timeout=0.01)
        return looks

    def run(worker) -> object:
        try:
            return worker()
        finally:
            at_work.release()

    looks, *results = at_once([look, *[partial(run, worker) for worker in workers]])
    assert looks > 1
    return [result for result in results if isinstance(result, Exception)] + found


def fieldwork(at_once, overlaps: list[int]) -> list:
    """Fifty people work until nothing is left while the overlap is edited; what went wrong."""
    study = one_turn_study()
    people = [admitted_annotator(study, study_locale=study.locales.get(language="en")) for _ in range(CROWD)]
    return audited(at_once, [partial(edit, overlaps), *[partial(work, annotator) for annotator in people]])


def conversations() -> Counter[int]:
    """Number of counted conversations → prompts that have so many."""
    return Counter(Counter(Assignment.objects.counted().values_list("prompt", flat=True)).values())


def test_r7_fifty_people_fill_every_prompt_to_the_overlap(at_once):
    assert fieldwork(at_once, []) == []
    assert conversations() == {OVERLAP: PROMPTS}


def test_r7_the_last_overlap_is_reached_exactly_however_it_went_up_and_down(at_once):
    assert fieldwork(at_once, [2, 4, 1, 5]) == []
    for annotator in Annotator.objects.all():
        work(annotator)  # whoever found nothing before the last edit comes back
    assert conversations() == {5: PROMPTS}
    assert not Slot.objects.exclude(state__in=["FILLED"]).exists()


def test_r7_lowered_meanwhile_no_claim_passes_the_overlap_then_in_force(at_once):
    assert fieldwork(at_once, [4, 2, 1]) == []
    assert {state for state, _ in Slot.objects.values_list("state", "is_excess")} <= {"FILLED", "RETIRED"}
    assert min(conversations()) >= 1
    assert max(conversations()) <= 4


def test_r7_sabotage_without_locks_edits_and_claims_trip_over_each_other(at_once, monkeypatch):
    """The control: an edit that looks at the seats and changes them later, without locking them."""
    locking = QuerySet.select_for_update
    monkeypatch.setattr(QuerySet, "select_for_update", lambda self, **options: self if self.model is Slot else locking(self, **options))
    changing = seating._change

    def change_late(locked, **values):
        time.sleep(0.2)
        return changing(locked, **values)

    monkeypatch.setattr(seating, "_change", change_late)
    assert fieldwork(at_once, [2, 1]) != []


def withdrawal_during_an_edit() -> tuple[int, int]:
    """Somebody withdraws while an edit from three to two has looked and is not committed: live seats and the overlap afterwards."""
    study = one_turn_study(prompts=1)
    people = [admitted_annotator(study, study_locale=study.locales.get(language="en")) for _ in range(3)]
    for annotator in people:
        claim(annotator)
        judge(annotator)

    def leave() -> None:
        try:
            withdraw(annotator=people[0], now=NOW)
        finally:
            connection.close()

    leaver = threading.Thread(target=leave)
    with transaction.atomic():
        change_overlap(study=study, overlap=2)
        leaver.start()
        leaver.join(1)
    leaver.join(20)
    return Slot.objects.live().count(), Study.objects.get().overlap


def test_r7_a_withdrawal_during_an_edit_opens_no_seat_beyond_the_new_overlap(alone):
    assert withdrawal_during_an_edit() == (2, 2)


def test_r7_sabotage_a_withdrawal_that_does_not_wait_for_the_edit_opens_a_seat_too_many(alone, monkeypatch):
    locking = QuerySet.select_for_update
    monkeypatch.setattr(QuerySet, "select_for_update", lambda self, **options: self if self.model is Study else locking(self, **options))
    assert withdrawal_during_an_edit() == (3, 2)


def leave_and_edit(at_once, rounds: int) -> list:
    """People who have worked withdraw while the overlap is edited; deadlocks and seats too many."""
    problems = []
    study = one_turn_study(prompts=4)
    locale = study.locales.get(language="en")
    for _ in range(rounds):
        people = [admitted_annotator(study, study_locale=locale) for _ in range(6)]
        for annotator in people:
            work(annotator, 2)
        leavers = [partial(withdraw, annotator=annotator, now=NOW) for annotator in people]
        problems += audited(at_once, [partial(edit, [1, 4, 2, 3]), *leavers])
    return problems


def test_r7_withdrawals_and_edits_at_once_neither_deadlock_nor_open_seats(at_once):
    assert leave_and_edit(at_once, 3) == []


@pytest.mark.nightly
def test_r7_withdrawals_and_edits_at_once_a_hundred_times(at_once):
    problems = leave_and_edit(at_once, 100)
    assert [problem for problem in problems if isinstance(problem, OperationalError)] == []
    assert problems == []
