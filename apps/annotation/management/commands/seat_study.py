"""`manage.py seat_study STUDY`: a slot for every conversation that the study's prompts shall get."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.annotation.services import seat_study
from apps.studies.models import Study


class Command(BaseCommand):
    help = "Make the slots of a study: prompt × locale × recipe, as many as the overlap. Run it again after prompts or overlap changed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("study", help="slug of the study")

    def handle(self, *, study: str, **options: Any) -> None:
        row = Study.objects.filter(slug=study).first()
        if row is None:
            known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)) or "none; load one with manage.py load_study"
            raise CommandError(f"There is no study {study!r}. Studies: {known}.")
        seating = seat_study(study=row)
        self.stdout.write(f"Slots of {study}: {seating.added} added, {seating.retired} retired, {seating.reopened} reopened.")
