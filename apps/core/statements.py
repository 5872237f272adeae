"""Statements without the cost of building them: for what every request of an annotator sends.

Django builds the SQL of a query anew each time. For a wide row that costs more than running it (see docs/performance.md), so a few
queries are compiled once per process and single rows are updated directly. Everything else uses querysets as usual.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from django.db import connection
from django.db.models import Model, QuerySet
from django.db.models.query import get_related_populators

M = TypeVar("M", bound=Model)
_STAND_INS = [-(2**62) - number for number in range(4)]


class CompiledSelect(Generic[M]):
    """A queryset that is built and compiled at its first use; each call runs it with other whole numbers and returns its rows.

    `build` receives one stand-in per number. Nothing else may vary from call to call: no time, no translated field by its bare name.
    """

    def __init__(self, build: Callable[..., QuerySet[M]]) -> None:
        self._build = build
        self._plans: dict[str, _Plan[M]] = {}

    def __call__(self, *numbers: int) -> list[M]:
        plan = self._plans.get(connection.vendor)
        if plan is None:
            plan = self._plans[connection.vendor] = _Plan(self._build(*_STAND_INS[: len(numbers)]))
        return plan.run(numbers)

    def first(self, *numbers: int) -> M | None:
        return next(iter(self(*numbers)), None)


class _Plan(Generic[M]):
    """What `ModelIterable` of Django works out from a queryset before each run."""

    def __init__(self, queryset: QuerySet[M]) -> None:
        self._compiler: Any = queryset.query.get_compiler(connection=connection)
        self._sql, self._params = self._compiler.as_sql()
        select, klass = self._compiler.select, self._compiler.klass_info
        columns = klass["select_fields"]
        self._model: type[M] = klass["model"]
        self._own = slice(columns[0], columns[-1] + 1)
        self._names = [expression.target.attname for expression, _, _ in select[self._own]]
        self._related = get_related_populators(klass, select, connection.alias)  # type: ignore[call-arg]  # stubs of a later Django
        self._annotations: dict[str, int] = self._compiler.annotation_col_map
        self._converters = self._compiler.get_converters(expression for expression, _, _ in select)

    def run(self, numbers: tuple[int, ...]) -> list[M]:
        values = dict(zip(_STAND_INS, numbers, strict=False))
        with connection.cursor() as cursor:
            cursor.execute(self._sql, [values.get(param, param) for param in self._params])
            rows = cursor.fetchall()
        found = []
        for row in self._compiler.apply_converters(rows, self._converters) if self._converters else rows:
            instance = self._model.from_db(connection.alias, self._names, row[self._own])
            for related in self._related:
                related.populate(row, instance)
            for name, column in self._annotations.items():
                setattr(instance, name, row[column])
            found.append(instance)
        return found


def update_row(row: Model, *, where: Mapping[str, Any] = MappingProxyType({}), **values: Any) -> bool:
    """Save these fields of `row` by its primary key, if the stored row still has the values `where`; whether it had.

    The instance takes the values on only where they were stored.
    """
    options: Any = row._meta
    changes: list[tuple[Any, Any]] = [(options.get_field(name), value) for name, value in values.items()]
    terms = [(options.pk, row.pk), *((options.get_field(name), value) for name, value in where.items())]
    assign = ", ".join(f'"{field.column}" = %s' for field, _ in changes)
    match = " AND ".join(f'"{field.column}" IS NULL' if value is None else f'"{field.column}" = %s' for field, value in terms)
    given = changes + [(field, value) for field, value in terms if value is not None]
    with connection.cursor() as cursor:
        cursor.execute(
            f'UPDATE "{options.db_table}" SET {assign} WHERE {match}',  # noqa: S608  (names of our own models)
            [field.get_db_prep_save(value, connection) for field, value in given],
        )
        stored: bool = cursor.rowcount == 1
    if stored:
        for name, value in values.items():
            setattr(row, name, value)
    return stored
