"""Claiming work."""

import random
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from apps.annotation.errors import NoWorkAvailable, StaleForm, SubmissionConflict
from apps.annotation.models import Assignment, Conversation, Slot, Turn
from apps.annotation.randomness import derive_seed
from apps.annotation.selectors import current_work
from apps.annotators.models import Annotator
from apps.generation.arms import current_recipes, draw_arm
from apps.generation.models import CandidateSet


def claim_next_assignment(*, annotator: Annotator, submission_id: UUID, now: datetime) -> Assignment:
    """Give the person their next task and start its conversation.

    1. Lock the annotator, so that two presses of one person come one after the other.
    2. Return the first answer to a replayed `submission_id`, and the running task where one exists.
    3. Draw from the person's seed whether this conversation opens with their own message.
    4. Otherwise lock one open slot in queue order, passing over those that others are claiming (`SKIP LOCKED`): first
       claimed slots whose lease ran out, then open ones; never a prompt the person has had, never one without candidates.
    5. A slot taken over expires its former holder, who may finish late as surplus.
    6. Count up the slot's fencing token and store assignment, conversation and first turn.

    Raises `NoWorkAvailable`, `StaleForm` (the person has ended), `SubmissionConflict` (id of another person).
    """
    with transaction.atomic():
        annotator = Annotator.objects.select_for_update(of=("self",)).select_related("study", "study_locale").get(pk=annotator.pk)
        earlier = Assignment.objects.filter(submission_id=submission_id).first()
        if earlier is not None:
            if earlier.annotator_id != annotator.pk:
                raise SubmissionConflict
            return earlier
        if annotator.state != Annotator.State.ACTIVE or not annotator.study.is_open:
            raise StaleForm
        running = current_work(annotator)
        if running is not None:
            return running.assignment
        lease = now + timedelta(minutes=annotator.study.lease_minutes)
        ordinal = annotator.assignments.count() + 1
        share = float(annotator.study.own_prompt_share)
        if random.Random(derive_seed(annotator.seed, "own", ordinal)).random() < share:  # noqa: S311  (stored, repeatable draw)
            return _start_own(annotator=annotator, submission_id=submission_id, lease=lease, now=now)
        slot = _lock_next_slot(annotator=annotator, now=now)
        if slot is None:
            raise NoWorkAvailable
        Assignment.objects.filter(slot=slot, state=Assignment.State.ACTIVE).update(state=Assignment.State.EXPIRED, ended_at=now)
        slot.fencing_token += 1
        slot.state, slot.lease_expires_at = Slot.State.CLAIMED, lease
        slot.save(update_fields=["fencing_token", "state", "lease_expires_at"])
        assignment = Assignment.objects.create(
            annotator=annotator,
            slot=slot,
            prompt=slot.prompt,
            recipe=slot.recipe,
            purpose=Assignment.Purpose.MAIN,
            submission_id=submission_id,
            fencing_token=slot.fencing_token,
            lease_expires_at=lease,
            claimed_at=now,
        )
        conversation = Conversation.objects.create(assignment=assignment, annotator=annotator, started_at=now)
        design = annotator.study.task_design.turn_design(1)
        Turn.objects.create(
            conversation=conversation,
            number=1,
            state=Turn.State.READY,
            source=Turn.Source.PREGENERATED,
            message=slot.prompt.text_in(annotator.study_locale.language),
            candidate_set=slot.candidate_set,
            form=design.form,
            k=design.k,
            display_seed=derive_seed(annotator.seed, "display", ordinal, 1),
            created_at=now,
            ready_at=now,
        )
    return assignment


def _start_own(*, annotator: Annotator, submission_id: UUID, lease: datetime, now: datetime) -> Assignment:
    """A task that the person opens with a message of their own: no slot, and no turn until they have written it.

    Where the study has several arms, the person's seed draws the one of this task.
    """
    recipe = draw_arm(current_recipes(annotator.study), derive_seed(annotator.seed, "arm", annotator.assignments.count() + 1))
    assignment = Assignment.objects.create(
        annotator=annotator,
        recipe=recipe,
        purpose=Assignment.Purpose.OWN,
        submission_id=submission_id,
        lease_expires_at=lease,
        policy="own_prompt",
        claimed_at=now,
    )
    Conversation.objects.create(assignment=assignment, annotator=annotator, started_at=now)
    return assignment


def _lock_next_slot(*, annotator: Annotator, now: datetime) -> Slot | None:
    available = (
        Slot.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("prompt", "recipe", "candidate_set")
        .filter(study_locale_id=annotator.study_locale_id, candidate_set__state=CandidateSet.State.READY)
        .exclude(prompt__assignments__annotator=annotator)
    )
    abandoned: QuerySet[Slot] = available.filter(state=Slot.State.CLAIMED, lease_expires_at__lt=now).order_by("lease_expires_at")
    unclaimed: QuerySet[Slot] = available.filter(state=Slot.State.OPEN).order_by("queue_position")
    return abandoned.first() or unclaimed.first()


def renew_lease(*, assignment: Assignment, slot: Slot | None, minutes: int, now: datetime) -> None:
    """Push the end of the lease while the person is at work; `slot` is locked and still theirs."""
    assignment.lease_expires_at = now + timedelta(minutes=minutes)
    assignment.save(update_fields=["lease_expires_at"])
    if slot is not None:
        slot.lease_expires_at = assignment.lease_expires_at
        slot.save(update_fields=["lease_expires_at"])


def close_assignment(*, assignment: Assignment, slot: Slot | None, state: str, now: datetime) -> None:
    """End the work and settle its (locked) slot: filled by COMPLETED, open again otherwise. Late work becomes SURPLUS.

    Work whose slot was given away leaves the slot alone.
    """
    owns = slot is not None and assignment.holds_slot(slot)
    if state == Assignment.State.COMPLETED and (assignment.state != Assignment.State.ACTIVE or (slot is not None and not owns)):
        state = Assignment.State.SURPLUS
    assignment.state, assignment.ended_at = state, now
    assignment.save(update_fields=["state", "ended_at"])
    if slot is not None and owns:
        slot.state = Slot.State.FILLED if state == Assignment.State.COMPLETED else Slot.State.OPEN
        slot.lease_expires_at = None
        slot.save(update_fields=["state", "lease_expires_at"])
