import shutil
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import to_locale

from apps.desk.catalogues import catalogue_problems, source_problems


class Command(BaseCommand):
    help = "Fail unless every catalogue is complete: nothing missing, fuzzy or obsolete, and in step with the sources."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        # English is the source language and has no catalogue.
        languages = [to_locale(code) for code, _ in settings.LANGUAGES if code != settings.LANGUAGE_CODE]
        problems = list(catalogue_problems(Path(settings.LOCALE_PATHS[0]), languages))
        if shutil.which("xgettext"):
            problems += source_problems(settings.BASE_DIR, languages)
        else:
            self.stdout.write("skipped: comparison with the sources (xgettext is not installed; Debian: apt-get install gettext)")
        if problems:
            raise CommandError("\n".join(["The catalogues are not complete:", *problems]))
        self.stdout.write(f"{len(languages)} catalogues are complete.")
