"""How candidates are made: models, instruction templates, and recipes that combine them."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models

from apps.core.text import text_hash
from apps.studies.models import Study

_PORTS = {"http": "80", "https": "443"}


class KeepsItsCounters(models.Model):
    """A row that people edit while workers count in it: saving a form must not carry old counters back."""

    COUNTERS: tuple[str, ...] = ()

    class Meta:
        abstract = True

    def save(self, *args: Any, **options: Any) -> None:
        """Save all fields but the counters; services write those, by name or by a query."""
        if not self._state.adding and options.get("update_fields") is None:
            options["update_fields"] = [
                field.name for field in self._meta.concrete_fields if not field.primary_key and field.name not in self.COUNTERS
            ]
        super().save(*args, **options)


class ModelSpec(KeepsItsCounters):
    """A model behind an OpenAI-compatible endpoint. The key is named, never stored: it comes from the environment."""

    COUNTERS = ("committed", "failures_in_row", "paused_until")

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="model_specs")
    key = models.SlugField(max_length=60)
    base_url = models.CharField(
        max_length=300,
        blank=True,
        # Django's own check refuses a name without a dot, which a compose service has. `clean` looks closer.
        validators=[RegexValidator(r"(?i)^https?://[^\s/?#]+([/?#]\S*)?$")],
        help_text="For example https://host/v1. Empty: the bundled offline endpoint.",
    )
    model = models.CharField(max_length=120, help_text="Model name as the endpoint knows it.")
    api_key_variable = models.CharField(
        max_length=60,
        blank=True,
        validators=[RegexValidator(r"^[A-Z][A-Z0-9_]*$")],
        help_text="Name of the environment variable that holds the API key.",
    )
    max_tokens = models.PositiveIntegerField(validators=[MinValueValidator(1)], help_text="Upper bound of tokens of one call.")
    timeout_seconds = models.PositiveSmallIntegerField(default=60, validators=[MinValueValidator(1)])
    structured_output = models.BooleanField(
        default=False,
        help_text="Ask for JSON by a schema; for endpoints that support it (“Test this endpoint” tells). Otherwise a marker format.",
    )
    concurrency = models.PositiveSmallIntegerField(
        default=8, validators=[MinValueValidator(1)], help_text="Calls at the same time, at most."
    )
    requests_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: no limit.")
    tokens_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Input and output together. Empty: no limit.")
    budget = models.DecimalField(
        max_digits=12,
        decimal_places=6,
        null=True,
        blank=True,
        help_text="Hard ceiling of what calls to this endpoint may cost. Empty: none.",
    )
    committed = models.DecimalField(
        max_digits=14, decimal_places=6, default=0, editable=False, help_text="Reserved and settled cost; equals a recount of the attempts."
    )
    replacement = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="replaces",
        help_text="Asked instead when this endpoint fails a live turn.",
    )
    failures_in_row = models.PositiveIntegerField(default=0, editable=False)
    paused_until = models.DateTimeField(null=True, blank=True, editable=False, help_text="Circuit breaker: no call before this time.")
    probe = models.JSONField(default=dict, blank=True, editable=False, help_text="What “Test this endpoint” found.")
    probed_at = models.DateTimeField(null=True, blank=True, editable=False)
    input_price = models.DecimalField(max_digits=10, decimal_places=4, default=0, help_text="Price of a million input tokens.")
    output_price = models.DecimalField(max_digits=10, decimal_places=4, default=0, help_text="Price of a million output tokens.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "key"], name="one_model_spec_per_key")]

    def __str__(self) -> str:
        return f"{self.key} ({self.model})"

    @property
    def address(self) -> str:
        """Where calls go, for people to read: scheme, host and port, and nothing else of the URL."""
        parts = urlsplit(self.base_url or settings.OFFLINE_ENDPOINT_URL)
        host = parts.netloc.rpartition("@")[2]
        return f"{parts.scheme}://{host}" if ":" in host.rpartition("]")[2] else f"{parts.scheme}://{host}:{_PORTS.get(parts.scheme, '')}"

    def clean(self) -> None:
        """Refuse an address that is never called. What a name stands for is vetted again at each call."""
        super().clean()
        if self.base_url:
            # httpx2, which reads URLs as the calls do, takes half a second to import; no page but this form needs it.
            from apps.core.outbound import OutboundRefused, check_saved_url

            try:
                check_saved_url(self.base_url)
            except OutboundRefused as error:
                raise ValidationError({"base_url": str(error)}) from error


class InstructionTemplate(models.Model):
    """An instruction to the model, one text per language. A changed text is a new version."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="instruction_templates")
    key = models.SlugField(max_length=60)
    version = models.PositiveSmallIntegerField(default=1)
    text = models.TextField(null=True, help_text="{count} is replaced by the number of answers.")  # noqa: DJ001

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "key", "version"], name="one_instruction_template_per_version")]

    def __str__(self) -> str:
        return f"{self.key} v{self.version}"

    def text_in(self, language: str) -> str:
        """The instruction in `language`. Raises `LookupError` where the translation is missing."""
        text: str | None = getattr(self, f"text_{language}")
        if not text:
            raise LookupError(f"instruction template {self} has no text in {language}")
        return text

    def hash_in(self, language: str) -> str:
        return text_hash(self.text_in(language))


class Recipe(models.Model):
    """An ordered list of parts that together give a candidate set. Each recipe of a study is one arm."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="recipes")
    key = models.SlugField(max_length=60)
    version = models.PositiveSmallIntegerField(default=1)
    is_current = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["study", "key", "version"], name="one_recipe_per_version"),
            models.UniqueConstraint(fields=["study", "key"], condition=models.Q(is_current=True), name="one_current_recipe_per_key"),
        ]

    def __str__(self) -> str:
        return f"{self.key} v{self.version}"

    @property
    def k(self) -> int:
        """Candidates that the recipe makes."""
        return sum(part.count for part in self.parts.all())


class RecipePart(models.Model):
    """`count` candidates by one sampling method from one model. Slots are numbered over the parts in order."""

    class Method(models.TextChoices):
        NEGATIVELY_CORRELATED = "negatively_correlated", "Negatively correlated: one generation of diverse answers"
        DEFAULT = "default", "Default: one independent answer"
        TEMPERATURE = "temperature", "Temperature: independent draws"
        MULTI_MODEL = "multi_model", "Several models: one answer of each"
        PERSONA = "persona", "Personas: one instruction per slot"

    recipe = models.ForeignKey(Recipe, on_delete=models.CASCADE, related_name="parts")
    order = models.PositiveSmallIntegerField()
    method = models.CharField(max_length=30, choices=Method)
    count = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    model_spec = models.ForeignKey(ModelSpec, on_delete=models.PROTECT, related_name="recipe_parts")
    template = models.ForeignKey(InstructionTemplate, on_delete=models.PROTECT, related_name="recipe_parts")
    temperature = models.DecimalField(max_digits=3, decimal_places=2, default=1)

    class Meta:
        ordering = ["order"]
        constraints = [models.UniqueConstraint(fields=["recipe", "order"], name="one_recipe_part_per_place")]

    def __str__(self) -> str:
        return f"{self.count} × {self.method}"


class RecipePartVariant(models.Model):
    """What differs from slot to slot within a part: the model (`multi_model`) or the instruction (`persona`)."""

    recipe_part = models.ForeignKey(RecipePart, on_delete=models.CASCADE, related_name="variants")
    order = models.PositiveSmallIntegerField()
    model_spec = models.ForeignKey(ModelSpec, on_delete=models.PROTECT, null=True, blank=True, related_name="variants")
    template = models.ForeignKey(InstructionTemplate, on_delete=models.PROTECT, null=True, blank=True, related_name="variants")

    class Meta:
        ordering = ["order"]
        constraints = [
            models.UniqueConstraint(fields=["recipe_part", "order"], name="one_variant_per_place"),
            models.CheckConstraint(
                condition=models.Q(model_spec__isnull=False) | models.Q(template__isnull=False), name="variant_changes_something"
            ),
        ]

    def __str__(self) -> str:
        return f"variant {self.order} of {self.recipe_part}"


class GenerationPolicy(KeepsItsCounters):
    """What a study demands of its candidate sets and may spend on them. A study without a row has the defaults."""

    COUNTERS = ("committed",)

    study = models.OneToOneField(Study, on_delete=models.CASCADE, related_name="generation_policy")
    budget = models.DecimalField(
        max_digits=12,
        decimal_places=6,
        null=True,
        blank=True,
        help_text="Hard ceiling of what all calls of the study may cost. Empty: none.",
    )
    committed = models.DecimalField(
        max_digits=14, decimal_places=6, default=0, editable=False, help_text="Reserved and settled cost; equals a recount of the attempts."
    )
    is_paused = models.BooleanField(default=False, help_text="Pre-generation rests; live turns go on.")
    min_words = models.PositiveSmallIntegerField(default=10, help_text="Words an answer has at least.")
    max_words = models.PositiveSmallIntegerField(default=400, help_text="Words an answer has at most.")
    max_length_ratio = models.DecimalField(
        max_digits=4, decimal_places=2, default=2, help_text="Longest by shortest answer of a set, in words, at most."
    )
    near_duplicate_similarity = models.DecimalField(
        max_digits=3, decimal_places=2, default="0.95", help_text="Two answers at least this similar (0 to 1) are the same answer."
    )
    diversity_floor = models.DecimalField(
        max_digits=3, decimal_places=2, default=0, help_text="Least 1 − mean pairwise similarity of a set (0 to 1); 0: no floor."
    )
    max_regenerations = models.PositiveSmallIntegerField(default=2, help_text="Times a set below the floor is made again.")
    moderation_model = models.ForeignKey(ModelSpec, on_delete=models.SET_NULL, null=True, blank=True, related_name="moderates")
    judge_model = models.ForeignKey(ModelSpec, on_delete=models.SET_NULL, null=True, blank=True, related_name="judges")
    judge_template = models.ForeignKey(InstructionTemplate, on_delete=models.SET_NULL, null=True, blank=True, related_name="judges")

    class Meta:
        verbose_name_plural = "generation policies"

    def __str__(self) -> str:
        return f"generation policy of {self.study}"
