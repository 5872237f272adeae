"""Holding, renewing and giving back the slots that a person works on or has reserved."""

from datetime import datetime, timedelta

from django.db import transaction

from apps.annotation.models import Assignment, Slot
from apps.annotation.selectors import current_work
from apps.annotators.models import Annotator
from apps.core.statements import update_row
from apps.studies.models import Study

RENEW_EVERY = timedelta(minutes=1)


def touch_annotator(*, annotator: Annotator, now: datetime) -> None:
    """Note that the (locked) person is active, at most once a minute, and renew the leases of what is reserved for them."""
    if now - annotator.active_at < RENEW_EVERY:
        return
    annotator.active_at = now
    annotator.save(update_fields=["active_at"])
    until = now + timedelta(minutes=annotator.study.lease_minutes)
    offered = dict(annotator.assignments.offered().values_list("slot_id", "pk"))
    if not offered:
        return
    # The person's own slot is locked already, so this never waits for another: a slot in use elsewhere is renewed a minute later.
    slots = Slot.objects.select_for_update(skip_locked=True).filter(pk__in=list(offered)).order_by("pk")
    held = list(slots.values_list("pk", flat=True))
    still = annotator.assignments.offered().filter(slot__in=held)
    Slot.objects.filter(pk__in=list(still.values_list("slot_id", flat=True))).update(lease_expires_at=until)
    still.update(lease_expires_at=until)


def renew_lease(*, assignment: Assignment, minutes: int, now: datetime) -> None:
    """Push the end of the lease while the person is at work, at most once a minute. Work that lost its slot stays as it is."""
    until = now + timedelta(minutes=minutes)
    if assignment.state != Assignment.State.ACTIVE or until - assignment.lease_expires_at < RENEW_EVERY:
        return
    if assignment.slot_id is None or update_row(Slot(pk=assignment.slot_id), where=_held_by(assignment), lease_expires_at=until):
        update_row(assignment, lease_expires_at=until)


def _held_by(assignment: Assignment) -> dict[str, object]:
    return {"fencing_token": assignment.fencing_token, "state": Slot.State.CLAIMED}


def complete_on_slot(*, assignment: Assignment, now: datetime) -> bool:
    """Complete the work and fill its slot if it still holds it, in two statements; False, and nothing done, otherwise.

    Whoever claims the slot or lowers the overlap below it has it locked: the update waits for them and then sees another token or mark.
    """
    where = _held_by(assignment) | {"is_excess": False}
    if assignment.slot_id is None or assignment.state != Assignment.State.ACTIVE:
        return False
    if not update_row(Slot(pk=assignment.slot_id), where=where, state=Slot.State.FILLED, lease_expires_at=None):
        return False
    update_row(assignment, state=Assignment.State.COMPLETED, ended_at=now)
    return True


def close_assignment(*, assignment: Assignment, slot: Slot | None, state: str, now: datetime) -> None:
    """End the work and settle its (locked) slot: filled by COMPLETED, open again otherwise.

    Work on a slot that was given away leaves the slot alone. Such late work, and work on a slot in excess, becomes SURPLUS.
    """
    owns = slot is not None and assignment.holds_slot(slot)
    counts = assignment.state == Assignment.State.ACTIVE and (slot is None or (owns and not slot.is_excess))
    if state == Assignment.State.COMPLETED and not counts:
        state = Assignment.State.SURPLUS
    assignment.state, assignment.ended_at = state, now
    assignment.save(update_fields=["state", "ended_at"])
    if slot is not None and owns:
        slot.leave(Slot.State.FILLED if state == Assignment.State.COMPLETED else Slot.State.OPEN)


def return_assignment(*, annotator: Annotator, state: str, reason: str, now: datetime) -> Assignment | None:
    """Give back the person's running work: its slot is offered to others (or retires), what they answered stays, uncounted.

    `state` is SKIPPED where the person goes on with something else, RETURNED where they leave: then what is reserved for
    them is given back too. `reason` is added to the assignment's. Returns the assignment; None where nothing was running.
    """
    with transaction.atomic():
        annotator = Annotator.objects.select_for_update(of=("self",)).select_related("study").get(pk=annotator.pk)
        work = current_work(annotator)
        if work is not None:
            slot = Slot.objects.select_for_update().get(pk=work.assignment.slot_id) if work.assignment.slot_id else None
            assignment = Assignment.objects.select_for_update(of=("self",)).get(pk=work.assignment.pk)
            assignment.reason = "; ".join(part for part in (assignment.reason, reason) if part)[:200]
            assignment.save(update_fields=["reason"])
            close_assignment(assignment=assignment, slot=slot, state=state, now=now)
            work.conversation.ended_at = now
            work.conversation.save(update_fields=["ended_at"])
        if state == Assignment.State.RETURNED:
            release_offers(annotator=annotator, now=now)
    return assignment if work is not None else None


def release_offers(*, annotator: Annotator, now: datetime) -> int:
    """Give back what is reserved for the person and not begun. Returns how many slots that were."""
    with transaction.atomic():
        offered = list(annotator.assignments.offered().values_list("slot_id", flat=True))
        slots = {slot.pk: slot for slot in Slot.objects.select_for_update().filter(pk__in=offered).order_by("pk")}
        offers = list(annotator.assignments.offered().filter(slot__in=slots).select_for_update(of=("self",)))
        for offer in offers:
            close_assignment(assignment=offer, slot=slots[offer.slot_id or 0], state=Assignment.State.RETURNED, now=now)
    return len(offers)


def give_back_slots(*, annotator: Annotator) -> None:
    """Offer every slot that the (locked) person holds or has filled to others: their work is about to be withdrawn.

    A filled slot retires where the overlap was lowered meanwhile and is reached without it. That is decided with the study
    locked, so that neither another withdrawal nor an edit of the overlap comes in between.
    """
    overlap = Study.objects.select_for_update(no_key=True).values_list("overlap", flat=True).get(pk=annotator.study_id)
    locked = Slot.objects.select_for_update().filter(assignments__annotator=annotator).order_by("pk")
    slots = {slot.pk: slot for slot in locked}
    held = annotator.assignments.filter(slot__in=slots).exclude(state=Assignment.State.WITHDRAWN)
    owned = [slot for work in held if (slot := slots[work.slot_id or 0]).fencing_token == work.fencing_token]
    for slot in owned:
        if slot.state == Slot.State.CLAIMED:
            slot.leave(Slot.State.OPEN)
        elif slot.state == Slot.State.FILLED:
            seats = Slot.objects.live().filter(prompt=slot.prompt_id, study_locale=slot.study_locale_id, recipe=slot.recipe_id)
            slot.leave(Slot.State.RETIRED if seats.count() > overlap else Slot.State.OPEN)
