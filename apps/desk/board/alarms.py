"""Which locales and cells starve, and the stage that blocks each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.db.models import Count, Exists, OuterRef

from apps.annotation.models import Assignment
from apps.desk.board.cells import BoardCell, LocaleSet, locale_sets
from apps.desk.board.forecast import Forecast, Window, window_of
from apps.desk.board.funnel import FunnelRow, funnel, totals
from apps.desk.board.work import LocaleWork, work_by_locale
from apps.quotas.models import Placement
from apps.studies.models import Study

# A forecast beyond this counts as starving.
SLOW_DAYS = 60


class Stage(StrEnum):
    """What blocks; in the order in which it is looked for."""

    NO_SEATS = "no_seats"
    NO_CANDIDATES = "no_candidates"
    NO_OPEN_SEATS = "no_open_seats"
    NOT_OPENED = "not_opened"
    NO_CONSENT = "no_consent"
    NOT_ELIGIBLE = "not_eligible"
    TURNED_AWAY = "turned_away"
    NOT_PLACED = "not_placed"
    NOT_STARTED = "not_started"
    NOT_FINISHED = "not_finished"
    SLOW = "slow"


_TEXTS = {
    Stage.NO_SEATS: "There are no seats: run “manage.py seat_study”.",
    Stage.NO_CANDIDATES: "No seat can be given out: candidates are ready for %(ready)s of %(prompts)s prompts that are not full.",
    Stage.NO_OPEN_SEATS: "No open seats: those that are not filled are all claimed.",
    Stage.NOT_OPENED: "Nobody opens the link.",
    Stage.NO_CONSENT: "People open the link (%(opened)s) but do not consent.",
    Stage.NOT_ELIGIBLE: "Everybody who consents (%(consented)s) is screened out.",
    Stage.TURNED_AWAY: "%(turned_away)s people were turned away. Full: %(full)s.",
    Stage.NOT_PLACED: "People consent (%(consented)s) but nobody takes a place here.",
    Stage.NOT_STARTED: "People take a place (%(placed)s) but do not start.",
    Stage.NOT_FINISHED: "People start (%(started)s) but do not finish.",
    Stage.SLOW: "Too slow: %(events)s in %(days)s days, %(remaining)s left.",
}


@dataclass(frozen=True)
class Alarm:
    """A locale, or a cell over `locales`, that does not fill, and what blocks it. `cell` is empty for a locale."""

    locales: tuple[str, ...]
    quota: str
    cell: str
    stage: Stage
    figures: dict[str, object]

    @property
    def where(self) -> str:
        name = ", ".join(self.locales)
        return f"{name} · {self.quota}: {self.cell}" if self.cell else name

    @property
    def text(self) -> str:
        return _TEXTS[self.stage] % self.figures


@dataclass(frozen=True)
class _Arrivals:
    """People in the window who took a place in a cell, and those of them who started."""

    placed: int = 0
    started: int = 0


def alarms_of(study: Study, now: datetime) -> list[Alarm]:
    """What starves in an open study; nothing in another."""
    if not study.is_open:
        return []
    window = window_of(study, now)
    return find_alarms(study, window, locale_sets(study, window), work_by_locale(study, window))


def find_alarms(study: Study, window: Window, sets: Sequence[LocaleSet], work: dict[int, LocaleWork]) -> list[Alarm]:
    """The locales that starve, then the cells that no alarm of their locales explains."""
    recent = {row.locale: row for row in totals(funnel(study, window.now, since=window.since)).values()}
    full = [
        (one.locales, f"{quota.key}: {cell.count.cell or 'outside the cells'}")
        for one in sets
        for quota in one.quotas
        for cell in quota.cells
        if cell.is_hard_and_full
    ]
    alarms = {}
    for part in work.values():
        alarm = _locale_alarm(study, window, part, recent.get(part.locale), _full_in([part.locale], full))
        if alarm is not None:
            alarms[part.locale] = alarm
    arrivals = _arrivals(study, window)
    cells = []
    for locales in sets:
        if all(tag in alarms for tag in locales.locales):
            continue
        people = _together([recent[tag] for tag in locales.locales if tag in recent])
        for quota in locales.quotas:
            for cell in quota.cells:
                if cell.is_wanted and _starves(cell.forecast, window):
                    arrived = arrivals.get(cell.count.cell_id, _Arrivals())
                    cells.append(_cell_alarm(cell, window, people, arrived, _full_in(locales.locales, full)))
    return [*alarms.values(), *cells]


def _starves(when: Forecast, window: Window) -> bool:
    if when.is_silent:
        return window.is_long_enough
    return when.days is not None and when.days > SLOW_DAYS


def _locale_alarm(study: Study, window: Window, work: LocaleWork, people: FunnelRow | None, full: list[str]) -> Alarm | None:
    """What blocks a locale. Missing seats and candidates are told at once, the rest when nothing was finished for long enough."""

    def alarm(stage: Stage, **figures: object) -> Alarm:
        return Alarm(locales=(work.locale,), quota="", cell="", stage=stage, figures=figures)

    needs_seats = study.own_prompt_share < 1
    if needs_seats and not work.seats:
        return alarm(Stage.NO_SEATS)
    blocked = needs_seats and not work.forecast.is_full and not work.open_ready
    if blocked and work.ready < work.prompts:
        return alarm(Stage.NO_CANDIDATES, ready=work.ready, prompts=work.prompts)
    if not _starves(work.forecast, window):
        return None
    if blocked:
        return alarm(Stage.NO_OPEN_SEATS)
    people = people or _together([])
    stage = _stage(people, people.placed, people.started, work.forecast, full)
    return alarm(stage, **_figures(people, people.placed, people.started, work.forecast, window, full))


def _cell_alarm(cell: BoardCell, window: Window, people: FunnelRow, arrived: _Arrivals, full: list[str]) -> Alarm:
    stage = _stage(people, arrived.placed, arrived.started, cell.forecast, full)
    figures = _figures(people, arrived.placed, arrived.started, cell.forecast, window, full)
    return Alarm(locales=cell.count.locales, quota=cell.count.quota, cell=cell.count.cell, stage=stage, figures=figures)


def _stage(people: FunnelRow, placed: int, started: int, when: Forecast, full: list[str]) -> Stage:
    """The first stage at which nobody of the window's newcomers got through."""
    if when.events:
        return Stage.SLOW
    if not people.opened:
        return Stage.NOT_OPENED
    if not people.consented:
        return Stage.NO_CONSENT
    if not people.eligible:
        return Stage.NOT_ELIGIBLE
    if not placed:
        return Stage.TURNED_AWAY if people.turned_away and full else Stage.NOT_PLACED
    return Stage.NOT_FINISHED if started else Stage.NOT_STARTED


def _figures(people: FunnelRow, placed: int, started: int, when: Forecast, window: Window, full: list[str]) -> dict[str, object]:
    return {
        "opened": people.opened,
        "consented": people.consented,
        "turned_away": people.turned_away,
        "full": ", ".join(full),
        "placed": placed,
        "started": started,
        "events": when.events,
        "remaining": when.remaining,
        "days": f"{window.days:.0f}",
    }


def _full_in(locales: Iterable[str], full: list[tuple[tuple[str, ...], str]]) -> list[str]:
    """Names of the full hard cells that people of any of `locales` meet."""
    return [name for tags, name in full if set(tags) & set(locales)]


def _together(rows: Iterable[FunnelRow]) -> FunnelRow:
    sum_of = FunnelRow(link="", purpose="", locale="", locale_id=None)
    for row in rows:
        sum_of.add(row)
    return sum_of


def _arrivals(study: Study, window: Window) -> dict[int | None, _Arrivals]:
    placements = Placement.objects.filter(quota__in=study.quotas.all(), cell__isnull=False, reserved_at__gte=window.since).order_by()
    placed = dict(placements.values_list("cell_id").annotate(count=Count("pk")))
    begun = placements.filter(Exists(Assignment.objects.filter(annotator=OuterRef("annotator"))))
    started = dict(begun.values_list("cell_id").annotate(count=Count("pk")))
    return {cell: _Arrivals(placed=count, started=started.get(cell, 0)) for cell, count in placed.items()}
