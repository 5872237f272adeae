"""`manage.py write_codebook docs/codebook.md`."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.exports.schemas.codebook import codebook_page


class Command(BaseCommand):
    help = "Write the codebook page from the release schemas."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)

    def handle(self, *args: Any, **options: Any) -> None:
        options["file"].write_text(codebook_page(), encoding="utf-8")
