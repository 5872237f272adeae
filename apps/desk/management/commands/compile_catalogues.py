from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.desk.catalogues import compile_catalogues


class Command(BaseCommand):
    help = "Compile the gettext catalogues that changed since they were last compiled. Needs no gettext tools."
    requires_system_checks: list[str] = []

    def handle(self, **options: Any) -> None:
        for folder in settings.LOCALE_PATHS:
            for path in compile_catalogues(Path(folder)):
                self.stdout.write(f"compiled {path.relative_to(settings.BASE_DIR)}")
