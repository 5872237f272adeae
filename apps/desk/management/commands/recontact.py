"""`manage.py recontact STUDY --wave 1 --user NAME`: the panel's numbers of people who may be invited again, as CSV."""

import csv
from argparse import ArgumentParser
from dataclasses import astuple, fields
from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from apps.accounts.models import User
from apps.core.text import neutralise
from apps.desk.payments.recontact import Invitee, people_to_invite
from apps.studies.models import Study


class Command(BaseCommand):
    help = "Print the panel's numbers of people who completed a wave of a study, as CSV. The reading is logged under --user."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("study", help="slug of the study")
        parser.add_argument("--wave", type=int, required=True, help="wave in which they completed")
        parser.add_argument("--user", required=True, metavar="USERNAME", help="researcher who reads: may see the study's identities")

    def handle(self, *, study: str, wave: int, user: str, **options: Any) -> None:
        row = Study.objects.filter(slug=study).first()
        if row is None:
            known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)) or "none; load one with manage.py load_study"
            raise CommandError(f"There is no study {study!r}. Studies: {known}.")
        reader = User.objects.filter(username=user, is_active=True).first()
        if reader is None:
            raise CommandError(f"There is no active user “{user}”.")
        waves = list(row.annotators.order_by("wave").values_list("wave", flat=True).distinct())
        if wave not in waves:
            raise CommandError(f"Nobody joined wave {wave} of {study}. Waves: {', '.join(map(str, waves)) or 'none'}.")
        try:
            found = people_to_invite(study=row, wave=wave, user=reader, now=timezone.now())
        except PermissionDenied:
            raise CommandError(f"{user} may not see identities of {study}; an owner grants that in the study's list of members.") from None
        writer = csv.writer(self.stdout, lineterminator="\n")
        writer.writerow([field.name for field in fields(Invitee)])
        writer.writerows([neutralise(str(value)) for value in astuple(invitee)] for invitee in found.invitees)
        if found.unknown:
            self.stderr.write(f"{found.unknown} more completed, but no panel's number of theirs is kept.")
