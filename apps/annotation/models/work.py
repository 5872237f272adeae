"""Seats, who sits in them, and the plan by which they are given out."""

from datetime import datetime
from decimal import Decimal

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import OuterRef, Q, Subquery

from apps.annotators.models import Annotator
from apps.content.models import Prompt
from apps.generation.models import CandidateSet, Recipe
from apps.quotas.models import Quota
from apps.studies.models import Study, StudyLocale, TaskDesign


class AssignmentPlan(models.Model):
    """How a study gives out work: the policy, and the rates at which other items are mixed in. Without a row: the defaults."""

    study = models.OneToOneField(Study, on_delete=models.CASCADE, related_name="assignment_plan")
    policy = models.CharField(max_length=40, default="fill_to_overlap", help_text="Key of the policy; see docs/sample.md.")
    balance_quota = models.ForeignKey(
        Quota,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="assignment_plans",
        help_text="For balanced strata: the quota whose cells are the strata.",
    )
    max_stratum_share = models.DecimalField(
        max_digits=3,
        decimal_places=2,
        default=Decimal("0.50"),
        validators=[MinValueValidator(0), MaxValueValidator(1)],
        help_text="For balanced strata: largest share of a prompt's overlap that one stratum may take.",
    )
    set_size = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="For fixed sets: prompts that each person gets."
    )
    repeat_share = models.DecimalField(
        max_digits=3,
        decimal_places=2,
        default=0,
        validators=[MinValueValidator(0), MaxValueValidator(1)],
        help_text="Share of tasks that repeat an item the person has judged (0 to 1); 0.10 is usual.",
    )
    repeat_after_tasks = models.PositiveSmallIntegerField(default=10, help_text="Tasks between an item and its repetition …")
    repeat_after_hours = models.PositiveSmallIntegerField(default=24, help_text="… or hours, whichever comes first.")
    gold_share = models.DecimalField(
        max_digits=3,
        decimal_places=2,
        default=0,
        validators=[MinValueValidator(0), MaxValueValidator(1)],
        help_text="Share of tasks that are gold items (0 to 1); 0.07 is about 1 in 15.",
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(repeat_share__gte=0, gold_share__gte=0, repeat_share__lte=1, gold_share__lte=1), name="plan_shares_are_shares"
            ),
            models.CheckConstraint(condition=Q(max_stratum_share__gt=0, max_stratum_share__lte=1), name="plan_stratum_share_is_share"),
        ]

    def __str__(self) -> str:
        return f"{self.study}: {self.policy}"


class SlotQuerySet(models.QuerySet["Slot"]):
    def workable_by(self, annotator: Annotator) -> "SlotQuerySet":
        """Slots of the person's locale whose candidates are ready and whose prompt the person has not had."""
        had = Assignment.objects.filter(annotator=annotator, prompt=OuterRef("prompt"), purpose=Assignment.Purpose.MAIN)
        ready = self.filter(study_locale_id=annotator.study_locale_id, candidate_set__state=CandidateSet.State.READY)
        # A subquery, not EXISTS: that becomes a join, for which PostgreSQL reads all that the person has had, not one index entry per slot.
        return ready.alias(had=Subquery(had.values("pk")[:1])).filter(had__isnull=True)

    def abandoned(self, now: datetime) -> "SlotQuerySet":
        """Claimed slots whose lease ran out, the longest abandoned first; not those that retire when their holder is done."""
        return self.filter(state=Slot.State.CLAIMED, is_excess=False, lease_expires_at__lt=now).order_by("lease_expires_at")

    def live(self) -> "SlotQuerySet":
        """Slots that are or may become counted conversations: never more than the overlap of their prompt."""
        return self.exclude(state=Slot.State.RETIRED).exclude(is_excess=True)

    def unclaimed(self) -> "SlotQuerySet":
        """Open slots in queue order."""
        return self.filter(state=Slot.State.OPEN).order_by("queue_position")


class Slot(models.Model):
    """A seat: one of the `overlap` conversations that a prompt gets in a locale and arm (recipe)."""

    class State(models.TextChoices):
        OPEN = "OPEN", "Open"
        CLAIMED = "CLAIMED", "Claimed"
        FILLED = "FILLED", "Filled"
        RETIRED = "RETIRED", "Retired"

    prompt = models.ForeignKey(Prompt, on_delete=models.PROTECT, related_name="slots")
    # Found by slot_by_locale_and_state.
    study_locale = models.ForeignKey(StudyLocale, on_delete=models.PROTECT, related_name="slots", db_index=False)
    recipe = models.ForeignKey(Recipe, on_delete=models.PROTECT, related_name="slots")
    candidate_set = models.ForeignKey(CandidateSet, on_delete=models.PROTECT, related_name="slots")
    ordinal = models.PositiveSmallIntegerField(help_text="Seat number, from 1 to the overlap.")
    queue_position = models.BigIntegerField(help_text="Stored random order of prompts in waves; lower is served first.")
    state = models.CharField(max_length=8, choices=State, default=State.OPEN)
    fencing_token = models.PositiveIntegerField(default=0, help_text="Counts the claims; work that holds an older number is late.")
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    is_excess = models.BooleanField(
        default=False, help_text="Claimed when the overlap was lowered below it: its work ends as surplus and the slot retires."
    )

    objects = SlotQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(is_excess=False) | Q(state="CLAIMED"), name="only_claimed_slot_is_excess"),
            models.UniqueConstraint(fields=["prompt", "study_locale", "recipe", "ordinal"], name="one_slot_per_seat"),
            models.CheckConstraint(
                condition=Q(state="CLAIMED", lease_expires_at__isnull=False) | (~Q(state="CLAIMED") & Q(lease_expires_at__isnull=True)),
                name="slot_lease_iff_claimed",
            ),
        ]
        indexes = [
            models.Index(fields=["study_locale", "state"], name="slot_by_locale_and_state"),
            models.Index(fields=["study_locale", "queue_position"], condition=Q(state="OPEN"), name="slot_open_in_queue_order"),
            models.Index(fields=["study_locale", "lease_expires_at"], condition=Q(state="CLAIMED"), name="slot_claimed_by_lease"),
        ]

    def __str__(self) -> str:
        return f"slot {self.pk}"

    def claim(self, *, until: datetime, now: datetime) -> None:
        """Take the (locked) slot with a lease: its former holder, if any, has lost it and may finish late as surplus."""
        if self.state == self.State.CLAIMED:
            holders = self.assignments.filter(state__in=[Assignment.State.ACTIVE, Assignment.State.OFFERED])
            holders.update(state=Assignment.State.EXPIRED, ended_at=now)
        self.fencing_token += 1
        self.state, self.lease_expires_at = self.State.CLAIMED, until
        self.save(update_fields=["fencing_token", "state", "lease_expires_at"])

    def leave(self, state: str) -> None:
        """End the hold of the (locked) slot: from now on it is in `state`. A slot in excess retires, whatever `state` says."""
        self.state = self.State.RETIRED if self.is_excess else state
        self.is_excess, self.lease_expires_at = False, None
        self.save(update_fields=["state", "is_excess", "lease_expires_at"])


class AssignmentQuerySet(models.QuerySet["Assignment"]):
    def active(self) -> "AssignmentQuerySet":
        return self.filter(state=Assignment.State.ACTIVE)

    def offered(self) -> "AssignmentQuerySet":
        """Reserved for the person and not begun, in the order in which it is served."""
        return self.filter(state=Assignment.State.OFFERED).order_by("pk")

    def counted(self) -> "AssignmentQuerySet":
        """Valid finished work: what overlap counts and releases publish."""
        return self.filter(state=Assignment.State.COMPLETED, purpose__in=[Assignment.Purpose.MAIN, Assignment.Purpose.OWN])


class Assignment(models.Model):
    """One person's work, usually on a slot. The database holds that a slot has one holder and a person one task."""

    class Purpose(models.TextChoices):
        MAIN = "MAIN", "Prompt of the study"
        OWN = "OWN", "The person's own first message"
        REPEAT = "REPEAT", "Repeated item"
        GOLD = "GOLD", "Gold item"
        PILOT = "PILOT", "Pilot or preview, never counted"

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
    repeats = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="repetitions", help_text="The work that this repeats."
    )
    policy = models.CharField(max_length=40, default="fill_to_overlap", help_text="What chose this task.")
    seed = models.BigIntegerField(default=0, help_text="Seed of the draw that chose it; 0: nothing was drawn.")
    reason = models.CharField(max_length=200, blank=True, help_text="Why this task was chosen, or given back.")
    claimed_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    objects = AssignmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["slot"], condition=Q(slot__isnull=False, state__in=["OFFERED", "ACTIVE", "COMPLETED"]), name="one_holder_per_slot"
            ),
            models.UniqueConstraint(fields=["annotator", "prompt"], condition=Q(purpose="MAIN"), name="one_main_assignment_per_prompt"),
            models.UniqueConstraint(fields=["annotator"], condition=Q(state="ACTIVE"), name="one_active_assignment_per_annotator"),
            models.CheckConstraint(
                condition=Q(purpose="MAIN", slot__isnull=False, prompt__isnull=False) | ~Q(purpose="MAIN"), name="main_assignment_has_slot"
            ),
            models.CheckConstraint(
                condition=(Q(purpose__in=["REPEAT", "GOLD", "PILOT"]) & Q(slot__isnull=True, prompt__isnull=False))
                | ~Q(purpose__in=["REPEAT", "GOLD", "PILOT"]),
                name="uncounted_assignment_has_prompt_and_no_slot",
            ),
            models.CheckConstraint(
                condition=Q(purpose="REPEAT", repeats__isnull=False) | (~Q(purpose="REPEAT") & Q(repeats__isnull=True)),
                name="repetition_names_its_first",
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

    @property
    def has_one_turn(self) -> bool:
        """Repeated and gold items ask for one comparison; what would follow is not of interest."""
        return self.purpose in (self.Purpose.REPEAT, self.Purpose.GOLD)

    def max_turns(self, design: TaskDesign) -> int:
        """Turns after which this conversation ends."""
        return 1 if self.has_one_turn else design.max_turns

    def min_turns(self, design: TaskDesign) -> int:
        """Turns before which it cannot be ended."""
        return 1 if self.has_one_turn else design.min_turns

    def is_expired(self, now: datetime) -> bool:
        return self.lease_expires_at < now
