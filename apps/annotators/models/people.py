"""Recruitment links, the people who come through them, and what they agreed to."""

import secrets
import uuid

from django.conf import settings
from django.core.validators import RegexValidator, URLValidator
from django.db import models
from django.db.models import Q

from apps.studies.models import ConsentForm, Study, StudyLocale
from apps.studies.models.study import validate_time_zone

panel_url = URLValidator(schemes=["https"])
# Any name but those that already mean something in the address.
parameter_name = RegexValidator(
    r"^(?!(?:locale|session|ts|sig|STUDY_ID|SESSION_ID)$)[A-Za-z0-9_.-]+$",
    "Expected letters, digits, “_”, “.” or “-”, and none of locale, session, ts, sig, STUDY_ID, SESSION_ID.",
)


def new_token() -> str:
    return secrets.token_urlsafe(16)


def new_completion_code() -> str:
    """Eight characters without look-alikes, easy to copy by hand."""
    return "".join(secrets.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(8))


class RecruitmentLink(models.Model):
    """An unguessable link by which people join a study in one of its locales."""

    class Kind(models.TextChoices):
        DIRECT = "DIRECT", "Direct link"
        PROLIFIC = "PROLIFIC", "Prolific or alike: participant, study and session in the address"
        PANEL = "PANEL", "Panel with signed addresses"

    class Purpose(models.TextChoices):
        LIVE = "LIVE", "Fieldwork"
        PILOT = "PILOT", "Pilot, never counted"
        PREVIEW = "PREVIEW", "Preview, never counted and left out of the funnel"

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="recruitment_links")
    locales = models.ManyToManyField(StudyLocale, related_name="recruitment_links")
    token = models.CharField(max_length=40, unique=True, default=new_token, editable=False)
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.DIRECT)
    purpose = models.CharField(max_length=10, choices=Purpose, default=Purpose.LIVE)
    is_open = models.BooleanField(default=True)
    participant_parameter = models.CharField(
        max_length=40,
        blank=True,
        validators=[parameter_name],
        help_text="Name of the address parameter with the person's identity; empty: PROLIFIC_PID or participant.",
    )
    completion_code = models.CharField(
        max_length=40, blank=True, help_text="The panel's code for completed participations; empty: a code of its own for each person."
    )
    screen_out_code = models.CharField(max_length=40, blank=True, help_text="The panel's code for people who are not eligible.")
    quota_full_code = models.CharField(max_length=40, blank=True, help_text="The panel's code for people whose place is taken.")
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
    settled_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When a researcher marked what was due by then as paid."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "name"], name="one_recruitment_link_per_name")]

    def __str__(self) -> str:
        return self.name

    @property
    def counts(self) -> bool:
        """Whether people of this link take seats and places and enter releases."""
        return self.purpose == self.Purpose.LIVE


class LinkOpening(models.Model):
    """That a browser with JavaScript showed the first page of a link. A page without JavaScript, or a link preview, leaves none."""

    link = models.ForeignKey(RecruitmentLink, on_delete=models.CASCADE, related_name="openings")
    study_locale = models.ForeignKey(StudyLocale, on_delete=models.CASCADE, null=True, blank=True, related_name="link_openings")
    submission_id = models.UUIDField(unique=True, help_text="Of the consent form on that page, so that an opening and its person meet.")
    opened_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["link", "study_locale"], name="opening_by_link_and_locale")]

    def __str__(self) -> str:
        return f"opening of {self.link}"


class Annotator(models.Model):
    """One person in one study, in one locale. Holds no name, address or account; a panel's identity lies apart, encrypted."""

    class State(models.TextChoices):
        ACTIVE = "ACTIVE", "Taking part"
        SCREENED_OUT = "SCREENED_OUT", "Not eligible"
        QUOTA_FULL = "QUOTA_FULL", "Place taken"
        COMPLETED = "COMPLETED", "Completed"
        RETURNED = "RETURNED", "Given up, as the panel says"
        WITHDRAWN = "WITHDRAWN", "Withdrawn"

    class EndReason(models.TextChoices):
        UNDERAGE = "UNDERAGE", "Under 18"
        NOT_ELIGIBLE = "NOT_ELIGIBLE", "An answer showed that the person is not eligible"
        EARLIER_STUDY = "EARLIER_STUDY", "Took part in an excluded study"
        CELL_FULL = "CELL_FULL", "A hard quota cell is full"
        OUTSIDE_CELLS = "OUTSIDE_CELLS", "Outside the cells, beyond the stated share"
        NO_CELL = "NO_CELL", "An answer that a quota needs is missing"
        NO_WORK = "NO_WORK", "Not enough open slots for a session"
        PANEL_RETURNED = "PANEL_RETURNED", "Returned on the panel"
        PANEL_TIMED_OUT = "PANEL_TIMED_OUT", "Timed out on the panel"
        PANEL_REJECTED = "PANEL_REJECTED", "Rejected on the panel"

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
    time_zone = models.CharField(
        max_length=60, blank=True, validators=[validate_time_zone], help_text="IANA name, as the browser says; empty: the locale's."
    )
    joined_at = models.DateTimeField()
    admitted_at = models.DateTimeField(null=True, blank=True, help_text="When quotas and open work admitted the person.")
    active_at = models.DateTimeField(help_text="Last sign of activity, to the minute; places are held from here on.")
    guideline_read_at = models.DateTimeField(null=True, blank=True)
    practice_tries = models.PositiveSmallIntegerField(default=0)
    practice_passed_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    end_reason = models.CharField(max_length=20, choices=EndReason, blank=True)

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


class PanelIdentity(models.Model):
    """Who a person is on their panel, encrypted with `IDENTITY_KEY`, so that they can be approved and paid.

    Deleted when the study's retention is over; see docs/decisions/0006-panel-identities.md.
    """

    annotator = models.OneToOneField(Annotator, on_delete=models.PROTECT, related_name="panel_identity")
    participant = models.TextField(help_text="Encrypted.")
    panel_study = models.CharField(max_length=100, blank=True)
    panel_session = models.TextField(blank=True, help_text="Encrypted.")
    received_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "panel identities"

    def __str__(self) -> str:
        return f"panel identity of {self.annotator}"


class IdentityReading(models.Model):
    """That a researcher read identities: who, when, how many, what for."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="identity_readings")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="identity_readings")
    purpose = models.CharField(max_length=40)
    identities = models.PositiveIntegerField()
    read_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.user} read {self.identities} identities of {self.study}"


class PanelEvent(models.Model):
    """A panel's signed message about a person's status, stored once whatever how often it is delivered."""

    class Status(models.TextChoices):
        RETURNED = "RETURNED", "Returned"
        TIMED_OUT = "TIMED_OUT", "Timed out"
        REJECTED = "REJECTED", "Rejected"

    link = models.ForeignKey(RecruitmentLink, on_delete=models.PROTECT, related_name="panel_events")
    event_id = models.CharField(max_length=100, help_text="The panel's own id of the message.")
    body_hash = models.CharField(max_length=64)
    status = models.CharField(max_length=10, choices=Status)
    annotator = models.ForeignKey(Annotator, on_delete=models.PROTECT, null=True, blank=True, related_name="panel_events")
    had_effect = models.BooleanField(help_text="False: nobody known by this identity, or they had ended before.")
    received_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["link", "event_id"], name="one_panel_event_per_id")]

    def __str__(self) -> str:
        return f"{self.status} on {self.link}"


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
