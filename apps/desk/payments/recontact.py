"""Whom a later wave or study may invite again."""

from dataclasses import dataclass
from datetime import datetime

from apps.accounts.models import User
from apps.annotators.models import Annotator, RecruitmentLink
from apps.desk.payments.identities import read_identities
from apps.exports.selectors import iso
from apps.studies.models import Study


@dataclass(frozen=True)
class Invitee:
    """Somebody who completed, as their panel knows them."""

    participant: str
    panel: str
    link: str
    locale: str
    wave: int
    completed_at: str


@dataclass(frozen=True)
class Recontact:
    """`unknown` people completed too, but nobody can invite them: they came without a panel, or their number is deleted or unreadable."""

    invitees: list[Invitee]
    unknown: int


def people_to_invite(*, study: Study, wave: int, user: User, now: datetime) -> Recontact:
    """Who completed `wave` of `study` in fieldwork and has not withdrawn. Raises `PermissionDenied` (see `read_identities`)."""
    completed = Annotator.objects.filter(
        study=study, wave=wave, state=Annotator.State.COMPLETED, recruitment_link__purpose=RecruitmentLink.Purpose.LIVE
    )
    rows = list(completed.select_related("recruitment_link", "study_locale"))
    people = read_identities(
        study=study, annotators=[row.pk for row in rows], user=user, purpose=f"recontact of wave {wave}", now=now
    ).people
    invitees = [_invitee(row, people[row.pk].participant) for row in rows if row.pk in people]
    return Recontact(sorted(invitees, key=lambda invitee: (invitee.panel, invitee.participant)), len(rows) - len(invitees))


def _invitee(row: Annotator, participant: str) -> Invitee:
    return Invitee(
        participant=participant,
        panel=row.recruitment_link.kind,
        link=row.recruitment_link.name,
        locale=row.study_locale.tag,
        wave=row.wave,
        completed_at=iso(row.ended_at) or "",
    )
