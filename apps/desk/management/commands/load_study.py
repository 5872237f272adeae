from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts.models import User
from apps.desk.study_file import FileRefused, load_study_file


class Command(BaseCommand):
    help = "Create or update a study from its YAML file. Loading the same file again changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="the study file, for example apps/desk/presets/community_alignment.yaml")
        parser.add_argument("--owner", metavar="USERNAME", help="researcher who becomes an owner of the study")

    def handle(self, *args: Any, **options: Any) -> None:
        owner = None
        if options["owner"]:
            owner = User.objects.filter(username=options["owner"]).first()
            if owner is None:
                raise CommandError(f"There is no user “{options['owner']}”. Make one with: manage.py createsuperuser")
        try:
            report = load_study_file(options["file"], owner=owner)
        except FileRefused as refused:
            raise CommandError(str(refused)) from None
        for what, counts in report.counts.items():
            self.stdout.write(f"  {what}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
        self.stdout.write(f"Study {report.study.slug} is loaded ({report.study.get_state_display().lower()}).")
