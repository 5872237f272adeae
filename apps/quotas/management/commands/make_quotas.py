"""`manage.py make_quotas STUDY COUNTRY TOTAL`: the suggested quotas of a country from the built-in population tables."""

from argparse import ArgumentParser
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from apps.quotas.errors import NoTables, PeopleAdmitted
from apps.quotas.services import make_quotas
from apps.quotas.services.making import MOST_PEOPLE
from apps.studies.models import Study


class Command(BaseCommand):
    help = "Make the suggested quotas of a country from the population tables that fit what the study asks."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="slug of the study")
        parser.add_argument("country", help="code of the country, e.g. FR; its quotas cover all its locales")
        parser.add_argument("total", type=int, help="how many people")

    def handle(self, *, study: str, country: str, total: int, **options: Any) -> None:
        row = Study.objects.filter(slug=study).first()
        if row is None:
            raise CommandError(f"There is no study “{study}”.")
        try:
            forms.IntegerField(min_value=1, max_value=MOST_PEOPLE).clean(total)
        except ValidationError as refused:
            raise CommandError(f"total: {' '.join(refused.messages)}") from None
        try:
            made = make_quotas(study=row, country=country, total=total)
        except NoTables:
            raise CommandError(f"No population table of {country} fits what {study} asks before the tasks.") from None
        except PeopleAdmitted as refused:
            raise CommandError(str(refused)) from None
        for quota in made:
            self.stdout.write(f"{quota.key}: {quota.get_kind_display()}, {quota.cells.count()} cells")
