"""Seats and who sits in them."""

from datetime import datetime

from django.db import models
from django.db.models import Q

from apps.annotators.models import Annotator
from apps.content.models import Prompt
from apps.generation.models import CandidateSet, Recipe
from apps.studies.models import StudyLocale


class Slot(models.Model):
    """A seat: one of the `overlap` conversations that a prompt gets in a locale and arm (recipe)."""

    class State(models.TextChoices):
        OPEN = "OPEN", "Open"
        CLAIMED = "CLAIMED", "Claimed"
        FILLED = "FILLED", "Filled"
        RETIRED = "RETIRED", "Retired"

    prompt = models.ForeignKey(Prompt, on_delete=models.PROTECT, related_name="slots")
    study_locale = models.ForeignKey(StudyLocale, on_delete=models.PROTECT, related_name="slots")
    recipe = models.ForeignKey(Recipe, on_delete=models.PROTECT, related_name="slots")
    candidate_set = models.ForeignKey(CandidateSet, on_delete=models.PROTECT, related_name="slots")
    ordinal = models.PositiveSmallIntegerField(help_text="Seat number, from 1 to the overlap.")
    queue_position = models.BigIntegerField(help_text="Stored random order of prompts in waves; lower is served first.")
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    fencing_token = models.PositiveIntegerField(default=0, help_text="Counts the claims; work that holds an older number is late.")
    lease_expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["prompt", "study_locale", "recipe", "ordinal"], name="one_slot_per_seat"),
            models.CheckConstraint(
                condition=Q(state="CLAIMED", lease_expires_at__isnull=False) | (~Q(state="CLAIMED") & Q(lease_expires_at__isnull=True)),
                name="slot_lease_iff_claimed",
            ),
        ]
        indexes = [
            models.Index(fields=["study_locale", "queue_position"], condition=Q(state="OPEN"), name="slot_open_in_queue_order"),
            models.Index(fields=["study_locale", "lease_expires_at"], condition=Q(state="CLAIMED"), name="slot_claimed_by_lease"),
        ]

    def __str__(self) -> str:
        return f"slot {self.pk}"


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    def active(self) -> "AssignmentQuerySet":
        return self.filter(state=Assignment.State.ACTIVE)

    def counted(self) -> "AssignmentQuerySet":
        """Valid finished work: what overlap counts and releases publish."""
        return self.filter(state=Assignment.State.COMPLETED)


class Assignment(models.Model):
    """One person's work, usually on a slot. The database holds that a slot has one holder and a person one task."""

    class Purpose(models.TextChoices):
        MAIN = "MAIN", "Prompt of the study"
        OWN = "OWN", "The person's own first message"
        REPEAT = "REPEAT", "Repeated item"
        GOLD = "GOLD", "Gold item"

    class State(models.TextChoices):
        OFFERED = "OFFERED", "Offered"
        ACTIVE = "ACTIVE", "Active"
        COMPLETED = "COMPLETED", "Completed"
        EXPIRED = "EXPIRED", "Expired"
        RETURNED = "RETURNED", "Returned"
        SKIPPED = "SKIPPED", "Skipped"
        SURPLUS = "SURPLUS", "Surplus: late, kept and paid, never counted"
        WITHDRAWN = "WITHDRAWN", "Withdrawn"

    annotator = models.ForeignKey(Annotator, on_delete=models.PROTECT, related_name="assignments")
    slot = models.ForeignKey(Slot, on_delete=models.PROTECT, null=True, blank=True, related_name="assignments")
    prompt = models.ForeignKey(Prompt, on_delete=models.PROTECT, null=True, blank=True, related_name="assignments")
    recipe = models.ForeignKey(Recipe, on_delete=models.PROTECT, related_name="assignments")
    purpose = models.CharField(max_length=6, choices=Purpose, default=Purpose.MAIN)
    state = models.CharField(max_length=10, choices=State, default=State.ACTIVE)
    submission_id = models.UUIDField(unique=True, help_text="Of the claim, so that a second press claims once.")
    fencing_token = models.PositiveIntegerField(default=0)
    lease_expires_at = models.DateTimeField()
    policy = models.CharField(max_length=40, default="fill_to_overlap")
    claimed_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = AssignmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["slot"], condition=Q(slot__isnull=False, state__in=["ACTIVE", "COMPLETED"]), name="one_holder_per_slot"
            ),
            models.UniqueConstraint(fields=["annotator", "prompt"], condition=Q(purpose="MAIN"), name="one_main_assignment_per_prompt"),
            models.UniqueConstraint(fields=["annotator"], condition=Q(state="ACTIVE"), name="one_active_assignment_per_annotator"),
            models.CheckConstraint(
                condition=Q(purpose="MAIN", slot__isnull=False, prompt__isnull=False) | ~Q(purpose="MAIN"), name="main_assignment_has_slot"
            ),
            models.CheckConstraint(
                condition=Q(purpose="OWN", slot__isnull=True, prompt__isnull=True) | ~Q(purpose="OWN"), name="own_assignment_has_no_slot"
            ),
        ]

    def __str__(self) -> str:
        return f"assignment {self.pk} ({self.state})"

    def holds_slot(self, slot: Slot) -> bool:
        """Whether this work still owns its (locked) slot, or somebody claimed the slot after it."""
        return slot.fencing_token == self.fencing_token and slot.state == Slot.State.CLAIMED

    def is_expired(self, now: datetime) -> bool:
        return self.lease_expires_at < now
