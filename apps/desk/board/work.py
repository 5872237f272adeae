"""How far the seats are filled: per locale and wave, and the prompts that fill slowest."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Case, Count, F, IntegerField, Max, Min, Q, Value, When

from apps.annotation.models import Assignment, Slot
from apps.annotation.queue import queue_position
from apps.desk.board.forecast import Forecast, Window, forecast
from apps.generation.models import CandidateSet
from apps.studies.models import Study

MOST_PROMPTS = 50
MOST_WAVES = 5

# One row per locale and wave for the prompts that nobody began, and one for each that somebody may have begun.
_BY_WAVE = """
SELECT study_locale_id, first_position / %s + 1, CASE WHEN claimed > 0 OR open + claimed < %s THEN prompt_id END,
    COUNT(*), SUM(is_ready), SUM(open), SUM(claimed), SUM(open_ready)
FROM ({prompts}) AS prompts GROUP BY 1, 2, 3
"""


@dataclass(frozen=True)
class WaveWork:
    """One wave of a locale that is not full. `prompts` lack conversations; of them `ready` ones have candidates.

    The forecast is of the day on which this wave and those before it are full, because waves are served in turn.
    """

    locale: str
    wave: int
    prompts: int
    ready: int
    open: int
    claimed: int
    forecast: Forecast


@dataclass(frozen=True)
class LocaleWork:
    """All waves of a locale together. Seats are conversations: open, claimed or filled; `open_ready` ones can be claimed now.

    `begun` are ids of the prompts that are not full and may have a claimed or filled seat.
    """

    locale: str
    prompts: int
    ready: int
    open: int
    claimed: int
    filled: int
    open_ready: int
    forecast: Forecast
    waves: tuple[WaveWork, ...]
    begun: tuple[int, ...]

    @property
    def seats(self) -> int:
        return self.open + self.claimed + self.filled

    @property
    def shown_waves(self) -> tuple[WaveWork, ...]:
        """The first waves; of one wave the line of the locale says all."""
        return self.waves[:MOST_WAVES] if len(self.waves) > 1 else ()


@dataclass(frozen=True)
class SlowPrompt:
    locale: str
    prompt: str
    seats: int
    filled: int
    forecast: Forecast


def work_by_locale(study: Study, window: Window) -> dict[int, LocaleWork]:
    """Locale id → its seats. Of the filled ones, which are most of a large study, only an index is read."""
    locales = list(study.locales.all())
    done = _completed(study, window).values_list("annotator__study_locale_id").annotate(count=Count("pk"))
    rates = dict(done.values_list("annotator__study_locale_id", "count"))
    # Counted by rows, not by key: the index has no keys.
    filled = Slot.objects.filter(study_locale__in=[locale.pk for locale in locales], state=Slot.State.FILLED).order_by()
    filled_in = dict(filled.values_list("study_locale_id").annotate(count=Count("*")))
    sql, parameters = _unfilled_by_prompt([locale.pk for locale in locales]).query.sql_with_params()
    length = queue_position(study.prompts_per_wave, 0, study.prompts_per_wave)
    most_seats = study.overlap * study.recipes.count()
    with connection.cursor() as cursor:
        cursor.execute(_BY_WAVE.replace("{prompts}", sql), [length, most_seats, *parameters])
        rows = defaultdict(list)
        for locale_id, *row in cursor.fetchall():
            rows[locale_id].append(row)
    return {
        locale.pk: _locale_work(locale.tag, rows[locale.pk], filled_in.get(locale.pk, 0), rates.get(locale.pk, 0), window)
        for locale in locales
    }


def slowest_prompts(study: Study, window: Window, work: Iterable[LocaleWork]) -> list[SlowPrompt]:
    """The prompts that were begun and take longest to fill at their own rate; first those where nothing happened in the window."""
    begun = [prompt for locale in work for prompt in locale.begun]
    done = _completed(study, window).filter(prompt__in=begun).values("annotator__study_locale_id", "prompt_id")
    events = {(row["annotator__study_locale_id"], row["prompt_id"]): row["count"] for row in done.annotate(count=Count("pk"))}
    tags = {locale.pk: locale.tag for locale in study.locales.all()}
    seats = Slot.objects.live().filter(study_locale__in=tags, prompt__in=begun).order_by()
    counted = seats.values("study_locale_id", "prompt_id", "prompt__key").annotate(
        seats=Count("pk"),
        filled=Count("pk", filter=Q(state=Slot.State.FILLED)),
        claimed=Count("pk", filter=Q(state=Slot.State.CLAIMED)),
    )
    prompts = [
        SlowPrompt(
            locale=tags[row["study_locale_id"]],
            prompt=row["prompt__key"],
            seats=row["seats"],
            filled=row["filled"],
            forecast=forecast(
                remaining=row["seats"] - row["filled"], events=events.get((row["study_locale_id"], row["prompt_id"]), 0), window=window
            ),
        )
        for row in counted.filter(Q(filled__gt=0) | Q(claimed__gt=0), filled__lt=F("seats"))
    ]
    prompts.sort(key=lambda row: (-(row.forecast.days or float("inf")), -row.forecast.remaining, row.locale, row.prompt))
    return prompts[:MOST_PROMPTS]


def _completed(study: Study, window: Window) -> Any:
    main = Assignment.objects.counted().filter(purpose=Assignment.Purpose.MAIN)
    return main.filter(annotator__study=study, ended_at__gte=window.since).order_by()


def _unfilled_by_prompt(locales: list[int]) -> Any:
    """One row per locale and prompt that is not full, of its seats that are not filled."""
    ready = Q(candidate_set__state=CandidateSet.State.READY)
    unfilled = Slot.objects.live().filter(state__in=[Slot.State.OPEN, Slot.State.CLAIMED], study_locale__in=locales)
    return (
        unfilled.order_by()
        .values("study_locale_id", "prompt_id")
        .annotate(
            first_position=Min("queue_position"),
            open=Count("pk", filter=Q(state=Slot.State.OPEN)),
            claimed=Count("pk", filter=Q(state=Slot.State.CLAIMED)),
            open_ready=Count("pk", filter=Q(state=Slot.State.OPEN) & ready),
            is_ready=Max(Case(When(ready, then=Value(1)), default=Value(0), output_field=IntegerField())),
        )
    )


def _locale_work(tag: str, rows: list[list[Any]], filled: int, events: int, window: Window) -> LocaleWork:
    """From rows of wave, begun prompt or None, and the figures in the order of `WaveWork`, then `open_ready`."""
    sums: defaultdict[int, list[int]] = defaultdict(lambda: [0] * 5)
    for wave, _, *figures in rows:
        sums[wave] = [total + int(figure) for total, figure in zip(sums[wave], figures, strict=True)]
    waves, remaining = [], 0
    for wave, (prompts, ready, open_seats, claimed, _) in sorted(sums.items()):
        remaining += open_seats + claimed
        waves.append(WaveWork(tag, wave, prompts, ready, open_seats, claimed, forecast(remaining=remaining, events=events, window=window)))
    return LocaleWork(
        locale=tag,
        prompts=sum(wave.prompts for wave in waves),
        ready=sum(wave.ready for wave in waves),
        open=sum(wave.open for wave in waves),
        claimed=sum(wave.claimed for wave in waves),
        filled=filled,
        open_ready=sum(figures[-1] for figures in sums.values()),
        forecast=forecast(remaining=remaining, events=events, window=window),
        waves=tuple(waves),
        begun=tuple(sorted({prompt for _, prompt, *_ in rows if prompt is not None})),
    )
