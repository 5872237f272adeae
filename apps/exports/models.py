"""Releases: what was handed out, from which state of the data, with a checksum for each file."""

from django.conf import settings
from django.db import models

from apps.studies.models import Study


class Release(models.Model):
    """A built export of one study. Files lie under `folder` in the releases storage, under server-made names."""

    class State(models.TextChoices):
        BUILDING = "BUILDING", "Being built"
        BUILT = "BUILT", "Built"
        FAILED = "FAILED", "Failed"

    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="releases")
    number = models.PositiveIntegerField()
    schema = models.CharField(max_length=30)
    formats = models.JSONField(default=list)
    state = models.CharField(max_length=10, choices=State, default=State.BUILDING)
    error = models.CharField(max_length=500, blank=True)
    folder = models.CharField(max_length=200, blank=True)
    manifest = models.JSONField(default=dict, help_text="Watermark, rows and SHA-256 per file.")
    built_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="releases")
    created_at = models.DateTimeField(auto_now_add=True)
    built_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "number"], name="one_release_per_number")]

    def __str__(self) -> str:
        return f"{self.study} release {self.number}"
