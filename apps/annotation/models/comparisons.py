"""Judgements: append-only revisions with one current, and the sequence in which they became visible."""

from django.db import models
from django.db.models import Q

from apps.annotation.models.conversations import ShownCandidate, Turn
from apps.core.sequence import CurrentTransactionId


class ComparisonQuerySet(models.QuerySet["Comparison"]):
    def current(self) -> "ComparisonQuerySet":
        return self.filter(is_current=True)


class Comparison(models.Model):
    """One act of judging the k candidates of a turn."""

    class Outcome(models.TextChoices):
        PREFERENCE = "PREFERENCE", "A preference"
        TIE = "TIE", "Equally good"
        NONE = "NONE", "None represents me"

    turn = models.ForeignKey(Turn, on_delete=models.PROTECT, related_name="comparisons")
    revision = models.PositiveSmallIntegerField(default=1)
    is_current = models.BooleanField(default=True)
    submission_id = models.UUIDField(unique=True)
    body_hash = models.CharField(max_length=64)
    outcome = models.CharField(max_length=10, choices=Outcome, default=Outcome.PREFERENCE)
    explanation = models.TextField(blank=True)
    detected_language = models.CharField(max_length=8, blank=True, help_text="Language of the explanation; empty: none or unsure.")
    created_at = models.DateTimeField()

    objects = ComparisonQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["turn", "revision"], name="one_comparison_per_revision"),
            models.UniqueConstraint(fields=["turn"], condition=Q(is_current=True), name="one_current_comparison_per_turn"),
        ]

    def __str__(self) -> str:
        return f"comparison {self.pk}"


class ComparisonItem(models.Model):
    """What one comparison says about one shown candidate. `rank` 1 is best; equal ranks are ties.

    Picking one of k gives rank 1 to the picked and rank 2 to all others: it says nothing about their order.
    """

    comparison = models.ForeignKey(Comparison, on_delete=models.PROTECT, related_name="items")
    shown_candidate = models.ForeignKey(ShownCandidate, on_delete=models.PROTECT, related_name="comparison_items")
    rank = models.PositiveSmallIntegerField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["comparison", "shown_candidate"], name="one_item_per_shown_candidate")]

    def __str__(self) -> str:
        return f"item of {self.comparison}"


class Change(models.Model):
    """A place in the change sequence, read in the order (`transaction_id`, `id`) up to a watermark. See `core.sequence`."""

    class Kind(models.TextChoices):
        ADDED = "ADDED", "Comparison added"
        REVISED = "REVISED", "Comparison revised"
        ERASED = "ERASED", "Comparison erased"

    comparison = models.ForeignKey(Comparison, on_delete=models.PROTECT, related_name="changes")
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.ADDED)
    transaction_id = models.BigIntegerField(db_default=CurrentTransactionId())
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["transaction_id", "id"], name="change_in_commit_order")]

    def __str__(self) -> str:
        return f"change {self.pk}: {self.kind}"
