"""How candidates are made: models, instruction templates, and recipes that combine them."""

from django.core.validators import MinValueValidator, RegexValidator, URLValidator
from django.db import models

from apps.core.text import text_hash
from apps.studies.models import Study


class ModelSpec(models.Model):
    """A model behind an OpenAI-compatible endpoint. The key is named, never stored: it comes from the environment."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="model_specs")
    key = models.SlugField(max_length=60)
    base_url = models.CharField(
        max_length=300,
        blank=True,
        validators=[URLValidator(schemes=["http", "https"])],
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
    input_price = models.DecimalField(max_digits=10, decimal_places=4, default=0, help_text="Price of a million input tokens.")
    output_price = models.DecimalField(max_digits=10, decimal_places=4, default=0, help_text="Price of a million output tokens.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "key"], name="one_model_spec_per_key")]

    def __str__(self) -> str:
        return f"{self.key} ({self.model})"


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
