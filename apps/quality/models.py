"""What is stored about the quality of a sample: by which rule its balanced subset is drawn and its weights are computed."""

from decimal import Decimal

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from apps.quotas.models import PopulationTable
from apps.studies.models import Study, StudyLocale


class BalanceRule(models.Model):
    """One version of the rule by which a study's balanced subset is drawn and its people are weighted.

    A changed rule is a new version; releases name theirs. See docs/sample.md for the rule in words.
    """

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="balance_rules")
    version = models.PositiveSmallIntegerField()
    seed = models.BigIntegerField(help_text="Seed of the order in which people of one cell are taken.")
    min_annotators = models.PositiveSmallIntegerField(
        default=10, help_text="People of the subset that a prompt needs to be in `in_balanced_subset_10`."
    )
    max_weight = models.DecimalField(
        max_digits=4,
        decimal_places=1,
        default=Decimal(5),
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="Largest raking weight, as a multiple of the mean.",
    )
    fingerprint = models.CharField(max_length=64, editable=False, help_text="SHA-256 of the whole rule, the shares of its tables included.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="balance_rules")
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["study", "version"], name="one_balance_rule_per_version"),
            models.CheckConstraint(condition=Q(min_annotators__gte=1), name="balance_rule_needs_somebody"),
            models.CheckConstraint(condition=Q(max_weight__gte=1), name="largest_weight_is_at_least_the_mean"),
        ]

    def __str__(self) -> str:
        return f"{self.study} balance rule v{self.version}"


class BalanceMargin(models.Model):
    """The population table that a balance rule matches over a set of locales, one interlocking table per set."""

    rule = models.ForeignKey(BalanceRule, on_delete=models.CASCADE, related_name="margins")
    table = models.ForeignKey(PopulationTable, on_delete=models.PROTECT, related_name="balance_margins")
    locales = models.ManyToManyField(StudyLocale, related_name="balance_margins")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["rule", "table"], name="one_balance_margin_per_table")]

    def __str__(self) -> str:
        return f"{self.rule}: {self.table}"


class RakingTable(models.Model):
    """A further population table to which the weights of a set of locales are raked, besides the one that its subset matches."""

    margin = models.ForeignKey(BalanceMargin, on_delete=models.CASCADE, related_name="raking_tables")
    table = models.ForeignKey(PopulationTable, on_delete=models.PROTECT, related_name="raking_tables")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["margin", "table"], name="one_raking_table_per_margin_and_table")]

    def __str__(self) -> str:
        return f"{self.margin}: weights to {self.table}"
