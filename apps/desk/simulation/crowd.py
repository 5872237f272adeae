"""Many synthetic annotators at once, and the table of what happened to them."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from statistics import median

from apps.desk.simulation.bot import Bot, Journey, Outcome
from apps.desk.simulation.links import Links


def send_crowd(
    *,
    links: Links,
    annotators: int,
    seed: int,
    policy: str = "random",
    workers: int = 4,
    patience: float = 180.0,
    on_end: Callable[[Journey], None] = lambda journey: None,
) -> list[Journey]:
    """Send `annotators` people, shared evenly over the locales of `links`, `workers` at a time; their journeys in order.

    Each person's draws follow from `seed` and their number alone, whoever else is on the way. `on_end` is called in the caller's
    thread as people end. Raises `NoPhrases` before anybody starts.
    """
    stopping = threading.Event()
    tags = list(links.by_tag)
    bots = [
        Bot(
            link=links.by_tag[tag],
            tag=tag,
            seed=f"{seed}/{number}",
            number=number,
            policy=policy,
            patience=patience,
            stopping=stopping,
        )
        for number in range(1, annotators + 1)
        for tag in [tags[(number - 1) % len(tags)]]
    ]
    journeys = []
    with ThreadPoolExecutor(max_workers=workers) as executor:
        try:
            for future in as_completed([executor.submit(bot.run) for bot in bots]):
                journeys.append(future.result())
                on_end(journeys[-1])
        except BaseException:
            stopping.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    return sorted(journeys, key=lambda journey: journey.number)


@dataclass(frozen=True)
class LocaleReport:
    """What happened to the people of one locale. `seconds` is the median of those who completed, None where nobody did."""

    tag: str
    joined: int
    completed: int
    screened_out: int
    quota_full: int
    stuck: int
    conversations: int
    turns: int
    letters: tuple[tuple[str, int], ...]
    seconds: float | None


def report(journeys: Sequence[Journey]) -> list[LocaleReport]:
    """One row per locale in the order of first appearance, and, for more than one, a last row “all”."""
    tags = list(dict.fromkeys(journey.tag for journey in journeys))
    rows = [_row(tag, [journey for journey in journeys if journey.tag == tag]) for tag in tags]
    return [*rows, _row("all", journeys)] if len(tags) > 1 else rows


def _row(tag: str, journeys: Sequence[Journey]) -> LocaleReport:
    outcomes = Counter(journey.outcome for journey in journeys)
    letters = Counter(turn.chosen.letter for journey in journeys for turn in journey.turns)
    seconds = [journey.seconds for journey in journeys if journey.outcome == Outcome.COMPLETED]
    return LocaleReport(
        tag=tag,
        joined=sum(journey.joined for journey in journeys),
        completed=outcomes[Outcome.COMPLETED],
        screened_out=outcomes[Outcome.SCREENED_OUT],
        quota_full=outcomes[Outcome.QUOTA_FULL],
        stuck=outcomes[Outcome.STUCK] + outcomes[Outcome.LEFT],
        conversations=sum(bool(conversation.turns) for journey in journeys for conversation in journey.conversations),
        turns=sum(len(journey.turns) for journey in journeys),
        letters=tuple(sorted(letters.items())),
        seconds=median(seconds) if seconds else None,
    )


def table(rows: Sequence[LocaleReport]) -> str:
    """The rows as aligned text."""
    head = ["locale", "joined", "completed", "screened out", "quota full", "stuck", "conversations", "turns", "chosen", "median s"]
    lines = [head]
    for row in rows:
        counts = [row.joined, row.completed, row.screened_out, row.quota_full, row.stuck, row.conversations, row.turns]
        letters = " ".join(f"{letter} {count}" for letter, count in row.letters)
        lines.append([row.tag, *map(str, counts), letters or "–", f"{row.seconds:.1f}" if row.seconds is not None else "–"])
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    left = {0, head.index("chosen")}

    def aligned(cells: list[str]) -> str:
        pairs = enumerate(zip(cells, widths, strict=True))
        return "  ".join(cell.ljust(width) if place in left else cell.rjust(width) for place, (cell, width) in pairs)

    return "\n".join(aligned(line) for line in lines)
