"""Candidate sets and how each came to be."""

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from apps.generation.models.recipes import InstructionTemplate, ModelSpec, Recipe, RecipePart


class CandidateSetQuerySet(models.QuerySet["CandidateSet"]):
    def due(self, now: datetime) -> "CandidateSetQuerySet":
        """Work for a worker: pending sets whose time has come, and claimed ones whose claim ran out."""
        pending = Q(state=CandidateSet.State.PENDING) & (Q(retry_at__isnull=True) | Q(retry_at__lte=now))
        return self.filter(pending | Q(state=CandidateSet.State.GENERATING, claimed_until__lt=now))


class CandidateSet(models.Model):
    """The k candidates for one text in one language by one recipe. Shown only when READY, and frozen from then on.

    A pre-generated set is keyed by prompt text × language × recipe, so that everybody who reads a language judges
    the same set. A live set (`is_live`) belongs to one turn and holds that person's words in `messages`.
    """

    class State(models.TextChoices):
        PENDING = "PENDING", "Waiting"
        GENERATING = "GENERATING", "Being made"
        READY = "READY", "Ready"
        FAILED = "FAILED", "Failed"
        HELD = "HELD", "Held: below the diversity floor"
        REJECTED = "REJECTED", "Rejected by a reviewer"

    recipe = models.ForeignKey(Recipe, on_delete=models.PROTECT, related_name="candidate_sets")
    language = models.CharField(max_length=8)
    k = models.PositiveSmallIntegerField()
    is_live = models.BooleanField(default=False)
    messages = models.JSONField(help_text='The conversation so far: [{"role": "user", "content": "…"}, …].')
    text_hash = models.CharField(max_length=64, help_text="SHA-256 of the last message.")
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    claim_token = models.UUIDField(null=True, blank=True)
    claimed_until = models.DateTimeField(null=True, blank=True)
    retry_at = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveSmallIntegerField(default=0)
    error_code = models.CharField(max_length=40, blank=True)
    seed = models.BigIntegerField()
    regenerations = models.PositiveSmallIntegerField(default=0, help_text="Times the whole set was made again for its diversity.")
    diversity = models.FloatField(null=True, blank=True, help_text="1 − mean pairwise similarity of its candidates, 0 to 1.")
    similarity = models.JSONField(null=True, blank=True, help_text="Matrix of pairwise similarities by slot, and the measure that gave it.")
    moderation = models.JSONField(null=True, blank=True, help_text="Verdicts of the moderation endpoint on a live message and its answers.")
    reviewed_at = models.DateTimeField(null=True, blank=True)
    reviewed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    review_note = models.CharField(max_length=300, blank=True, help_text="Why a reviewer rejected it.")
    created_at = models.DateTimeField(auto_now_add=True)
    ready_at = models.DateTimeField(null=True, blank=True)

    objects = CandidateSetQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["recipe", "language", "text_hash"],
                condition=Q(is_live=False) & ~Q(state="REJECTED"),
                name="one_set_per_text_language_and_recipe",
            ),
            models.CheckConstraint(condition=Q(state="READY", ready_at__isnull=False) | ~Q(state="READY"), name="ready_set_has_time"),
            models.CheckConstraint(
                condition=Q(state="GENERATING", claim_token__isnull=False, claimed_until__isnull=False) | ~Q(state="GENERATING"),
                name="generating_set_is_claimed",
            ),
        ]
        indexes = [
            models.Index(fields=["state", "retry_at"], condition=Q(state__in=["PENDING", "GENERATING"]), name="candidate_set_due"),
        ]

    def __str__(self) -> str:
        return f"candidate set {self.pk} ({self.language}, {self.get_state_display().lower()})"

    @property
    def is_ready(self) -> bool:
        return self.state == self.State.READY


class GenerationAttempt(models.Model):
    """One call to a model endpoint: what was asked, what came back, what it cost. Failures are rows, never candidates."""

    class State(models.TextChoices):
        CALLING = "CALLING", "Call in flight"
        SUCCEEDED = "SUCCEEDED", "Succeeded"
        FAILED = "FAILED", "Failed"

    candidate_set = models.ForeignKey(CandidateSet, on_delete=models.PROTECT, related_name="attempts")
    recipe_part = models.ForeignKey(RecipePart, on_delete=models.PROTECT, related_name="attempts")
    model_spec = models.ForeignKey(
        ModelSpec, on_delete=models.PROTECT, null=True, related_name="attempts", help_text="The endpoint that was asked, and pays."
    )
    number = models.PositiveSmallIntegerField(help_text="1 for the first call for this part of the set.")
    state = models.CharField(max_length=10, choices=State, default=State.CALLING)
    error_code = models.CharField(max_length=40, blank=True)
    error_detail = models.CharField(max_length=500, blank=True)
    template_hash = models.CharField(max_length=64)
    parameters = models.JSONField(help_text="Model, max_tokens, temperature and seed as asked.")
    raw_output = models.TextField(blank=True)
    latency_ms = models.PositiveIntegerField(null=True, blank=True)
    reserved = models.DecimalField(
        max_digits=12, decimal_places=6, default=0, help_text="Highest cost of the call, held before it was made."
    )
    model_answered = models.CharField(max_length=120, blank=True)
    input_tokens = models.PositiveIntegerField(null=True, blank=True)
    output_tokens = models.PositiveIntegerField(null=True, blank=True)
    cost = models.DecimalField(max_digits=12, decimal_places=6, default=0)
    started_at = models.DateTimeField()
    answered_at = models.DateTimeField(
        null=True, blank=True, help_text="When the answer had arrived and the endpoint's place was free again; empty: no answer."
    )
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["candidate_set", "recipe_part", "number"], name="one_attempt_per_number"),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=True) | Q(finished_at__gte=F("started_at")), name="attempt_ends_after_start"
            ),
        ]
        indexes = [
            models.Index(fields=["model_spec", "started_at"], name="attempt_by_endpoint"),
            models.Index(fields=["model_spec"], condition=Q(state="CALLING", answered_at=None), name="attempt_in_flight"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} for {self.candidate_set}"


class Candidate(models.Model):
    """One response before judgement. `slot` is its place of generation, never the position a person sees."""

    candidate_set = models.ForeignKey(CandidateSet, on_delete=models.PROTECT, related_name="candidates")
    slot = models.PositiveSmallIntegerField()
    text = models.TextField()
    text_fingerprint = models.CharField(max_length=64, help_text="Hash that ignores case, punctuation and spacing.")
    source = models.CharField(max_length=30, help_text="Sampling method, or “curated”.")
    model_spec = models.ForeignKey(ModelSpec, on_delete=models.PROTECT, null=True, blank=True, related_name="candidates")
    attempt = models.ForeignKey(GenerationAttempt, on_delete=models.PROTECT, null=True, blank=True, related_name="candidates")

    class Meta:
        ordering = ["slot"]
        constraints = [
            models.UniqueConstraint(fields=["candidate_set", "slot"], name="one_candidate_per_slot"),
            models.UniqueConstraint(fields=["candidate_set", "text_fingerprint"], name="distinct_candidates_in_a_set"),
            models.CheckConstraint(condition=~Q(text=""), name="candidate_has_text"),
        ]

    def __str__(self) -> str:
        return f"candidate {self.pk}"


class Verdict(models.Model):
    """What one acceptance check found, with its figure. Stored for refused outputs and for sets that passed."""

    candidate_set = models.ForeignKey(CandidateSet, on_delete=models.PROTECT, related_name="verdicts")
    attempt = models.ForeignKey(GenerationAttempt, on_delete=models.PROTECT, null=True, blank=True, related_name="verdicts")
    slot = models.PositiveSmallIntegerField(null=True, blank=True, help_text="The answer it is about; empty: the whole output or set.")
    check_name = models.CharField(max_length=40)
    passed = models.BooleanField()
    figure = models.FloatField(null=True, blank=True)
    detail = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.check_name}: {'passed' if self.passed else 'refused'}"


class ValueScore(models.Model):
    """A judge's reading of one candidate on the two Inglehart–Welzel dimensions, each 0 to 1 with 0.5 balanced."""

    candidate = models.ForeignKey(Candidate, on_delete=models.PROTECT, related_name="value_scores")
    judge = models.ForeignKey(ModelSpec, on_delete=models.PROTECT, related_name="value_scores")
    rubric = models.ForeignKey(InstructionTemplate, on_delete=models.PROTECT, related_name="value_scores")
    rubric_hash = models.CharField(max_length=64)
    traditional_secular = models.FloatField(help_text="0 traditional, 1 secular-rational.")
    survival_self_expression = models.FloatField(help_text="0 survival, 1 self-expression.")
    model_answered = models.CharField(max_length=120, blank=True)
    raw_output = models.TextField(blank=True)
    cost = models.DecimalField(max_digits=12, decimal_places=6, default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["candidate", "judge", "rubric"], name="one_score_per_candidate_judge_and_rubric"),
            models.CheckConstraint(
                condition=Q(traditional_secular__range=(0, 1), survival_self_expression__range=(0, 1)), name="value_scores_are_shares"
            ),
        ]

    def __str__(self) -> str:
        return f"value score of {self.candidate}"
