"""Reads about quotas; every figure is counted, never stored."""

from dataclasses import dataclass

from django.db.models import Count, Q

from apps.quotas.models import Placement, QuotaCell
from apps.studies.models import Study


@dataclass(frozen=True)
class CellCount:
    """One row of the quota board; figures are people."""

    quota: str
    cell: str
    kind: str
    locales: tuple[str, ...]
    target: int
    reserved: int
    completed: int
    released: int
    over: int


def quota_board(study: Study) -> list[CellCount]:
    """Every cell of the study with its counts, in the order of quotas and cells."""

    def count(**conditions: object) -> Count:
        return Count("placements", filter=Q(**{f"placements__{name}": value for name, value in conditions.items()}))

    cells = (
        QuotaCell.objects.filter(quota__study=study)
        .select_related("quota")
        .prefetch_related("quota__locales")
        .annotate(
            reserved=count(state=Placement.State.RESERVED),
            completed=count(state=Placement.State.COMPLETED),
            released=count(state=Placement.State.RELEASED),
            over=count(is_over=True),
        )
        .order_by("quota_id", "pk")
    )
    return [
        CellCount(
            quota=cell.quota.key,
            cell=cell.key,
            kind=cell.quota.kind,
            locales=tuple(locale.tag for locale in cell.quota.locales.all()),
            target=cell.target,
            reserved=cell.reserved,
            completed=cell.completed,
            released=cell.released,
            over=cell.over,
        )
        for cell in cells
    ]
