"""`manage.py recruitment_links STUDY`: the study's open links as the JSON that `simulate --links` reads."""

import json
from argparse import ArgumentParser
from typing import Any
from urllib.parse import urljoin, urlsplit

from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from apps.annotators.models import RecruitmentLink
from apps.studies.models import Study


class Command(BaseCommand):
    help = "Print one open recruitment link per locale of a study as JSON, for `simulate --links`."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="slug of the study")
        parser.add_argument("--base-url", default="http://127.0.0.1:8000", metavar="URL", help="scheme and host of the server")

    def handle(self, *, study: str, base_url: str, **options: Any) -> None:
        row = Study.objects.filter(slug=study).first()
        if row is None:
            known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)) or "none; load one with manage.py load_study"
            raise CommandError(f"There is no study {study!r}. Studies: {known}.")
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise CommandError(f"--base-url {base_url!r} should look like http://127.0.0.1:8000")
        links = self._links(row, base_url)
        if not links:
            raise CommandError(f"{study} has no open recruitment link; make one in the admin under Recruitment.")
        self.stdout.write(json.dumps({"study": study, "base_url": base_url, "links": links}, indent=2, ensure_ascii=False))

    def _links(self, study: Study, base_url: str) -> dict[str, str]:
        """Tag → address. Direct links go first, then those for one locale alone before those that let people choose."""
        found: dict[str, str] = {}
        rows = RecruitmentLink.objects.filter(study=study, is_open=True).order_by("pk").prefetch_related("locales")
        by_ease = sorted(rows, key=lambda link: (link.kind != RecruitmentLink.Kind.DIRECT, link.locales.count()))
        for locale in study.locales.all():
            link = next((link for link in by_ease if locale in link.locales.all()), None)
            if link is None:
                self.stderr.write(f"{locale.tag} has no open recruitment link.")
                continue
            if link.kind != RecruitmentLink.Kind.DIRECT:
                self.stderr.write(
                    f"{locale.tag} has no open direct link: “{link}” needs an identity in the address, so simulate cannot join by it."
                )
            found[locale.tag] = urljoin(base_url, reverse("annotation:join", args=[link.token]))
        return found
