"""Prompts: the pre-generated first messages, translated and versioned."""

from django.db import models

from apps.core.text import text_hash
from apps.studies.models import Study


class Topic(models.Model):
    """What a prompt is about."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="topics")
    key = models.SlugField(max_length=60)
    title = models.CharField(max_length=100, null=True)  # noqa: DJ001  (a translation may be missing, which is not the empty text)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "key"], name="one_topic_per_key")]

    def __str__(self) -> str:
        return self.key


class PromptQuerySet(models.QuerySet["Prompt"]):
    def current(self) -> "PromptQuerySet":
        return self.filter(is_current=True)


class Prompt(models.Model):
    """A first message in every language of the study. A changed text is a new version; judged versions stay."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="prompts")
    topic = models.ForeignKey(Topic, on_delete=models.PROTECT, related_name="prompts", null=True, blank=True)
    key = models.SlugField(max_length=80)
    version = models.PositiveSmallIntegerField(default=1)
    is_current = models.BooleanField(default=True)
    text = models.TextField(null=True)  # noqa: DJ001  (a translation may be missing, which is not the empty text)
    is_gold = models.BooleanField(
        default=False, help_text="A check item with a certain answer: served at the gold rate, never seated, never counted towards overlap."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PromptQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["study", "key", "version"], name="one_prompt_per_version"),
            models.UniqueConstraint(fields=["study", "key"], condition=models.Q(is_current=True), name="one_current_prompt_per_key"),
        ]

    def __str__(self) -> str:
        return f"{self.key} v{self.version}"

    def text_in(self, language: str) -> str:
        """The text in `language`, never another language's. Raises `LookupError` where the translation is missing."""
        text: str | None = getattr(self, f"text_{language}")
        if not text:
            raise LookupError(f"prompt {self} has no text in {language}")
        return text

    def hash_in(self, language: str) -> str:
        return text_hash(self.text_in(language))


class PromptSet(models.Model):
    """A named selection of prompts, for example those that everybody sees."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="prompt_sets")
    key = models.SlugField(max_length=60)
    prompts = models.ManyToManyField(Prompt, related_name="prompt_sets")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "key"], name="one_prompt_set_per_key")]

    def __str__(self) -> str:
        return self.key
