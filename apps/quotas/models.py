"""Quotas: how many people of which kind a study admits, and who holds a place."""

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from apps.annotators.models import Annotator
from apps.studies.models import Study, StudyLocale


class PopulationTable(models.Model):
    """A study's own copy of a population table: the shares of the strata of one dimension in one country, with where they come from."""

    class Grade(models.TextChoices):
        A = "A", "A: use as it is"
        B = "B", "B: good; population or year differs a little"
        C = "C", "C: usable with a tolerance of about 2 points"
        D = "D", "D: old or coarse; for monitoring, not for hard quotas"

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="population_tables")
    key = models.CharField(max_length=80, help_text="Country and dimension for a built-in table, for example FR/age_gender.")
    country = models.CharField(max_length=2)
    dimension = models.CharField(max_length=60)
    year = models.CharField(max_length=20, blank=True)
    grade = models.CharField(max_length=1, choices=Grade, blank=True)
    source = models.TextField(blank=True)
    note = models.TextField(blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "key"], name="one_population_table_per_key")]

    def __str__(self) -> str:
        return self.key


class PopulationShare(models.Model):
    """One stratum of a table. `strata` maps question codes to the option codes or strata that fall in it."""

    table = models.ForeignKey(PopulationTable, on_delete=models.CASCADE, related_name="shares")
    order = models.PositiveSmallIntegerField()
    key = models.CharField(max_length=120)
    strata = models.JSONField(help_text='For example {"birth_year": ["18-34"], "gender": ["female"]}.')
    share = models.DecimalField(max_digits=9, decimal_places=8, validators=[MinValueValidator(0), MaxValueValidator(1)])

    class Meta:
        ordering = ["order"]
        constraints = [models.UniqueConstraint(fields=["table", "key"], name="one_population_share_per_stratum")]

    def __str__(self) -> str:
        return f"{self.table}: {self.key}"


class Quota(models.Model):
    """A rule about the composition of the sample over a set of locales (India's margins span Hindi and English)."""

    class Kind(models.TextChoices):
        HARD = "HARD", "Hard: refuses when full"
        SOFT = "SOFT", "Soft: warns and steers"
        MONITOR = "MONITOR", "Monitor: only counts"

    class NoCell(models.TextChoices):
        ADMIT = "ADMIT", "Admit outside the cells"
        REFUSE = "REFUSE", "Refuse"
        ASK = "ASK", "Ask the question once more, then admit outside the cells"

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="quotas")
    locales = models.ManyToManyField(StudyLocale, related_name="quotas")
    key = models.SlugField(max_length=60)
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.HARD)
    table = models.ForeignKey(
        PopulationTable,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="quotas",
        help_text="Population table from which the targets were computed.",
    )
    total = models.PositiveIntegerField(null=True, blank=True, help_text="People to whom the shares of the table were applied.")
    no_cell = models.CharField(
        max_length=6, choices=NoCell, default=NoCell.ADMIT, help_text="What happens to people whose answer fits no cell, or who gave none."
    )
    outside_share = models.DecimalField(
        max_digits=4,
        decimal_places=3,
        null=True,
        blank=True,
        validators=[MinValueValidator(0), MaxValueValidator(1)],
        help_text="Largest share of all targets that may be admitted outside the cells; empty: no limit.",
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["study", "key"], name="one_quota_per_key"),
            models.CheckConstraint(
                condition=Q(outside_share__isnull=True) | Q(outside_share__gte=0, outside_share__lte=1), name="outside_share_is_share"
            ),
        ]

    def __str__(self) -> str:
        return self.key


class QuotaCell(models.Model):
    """One cell of a quota. `strata` maps question codes to the option codes or strata that fall in it; empty means everybody."""

    quota = models.ForeignKey(Quota, on_delete=models.CASCADE, related_name="cells")
    key = models.CharField(max_length=120)
    strata = models.JSONField(default=dict, blank=True, help_text='For example {"gender": ["female"]}; empty: everybody.')
    target = models.PositiveIntegerField()
    version = models.PositiveIntegerField(default=1, editable=False, help_text="Counts the edits of the target, so that none is lost.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["quota", "key"], name="one_cell_per_key")]

    def __str__(self) -> str:
        return f"{self.quota}: {self.key}"


class TargetChange(models.Model):
    """A line of the log of targets: who set which cell from what to what, when."""

    cell = models.ForeignKey(QuotaCell, on_delete=models.CASCADE, related_name="target_changes")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="target_changes")
    before = models.PositiveIntegerField()
    after = models.PositiveIntegerField()
    changed_at = models.DateTimeField()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.cell}: {self.before} → {self.after}"


class Placement(models.Model):
    """A person's place in a cell, or outside the cells of a quota: reserved on admission, completed at the end, else released."""

    class State(models.TextChoices):
        RESERVED = "RESERVED", "Reserved"
        COMPLETED = "COMPLETED", "Completed"
        RELEASED = "RELEASED", "Released"

    class ReleaseReason(models.TextChoices):
        TIMEOUT = "TIMEOUT", "No activity"
        RETURN = "RETURN", "Given up on the panel"
        SCREEN_OUT = "SCREEN_OUT", "Not eligible"
        WITHDRAWAL = "WITHDRAWAL", "Withdrawn"
        LOCALE_SWITCH = "LOCALE_SWITCH", "Moved to another locale"

    annotator = models.ForeignKey(Annotator, on_delete=models.PROTECT, related_name="placements")
    quota = models.ForeignKey(Quota, on_delete=models.PROTECT, related_name="placements")
    cell = models.ForeignKey(
        QuotaCell, on_delete=models.PROTECT, null=True, blank=True, related_name="placements", help_text="Empty: outside the cells."
    )
    state = models.CharField(max_length=10, choices=State, default=State.RESERVED)
    is_over = models.BooleanField(default=False, help_text="Completed after the place had been given to somebody else.")
    release_reason = models.CharField(max_length=15, choices=ReleaseReason, blank=True)
    reserved_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["annotator", "cell"], name="one_placement_per_annotator_and_cell"),
            models.UniqueConstraint(
                fields=["annotator", "quota"], condition=Q(cell__isnull=True), name="one_placement_outside_per_annotator_and_quota"
            ),
            models.CheckConstraint(
                condition=Q(state="RESERVED", ended_at__isnull=True) | (~Q(state="RESERVED") & Q(ended_at__isnull=False)),
                name="placement_ended_iff_not_reserved",
            ),
            models.CheckConstraint(
                condition=(Q(state="RELEASED") & ~Q(release_reason="")) | (~Q(state="RELEASED") & Q(release_reason="")),
                name="placement_released_with_reason",
            ),
            models.CheckConstraint(condition=Q(is_over=False) | Q(state="COMPLETED"), name="only_completed_placement_is_over"),
        ]
        indexes = [models.Index(fields=["cell"], condition=~Q(state="RELEASED"), name="placement_holding_cell")]

    def __str__(self) -> str:
        return f"{self.annotator} in {self.cell or self.quota}: {self.state}"
