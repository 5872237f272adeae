"""Fill the prompts to the overlap in waves: a study stopped early has finished prompts."""

from datetime import datetime

from apps.annotation.models import AssignmentPlan, Slot
from apps.annotation.policies.base import Choice, Policy, lock_next_slot, reason_for
from apps.annotators.models import Annotator


def choose(*, annotator: Annotator, plan: AssignmentPlan, until: datetime, now: datetime) -> Choice | None:
    """The next slot in queue order."""
    slot = lock_next_slot(Slot.objects.workable_by(annotator), now=now)
    if slot is None:
        return None
    return Choice(slot=slot, seed=0, reason=reason_for(slot, annotator.study.prompts_per_wave))


POLICY = Policy(key="fill_to_overlap", label="Fill to the overlap, in waves of prompts", choose=choose)
