"""What one conversation asks: how many turns, and per range of turns the form of the comparison."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from apps.studies.models.study import Study


class TaskDesign(models.Model):
    """The shape of a conversation in a study."""

    class ExplanationPolicy(models.TextChoices):
        OFF = "OFF", "Not asked"
        OPTIONAL = "OPTIONAL", "Asked, may stay empty"
        REQUIRED = "REQUIRED", "Required"

    study = models.OneToOneField(Study, on_delete=models.CASCADE, related_name="task_design")
    min_turns = models.PositiveSmallIntegerField(default=2, validators=[MinValueValidator(1)])
    max_turns = models.PositiveSmallIntegerField(default=4, validators=[MinValueValidator(1)])
    explanation_policy = models.CharField(max_length=10, choices=ExplanationPolicy, default=ExplanationPolicy.REQUIRED)
    explanation_min_words = models.PositiveSmallIntegerField(
        default=15, help_text="Words a required explanation has at least; a locale may set its own."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(min_turns__gte=1, max_turns__gte=models.F("min_turns")), name="task_design_turns_in_order"
            )
        ]

    def __str__(self) -> str:
        return f"{self.study}: {self.min_turns}–{self.max_turns} turns"

    def turn_design(self, number: int) -> "TurnDesign":
        """The range that turn `number` (from 1) falls in. Raises `LookupError` where the design has a hole."""
        for turn_design in self.turn_designs.all():
            if turn_design.first_turn <= number <= turn_design.last_turn:
                return turn_design
        raise LookupError(f"{self.study} has no turn design for turn {number}")


class TurnDesign(models.Model):
    """Form, number of candidates and what follows, for the turns `first_turn` to `last_turn`."""

    class Form(models.TextChoices):
        PICK_ONE = "PICK_ONE", "Pick one of k"

    class NextTurnSource(models.TextChoices):
        ANNOTATOR = "ANNOTATOR", "The annotator writes the next message"

    task_design = models.ForeignKey(TaskDesign, on_delete=models.CASCADE, related_name="turn_designs")
    first_turn = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    last_turn = models.PositiveSmallIntegerField(validators=[MinValueValidator(1)])
    form = models.CharField(max_length=20, choices=Form, default=Form.PICK_ONE)
    k = models.PositiveSmallIntegerField(
        default=4, validators=[MinValueValidator(2), MaxValueValidator(6)], help_text="Candidates shown, 2 to 6."
    )
    next_turn_source = models.CharField(max_length=20, choices=NextTurnSource, default=NextTurnSource.ANNOTATOR)

    class Meta:
        ordering = ["first_turn"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(first_turn__gte=1, last_turn__gte=models.F("first_turn")), name="turn_design_range_in_order"
            ),
            models.CheckConstraint(condition=models.Q(k__gte=2, k__lte=6), name="turn_design_k_between_2_and_6"),
            models.UniqueConstraint(fields=["task_design", "first_turn"], name="one_turn_design_per_first_turn"),
        ]

    def __str__(self) -> str:
        return f"turns {self.first_turn}–{self.last_turn}: {self.get_form_display()}, k = {self.k}"
