from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from tqdm import tqdm

from apps.desk.candidate_file import import_candidate_file
from apps.desk.study_file import FileRefused
from apps.studies.models import Study


class Command(BaseCommand):
    help = "Give a study hand-written candidates from a JSONL file (prompt, language, candidates), all or nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("study", metavar="STUDY", help="slug of the study")
        parser.add_argument("file", metavar="FILE", help='.jsonl, UTF-8: {"prompt": KEY, "language": "en", "candidates": [TEXT, …]} a line')

    def handle(self, *args: Any, **options: Any) -> None:
        study = Study.objects.filter(slug=options["study"]).first()
        if study is None:
            known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)) or "none"
            raise CommandError(f"There is no study “{options['study']}”. Studies: {known}.")
        try:
            counts = import_candidate_file(
                study=study,
                path=options["file"],
                now=timezone.now(),
                progress=lambda lines: iter(tqdm(lines, unit=" sets", desc="Storing", disable=None)),
            )
        except FileRefused as refused:
            raise CommandError(str(refused)) from None
        self.stdout.write(f"Candidate sets of {study.slug}: {counts['stored']} stored, {counts['unchanged']} unchanged.")
