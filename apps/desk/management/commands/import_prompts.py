from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from apps.desk.study_file import FileRefused, import_prompt_file
from apps.studies.models import Study


class Command(BaseCommand):
    help = "Add translated prompts to a study from a CSV or JSONL file (key, topic and one column per language), all or nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("study", metavar="STUDY", help="slug of the study")
        parser.add_argument("file", metavar="FILE", help=".csv or .jsonl, UTF-8")

    def handle(self, *args: Any, **options: Any) -> None:
        study = Study.objects.filter(slug=options["study"]).first()
        if study is None:
            known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)) or "none"
            raise CommandError(f"There is no study “{options['study']}”. Studies: {known}.")
        try:
            counts = import_prompt_file(
                study=study,
                path=options["file"],
                progress=lambda rows, total: iter(tqdm(rows, total=total, unit=" prompts", desc="Reading", disable=None)),
            )
        except FileRefused as refused:
            raise CommandError(str(refused)) from None
        summary = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("created", "updated", "unchanged"))
        self.stdout.write(f"Prompts of {study.slug}: {summary}.")
