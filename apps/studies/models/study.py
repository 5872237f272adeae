"""A study and the locales it runs in."""

from typing import Any
from zoneinfo import available_timezones

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.utils.translation import get_language_info


def validate_time_zone(name: str) -> None:
    """Raises `ValidationError` for a name that the IANA time zone database does not hold."""
    if name not in available_timezones():
        raise ValidationError(f"“{name}” is not a time zone of the IANA database, such as Asia/Kolkata.")


class StudyQuerySet(models.QuerySet["Study"]):
    def visible_to(self, user: Any) -> "StudyQuerySet":
        """The studies a researcher is a member of; every researcher's query starts here."""
        if user.is_superuser:
            return self
        return self.filter(memberships__user=user).distinct()


class Study(models.Model):
    """One piece of fieldwork: its locales, design, prompts and sample."""

    class State(models.TextChoices):
        DRAFT = "DRAFT", "Draft"
        OPEN = "OPEN", "Open for annotators"
        PAUSED = "PAUSED", "Paused"
        CLOSED = "CLOSED", "Closed"

    slug = models.SlugField(max_length=60, unique=True)
    title = models.CharField(max_length=200, null=True, help_text="Shown to annotators, in each language.")  # noqa: DJ001
    invitation = models.TextField(  # noqa: DJ001  (a translation may be missing, which is not the empty text)
        null=True,
        blank=True,
        help_text="Invites a person to write their own first message, in each language.",
    )
    state = models.CharField(max_length=10, choices=State, default=State.DRAFT)
    organisation = models.CharField(max_length=200, help_text="Who runs the study; named in the consent form.")
    contact_email = models.EmailField(help_text="Where annotators can ask questions; named in the consent form.")
    session_minutes = models.PositiveSmallIntegerField(default=20, help_text="Expected minutes for one session; named in the consent form.")
    retention_months = models.PositiveSmallIntegerField(
        default=12, help_text="How long identities of the panel are kept; named in the consent form."
    )
    overlap = models.PositiveSmallIntegerField(
        default=10, validators=[MinValueValidator(1)], help_text="Annotators per prompt and locale, counted in conversations."
    )
    prompts_per_wave = models.PositiveIntegerField(
        default=50,
        validators=[MinValueValidator(1)],
        help_text="Prompts are filled in waves of this size, so that a study stopped early has finished prompts.",
    )
    conversations_per_annotator = models.PositiveSmallIntegerField(
        default=8, validators=[MinValueValidator(1)], help_text="Conversations after which a person is done."
    )
    min_conversations = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1)],
        help_text="Conversations that a newcomer must find work for; where fewer are left, nobody is admitted.",
    )
    max_conversations_per_day = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Conversations a person may start in one day of their own time zone; empty: no limit.",
    )
    own_prompt_share = models.DecimalField(
        max_digits=3,
        decimal_places=2,
        default=0,
        validators=[MinValueValidator(0), MaxValueValidator(1)],
        help_text="Share of conversations that the person opens with a message of their own (0 to 1).",
    )
    lease_minutes = models.PositiveSmallIntegerField(
        default=60, validators=[MinValueValidator(1)], help_text="Minutes without activity after which a slot is offered to others."
    )
    place_hours = models.PositiveSmallIntegerField(
        default=24,
        validators=[MinValueValidator(1)],
        help_text="Hours without activity after which a person's places in the quotas are offered to others.",
    )
    wave = models.PositiveSmallIntegerField(default=1, help_text="Recruitment wave stored with each new annotator.")
    excluded_studies = models.ManyToManyField(
        "self",
        symmetrical=False,
        blank=True,
        related_name="excluding_studies",
        help_text="People who took part in one of these studies are not admitted; they are known by their panel's identity.",
    )
    seed = models.BigIntegerField(help_text="Seed of every random draw of this study (queue order, display order).")
    created_at = models.DateTimeField(auto_now_add=True)
    opened_at = models.DateTimeField(null=True, blank=True)

    objects = StudyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "studies"
        constraints = [
            models.CheckConstraint(condition=models.Q(overlap__gte=1), name="study_overlap_positive"),
            models.CheckConstraint(
                condition=models.Q(own_prompt_share__gte=0, own_prompt_share__lte=1), name="study_own_prompt_share_is_share"
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def is_open(self) -> bool:
        return self.state == self.State.OPEN


class StudyLocale(models.Model):
    """A country and a language in which the study runs, for example India in Hindi."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="locales")
    country = models.CharField(max_length=2, validators=[RegexValidator(r"^[A-Z]{2}$")], help_text="ISO 3166 code, for example IN.")
    language = models.CharField(max_length=8, choices=[(code, code) for code in settings.CONTENT_LANGUAGES])
    name = models.CharField(max_length=100, help_text="How readers call it, for example “Français (France)”.")
    time_zone = models.CharField(
        max_length=60,
        default="UTC",
        validators=[validate_time_zone],
        help_text="IANA name, for example Asia/Kolkata; used where a person's browser names none.",
    )
    published_country = models.CharField(max_length=60, help_text="Country as written in releases, for example “france”.")
    explanation_min_words = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Minimum words of an explanation here; empty: the task design's."
    )

    class Meta:
        ordering = ["pk"]
        constraints = [models.UniqueConstraint(fields=["study", "country", "language"], name="one_locale_per_country_and_language")]

    def __str__(self) -> str:
        return self.tag

    @property
    def tag(self) -> str:
        """BCP 47 tag, for example `hi-IN`."""
        return f"{self.language}-{self.country}"

    @property
    def interface_language(self) -> str:
        """The catalogue that serves this locale: the regional one (`pt-br`) where it exists, else the language's."""
        regional = self.tag.lower()
        return regional if regional in dict(settings.LANGUAGES) else self.language

    @property
    def text_direction(self) -> str:
        return "rtl" if get_language_info(self.interface_language)["bidi"] else "ltr"
