"""Admission to quota cells: all cells a person falls in, or none."""

from datetime import datetime

from django.db import transaction

from apps.annotators.models import Annotator
from apps.annotators.selectors import strata_of
from apps.quotas.errors import QuotaCellFull
from apps.quotas.models import Placement, Quota, QuotaCell


def place_annotator(*, annotator: Annotator, now: datetime) -> None:
    """Reserve a place in every cell the person falls in.

    1. Find the cells of the person's locale whose strata they match.
    2. Lock them in id order, so that two admissions never wait for each other in a circle.
    3. Count the places held in each hard cell; one that is full refuses the person and nothing is written.
    4. Insert a reserved placement per cell.

    Raises `QuotaCellFull`. Placing the same person twice changes nothing.
    """
    strata = strata_of(annotator)
    with transaction.atomic():
        candidates = QuotaCell.objects.filter(quota__locales=annotator.study_locale_id).order_by("pk").values_list("pk", "strata")
        matching = [pk for pk, wanted in candidates if all(strata.get(code) == stratum for code, stratum in wanted.items())]
        cells = list(QuotaCell.objects.select_for_update(of=("self",)).select_related("quota").filter(pk__in=matching).order_by("pk"))
        held = set(annotator.placements.values_list("cell_id", flat=True))
        wanted_cells = [cell for cell in cells if cell.pk not in held]
        for cell in wanted_cells:
            if cell.quota.kind == Quota.Kind.HARD:
                taken = cell.placements.exclude(state=Placement.State.RELEASED).count()
                if taken >= cell.target:
                    raise QuotaCellFull(cell=cell.key)
        Placement.objects.bulk_create(Placement(annotator=annotator, cell=cell, reserved_at=now) for cell in wanted_cells)


def complete_placements(*, annotator: Annotator, now: datetime) -> None:
    """Turn the person's reserved places into completed ones; a place that had been released counts as over."""
    annotator.placements.filter(state=Placement.State.RESERVED).update(state=Placement.State.COMPLETED, ended_at=now)
    annotator.placements.filter(state=Placement.State.RELEASED).update(state=Placement.State.COMPLETED, is_over=True, ended_at=now)


def release_placements(*, annotator: Annotator, now: datetime) -> None:
    """Give the person's places back."""
    annotator.placements.exclude(state=Placement.State.RELEASED).update(state=Placement.State.RELEASED, ended_at=now)
