"""The rows of the demo: the study, its recruitment links and the researcher who owns it."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from django.db import transaction
from django.db.models import Count

from apps.accounts.models import User
from apps.annotators.models import RecruitmentLink
from apps.studies.models import Study, StudyMembership

STUDY_SLUG = "community-alignment"
ADMIN_NAME = "admin"


@dataclass(frozen=True)
class LocaleLink:
    """How people of one locale join the demo study."""

    tag: str
    name: str
    token: str


def ensure_admin(*, study: Study, notes: Path) -> str | None:
    """Make the researcher `admin`, owner of `study`. Returns the password, kept in `notes` (mode 600) between starts.

    An account that exists without its note gets a new password: nobody can know the old one. None: the researcher has
    set an own password since.
    """
    password = _kept_password(notes)
    user = User.objects.filter(username=ADMIN_NAME).first()
    if password is None or user is None:
        password = password or secrets.token_urlsafe(9)
        user = user or User(username=ADMIN_NAME)
        user.is_staff = user.is_superuser = True
        user.set_password(password)
        user.save()
        notes.touch(mode=0o600)
        notes.write_text(json.dumps({"username": ADMIN_NAME, "password": password}))
    StudyMembership.objects.get_or_create(study=study, user=user, defaults={"role": StudyMembership.Role.OWNER})
    return password if user.check_password(password) else None


def _kept_password(notes: Path) -> str | None:
    try:
        kept = json.loads(notes.read_text())
        return str(kept["password"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def ensure_links(*, study: Study) -> list[LocaleLink]:
    """For each locale of `study` its own open link: the study file's, or one made here and found again at the next start."""
    links = []
    for locale in study.locales.all():
        own = study.recruitment_links.annotate(locale_count=Count("locales")).filter(locale_count=1, locales=locale, is_open=True)
        token = own.order_by("pk").values_list("token", flat=True).first()
        if token is None:
            with transaction.atomic():
                link = RecruitmentLink.objects.create(study=study, name=f"Demo {locale.tag} {secrets.token_hex(2)}")
                link.locales.set([locale])
            token = link.token
        links.append(LocaleLink(tag=locale.tag, name=locale.name, token=token))
    return links
