"""People of a panel's link and what they did, for the tests of payments."""

from datetime import timedelta
from decimal import Decimal

from django.test import Client

from apps.annotation.services import end_conversation
from apps.annotators.identities import encrypt, outside_hash
from apps.annotators.models import Annotator, PanelIdentity, RecruitmentLink
from apps.studies.models import PayRule, Questionnaire, Study, StudyMembership, TaskDesign
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, judge, seated_study
from tests.factories import RecruitmentLinkFactory, UserFactory

Role = StudyMembership.Role


def paid_link(kind: str = "PROLIFIC", study: Study | None = None, **fields) -> RecruitmentLink:
    """A link of a study that pays 6.00 EUR, 2.50 for each conversation and 0.50 for being turned away."""
    if study is None:
        study = seated_study(prompts=4, conversations_per_annotator=3, place_hours=24)
        TaskDesign.objects.filter(study=study).update(min_turns=1)
        Questionnaire.objects.filter(study_locale__study=study, stage=Questionnaire.Stage.AFTER).delete()
        for locale in study.locales.all():
            PayRule.objects.create(
                study_locale=locale, currency="EUR", completed=Decimal(6), per_conversation=Decimal("2.5"), screened_out=Decimal("0.5")
            )
    return RecruitmentLinkFactory(study=study, kind=kind, **fields)


def person(link: RecruitmentLink, participant: str = "", state: str = "ACTIVE", **fields) -> Annotator:
    """Somebody who joined an hour ago; with an outside identity where `participant` says so."""
    known_as = outside_hash(study_pk=link.study_id, kind=link.kind, participant=participant) if participant else None
    ended = {} if state == "ACTIVE" else {"ended_at": NOW}
    times = {"joined_at": NOW - timedelta(hours=1), "active_at": NOW}
    annotator = admitted_annotator(link.study, recruitment_link=link, state=state, external_id_hash=known_as, **(times | ended | fields))
    if participant:
        PanelIdentity.objects.create(annotator=annotator, participant=encrypt(participant), panel_session=encrypt("s1"), received_at=NOW)
    return annotator


def converse(annotator: Annotator, times: int = 1) -> None:
    """Finish conversations of one turn each."""
    for _ in range(times):
        claim(annotator)
        judge(annotator)
        end_conversation(annotator=annotator, turn_number=2, now=NOW)
    annotator.refresh_from_db()


def reader(study: Study, role: Role = Role.RESEARCHER, may_see: bool = True, username: str = "") -> Client:
    """A logged-in member, who may see identities unless told otherwise."""
    user = UserFactory(is_staff=True, **({"username": username} if username else {}))
    StudyMembership.objects.create(study=study, user=user, role=role, may_see_identities=may_see)
    client = Client()
    client.force_login(user)
    return client
