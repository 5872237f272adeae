"""Reads about people: what they still have to answer, and the strata they fall in."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import quote

from django.core import signing
from django.db.models import Exists, OuterRef, Q

from apps.annotators.identities import OutsideIdentity, decrypt, outside_hash
from apps.annotators.models import Annotator, Consent, PanelIdentity, RecruitmentLink
from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse
from apps.studies.models import ConsentForm, Questionnaire, Study, StudyLocale

_RESUME_SALT = "annotators.resume"


def resume_token(annotator: Annotator) -> str:
    """The secret part of a person's own link: their public id, signed. Nothing is stored for it."""
    return signing.Signer(salt=_RESUME_SALT).sign(str(annotator.public_id))


def annotator_by_resume_token(token: str) -> Annotator:
    """Raises `Annotator.DoesNotExist` for a token that we did not sign."""
    try:
        public_id = signing.Signer(salt=_RESUME_SALT).unsign(token)
    except signing.BadSignature as error:
        raise Annotator.DoesNotExist from error
    return Annotator.objects.select_related("study", "study_locale").get(public_id=public_id)


def annotator_by_identity(*, study: Study, identity: OutsideIdentity) -> Annotator | None:
    """Who joined `study` as this person of a panel; None for a newcomer and for somebody who has withdrawn and was paid."""
    known_as = outside_hash(study_pk=study.pk, kind=identity.kind, participant=identity.participant)
    return (
        Annotator.objects.select_related("study", "study_locale", "recruitment_link").filter(study=study, external_id_hash=known_as).first()
    )


def took_part_earlier(annotator: Annotator) -> bool:
    """Whether the person took part in a study that theirs excludes; False where their panel's identity is not known."""
    stored = PanelIdentity.objects.filter(annotator=annotator).first()
    if stored is None:
        return False
    identity = OutsideIdentity(kind=annotator.recruitment_link.kind, participant=decrypt(stored.participant))
    return took_part_in(studies=annotator.study.excluded_studies.all(), identity=identity)


def took_part_in(*, studies: Iterable[Study], identity: OutsideIdentity) -> bool:
    """Whether somebody of this identity was admitted to one of `studies`, or completed it; a preview does not count."""
    hashes = [outside_hash(study_pk=study.pk, kind=identity.kind, participant=identity.participant) for study in studies]
    took_part = Q(admitted_at__isnull=False) | Q(state=Annotator.State.COMPLETED)
    earlier = Annotator.objects.filter(took_part, external_id_hash__in=hashes)
    return bool(hashes) and earlier.exclude(recruitment_link__purpose=RecruitmentLink.Purpose.PREVIEW).exists()


@dataclass(frozen=True)
class Return:
    """What a person who has ended takes back to their panel: a code, and an address to go to; each may be empty."""

    code: str = ""
    url: str = ""


def return_of(annotator: Annotator) -> Return:
    """The return of somebody who completed or was turned away. Who left, or was returned on the panel, gets none.

    A person's own code stands for a completed participation only; other codes come from the link.
    """
    link = annotator.recruitment_link
    returns = {
        Annotator.State.COMPLETED.value: (link.completion_code or annotator.completion_code, link.completion_url),
        Annotator.State.SCREENED_OUT.value: (link.screen_out_code, link.screen_out_url),
        Annotator.State.QUOTA_FULL.value: (link.quota_full_code, link.quota_full_url),
    }
    code, url = returns.get(annotator.state, ("", ""))
    return Return(code=code, url=url.replace("{code}", quote(code, safe="")))


def other_locales(annotator: Annotator) -> list[StudyLocale]:
    """The other locales of the person's link, in which they may read on until their first task."""
    return list(annotator.recruitment_link.locales.exclude(pk=annotator.study_locale_id).select_related("study"))


def current_consent_form(study_locale: StudyLocale, purpose: str) -> ConsentForm | None:
    """The newest version of the form for `purpose`."""
    return study_locale.consent_forms.filter(purpose=purpose).order_by("-version").first()


def pending_questionnaire(annotator: Annotator, stages: list[str]) -> Questionnaire | None:
    """The first questionnaire of `stages`, in that order, that this person has not handed in and may be asked.

    Only the newest version of a stage is asked, and a stage answered in an older version counts as answered. A
    questionnaire under a consent that the person refused is not asked; one under a consent not yet requested is.
    """
    refused = set(annotator.consents.filter(granted=False).values_list("consent_form__purpose", flat=True))
    answered = QuestionnaireResponse.objects.filter(annotator=annotator, questionnaire__stage=OuterRef("stage"))
    newest: dict[str, Questionnaire] = {}
    questionnaires = Questionnaire.objects.filter(study_locale_id=annotator.study_locale_id, stage__in=stages)
    for questionnaire in questionnaires.exclude(Exists(answered)).order_by("version"):
        newest[questionnaire.stage] = questionnaire
    for stage in stages:
        if stage in newest and newest[stage].consent not in refused:
            return newest[stage]
    return None


def has_decided(annotator: Annotator, purpose: str) -> bool:
    """Whether the person has said yes or no to a consent form of this purpose."""
    return annotator.consents.filter(consent_form__purpose=purpose).exists()


def granted_consent(annotator: Annotator, purpose: str) -> Consent | None:
    return annotator.consents.filter(consent_form__purpose=purpose, granted=True).first()


def strata_of(annotator: Annotator) -> dict[str, set[str]]:
    """Question code → the codes and strata of the chosen options. Unanswered questions are absent."""
    strata: dict[str, set[str]] = {}
    answers = DemographicAnswer.objects.filter(annotator=annotator).values_list("question__code", "option__code", "option__stratum")
    for question, option, stratum in answers:
        strata.setdefault(question, set()).update({option, stratum} - {""})
    return strata


def strata_of_many(annotator_pks: Collection[int]) -> dict[int, dict[str, set[str]]]:
    """`strata_of` for each of these people, from answers under a granted consent only, so that they may shape what is published."""
    strata: dict[int, dict[str, set[str]]] = {pk: {} for pk in annotator_pks}
    pks = sorted(strata)
    for start in range(0, len(pks), 1000):
        answers = DemographicAnswer.objects.filter(annotator__in=pks[start : start + 1000], consent__granted=True)
        for pk, question, option, stratum in answers.values_list("annotator_id", "question__code", "option__code", "option__stratum"):
            strata[pk].setdefault(question, set()).update({option, stratum} - {""})
    return strata
