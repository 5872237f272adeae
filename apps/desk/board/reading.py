"""Everything the board shows, read at one moment."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from apps.desk.board.alarms import Alarm, find_alarms
from apps.desk.board.cells import BoardCell, LocaleSet, locale_sets
from apps.desk.board.forecast import Window, window_of
from apps.desk.board.funnel import FunnelRow, funnel
from apps.desk.board.work import LocaleWork, SlowPrompt, slowest_prompts, work_by_locale
from apps.exports.selectors import snapshot
from apps.quotas.models import TargetChange
from apps.studies.models import Study

MOST_CHANGES = 20


@dataclass(frozen=True)
class Board:
    """`alarms` is empty unless the study is open. `changes` are the last edits of targets."""

    study: Study
    counted_at: datetime
    window: Window
    alarms: list[Alarm]
    locale_sets: list[LocaleSet]
    funnel: list[FunnelRow]
    work: list[LocaleWork]
    slowest: list[SlowPrompt]
    changes: list[TargetChange]

    def cells(self) -> Iterator[BoardCell]:
        for locales in self.locale_sets:
            for quota in locales.quotas:
                yield from quota.cells


def read_board(study: Study, now: datetime) -> Board:
    """The board of `study`; on PostgreSQL all its figures are of one state of the database."""
    window = window_of(study, now)
    with snapshot():
        sets, work = locale_sets(study, window), work_by_locale(study, window)
        changes = TargetChange.objects.filter(cell__quota__study=study).select_related("user", "cell__quota")
        return Board(
            study=study,
            counted_at=now,
            window=window,
            alarms=find_alarms(study, window, sets, work) if study.is_open else [],
            locale_sets=sets,
            funnel=funnel(study, now),
            work=list(work.values()),
            slowest=slowest_prompts(study, window, work.values()),
            changes=list(changes[:MOST_CHANGES]),
        )
