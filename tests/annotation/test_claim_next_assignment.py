import uuid
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from apps.annotation.errors import NoWorkAvailable, StaleForm
from apps.annotation.models import Assignment, Slot, Turn
from apps.annotation.policies import fill_to_overlap
from apps.annotation.selectors import current_work
from apps.annotation.services import claim_next_assignment
from apps.annotators.errors import SubmissionConflict
from apps.annotators.models import Annotator
from apps.generation.models import CandidateSet
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, judge, seated_study

pytestmark = pytest.mark.django_db


def test_a_claim_opens_a_conversation_with_a_ready_first_turn():
    study = seated_study()
    annotator = admitted_annotator(study)
    assignment = claim(annotator)
    turn = assignment.conversation.turns.get()
    assert (assignment.state, assignment.slot.state, turn.state, turn.k) == ("ACTIVE", "CLAIMED", Turn.State.READY, 4)
    assert turn.message == assignment.prompt.text_in("en")


def test_a_replayed_claim_returns_the_same_assignment():
    annotator = admitted_annotator(seated_study())
    key = uuid.uuid4()
    first = claim_next_assignment(annotator=annotator, submission_id=key, now=NOW)
    assert claim_next_assignment(annotator=annotator, submission_id=key, now=NOW) == first
    assert Assignment.objects.count() == 1


def test_a_claim_with_the_id_of_somebody_else_is_refused():
    study = seated_study()
    key = claim(admitted_annotator(study)).submission_id
    with pytest.raises(SubmissionConflict):
        claim_next_assignment(annotator=admitted_annotator(study), submission_id=key, now=NOW)


def test_a_second_claim_returns_the_running_assignment():
    annotator = admitted_annotator(seated_study())
    assert claim(annotator) == claim(annotator)


def test_a_person_who_has_ended_cannot_claim():
    annotator = admitted_annotator(seated_study(), state=Annotator.State.WITHDRAWN, ended_at=NOW)
    with pytest.raises(StaleForm):
        claim(annotator)


def test_prompts_fill_in_waves():
    """With waves of two prompts, the first 2 × overlap claims go to the same two prompts, evenly."""
    study = seated_study(prompts=5, overlap=3, prompts_per_wave=2)
    prompts = [claim(admitted_annotator(study)).prompt_id for _ in range(6)]
    assert {prompts.count(prompt) for prompt in prompts} == {3}
    assert len(set(prompts[:2])) == 2


def test_nobody_gets_a_prompt_twice():
    study = seated_study(prompts=2, overlap=5, prompts_per_wave=1, conversations_per_annotator=3)
    annotator = admitted_annotator(study)
    study.task_design.__class__.objects.filter(study=study).update(min_turns=1, max_turns=1)
    seen = []
    for _ in range(2):
        seen.append(claim(annotator).prompt_id)
        judge(annotator)
    assert len(set(seen)) == 2
    with pytest.raises(NoWorkAvailable):
        claim(annotator)


def test_a_prompt_without_ready_candidates_is_passed_over():
    study = seated_study(prompts=1)
    CandidateSet.objects.update(state=CandidateSet.State.FAILED)
    with pytest.raises(NoWorkAvailable):
        claim(admitted_annotator(study))


def test_r9_an_abandoned_slot_is_free_after_its_lease_without_a_janitor():
    study = seated_study(prompts=1, overlap=1, lease_minutes=30)
    first, second = admitted_annotator(study), admitted_annotator(study)
    abandoned = claim(first)
    with pytest.raises(NoWorkAvailable):
        claim(second, now=NOW + timedelta(minutes=29))
    taken = claim(second, now=NOW + timedelta(minutes=31))
    abandoned.refresh_from_db()
    assert (abandoned.state, taken.state, taken.slot_id) == ("EXPIRED", "ACTIVE", abandoned.slot_id)


def test_r9_sabotage_without_the_expiry_in_the_claim_the_slot_stays_lost(monkeypatch):
    """The control: were the claim to look at open slots only, an abandoned slot would never come back."""
    study = seated_study(prompts=1, overlap=1, lease_minutes=30)
    claim(admitted_annotator(study))
    assert not Slot.objects.filter(state=Slot.State.OPEN).filter(study_locale=study.locales.first()).exists()
    later = NOW + timedelta(minutes=31)
    monkeypatch.setattr(fill_to_overlap, "lock_next_slot", lambda slots, *, now: slots.unclaimed().first())
    with pytest.raises(NoWorkAvailable):
        claim(admitted_annotator(study), now=later)


def test_r9_a_late_answer_without_a_successor_counts():
    study = seated_study(prompts=1, overlap=1, lease_minutes=30)
    study.task_design.__class__.objects.filter(study=study).update(min_turns=1, max_turns=1)
    annotator = admitted_annotator(study)
    assignment = claim(annotator)
    judge(annotator, now=NOW + timedelta(hours=5))
    assignment.refresh_from_db()
    assert (assignment.state, assignment.slot.state) == ("COMPLETED", "FILLED")


def test_r9_a_late_answer_with_a_successor_is_kept_as_surplus():
    study = seated_study(prompts=1, overlap=1, lease_minutes=30)
    study.task_design.__class__.objects.filter(study=study).update(min_turns=1, max_turns=1)
    late, successor = admitted_annotator(study), admitted_annotator(study)
    first = claim(late)
    claim(successor, now=NOW + timedelta(minutes=31))
    judge(late, now=NOW + timedelta(minutes=40))
    judge(successor, now=NOW + timedelta(minutes=41))
    first.refresh_from_db()
    assert first.state == Assignment.State.SURPLUS
    assert Assignment.objects.counted().count() == 1
    assert first.conversation.turns.get().comparisons.get().explanation


def test_the_database_refuses_a_second_holder_of_a_slot():
    study = seated_study(prompts=1, overlap=1)
    held = claim(admitted_annotator(study))
    other = admitted_annotator(study)
    with pytest.raises(IntegrityError), transaction.atomic():
        Assignment.objects.create(
            annotator=other, slot=held.slot, prompt=held.prompt, recipe=held.recipe, submission_id=uuid.uuid4(),
            lease_expires_at=NOW, claimed_at=NOW,
        )  # fmt: skip


def test_a_share_of_own_first_messages_starts_without_a_slot():
    study = seated_study(own_prompt_share=1)
    annotator = admitted_annotator(study)
    assignment = claim(annotator)
    assert (assignment.purpose, assignment.slot, current_work(annotator).turn) == ("OWN", None, None)
