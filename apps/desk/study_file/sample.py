"""Population tables and quotas of a study file: read from the database, computed from tables, and stored."""

import contextlib
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Model, ProtectedError
from django.utils import timezone

from apps.desk.study_file import schema
from apps.desk.study_file.errors import FileRefused, Problem
from apps.desk.study_file.source import KeyPath, Source
from apps.quotas.models import PopulationTable, Quota
from apps.quotas.population import Stratum, Table, builtin_tables
from apps.quotas.services import copy_table, set_target
from apps.studies.models import Study, StudyLocale

CREATED, UPDATED, UNCHANGED, REMOVED = "created", "updated", "unchanged", "removed"
Count = Callable[[str, str], None]


# --- From the database ---


def population_of(study: Study) -> schema.PopulationPart | None:
    """The study's population tables: by key where they are as shipped, else in full."""
    part = schema.PopulationPart.model_construct(builtin=[], own={})
    for row in study.population_tables.order_by("pk").prefetch_related("shares"):
        table = _table_of(row)
        if builtin_tables().get(row.key) == table:
            part.builtin.append(row.key)
        else:
            part.own[row.key] = _own(table)
    return part if part.builtin or part.own else None


def quotas_of(study: Study) -> dict[str, schema.QuotaPart]:
    quotas = study.quotas.order_by("pk").select_related("table").prefetch_related("cells", "locales")
    return {quota.key: _quota(quota) for quota in quotas}


def _quota(quota: Quota) -> schema.QuotaPart:
    return schema.QuotaPart.model_construct(
        kind=quota.kind.lower(),
        locales=[locale.tag for locale in sorted(quota.locales.all(), key=lambda locale: locale.pk)],
        table=quota.table.key if quota.table else None,
        total=quota.total,
        no_cell=None if quota.no_cell == Quota.NoCell.ADMIT else quota.no_cell.lower(),
        outside_share=None if quota.outside_share is None else _short(quota.outside_share),
        cells={
            cell.key: schema.CellPart.model_construct(target=cell.target, strata=dict(sorted(cell.strata.items())))
            for cell in sorted(quota.cells.all(), key=lambda cell: cell.pk)
        },
    )


def _table_of(row: PopulationTable) -> Table:
    strata = tuple(Stratum(share.key, share.share, share.strata) for share in row.shares.all())
    return Table(row.key, row.country, row.dimension, row.year, row.grade, row.source, row.note, strata)


def _own(table: Table) -> schema.OwnTablePart:
    facts = {name: getattr(table, name) for name in ("country", "dimension", "year", "grade", "source", "note")}
    shares = {
        stratum.key: schema.SharePart.model_construct(share=_short(stratum.share), strata=dict(sorted(stratum.strata.items())))
        for stratum in table.strata
    }
    return schema.OwnTablePart.model_construct(**facts, shares=shares)


def _short(value: Decimal) -> Decimal:
    """Without trailing zeros: the database hands back 0.100 for 0.1."""
    value = Decimal(value)
    return value.quantize(Decimal(1)) if value == value.to_integral() else value.normalize()


# --- Cells that follow from a table ---


def with_computed_cells(file: schema.StudyFile) -> schema.StudyFile:
    """`file` with the cells of each quota written out, as the rest of loading expects."""
    tables = tables_of(file)
    quotas = {
        key: part if part.cells or part.table is None else part.model_copy(update={"cells": _computed(part, tables[part.table])})
        for key, part in file.quotas.items()
    }
    return file.model_copy(update={"quotas": quotas})


def without_computed_cells(file: schema.StudyFile) -> schema.StudyFile:
    """`file` without the cells that `with_computed_cells` brings back."""
    tables = tables_of(file)

    def short(part: schema.QuotaPart) -> schema.QuotaPart:
        if part.table is None or part.total is None or part.cells != _computed(part, tables[part.table]):
            return part
        return part.model_copy(update={"cells": {}})

    return file.model_copy(update={"quotas": {key: short(part) for key, part in file.quotas.items()}})


def tables_of(file: schema.StudyFile) -> dict[str, Table]:
    """The tables that the quotas of `file` can name."""
    if file.population is None:
        return {}
    own = {key: _table(key, part) for key, part in file.population.own.items()}
    return {key: builtin_tables()[key] for key in file.population.builtin} | own


def _computed(part: schema.QuotaPart, table: Table) -> dict[str, schema.CellPart]:
    if not sum(stratum.share for stratum in table.strata):
        return {}
    return {
        stratum.key: schema.CellPart.model_construct(target=target, strata=dict(sorted(stratum.strata.items())))
        for stratum, target in zip(table.strata, table.targets(part.total or 0), strict=True)
    }


def _table(key: str, part: schema.OwnTablePart) -> Table:
    strata = tuple(Stratum(name, share.share, dict(share.strata)) for name, share in part.shares.items())
    return Table(key, part.country, part.dimension, part.year, part.grade, part.source, part.note, strata)


# --- Into the database ---


def store_sample(*, study: Study, source: Source, file: schema.StudyFile, locales: Mapping[str, StudyLocale], add: Count) -> None:
    """Bring the study's tables and quotas to `file`. An edited target leaves a line in the log, like one edited in the desk.

    `add` counts what was done. Raises `FileRefused` where people hold places in what the file no longer has.
    """
    rows: dict[str, PopulationTable] = {row.key: row for row in study.population_tables.prefetch_related("shares")}
    for key, table in tables_of(file).items():
        row = rows.get(key)
        if row is not None and _table_of(row) == table:
            add("population tables", UNCHANGED)
            continue
        add("population tables", UPDATED if row else CREATED)
        rows[key] = copy_table(study=study, table=table)
    existing = {quota.key: quota for quota in study.quotas.all()}
    for key, part in file.quotas.items():
        add("quotas", _store_quota(study, existing.pop(key, None), key, part, rows, locales, source))
    for quota in existing.values():
        _delete(quota, source, ("quotas",), f"expected the quota {quota.key}, since people hold places in it")
        add("quotas", REMOVED)
    for key in rows.keys() - tables_of(file).keys():
        with contextlib.suppress(ProtectedError), transaction.atomic():  # a balance rule may still match it
            rows[key].delete()
            add("population tables", REMOVED)


def _store_quota(
    study: Study,
    quota: Quota | None,
    key: str,
    part: schema.QuotaPart,
    tables: Mapping[str, PopulationTable],
    locales: Mapping[str, StudyLocale],
    source: Source,
) -> str:
    values: dict[str, Any] = {
        "kind": part.kind.upper(),
        "table": tables[part.table] if part.table else None,
        "total": part.total,
        "no_cell": (part.no_cell or "admit").upper(),
        "outside_share": part.outside_share,
    }
    outcome = UNCHANGED
    if quota is None:
        quota, outcome = study.quotas.create(key=key, **values), CREATED
    changed = [name for name, value in values.items() if getattr(quota, name) != value]
    wanted = {locales[tag].pk for tag in part.locales}
    cells = {cell.key: cell for cell in quota.cells.all()}
    if changed:
        for name in changed:
            setattr(quota, name, values[name])
        quota.save(update_fields=changed)
    if {locale.pk for locale in quota.locales.all()} != wanted:
        quota.locales.set(wanted)
        changed.append("locales")
    for name, cell_part in part.cells.items():
        cell = cells.pop(name, None)
        if cell is None:
            quota.cells.create(key=name, target=cell_part.target, strata=cell_part.strata)
            changed.append(name)
            continue
        if cell.strata != cell_part.strata:
            cell.strata = cell_part.strata
            cell.save(update_fields=["strata"])
            changed.append(name)
        if cell.target != cell_part.target:
            set_target(cell=cell, target=cell_part.target, version=cell.version, user=None, now=timezone.now())
            changed.append(name)
    for cell in cells.values():
        _delete(cell, source, ("quotas", key, "cells"), f"expected the cell {cell.key}, since people hold places in it")
        changed.append(cell.key)
    return UPDATED if changed and outcome == UNCHANGED else outcome


def _delete(row: Model, source: Source, path: KeyPath, message: str) -> None:
    try:
        row.delete()
    except ProtectedError as error:
        raise FileRefused(source.name, [Problem(source.line(path), source.label(path), message)]) from error
