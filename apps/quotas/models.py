"""Quotas: how many people of which kind a study admits, and who holds a place."""

from django.db import models
from django.db.models import Q

from apps.annotators.models import Annotator
from apps.studies.models import Study, StudyLocale


class Quota(models.Model):
    """A rule about the composition of the sample over a set of locales (India's margins span Hindi and English)."""

    class Kind(models.TextChoices):
        HARD = "HARD", "Hard: refuses when full"
        SOFT = "SOFT", "Soft: warns"
        MONITOR = "MONITOR", "Monitor: only counts"

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="quotas")
    locales = models.ManyToManyField(StudyLocale, related_name="quotas")
    key = models.SlugField(max_length=60)
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.HARD)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "key"], name="one_quota_per_key")]

    def __str__(self) -> str:
        return self.key


class QuotaCell(models.Model):
    """One cell of a quota. `strata` maps question codes to strata; empty means everybody in the quota's locales."""

    quota = models.ForeignKey(Quota, on_delete=models.CASCADE, related_name="cells")
    key = models.CharField(max_length=120)
    strata = models.JSONField(default=dict, blank=True, help_text='For example {"gender": "female"}; empty: everybody.')
    target = models.PositiveIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["quota", "key"], name="one_cell_per_key")]

    def __str__(self) -> str:
        return f"{self.quota}: {self.key}"


class Placement(models.Model):
    """A person's place in a cell: reserved on admission, completed at the end, released when they leave."""

    class State(models.TextChoices):
        RESERVED = "RESERVED", "Reserved"
        COMPLETED = "COMPLETED", "Completed"
        RELEASED = "RELEASED", "Released"

    annotator = models.ForeignKey(Annotator, on_delete=models.PROTECT, related_name="placements")
    cell = models.ForeignKey(QuotaCell, on_delete=models.PROTECT, related_name="placements")
    state = models.CharField(max_length=10, choices=State, default=State.RESERVED)
    is_over = models.BooleanField(default=False, help_text="Completed after the place had been given to somebody else.")
    reserved_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["annotator", "cell"], name="one_placement_per_annotator_and_cell"),
            models.CheckConstraint(
                condition=Q(state="RESERVED", ended_at__isnull=True) | (~Q(state="RESERVED") & Q(ended_at__isnull=False)),
                name="placement_ended_iff_not_reserved",
            ),
        ]
        indexes = [models.Index(fields=["cell"], condition=~Q(state="RELEASED"), name="placement_holding_cell")]

    def __str__(self) -> str:
        return f"{self.annotator} in {self.cell}: {self.state}"
