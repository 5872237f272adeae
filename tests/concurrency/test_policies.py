"""Policies under real threads on PostgreSQL, each with a control that goes red without its lock."""

import uuid
from collections import Counter

import pytest
from django.db import connection

from apps.annotation.errors import NoWorkAvailable
from apps.annotation.models import Assignment, AssignmentPlan, Slot
from apps.annotation.policies import balanced_strata, fixed_set
from apps.annotation.selectors import current_work
from apps.annotation.services import change_overlap, claim_next_assignment, show_turn, submit_comparison, withdraw
from apps.annotators.models import Annotator
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.studies.models import Study, TaskDesign
from tests.annotation.fieldwork import NOW, REASON, admitted_annotator, seated_study

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


def try_claim(annotator: Annotator) -> Assignment | None:
    try:
        return claim_next_assignment(annotator=annotator, submission_id=uuid.uuid4(), now=NOW)
    except NoWorkAvailable:
        return None


def work(annotator: Annotator) -> int:
    """Claim and judge until nothing is left; how many conversations that were."""
    done = 0
    while try_claim(annotator) is not None:
        show_turn(turn=current_work(annotator).turn, device_class="", now=NOW)
        submit_comparison(
            annotator=annotator, turn_number=1, chosen_position=0, explanation=REASON, layout="", submission_id=uuid.uuid4(), now=NOW
        )
        done += 1
    return done


def planned(**fields) -> Study:
    plan = fields.pop("plan")
    study = seated_study(**fields)
    TaskDesign.objects.filter(study=study).update(min_turns=1, max_turns=1)
    AssignmentPlan.objects.create(study=study, **plan)
    return Study.objects.get(pk=study.pk)


def race_in_one_stratum(at_once) -> list[int]:
    """Twelve men and twelve women at once on 4 prompts × overlap 6; how many of one stratum each prompt got at most."""
    study = planned(prompts=4, overlap=6, conversations_per_annotator=50, prompts_per_wave=1, plan={})
    quota = Quota.objects.create(study=study, key="gender")
    quota.locales.set(study.locales.all())
    AssignmentPlan.objects.filter(study=study).update(policy="balanced_strata", balance_quota=quota)
    people = []
    for key in ("men", "women"):
        cell = QuotaCell.objects.create(quota=quota, key=key, target=100)
        for _ in range(12):
            people.append(admitted_annotator(study))
            Placement.objects.create(annotator=people[-1], quota=quota, cell=cell, reserved_at=NOW)
    results = at_once([lambda person=person: work(person) for person in people])
    assert [result for result in results if not isinstance(result, int)] == []
    held = Counter(Assignment.objects.counted().values_list("prompt", "annotator__placements__cell"))
    return list(held.values())


def test_r7_no_stratum_passes_its_share_of_a_prompt(at_once):
    assert race_in_one_stratum(at_once) == [3] * 8


def test_r7_sabotage_without_the_lock_of_the_prompt_a_stratum_passes_its_share(at_once, monkeypatch):
    """The control: without the prompt's lock, claims on two of its seats count before either has committed."""

    def pause(slot: Slot) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.05)")

    monkeypatch.setattr(balanced_strata, "lock_prompt", pause)
    assert max(race_in_one_stratum(at_once)) > 3


def test_r7_the_locked_check_of_a_stratum_holds_with_the_same_pause(at_once, monkeypatch):
    lock = balanced_strata.lock_prompt

    def lock_and_pause(slot: Slot) -> None:
        lock(slot)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.01)")

    monkeypatch.setattr(balanced_strata, "lock_prompt", lock_and_pause)
    assert race_in_one_stratum(at_once) == [3] * 8


def race_for_sets(at_once) -> list[int]:
    """Twelve people at once for sets of 5 of 6 prompts × overlap 10, exactly as many as there are; how much each did."""
    plan = {"policy": "fixed_set", "set_size": 5}
    study = planned(prompts=6, overlap=10, conversations_per_annotator=5, plan=plan)
    people = [admitted_annotator(study) for _ in range(12)]
    results = at_once([lambda person=person: work(person) for person in people])
    assert [result for result in results if not isinstance(result, int)] == []
    counted = Counter(Assignment.objects.counted().values_list("prompt", flat=True))
    assert max(counted.values()) <= 10
    return results


def test_r7_everybody_finds_a_whole_set(at_once):
    assert race_for_sets(at_once) == [5] * 12
    assert Slot.objects.filter(state="FILLED").count() == 60


def test_r7_sabotage_without_the_lock_of_the_draws_somebody_finds_too_few(at_once, monkeypatch):
    """The control: draws that do not wait for each other see the same free seats, fill unevenly and leave the last too few.

    Not in every race: chance may deal evenly.
    """
    drawing = fixed_set._lock_least_filled

    def slowly(free, seed):
        for slot in drawing(free, seed):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.02)")
            yield slot

    monkeypatch.setattr(fixed_set, "lock_draws", lambda study_locale: None)
    monkeypatch.setattr(fixed_set, "_lock_least_filled", slowly)
    assert any(race_for_sets(at_once) != [5] * 12 for _ in range(6))


def test_r7_overlap_changed_meanwhile_is_never_passed(at_once):
    """Sixteen people work while the overlap goes up and down; whoever withdraws meanwhile does not reopen a seat too many."""
    study = planned(prompts=8, overlap=4, conversations_per_annotator=100, plan={})
    people = [admitted_annotator(study) for _ in range(16)]

    def edit():
        for overlap in (2, 5, 3, 6, 2):
            change_overlap(study=Study.objects.get(pk=study.pk), overlap=overlap)

    def work_and_leave(person):
        done = work(person)
        withdraw(annotator=person, now=NOW)
        return done

    workers = [lambda person=person: work(person) for person in people[:12]]
    results = at_once([edit, *workers, *[lambda person=person: work_and_leave(person) for person in people[12:]]])
    assert [result for result in results if isinstance(result, Exception)] == []
    change_overlap(study=Study.objects.get(pk=study.pk), overlap=2)
    live = Slot.objects.live().exclude(state="FILLED").values("prompt", "study_locale")
    groups = Counter(Slot.objects.live().values_list("prompt", "study_locale"))
    assert all(groups[row["prompt"], row["study_locale"]] <= 2 for row in live)
    assert not Slot.objects.filter(state="CLAIMED").exists()
    assert max(Counter(Assignment.objects.counted().values_list("prompt", flat=True)).values()) <= 6


def test_a_claim_waits_for_the_last_seat_that_somebody_else_gives_back(at_once):
    """Nobody is told that no work is left while the last seat is only being looked at."""
    study = planned(prompts=1, overlap=2, plan={})
    people = [admitted_annotator(study) for _ in range(2)]
    for _ in range(5):
        results = at_once([lambda person=person: try_claim(person) for person in people])
        assert all(isinstance(result, Assignment) for result in results)
