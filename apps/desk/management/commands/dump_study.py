from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.desk.study_file import dump_study
from apps.studies.models import Study


class Command(BaseCommand):
    help = "Write a study as the YAML file that load_study reads."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("study", metavar="SLUG")

    def handle(self, *args: Any, **options: Any) -> None:
        study = Study.objects.filter(slug=options["study"]).first()
        if study is None:
            known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)) or "none"
            raise CommandError(f"There is no study “{options['study']}”. Studies: {known}.")
        self.stdout.write(dump_study(study), ending="")
