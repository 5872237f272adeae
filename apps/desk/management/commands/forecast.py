"""`manage.py forecast STUDY`: when cells and prompts fill at the present rate, and what blocks."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps.desk.board import read_board
from apps.desk.board.forecast import Forecast
from apps.studies.models import Study


class Command(BaseCommand):
    help = "Print the expected day on which each quota cell, wave and slow prompt of a study is full, and what blocks."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="slug of the study")

    def handle(self, *, study: str, **options: Any) -> None:
        row = Study.objects.filter(slug=study).first()
        if row is None:
            known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)) or "none; load one with manage.py load_study"
            raise CommandError(f"There is no study {study!r}. Studies: {known}.")
        board = read_board(row, timezone.now())
        self.stdout.write(f"{row}, counted at {board.counted_at:%Y-%m-%d %H:%M} UTC; rate of the last {board.window.days:.1f} days.")
        self._table("What blocks", [(alarm.where, alarm.text) for alarm in board.alarms])
        cells = [cell for cell in board.cells() if not cell.count.is_outside]
        names = [f"{', '.join(cell.count.locales)} · {cell.count.quota}: {cell.count.cell}" for cell in cells]
        self._table("Cells", [(name, told(cell.forecast)) for name, cell in zip(names, cells, strict=True)])
        waves = [(f"{wave.locale}, wave {wave.wave}", told(wave.forecast)) for locale in board.work for wave in locale.waves]
        self._table("Waves of prompts", waves)
        slow = [(f"{prompt.locale}, {prompt.prompt}", told(prompt.forecast)) for prompt in board.slowest]
        self._table("Slowest prompts begun", slow)

    def _table(self, title: str, rows: list[tuple[str, str]]) -> None:
        width = max((len(name) for name, _ in rows), default=0)
        self.stdout.write(f"\n{title}")
        for name, text in rows:
            self.stdout.write(f"  {name:<{width}}  {text}")
        if not rows:
            self.stdout.write("  nothing")


def told(when: Forecast) -> str:
    """A forecast in words."""
    if when.is_full:
        return "full"
    if when.expected is None:
        return f"{when.remaining} left; no forecast: nothing happened in the last 7 days"
    return f"{when.remaining} left; expected {when.expected} (80 %: {when.earliest} to {when.latest})"
