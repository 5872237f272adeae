"""The cells of a study's quotas with their forecasts, grouped by the set of locales that they span."""

from dataclasses import dataclass
from itertools import groupby

from django.db.models import Count

from apps.desk.board.forecast import Forecast, Window, forecast
from apps.quotas.models import Placement, Quota
from apps.quotas.selectors import CellCount, quota_board
from apps.studies.models import Study


@dataclass(frozen=True)
class BoardCell:
    """A cell, or the people outside a quota's cells, with what the heat map shows of it."""

    count: CellCount
    forecast: Forecast

    @property
    def done(self) -> int:
        """People who completed and count towards the target."""
        return self.count.completed - self.count.over

    @property
    def free(self) -> int | None:
        """Places left; None without a limit."""
        return None if self.count.target is None else max(0, self.count.target - self.count.taken)

    @property
    def above(self) -> int:
        """People beyond the target: it was lowered under what is taken, or the quota refuses nobody."""
        return 0 if self.count.target is None else max(0, self.count.taken - self.count.target)

    @property
    def is_wanted(self) -> bool:
        """Whether the study needs people here: targets of monitoring quotas only compare."""
        return not self.count.is_outside and self.count.kind != Quota.Kind.MONITOR and self.done < (self.count.target or 0)

    @property
    def is_hard_and_full(self) -> bool:
        return self.count.kind == Quota.Kind.HARD and self.free == 0

    @property
    def percent(self) -> int | None:
        """Completed of the target, rounded down; None where there is no target."""
        return 100 * self.done // self.count.target if self.count.target else None

    @property
    def level(self) -> str:
        """Shade of the heat map: 0 to 4 in quarters, `over` above the target, `none` without one."""
        if self.count.target is None or (self.count.target == 0 and self.count.taken == 0):
            return "none"
        if self.above:
            return "over"
        return str(min(4, 4 * self.done // self.count.target))


@dataclass(frozen=True)
class BoardQuota:
    key: str
    kind: str
    kind_label: str
    cells: tuple[BoardCell, ...]


@dataclass(frozen=True)
class LocaleSet:
    """The quotas over the same locales."""

    locales: tuple[str, ...]
    quotas: tuple[BoardQuota, ...]


def locale_sets(study: Study, window: Window) -> list[LocaleSet]:
    """Locale sets in the order in which they first appear among the quotas."""
    board = quota_board(study)
    quotas = {row.quota_id for row in board}
    completed = Placement.objects.filter(quota__in=quotas, state=Placement.State.COMPLETED, is_over=False, ended_at__gte=window.since)
    groups = completed.order_by().values_list("quota_id", "cell_id").annotate(count=Count("pk"))
    events = {(quota_id, cell_id): count for quota_id, cell_id, count in groups}
    sets: dict[tuple[str, ...], list[BoardQuota]] = {}
    for _, rows in groupby(board, key=lambda row: row.quota_id):
        cells = tuple(
            BoardCell(
                count=row,
                forecast=forecast(
                    remaining=0 if row.is_outside else (row.target or 0) - row.completed + row.over,
                    events=events.get((row.quota_id, row.cell_id), 0),
                    window=window,
                ),
            )
            for row in rows
        )
        one = cells[0].count
        quota = BoardQuota(key=one.quota, kind=one.kind, kind_label=Quota.Kind(one.kind).label, cells=cells)
        sets.setdefault(one.locales, []).append(quota)
    return [LocaleSet(locales=locales, quotas=tuple(quotas)) for locales, quotas in sets.items()]
