"""Balance the people within each prompt: no stratum takes more than its share of the overlap.

The strata are the cells of `plan.balance_quota`, known from people's placements; demographic answers are never read.
"""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Count, Exists, F, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from apps.annotation.models import Assignment, AssignmentPlan, Slot
from apps.annotation.models.work import SlotQuerySet
from apps.annotation.policies.base import Choice, Policy, lock_next_slot, reason_for
from apps.annotators.models import Annotator
from apps.content.models import Prompt
from apps.quotas.models import Placement


class _StratumFull(Exception):
    """Somebody of the same stratum was faster on this prompt."""

    def __init__(self, prompt: int) -> None:
        self.prompt = prompt


def choose(*, annotator: Annotator, plan: AssignmentPlan, until: datetime, now: datetime) -> Choice | None:
    """The next slot in queue order on a prompt that still takes people of this person's stratum.

    1. Find the person's cells; people outside the cells are a stratum without limit.
    2. Lock the first slot whose prompt is below the limit as far as can be seen.
    3. Lock its prompt and count again: whoever claimed meanwhile has committed, whoever claims next waits.
    4. If the prompt is full by now, let go of slot and prompt and look behind it.
    """
    cells = _cells_of(annotator, plan)
    limit = most_of_one_stratum(annotator.study.overlap, plan)
    slots = Slot.objects.workable_by(annotator)
    for cell in cells:
        slots = slots.alias(**{f"held_{cell}": _held_beside(cell)}).filter(**{f"held_{cell}__lt": limit})
    full: set[int] = set()
    while True:
        try:
            with transaction.atomic():
                slot = lock_next_slot(slots.exclude(prompt__in=full), now=now)
                if slot is None:
                    return None
                if cells:
                    lock_prompt(slot)
                    _check_again(slot, cells, limit)
                return Choice(slot=slot, seed=0, reason=reason_for(slot, annotator.study.prompts_per_wave))
        except _StratumFull as stratum:
            full.add(stratum.prompt)


def most_of_one_stratum(overlap: int, plan: AssignmentPlan) -> int:
    """Conversations of a prompt and locale that one stratum may hold: the share of the overlap rounded down, and one at least."""
    return max(1, int(overlap * plan.max_stratum_share))


def lock_prompt(slot: Slot) -> None:
    """Wait for other claims on the prompt; work that only refers to it goes on."""
    Prompt.objects.select_for_update(no_key=True).values_list("pk").get(pk=slot.prompt_id)


def _cells_of(annotator: Annotator, plan: AssignmentPlan) -> list[int]:
    placed = annotator.placements.filter(quota=plan.balance_quota_id, cell__isnull=False)
    held = placed.exclude(release_reason=Placement.ReleaseReason.LOCALE_SWITCH)
    return [pk for pk in held.order_by("cell").values_list("cell_id", flat=True) if pk is not None]


def _held_beside(cell: int) -> Any:
    """How many seats of a slot's prompt and locale people of `cell` hold or have filled, other than the slot itself."""
    in_cell = Placement.objects.filter(annotator=OuterRef("annotator"), cell=cell)
    held: QuerySet[Any] = Assignment.objects.filter(
        Exists(in_cell.exclude(release_reason=Placement.ReleaseReason.LOCALE_SWITCH)),
        prompt=OuterRef("prompt"),
        slot__study_locale=OuterRef("study_locale"),
        slot__is_excess=False,
        state__in=[Assignment.State.OFFERED, Assignment.State.ACTIVE, Assignment.State.COMPLETED],
    )
    counted = held.exclude(slot=OuterRef("pk")).order_by().values("prompt").annotate(held=Count("pk")).values("held")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)


def _check_again(slot: Slot, cells: list[int], limit: int) -> None:
    """Raises `_StratumFull`."""
    row: SlotQuerySet = Slot.objects.filter(pk=slot.pk)
    for cell in cells:
        held = row.annotate(held=_held_beside(cell)).values_list(F("held"), flat=True).get()
        if held >= limit:
            raise _StratumFull(slot.prompt_id)


POLICY = Policy(
    key="balanced_strata",
    label="Balance the strata within each prompt",
    choose=choose,
    needs=("balance_quota",),
)
