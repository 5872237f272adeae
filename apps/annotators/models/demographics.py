"""What people tell about themselves. Read only by quotas, exports and this app (an import contract holds that)."""

from django.db import models
from django.db.models import Q

from apps.annotators.models.people import Annotator, Consent
from apps.studies.models import Option, Question, Questionnaire


class QuestionnaireResponse(models.Model):
    """That a person handed in a questionnaire, even with every question left open."""

    annotator = models.ForeignKey(Annotator, on_delete=models.PROTECT, related_name="questionnaire_responses")
    questionnaire = models.ForeignKey(Questionnaire, on_delete=models.PROTECT, related_name="responses")
    submission_id = models.UUIDField(unique=True)
    body_hash = models.CharField(max_length=64)
    submitted_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["annotator", "questionnaire"], name="one_response_per_questionnaire")]

    def __str__(self) -> str:
        return f"{self.annotator}: {self.questionnaire}"


class DemographicAnswer(models.Model):
    """One chosen option of one question. Not answered is no row; “prefer not to say” is an option like others.

    `consent` is not null: no demographic value exists without the consent that covers it.
    """

    response = models.ForeignKey(QuestionnaireResponse, on_delete=models.PROTECT, related_name="answers")
    annotator = models.ForeignKey(Annotator, on_delete=models.PROTECT, related_name="demographic_answers")
    consent = models.ForeignKey(Consent, on_delete=models.PROTECT, related_name="demographic_answers")
    question = models.ForeignKey(Question, on_delete=models.PROTECT, related_name="answers")
    option = models.ForeignKey(Option, on_delete=models.PROTECT, related_name="answers")
    age_group = models.CharField(
        max_length=7, blank=True, help_text="Five-year group of a year of birth, for example 35-39; the year is dropped."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["annotator", "question", "option"], name="one_answer_per_option"),
            models.CheckConstraint(condition=Q(age_group="") | Q(age_group__regex=r"^\d{2}-\d{2,3}$"), name="age_group_is_a_range"),
        ]

    def __str__(self) -> str:
        return f"answer to {self.question}"
