"""Reading who people are on their panel: by right only, and never without a line in the log."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from cryptography.fernet import InvalidToken
from django.core.exceptions import PermissionDenied
from django.db import transaction

from apps.accounts.models import User
from apps.annotators.identities import decrypt
from apps.annotators.models import IdentityReading, PanelIdentity
from apps.studies.models import Study
from apps.studies.permissions import may_see_identities


@dataclass(frozen=True)
class PanelPerson:
    """A person as their panel knows them."""

    participant: str
    session: str


@dataclass(frozen=True)
class Identities:
    """Annotator id → person. `unreadable` ones were encrypted with a key that `IDENTITY_KEY` no longer holds."""

    people: dict[int, PanelPerson]
    unreadable: int


def read_identities(*, study: Study, annotators: Collection[int], user: User, purpose: str, now: datetime) -> Identities:
    """The identities of those of `annotators` (ids, all of `study`) that have one; leaves an `IdentityReading`.

    Raises `PermissionDenied` for a user who may not see them.
    """
    if not may_see_identities(user, study):
        raise PermissionDenied
    people, unreadable = {}, 0
    wanted = set(annotators)
    with transaction.atomic():
        for row in PanelIdentity.objects.filter(annotator__study=study).order_by("pk"):
            if row.annotator_id not in wanted:
                continue
            try:
                people[row.annotator_id] = PanelPerson(decrypt(row.participant), decrypt(row.panel_session))
            except InvalidToken:
                unreadable += 1
        IdentityReading.objects.create(study=study, user=user, purpose=purpose, identities=len(people), read_at=now)
    return Identities(people, unreadable)
