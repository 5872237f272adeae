"""Recruitment links, the people who come through them, and what they agreed to."""

import secrets
import uuid

from django.core.validators import URLValidator
from django.db import models
from django.db.models import Q

from apps.studies.models import ConsentForm, Study, StudyLocale

panel_url = URLValidator(schemes=["https"])


def new_token() -> str:
    return secrets.token_urlsafe(16)


def new_completion_code() -> str:
    """Eight characters without look-alikes, easy to copy by hand."""
    return "".join(secrets.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(8))


class RecruitmentLink(models.Model):
    """An unguessable link by which people join a study in one of its locales."""

    class Kind(models.TextChoices):
        DIRECT = "DIRECT", "Direct link"

    class Purpose(models.TextChoices):
        LIVE = "LIVE", "Fieldwork"
        PILOT = "PILOT", "Pilot, never counted"

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="recruitment_links")
    locales = models.ManyToManyField(StudyLocale, related_name="recruitment_links")
    token = models.CharField(max_length=40, unique=True, default=new_token, editable=False)
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.DIRECT)
    purpose = models.CharField(max_length=10, choices=Purpose, default=Purpose.LIVE)
    is_open = models.BooleanField(default=True)
    completion_url = models.CharField(
        max_length=500,
        blank=True,
        validators=[panel_url],
        help_text="Where a person goes after completion; {code} is replaced by the completion code.",
    )
    screen_out_url = models.CharField(
        max_length=500, blank=True, validators=[panel_url], help_text="The panel's return link for people who are not eligible."
    )
    quota_full_url = models.CharField(
        max_length=500, blank=True, validators=[panel_url], help_text="The panel's return link for people whose place is taken."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "name"], name="one_recruitment_link_per_name")]

    def __str__(self) -> str:
        return self.name


class Annotator(models.Model):
    """One person in one study, in one locale. Holds no name, address or account."""

    class State(models.TextChoices):
        ACTIVE = "ACTIVE", "Taking part"
        SCREENED_OUT = "SCREENED_OUT", "Not eligible"
        QUOTA_FULL = "QUOTA_FULL", "Place taken"
        COMPLETED = "COMPLETED", "Completed"
        WITHDRAWN = "WITHDRAWN", "Withdrawn"

    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="annotators")
    study_locale = models.ForeignKey(StudyLocale, on_delete=models.PROTECT, related_name="annotators")
    recruitment_link = models.ForeignKey(RecruitmentLink, on_delete=models.PROTECT, related_name="annotators")
    public_id = models.UUIDField(
        unique=True, default=uuid.uuid4, editable=False, help_text="In the person's own resume link; never exported."
    )
    submission_id = models.UUIDField(unique=True, help_text="Of the consent form, so that a second press joins once.")
    external_id_hash = models.CharField(max_length=64, null=True, blank=True, help_text="Keyed hash of the panel's identity.")  # noqa: DJ001
    state = models.CharField(max_length=12, choices=State, default=State.ACTIVE)
    wave = models.PositiveSmallIntegerField(default=1)
    seed = models.BigIntegerField(help_text="Seed of this person's random draws, such as display order.")
    device_class = models.CharField(max_length=10, blank=True, help_text="phone, tablet or desktop, at joining.")
    completion_code = models.CharField(max_length=16, default=new_completion_code, editable=False)
    joined_at = models.DateTimeField()
    guideline_read_at = models.DateTimeField(null=True, blank=True)
    practice_tries = models.PositiveSmallIntegerField(default=0)
    practice_passed_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["study", "external_id_hash"], condition=Q(external_id_hash__isnull=False), name="one_annotator_per_outside_identity"
            ),
            models.CheckConstraint(
                condition=Q(state="ACTIVE", ended_at__isnull=True) | (~Q(state="ACTIVE") & Q(ended_at__isnull=False)),
                name="annotator_ended_iff_not_active",
            ),
        ]
        indexes = [models.Index(fields=["study", "state"])]

    def __str__(self) -> str:
        return f"annotator {self.pk}"


class Consent(models.Model):
    """A person's answer to a consent form: which text, in which language, when, and yes or no."""

    annotator = models.ForeignKey(Annotator, on_delete=models.PROTECT, related_name="consents")
    consent_form = models.ForeignKey(ConsentForm, on_delete=models.PROTECT, related_name="consents")
    granted = models.BooleanField()
    text_hash = models.CharField(max_length=64, help_text="SHA-256 of the text as shown.")
    language = models.CharField(max_length=8)
    given_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["annotator", "consent_form"], name="one_consent_per_form")]

    def __str__(self) -> str:
        return f"{self.annotator}: {self.consent_form} {'yes' if self.granted else 'no'}"
