"""What policies share: their form, and locking the next slot of a queue."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from django.db import transaction

from apps.annotation.models import Assignment, AssignmentPlan, Slot
from apps.annotation.models.work import SlotQuerySet
from apps.annotation.queue import wave_of
from apps.annotators.models import Annotator


@dataclass(frozen=True)
class Choice:
    """The locked slot that a person gets next, the seed of the draw (0: nothing was drawn) and why.

    `offer` is the assignment that has held the slot for the person; without one the slot is still to be claimed.
    """

    slot: Slot
    seed: int
    reason: str
    offer: Assignment | None = None


class Choose(Protocol):
    def __call__(self, *, annotator: Annotator, plan: AssignmentPlan, until: datetime, now: datetime) -> Choice | None: ...


@dataclass(frozen=True)
class Policy:
    """A way of giving out slots.

    `choose` runs inside the claim, with the annotator locked; `until` is the end of a lease that begins now. It returns
    None where the person has no work. `needs` names the fields of the plan that must be filled in.
    """

    key: str
    label: str
    choose: Choose
    needs: tuple[str, ...] = ()


def lock_next_slot(slots: SlotQuerySet, *, now: datetime) -> Slot | None:
    """Lock the first abandoned slot among `slots`, else the first open one in queue order; None where there is none.

    Slots that others are claiming are passed over (`SKIP LOCKED`). Where nothing else is left, wait for them: a claim
    that is rolled back, or a person who hands back, may leave one.
    """
    queues = [slots.select_related("prompt").abandoned(now), slots.select_related("prompt").unclaimed()]
    for queue in queues:
        slot = queue.select_for_update(of=("self",), skip_locked=True).first()
        if slot is not None:
            return slot
    for queue in queues:
        slot = _wait_for_one(queue)
        if slot is not None:
            return slot
    return None


class _Taken(Exception):
    """A slot that was waited for no longer belongs to the queue."""


def _wait_for_one(queue: SlotQuerySet) -> Slot | None:
    """Lock one slot of `queue` after the other until one is still free.

    PostgreSQL keeps the lock of a row that was waited for in vain. Holding it while waiting for the next could close a circle with an
    edit of the overlap, which locks many; so each wait is a savepoint, and rolling it back lets go.
    """
    in_vain: set[int] = set()
    while (pk := queue.exclude(pk__in=in_vain).values_list("pk", flat=True).first()) is not None:
        try:
            with transaction.atomic():
                slot = queue.select_for_update(of=("self",)).filter(pk=pk).first()
                if slot is None:
                    raise _Taken
                return slot
        except _Taken:
            in_vain.add(pk)
    return None


def reason_for(slot: Slot, prompts_per_wave: int) -> str:
    """Why a locked slot was chosen, before it is claimed: for example “wave 3, seat 2”."""
    seat = f"wave {wave_of(slot.queue_position, prompts_per_wave)}, seat {slot.ordinal}"
    return f"{seat}, taken over" if slot.state == Slot.State.CLAIMED else seat
