"""Claiming work."""

from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from apps.annotation.caps import day_is_full_until
from apps.annotation.errors import DailyLimitReached, NoWorkAvailable, StaleForm
from apps.annotation.models import Assignment, AssignmentPlan, Conversation, Turn
from apps.annotation.policies import POLICIES, Choice
from apps.annotation.randomness import derive_seed
from apps.annotation.selectors import standing_of
from apps.annotation.services.leases import touch_annotator
from apps.annotation.services.mixing import Extra, draw_extra, draw_pilot
from apps.annotators.errors import SubmissionConflict
from apps.annotators.models import Annotator
from apps.core.statements import CompiledSelect

_LOCKED = CompiledSelect(
    lambda pk: (
        Annotator.objects.select_for_update(of=("self",))
        .select_related("study__assignment_plan", "study__task_design", "study_locale", "recruitment_link")
        .filter(pk=pk)
    )
)


def claim_next_assignment(*, annotator: Annotator, submission_id: UUID, now: datetime) -> Assignment:
    """Give the person their next task and start its conversation.

    1. Lock the annotator, so that two presses of one person come one after the other.
    2. Return the first answer to a replayed `submission_id`, and the running task where one exists.
    3. Check what the person may do in the study and today.
    4. Draw from the person's seed whether this task is a gold item, a repetition or opens with their own message.
    5. Otherwise let the study's policy lock a slot: never one of a prompt the person has had, never one without
       candidates. A claimed slot whose lease ran out is taken over; its former holder may finish late as surplus.
    6. Count up the slot's fencing token and store assignment, conversation and first turn.

    People of pilot and preview links get prompts in queue order and take no slot.

    Raises `NoWorkAvailable`, `DailyLimitReached`, `StaleForm` (the person has ended), `SubmissionConflict` (id of another person).
    """
    with transaction.atomic():
        [annotator] = _LOCKED(annotator.pk)
        earlier = Assignment.objects.filter(submission_id=submission_id).first()
        if earlier is not None:
            if earlier.annotator_id != annotator.pk:
                raise SubmissionConflict
            return earlier
        if annotator.state != Annotator.State.ACTIVE or not annotator.study.is_open:
            raise StaleForm
        standing = standing_of(annotator)
        if standing.running is not None:
            return Assignment.objects.get(pk=standing.running)
        if standing.finished >= annotator.study.conversations_per_annotator:
            raise NoWorkAvailable
        touch_annotator(annotator=annotator, now=now)
        until = day_is_full_until(annotator, now)
        if until is not None:
            raise DailyLimitReached(until=until)
        lease = now + timedelta(minutes=annotator.study.lease_minutes)
        ordinal = standing.begun + 1
        plan = plan_of(annotator)
        if annotator.recruitment_link.counts:
            extra = draw_extra(annotator=annotator, plan=plan, ordinal=ordinal, now=now)
        else:
            extra = draw_pilot(annotator=annotator)
            if extra is None:
                raise NoWorkAvailable
        if extra is not None:
            assignment = _start_extra(annotator, extra, submission_id=submission_id, lease=lease, now=now)
            candidate_set_id = extra.candidate_set_id
        else:
            choice = POLICIES[plan.policy].choose(annotator=annotator, plan=plan, until=lease, now=now)
            if choice is None:
                raise NoWorkAvailable
            assignment = _start_on_slot(annotator, plan, choice, submission_id=submission_id, lease=lease, now=now)
            candidate_set_id = choice.slot.candidate_set_id
        conversation = Conversation.objects.create(assignment=assignment, annotator=annotator, started_at=now)
        if assignment.prompt is not None:
            design = annotator.study.task_design.turn_design(1)
            Turn.objects.create(
                conversation=conversation,
                number=1,
                state=Turn.State.READY,
                source=Turn.Source.PREGENERATED,
                message=assignment.prompt.text_in(annotator.study_locale.language),
                candidate_set_id=candidate_set_id,
                form=design.form,
                k=design.k,
                display_seed=derive_seed(annotator.seed, "display", ordinal, 1),
                created_at=now,
                ready_at=now,
            )
    return assignment


def plan_of(annotator: Annotator) -> AssignmentPlan:
    """The plan of the person's study; the defaults where it has none."""
    try:
        return annotator.study.assignment_plan
    except AssignmentPlan.DoesNotExist:
        return AssignmentPlan(study=annotator.study)


def _start_extra(annotator: Annotator, extra: Extra, *, submission_id: UUID, lease: datetime, now: datetime) -> Assignment:
    """A task without a slot; one of their own has no turn until they have written their message."""
    return Assignment.objects.create(
        annotator=annotator,
        prompt=extra.prompt,
        recipe_id=extra.recipe_id,
        purpose=extra.purpose,
        repeats=extra.repeats,
        submission_id=submission_id,
        lease_expires_at=lease,
        policy=extra.policy,
        seed=extra.seed,
        reason=extra.reason,
        claimed_at=now,
    )


def _start_on_slot(
    annotator: Annotator, plan: AssignmentPlan, choice: Choice, *, submission_id: UUID, lease: datetime, now: datetime
) -> Assignment:
    """Claim the chosen slot, or begin the offer that has held it."""
    slot, offer = choice.slot, choice.offer
    if offer is not None:
        slot.lease_expires_at = lease
        slot.save(update_fields=["lease_expires_at"])
        offer.state, offer.submission_id = Assignment.State.ACTIVE, submission_id
        offer.lease_expires_at, offer.claimed_at = lease, now
        offer.prompt = slot.prompt
        offer.save(update_fields=["state", "submission_id", "lease_expires_at", "claimed_at"])
        return offer
    slot.claim(until=lease, now=now)
    return Assignment.objects.create(
        annotator=annotator,
        slot=slot,
        prompt=slot.prompt,
        recipe_id=slot.recipe_id,
        purpose=Assignment.Purpose.MAIN,
        submission_id=submission_id,
        fencing_token=slot.fencing_token,
        lease_expires_at=lease,
        policy=plan.policy,
        seed=choice.seed,
        reason=choice.reason,
        claimed_at=now,
    )
