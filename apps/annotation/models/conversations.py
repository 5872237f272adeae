"""A conversation and its turns, each turn a small state machine."""

from django.db import models
from django.db.models import Q

from apps.annotation.models.work import Assignment
from apps.annotators.models import Annotator
from apps.generation.models import Candidate, CandidateSet


class Conversation(models.Model):
    """What one assignment grows into. A person's own first message is text on the first turn, never a Prompt row."""

    assignment = models.OneToOneField(Assignment, on_delete=models.PROTECT, related_name="conversation")
    annotator = models.ForeignKey(Annotator, on_delete=models.PROTECT, related_name="conversations")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"conversation {self.pk}"


class Turn(models.Model):
    """One message and the candidates that answer it: PROMPTED → GENERATING → READY → SHOWN → ANSWERED, or FAILED."""

    class State(models.TextChoices):
        PROMPTED = "PROMPTED", "Message written"
        GENERATING = "GENERATING", "Candidates being made"
        READY = "READY", "Ready to show"
        SHOWN = "SHOWN", "Shown"
        ANSWERED = "ANSWERED", "Answered"
        FAILED = "FAILED", "No candidates could be made"

    class Source(models.TextChoices):
        PREGENERATED = "PREGENERATED", "Prompt of the study"
        ANNOTATOR = "ANNOTATOR", "Written by the annotator"

    conversation = models.ForeignKey(Conversation, on_delete=models.PROTECT, related_name="turns")
    number = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.PROMPTED)
    source = models.CharField(max_length=12, choices=Source)
    message = models.TextField(help_text="The message as shown.")
    detected_language = models.CharField(
        max_length=8, blank=True, help_text="Language the annotator wrote in; empty: study text or unsure."
    )
    submission_id = models.UUIDField(null=True, blank=True, unique=True, help_text="Of the annotator's message.")
    body_hash = models.CharField(max_length=64, blank=True)
    candidate_set = models.ForeignKey(CandidateSet, on_delete=models.PROTECT, null=True, blank=True, related_name="turns")
    form = models.CharField(max_length=20)
    k = models.PositiveSmallIntegerField()
    display_seed = models.BigIntegerField(help_text="Seed from which the display order was drawn.")
    created_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True, blank=True)
    shown_at = models.DateTimeField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    device_class = models.CharField(max_length=10, blank=True)
    layout = models.CharField(max_length=20, blank=True, help_text="How the candidates stood: column or side_by_side.")

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["conversation", "number"], name="one_turn_per_number"),
            models.CheckConstraint(
                condition=Q(state__in=["READY", "SHOWN", "ANSWERED"], candidate_set__isnull=False)
                | ~Q(state__in=["READY", "SHOWN", "ANSWERED"]),
                name="ready_turn_has_candidates",
            ),
            models.CheckConstraint(
                condition=Q(state="ANSWERED", answered_at__isnull=False) | ~Q(state="ANSWERED"), name="answered_turn_has_time"
            ),
        ]
        indexes = [models.Index(fields=["candidate_set"], condition=Q(state="GENERATING"), name="turn_waiting_for_set")]

    def __str__(self) -> str:
        return f"turn {self.number} of {self.conversation}"


def letter_at(position: int) -> str:
    """The letter under which the candidate at `position` is shown."""
    return "ABCDEF"[position]


class ShownCandidate(models.Model):
    """A candidate at the position where this person saw it. Position 0 is letter A. The text is the text shown."""

    turn = models.ForeignKey(Turn, on_delete=models.PROTECT, related_name="shown_candidates")
    candidate = models.ForeignKey(Candidate, on_delete=models.PROTECT, related_name="showings")
    position = models.PositiveSmallIntegerField()
    text = models.TextField()

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["turn", "position"], name="one_candidate_per_position"),
            models.UniqueConstraint(fields=["turn", "candidate"], name="each_candidate_shown_once"),
        ]

    def __str__(self) -> str:
        return f"{self.letter} of {self.turn}"

    @property
    def letter(self) -> str:
        return letter_at(self.position)


class Draft(models.Model):
    """What a person has typed and not yet submitted on a turn. A draft never beats a submission."""

    turn = models.OneToOneField(Turn, on_delete=models.PROTECT, related_name="draft")
    fields = models.JSONField(default=dict)
    updated_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"draft on {self.turn}"
