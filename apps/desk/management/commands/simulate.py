"""`manage.py simulate STUDY`: synthetic annotators through the real pages, with a progress bar and a table at the end."""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from tqdm import tqdm

from apps.desk.simulation.bot import Journey, Outcome
from apps.desk.simulation.browser import Browser, ServerUnreachable
from apps.desk.simulation.crowd import report, send_crowd, table
from apps.desk.simulation.links import Links, LinksProblem, read_links
from apps.desk.simulation.phrases import NoPhrases
from apps.desk.simulation.policies import POLICIES


def positive(value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise ArgumentTypeError(f"{value!r} is not a whole number of at least 1")
    return int(value)


class Command(BaseCommand):
    help = "Send synthetic annotators through the pages of a running study, from consent to completion. Touches no database."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="slug of the study")
        parser.add_argument("--annotators", type=positive, required=True, metavar="N", help="how many people")
        parser.add_argument("--seed", type=int, default=1, help="seed of everything they draw (default 1)")
        parser.add_argument(
            "--base-url", default="", metavar="URL", help="scheme and host of the server (default: those in the links file)"
        )
        parser.add_argument("--locale", action="extend", nargs="+", default=[], metavar="TAG", help="only these locales, e.g. fr-FR hi-IN")
        parser.add_argument("--policy", choices=sorted(POLICIES), default="random", help="which answer they prefer (default random)")
        parser.add_argument("--links", type=Path, metavar="FILE", help="JSON file of recruitment links (default var/demo.json)")
        parser.add_argument("--workers", type=positive, default=4, metavar="W", help="how many at once (default 4)")
        parser.add_argument("--patience", type=positive, default=180, metavar="SECONDS", help="how long one waits for live answers")

    def handle(self, *, study: str, annotators: int, seed: int, base_url: str, locale: list[str], **options: Any) -> None:
        try:
            links = read_links(
                options["links"] or Path(os.path.relpath(settings.VAR_DIR / "demo.json")), study=study, base_url=base_url, tags=locale
            )
            self._knock(links)
            with tqdm(total=annotators, unit="person", desc="Synthetic annotators", file=sys.stderr) as bar:

                def advance(journey: Journey) -> None:
                    bar.update()

                journeys = send_crowd(
                    links=links,
                    annotators=annotators,
                    seed=seed,
                    policy=options["policy"],
                    workers=options["workers"],
                    patience=options["patience"],
                    on_end=advance,
                )
        except (LinksProblem, NoPhrases, ServerUnreachable) as problem:
            raise CommandError(str(problem)) from None
        except KeyboardInterrupt:
            raise CommandError("Stopped. Whoever was on the way stays where they are.", returncode=130) from None
        self.stdout.write(table(report(journeys)))
        self._complain(journeys)

    def _knock(self, links: Links) -> None:
        """Fail in one line when nobody is at home, instead of once per person."""
        tag, link = next(iter(links.by_tag.items()))
        try:
            Browser(language=tag).open(link)
        except ServerUnreachable as error:
            raise ServerUnreachable(
                f"{error} Is the server running there? Start it (make demo), or name another one with --base-url."
            ) from None

    def _complain(self, journeys: list[Journey]) -> None:
        stuck = Counter(
            (journey.tag, journey.reason or f"ended as “{journey.outcome}”")
            for journey in journeys
            if journey.outcome in (Outcome.STUCK, Outcome.LEFT)
        )
        if stuck:
            reasons = "\n".join(f"  {count} × {tag}: {reason}" for (tag, reason), count in stuck.most_common())
            raise CommandError(f"{stuck.total()} of {len(journeys)} did not come to an end:\n{reasons}")
