"""What people are paid for, per locale."""

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from apps.studies.models.study import StudyLocale


class PayRule(models.Model):
    """Amounts per person in one locale. Work done is paid, also when it is late, over a quota or broken off."""

    study_locale = models.OneToOneField(StudyLocale, on_delete=models.CASCADE, related_name="pay_rule")
    currency = models.CharField(max_length=3, validators=[RegexValidator(r"^[A-Z]{3}$")], help_text="ISO 4217 code, for example EUR.")
    completed = models.DecimalField(
        max_digits=8, decimal_places=2, validators=[MinValueValidator(0)], help_text="For a whole participation."
    )
    per_conversation = models.DecimalField(
        max_digits=8,
        decimal_places=2,
        default=0,
        validators=[MinValueValidator(0)],
        help_text="For each conversation finished by somebody who left before the end, at most the amount for a whole participation.",
    )
    screened_out = models.DecimalField(
        max_digits=8,
        decimal_places=2,
        default=0,
        validators=[MinValueValidator(0)],
        help_text="For somebody turned away after questions or practice.",
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(completed__gte=0, per_conversation__gte=0, screened_out__gte=0), name="pay_rule_amounts_not_negative"
            )
        ]

    def __str__(self) -> str:
        return f"{self.study_locale}: {self.completed} {self.currency}"
