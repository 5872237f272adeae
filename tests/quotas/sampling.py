"""Quotas and people with given answers, for the tests of quotas."""

from django.utils import timezone

from apps.annotators.models import Annotator, Consent
from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse
from apps.quotas.models import Quota, QuotaCell
from apps.studies.models import Option
from tests.factories import AnnotatorFactory

NOW = timezone.now()
WOMEN, MEN = {"gender": ["female"]}, {"gender": ["male"]}


def quota(study, key="everybody", kind=Quota.Kind.HARD, locales=None, no_cell="ADMIT", outside_share=None, **cells):
    """A quota over `locales` (all of the study) whose `cells` are name=(target, strata)."""
    row = Quota.objects.create(study=study, key=key, kind=kind, no_cell=no_cell, outside_share=outside_share)
    row.locales.set(study.locales.all() if locales is None else locales)
    for cell, (target, strata) in cells.items():
        QuotaCell.objects.create(quota=row, key=cell, target=target, strata=strata)
    return row


def person(study, *options, **fields) -> Annotator:
    """Somebody who has chosen `options` (their codes) in the questionnaires of their locale."""
    annotator = AnnotatorFactory(study=study, **fields)
    for code in options:
        give_answer(annotator, code)
    return annotator


def give_answer(annotator: Annotator, code: str) -> None:
    locale = annotator.study_locale
    option = Option.objects.filter(code=code, question__questionnaire__study_locale=locale).order_by("pk").first()
    questionnaire = option.question.questionnaire
    response, _ = QuestionnaireResponse.objects.get_or_create(
        annotator=annotator, questionnaire=questionnaire, defaults={"submission_id": annotator.public_id, "submitted_at": NOW}
    )
    consent = Consent.objects.get(annotator=annotator)
    DemographicAnswer.objects.create(response=response, annotator=annotator, consent=consent, question=option.question, option=option)
