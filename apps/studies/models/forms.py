"""Texts that depend on law and country: one row per locale and version, in that locale's own words."""

from django.db import models

from apps.core.text import text_hash
from apps.studies.models.study import StudyLocale


class ConsentForm(models.Model):
    """What a person agrees to. A changed text is a new version; given consents keep pointing at theirs."""

    class Purpose(models.TextChoices):
        PARTICIPATION = "PARTICIPATION", "Taking part"
        SENSITIVE = "SENSITIVE", "Sensitive questions"

    study_locale = models.ForeignKey(StudyLocale, on_delete=models.CASCADE, related_name="consent_forms")
    purpose = models.CharField(max_length=15, choices=Purpose)
    version = models.PositiveSmallIntegerField(default=1)
    title = models.CharField(max_length=200)
    body = models.TextField(help_text="Markdown. {organisation}, {contact_email}, {minutes} and {retention_months} are filled in.")
    statement = models.CharField(max_length=500, help_text="The sentence beside the tick box.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study_locale", "purpose", "version"], name="one_consent_form_per_version")]

    def __str__(self) -> str:
        return f"{self.study_locale} {self.get_purpose_display()} v{self.version}"

    def body_as_shown(self) -> str:
        """The body with the study's own facts filled in."""
        study = self.study_locale.study
        facts = {
            "organisation": study.organisation,
            "contact_email": study.contact_email,
            "minutes": str(study.session_minutes),
            "retention_months": str(study.retention_months),
        }
        text = self.body
        for name, fact in facts.items():
            text = text.replace("{" + name + "}", fact)
        return text

    def hash_as_shown(self) -> str:
        """SHA-256 of title, body and statement exactly as a person reads them."""
        return text_hash("\n\n".join([self.title, self.body_as_shown(), self.statement]))


class Guideline(models.Model):
    """How to do the task, read once before the first conversation."""

    study_locale = models.ForeignKey(StudyLocale, on_delete=models.CASCADE, related_name="guidelines")
    version = models.PositiveSmallIntegerField(default=1)
    title = models.CharField(max_length=200)
    body = models.TextField(help_text="Markdown.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study_locale", "version"], name="one_guideline_per_version")]

    def __str__(self) -> str:
        return f"{self.study_locale} guideline v{self.version}"


class PracticeTask(models.Model):
    """An example with a clearly better answer and feedback; never counted, never exported."""

    guideline = models.ForeignKey(Guideline, on_delete=models.CASCADE, related_name="practice_tasks")
    order = models.PositiveSmallIntegerField()
    prompt = models.TextField()
    better = models.TextField(help_text="The candidate that a careful reader prefers.")
    worse = models.TextField()
    feedback_right = models.TextField()
    feedback_wrong = models.TextField()

    class Meta:
        ordering = ["order"]
        constraints = [models.UniqueConstraint(fields=["guideline", "order"], name="one_practice_task_per_place")]

    def __str__(self) -> str:
        return f"{self.guideline}, practice {self.order}"


class Questionnaire(models.Model):
    """Questions asked at one stage; answers are stored only under the consent that the stage names."""

    class Stage(models.TextChoices):
        ELIGIBILITY = "ELIGIBILITY", "Eligibility"
        BEFORE = "BEFORE", "Before the tasks"
        AFTER = "AFTER", "After the first conversation"

    study_locale = models.ForeignKey(StudyLocale, on_delete=models.CASCADE, related_name="questionnaires")
    stage = models.CharField(max_length=12, choices=Stage)
    version = models.PositiveSmallIntegerField(default=1)
    consent = models.CharField(max_length=15, choices=ConsentForm.Purpose, default=ConsentForm.Purpose.PARTICIPATION)
    title = models.CharField(max_length=200)
    intro = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study_locale", "stage", "version"], name="one_questionnaire_per_version")]

    def __str__(self) -> str:
        return f"{self.study_locale} {self.get_stage_display()} v{self.version}"


class Question(models.Model):
    """A question with a stable code; the label is a translation."""

    class Type(models.TextChoices):
        SINGLE = "SINGLE", "One option"
        MULTIPLE = "MULTIPLE", "Several options"
        BIRTH_YEAR = "BIRTH_YEAR", "Year of birth, kept as an age band"

    class Column(models.TextChoices):
        AGE = "age", "annotator_age"
        GENDER = "gender", "annotator_gender"
        EDUCATION = "education", "annotator_education_level"
        POLITICAL = "political", "annotator_political"
        ETHNICITY = "ethnicity", "annotator_ethnicity"

    questionnaire = models.ForeignKey(Questionnaire, on_delete=models.CASCADE, related_name="questions")
    order = models.PositiveSmallIntegerField()
    code = models.SlugField(max_length=60)
    type = models.CharField(max_length=12, choices=Type)
    text = models.TextField()
    help = models.TextField(blank=True)
    required = models.BooleanField(default=False, help_text="Only eligibility may be required.")
    column = models.CharField(max_length=12, choices=Column, blank=True, help_text="Published column that it feeds.")
    published_when_several = models.CharField(
        max_length=100, blank=True, help_text="Published value of two or more options, none of which prevails."
    )

    class Meta:
        ordering = ["order"]
        constraints = [
            models.UniqueConstraint(fields=["questionnaire", "code"], name="one_question_per_code"),
            models.UniqueConstraint(fields=["questionnaire", "order"], name="one_question_per_place"),
        ]

    def __str__(self) -> str:
        return self.code


class Option(models.Model):
    """One answer option of a question; for a year of birth, one age band."""

    question = models.ForeignKey(Question, on_delete=models.CASCADE, related_name="options")
    order = models.PositiveSmallIntegerField()
    code = models.CharField(max_length=60)
    label = models.CharField(max_length=300)
    stratum = models.CharField(max_length=100, blank=True, help_text="Stratum of quotas and population tables.")
    published = models.CharField(max_length=100, blank=True, help_text="Literal in the published column; empty: missing.")
    min_age = models.PositiveSmallIntegerField(null=True, blank=True)
    max_age = models.PositiveSmallIntegerField(null=True, blank=True)
    screens_out = models.BooleanField(default=False, help_text="Choosing it ends the person's participation kindly.")
    prevails = models.BooleanField(default=False, help_text="Its published value wins when several options are chosen.")
    exclusive = models.BooleanField(default=False, help_text="Cannot be combined with other options.")

    class Meta:
        ordering = ["order"]
        constraints = [
            models.UniqueConstraint(fields=["question", "code"], name="one_option_per_code"),
            models.UniqueConstraint(fields=["question", "order"], name="one_option_per_place"),
        ]

    def __str__(self) -> str:
        return self.label
