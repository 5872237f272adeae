"""The overlap changes in the middle of fieldwork: seats follow, and nobody is sent away."""

from datetime import timedelta

import pytest

from apps.annotation.models import Assignment, Slot
from apps.annotation.services import change_overlap, preview_overlap, return_assignment, seat_study, withdraw
from apps.annotation.services.seating import Seating
from apps.studies.models import Study, TaskDesign
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, judge, seated_study
from tests.factories import PromptFactory, RecipeFactory

pytestmark = pytest.mark.django_db


def one_prompt(overlap: int, *, filled: int = 0, claimed: int = 0) -> tuple[Study, list[Assignment]]:
    """A study of one prompt in one locale with `filled` finished and `claimed` running conversations, in this order."""
    study = seated_study(prompts=1, overlap=overlap)
    study.locales.get(language="fr").slots.all().delete()
    TaskDesign.objects.filter(study=study).update(min_turns=1, max_turns=1)
    study = Study.objects.get(pk=study.pk)
    works = []
    for number in range(filled + claimed):
        annotator = admitted_annotator(study)
        works.append(claim(annotator, now=NOW + timedelta(seconds=number)))
        if number < filled:
            judge(annotator)
    return study, works


def states() -> list[str]:
    return sorted(f"{state}{' in excess' if excess else ''}" for state, excess in Slot.objects.values_list("state", "is_excess"))


def change(study: Study, overlap: int) -> Seating:
    """Change the overlap; the preview must have said the same."""
    foreseen = preview_overlap(study=study, overlap=overlap)
    done = change_overlap(study=study, overlap=overlap)
    assert done == foreseen
    assert Study.objects.get(pk=study.pk).overlap == overlap
    return done


def test_raising_adds_seats_behind_the_others():
    study, _ = one_prompt(2)
    last = Slot.objects.order_by("queue_position").last()
    assert change(study, 4) == Seating(added=2)
    new = Slot.objects.filter(ordinal__gt=2).order_by("ordinal")
    assert [slot.ordinal for slot in new] == [3, 4]
    assert all(slot.queue_position > last.queue_position for slot in new)
    assert {slot.candidate_set_id for slot in new} == {last.candidate_set_id}
    assert seat_study(study=study) == Seating(added=4)  # only the locale whose seats were removed above


def test_lowering_retires_open_seats_first():
    study, works = one_prompt(4, filled=1, claimed=1)
    assert change(study, 2) == Seating(retired=2)
    assert states() == ["CLAIMED", "FILLED", "RETIRED", "RETIRED"]
    works[1].slot.refresh_from_db()
    assert not works[1].slot.is_excess


def test_a_claimed_seat_of_a_high_ordinal_counts_as_one_of_the_lower_overlap():
    """Seats retire by what they hold, not by their number: else a lowered overlap would be passed."""
    study, works = one_prompt(3, claimed=3)
    for work in works[:2]:
        return_assignment(annotator=work.annotator, state="SKIPPED", reason="", now=NOW)
    assert sorted(Slot.objects.values_list("ordinal", "state")) == [(1, "OPEN"), (2, "OPEN"), (3, "CLAIMED")]
    assert change(study, 1) == Seating(retired=2)
    assert sorted(Slot.objects.values_list("ordinal", "state")) == [(1, "RETIRED"), (2, "RETIRED"), (3, "CLAIMED")]


def test_those_who_began_last_finish_as_surplus_and_their_seats_retire():
    study, works = one_prompt(3, claimed=3)
    assert change(study, 1) == Seating(excess=2)
    assert states() == ["CLAIMED", "CLAIMED in excess", "CLAIMED in excess"]
    for work in reversed(works):
        judge(work.annotator)
        work.refresh_from_db()
    assert [work.state for work in works] == ["COMPLETED", "SURPLUS", "SURPLUS"]
    assert states() == ["FILLED", "RETIRED", "RETIRED"]
    assert works[2].conversation.turns.get().comparisons.get().explanation


def test_filled_seats_stay_although_there_are_more_than_the_overlap():
    study, _ = one_prompt(3, filled=3)
    assert change(study, 1) == Seating()
    assert states() == ["FILLED"] * 3


def test_a_seat_in_excess_is_not_given_to_others_after_its_lease():
    study, works = one_prompt(2, claimed=2)
    change(study, 1)
    taken = claim(admitted_annotator(study), now=NOW + timedelta(hours=5))
    assert taken.slot_id == works[0].slot_id


def test_a_seat_in_excess_that_is_given_back_retires():
    study, works = one_prompt(2, claimed=2)
    change(study, 1)
    return_assignment(annotator=works[1].annotator, state="SKIPPED", reason="", now=NOW)
    assert states() == ["CLAIMED", "RETIRED"]


def test_raising_again_brings_back_the_work_in_excess_before_it_adds_seats():
    study, works = one_prompt(3, claimed=3)
    change(study, 1)
    assert change(study, 4) == Seating(reopened=2, added=1)
    for work in works:
        judge(work.annotator)
    assert Assignment.objects.counted().count() == 3
    assert states() == ["FILLED", "FILLED", "FILLED", "OPEN"]


def test_raising_again_reopens_retired_seats():
    study, _ = one_prompt(4)
    change(study, 1)
    assert change(study, 3) == Seating(reopened=2)
    assert states() == ["OPEN", "OPEN", "OPEN", "RETIRED"]


def test_a_withdrawal_beyond_the_lowered_overlap_retires_its_seat():
    study, works = one_prompt(3, filled=3)
    change(study, 2)
    withdraw(annotator=works[0].annotator, now=NOW)
    assert states() == ["FILLED", "FILLED", "RETIRED"]
    withdraw(annotator=works[1].annotator, now=NOW)
    assert states() == ["FILLED", "OPEN", "RETIRED"]


def test_a_withdrawal_from_a_seat_in_excess_retires_it():
    study, works = one_prompt(2, claimed=2)
    change(study, 1)
    withdraw(annotator=works[1].annotator, now=NOW)
    assert states() == ["CLAIMED", "RETIRED"]


def test_the_same_overlap_again_changes_nothing():
    study, _ = one_prompt(3, filled=1, claimed=1)
    assert change(study, 3) == Seating()


def test_seats_of_removed_prompts_and_other_arms_stay_retired():
    study = seated_study(prompts=4, overlap=2)
    removed = study.prompts.first()
    removed.is_current = False
    removed.save()
    RecipeFactory(study=study, key="second", nc_count=3)
    seat_study(study=study)
    retired = set(Slot.objects.filter(state="RETIRED").values_list("pk", flat=True))
    change(study, 3)
    assert not Slot.objects.filter(pk__in=retired).exclude(state="RETIRED").exists()
    per_prompt = {prompt.pk: Slot.objects.live().filter(prompt=prompt).count() for prompt in study.prompts.filter(is_current=True)}
    assert set(per_prompt.values()) == {3 * 2}


def test_a_change_leaves_prompts_without_seats_alone():
    study = seated_study(prompts=1, overlap=2)
    PromptFactory(study=study)
    assert change(study, 3) == Seating(added=2)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_live_seats_follow_the_overlap(seed):
    """Random claims, answers, returns, withdrawals and changes: live seats never exceed the overlap but by what is filled."""
    import random

    draw = random.Random(seed)
    study, _ = one_prompt(3)
    people = []
    for _ in range(30):
        action = draw.choice(["claim", "claim", "judge", "skip", "withdraw", "overlap", "seat"])
        if action == "claim" and Slot.objects.filter(state="OPEN").exists():
            people.append(admitted_annotator(study))
            claim(people[-1])
        running = [person for person in people if person.assignments.active().exists()]
        if action == "judge" and running:
            judge(draw.choice(running))
        elif action == "skip" and running:
            return_assignment(annotator=draw.choice(running), state="SKIPPED", reason="", now=NOW)
        elif action == "withdraw" and people:
            withdraw(annotator=people.pop(draw.randrange(len(people))), now=NOW)
        elif action == "overlap":
            change(study, draw.randint(1, 5))
        elif action == "seat":
            study.locales.get(language="fr").slots.all().delete()
            assert seat_study(study=study).retired == 0
            study.locales.get(language="fr").slots.all().delete()
        overlap = Study.objects.get(pk=study.pk).overlap
        filled = Slot.objects.filter(state="FILLED").count()
        assert Slot.objects.live().count() == max(overlap, filled)
        assert filled == Assignment.objects.counted().count()
