"""Reads about people: what they still have to answer, and the strata they fall in."""

from django.core import signing
from django.db.models import Exists, OuterRef

from apps.annotators.models import Annotator, Consent
from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse
from apps.studies.models import ConsentForm, Questionnaire, StudyLocale

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


def strata_of(annotator: Annotator) -> dict[str, str]:
    """Question code → stratum of the answer; the option's code where it names no stratum. Unanswered questions are absent."""
    answers = DemographicAnswer.objects.filter(annotator=annotator).values_list("question__code", "option__stratum", "option__code")
    return {question: stratum or option for question, stratum, option in answers}
