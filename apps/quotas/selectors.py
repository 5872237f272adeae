"""Reads about quotas; every figure is counted, never stored."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import BooleanField, Count
from django.db.models.expressions import RawSQL

from apps.quotas.models import Placement, Quota, QuotaCell
from apps.quotas.population import Table, builtin_tables
from apps.studies.models import Option, Questionnaire, Study, StudyLocale

# Each question of a cell must list one of the person's answers, given as “question=option”.
_FITS = """NOT EXISTS (
    SELECT 1 FROM {each}("quotas_quotacell"."strata") AS asked
    WHERE NOT EXISTS (SELECT 1 FROM {items}(asked.value) AS listed{column} WHERE asked.key || '=' || listed.value IN ({answers}))
)"""
_FUNCTIONS = {
    "postgresql": {"each": "jsonb_each", "items": "jsonb_array_elements_text", "column": "(value)"},
    "sqlite": {"each": "json_each", "items": "json_each", "column": ""},
}


def cells_that_fit(quotas: Sequence[Quota], answers: dict[str, set[str]]) -> list[tuple[int, int]]:
    """Ids of (quota, cell) for each cell of `quotas` that somebody with `answers` falls in. The database picks them: a quota may
    have hundreds of cells.
    """
    given = [f"{question}={option}" for question, options in sorted(answers.items()) for option in sorted(options)] or [""]
    sql = _FITS.format(**_FUNCTIONS[connection.vendor], answers=", ".join(["%s"] * len(given)))
    fits = RawSQL(sql, given, output_field=BooleanField())  # noqa: S611  (the answers are parameters)
    cells = QuotaCell.objects.filter(fits, quota__in=[quota.pk for quota in quotas])
    return list(cells.order_by("pk").values_list("quota_id", "pk")) if quotas else []


def outside_limit(quota: Quota, targets: int) -> int | None:
    """How many people `quota`, whose cells want `targets` in all, admits outside its cells; None: no limit. Rounded down."""
    if quota.kind != Quota.Kind.HARD or quota.outside_share is None:
        return None
    return int(quota.outside_share * targets)


@dataclass(frozen=True)
class CellCount:
    """One row of the quota board; figures are people. `completed` includes those that are over.

    The last row of each quota counts the people outside its cells (`is_outside`); its target is their limit, None without one.
    """

    quota: str
    quota_id: int
    cell: str
    cell_id: int | None
    kind: str
    locales: tuple[str, ...]
    target: int | None
    version: int
    reserved: int
    completed: int
    released: int
    over: int

    @property
    def is_outside(self) -> bool:
        return self.cell_id is None

    @property
    def taken(self) -> int:
        """What counts towards the target."""
        return self.reserved + self.completed - self.over


def quota_board(study: Study) -> list[CellCount]:
    """Every cell of the study with its counts in the order of quotas and cells, and after each quota's cells those outside them.

    One grouped query counts the placements, so all rows of a board are of one moment.
    """
    counts: dict[tuple[int, int | None], dict[str, Any]] = {}
    grouped = Placement.objects.filter(quota__study=study).order_by().values_list("quota_id", "cell_id", "state", "is_over")
    for quota_id, cell_id, state, is_over, people in grouped.annotate(people=Count("pk")):
        row = counts.setdefault((quota_id, cell_id), dict.fromkeys(["reserved", "completed", "released", "over"], 0))
        row[state.lower()] += people
        row["over"] += people if is_over else 0
    nothing: dict[str, Any] = {"reserved": 0, "completed": 0, "released": 0, "over": 0}
    board = []
    for quota in study.quotas.order_by("pk").prefetch_related("locales", "cells"):
        cells = sorted(quota.cells.all(), key=lambda cell: cell.pk)
        shared: dict[str, Any] = {
            "quota": quota.key,
            "quota_id": quota.pk,
            "kind": quota.kind,
            "locales": tuple(locale.tag for locale in quota.locales.all()),
        }
        board += [
            CellCount(
                **shared,
                cell=cell.key,
                cell_id=cell.pk,
                target=cell.target,
                version=cell.version,
                **counts.get((quota.pk, cell.pk), nothing),
            )
            for cell in cells
        ]
        limit = outside_limit(quota, sum(cell.target for cell in cells))
        board.append(CellCount(**shared, cell="", cell_id=None, target=limit, version=0, **counts.get((quota.pk, None), nothing)))
    return board


def answers_before_tasks(locales: Iterable[StudyLocale]) -> dict[str, set[str]]:
    """Question code → the options and strata that every one of `locales` offers before the tasks, where quotas can see them."""
    offered: list[dict[str, set[str]]] = []
    before = [Questionnaire.Stage.ELIGIBILITY, Questionnaire.Stage.BEFORE]
    for locale in locales:
        newest = {
            questionnaire.stage: questionnaire.pk for questionnaire in locale.questionnaires.filter(stage__in=before).order_by("version")
        }
        codes: dict[str, set[str]] = {}
        options = Option.objects.filter(question__questionnaire__in=newest.values())
        for question, code, stratum in options.values_list("question__code", "code", "stratum"):
            codes.setdefault(question, set()).update({code, stratum} - {""})
        offered.append(codes)
    if not offered:
        return {}
    return {question: set.intersection(*(codes.get(question, set()) for codes in offered)) for question in offered[0]}


def unknown_strata(strata: dict[str, list[str]], known: dict[str, set[str]]) -> list[str]:
    """What of `strata` no question asked before the tasks offers, as “question” or “question=option”."""
    unknown = []
    for question, codes in strata.items():
        offered = known.get(question, set())
        unknown += [f"{question}={code}" for code in codes if code not in offered] if offered else [question]
    return unknown


def usable_tables(locales: Sequence[StudyLocale]) -> list[Table]:
    """The built-in tables of the locales' country whose strata the study can tell apart before the tasks."""
    known = answers_before_tasks(locales)
    countries = {locale.country for locale in locales}
    return [
        table
        for table in builtin_tables().values()
        if {table.country} == countries and table.questions and not any(unknown_strata(stratum.strata, known) for stratum in table.strata)
    ]
