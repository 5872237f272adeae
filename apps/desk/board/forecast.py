"""When something fills at the present rate, with an honest interval."""

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from apps.studies.models import Study

WINDOW = timedelta(days=7)
_LEAST_DAYS = 1.0
_MOST_DAYS = 36_500.0
_Z80 = 1.2815515594  # 90 % of a normal distribution lie below: the two-sided interval holds 80 %


@dataclass(frozen=True)
class Window:
    """The time over which the rate is taken: the last 7 days or since the study opened, and counted as 24 hours at least."""

    since: datetime
    now: datetime

    @property
    def days(self) -> float:
        return max(_LEAST_DAYS, (self.now - self.since) / timedelta(days=1))

    @property
    def is_long_enough(self) -> bool:
        """Whether silence says anything yet."""
        return self.now - self.since >= timedelta(days=_LEAST_DAYS)


@dataclass(frozen=True)
class Forecast:
    """`remaining` to fill and `events` in the window. Without an event no day is expected; with nothing left none is needed."""

    remaining: int
    events: int
    days: float | None = None
    expected: date | None = None
    earliest: date | None = None
    latest: date | None = None

    @property
    def is_full(self) -> bool:
        return self.remaining <= 0

    @property
    def is_silent(self) -> bool:
        """Something is left and nothing happened."""
        return not self.is_full and self.events == 0


def window_of(study: Study, now: datetime) -> Window:
    return Window(since=max(now - WINDOW, min(now, study.opened_at or study.created_at)), now=now)


def poisson_interval(events: int) -> tuple[float, float]:
    """The 80 % interval of the mean of a Poisson count, by Byar's approximation (Breslow and Day 1987, p. 69)."""
    low = events * (1 - 1 / (9 * events) - _Z80 / (3 * math.sqrt(events))) ** 3 if events else 0.0
    more = events + 1
    return low, more * (1 - 1 / (9 * more) + _Z80 / (3 * math.sqrt(more))) ** 3


def forecast(*, remaining: int, events: int, window: Window) -> Forecast:
    """The day on which `remaining` are filled when `events` happened in the window: now + remaining × days ÷ events.

    `earliest` and `latest` put the ends of the events' Poisson interval in their place.
    """
    if remaining <= 0 or events == 0:
        return Forecast(remaining=max(0, remaining), events=events)
    low, high = poisson_interval(events)
    days, fewest, most = (min(_MOST_DAYS, remaining * window.days / rate) for rate in (events, high, low))
    expected, earliest, latest = ((window.now + timedelta(days=ahead)).date() for ahead in (days, fewest, most))
    return Forecast(remaining=remaining, events=events, days=days, expected=expected, earliest=earliest, latest=latest)
