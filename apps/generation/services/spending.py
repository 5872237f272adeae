"""Money: what a call may cost at most is held before it, what it did cost is settled after it.

Two ceilings hold at once, the study's (`GenerationPolicy.budget`) and the endpoint's (`ModelSpec.budget`). `committed` of each row is
at all times the sum over its attempts of what each is charged, `reserved` while the call is in flight and `cost` afterwards, and of
what calls to a judge or to moderation cost.
Both rows are changed under their locks, always the policy before the model spec.
"""

import json
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

from django.db.models import Case, DecimalField, F, QuerySet, Sum, Value, When
from django.db.models.functions import Round

from apps.core.errors import DomainError
from apps.generation.client import Completion, EndpointError
from apps.generation.models import GenerationAttempt, GenerationPolicy, ModelSpec
from apps.studies.models import Study

# A token stands for one byte of text at least; chat templates add some of their own around each message and before the first.
TOKENS_PER_MESSAGE = 16
TOKENS_PER_CALL = 64
HIGHEST_AMOUNT = Decimal("999999.999999")
# What is read of an endpoint's row while all workers wait for it.
_LIMITS = [
    *["study_id", "key", "base_url", "budget", "committed", "concurrency", "requests_per_minute", "tokens_per_minute"],
    *["failures_in_row", "paused_until"],
]

_CHARGE = Sum(
    Case(When(state=GenerationAttempt.State.CALLING, then=F("reserved")), default=F("cost")),
    default=Decimal(0),
    output_field=DecimalField(max_digits=14, decimal_places=6),
)


class BudgetExhausted(DomainError):
    """What is left of a budget is less than the call may cost."""

    code = "budget_exhausted"


class BudgetInUse(DomainError):
    """What is left is less than the call may cost until calls in flight give back what they hold too much."""

    code = "budget_in_use"


def most_input_tokens(messages: Sequence[dict[str, str]], response_format: dict[str, Any] | None = None) -> int:
    """A bound on the tokens of a prompt that holds for every byte-level tokenizer: its UTF-8 bytes, and room for the template."""
    size = sum(len(message["content"].encode()) + len(message["role"]) + TOKENS_PER_MESSAGE for message in messages)
    return size + TOKENS_PER_CALL + (len(json.dumps(response_format)) if response_format else 0)


def price(model_spec: ModelSpec, *, input_tokens: int, output_tokens: int) -> Decimal:
    """In the currency of the model spec's prices, which are per million tokens; rounded up to a millionth."""
    amount = (input_tokens * model_spec.input_price + output_tokens * model_spec.output_price) / 1_000_000
    return min(amount.quantize(Decimal("0.000001"), rounding=ROUND_CEILING), HIGHEST_AMOUNT)


def highest_price(model_spec: ModelSpec, messages: Sequence[dict[str, str]], response_format: dict[str, Any] | None = None) -> Decimal:
    """What a call costs at most: the bound on its prompt and `max_tokens` of answer."""
    return price(model_spec, input_tokens=most_input_tokens(messages, response_format), output_tokens=model_spec.max_tokens)


def lock_purses(study_id: int, model_spec_id: int) -> tuple[GenerationPolicy, ModelSpec]:
    """The locked rows that pay for a call, within a transaction. A study without a policy gets one with the defaults."""
    locked = GenerationPolicy.objects.select_for_update().only("study_id", "budget", "committed").filter(study_id=study_id)
    policy = locked.first()
    if policy is None:
        GenerationPolicy.objects.get_or_create(study_id=study_id)
        policy = locked.get()
    return policy, ModelSpec.objects.select_for_update().only(*_LIMITS).get(pk=model_spec_id)


def reserve(policy: GenerationPolicy, model_spec: ModelSpec, amount: Decimal) -> None:
    """Hold `amount` in both purses, which the caller has locked. Raises `BudgetExhausted` or `BudgetInUse` and holds nothing."""
    for row, name in ((policy, "the study"), (model_spec, f"endpoint {model_spec.key}")):
        if row.budget is None or row.committed + amount <= row.budget:
            continue
        held = _attempts_of(row).filter(state=GenerationAttempt.State.CALLING).aggregate(held=Sum("reserved", default=Decimal(0)))["held"]
        if row.committed - held + amount <= row.budget:
            raise BudgetInUse(f"Calls in flight hold what is left of the budget of {name}.")
        left = max(row.budget - row.committed, Decimal(0))
        raise BudgetExhausted(f"The next call may cost {amount}, and {left} of the budget of {name} ({row.budget}) is left.")
    change(policy, model_spec, amount)


def change(policy: GenerationPolicy, model_spec: ModelSpec, amount: Decimal) -> None:
    """Charge `amount` more (or less, below zero) in both purses, which the caller has locked."""
    for row in (policy, model_spec):
        # A figure, not an expression: SQLite would add decimals as floats. The row is locked.
        row.committed += amount
        if amount:
            type(row).objects.filter(pk=row.pk).update(committed=row.committed)


def settle(*, study_id: int, model_spec_id: int, amount: Decimal) -> None:
    """Charge `amount` more (or less, below zero) in both purses for a call that the endpoint answered, which ends its failures in a row.

    The same as `lock_purses`, `change` and `note_outcome` in a third of the time that every other worker has to wait.
    """
    # Rounded, because SQLite adds decimals as floats.
    committed = Round(F("committed") + Value(amount, output_field=DecimalField(max_digits=14, decimal_places=6)), precision=6)
    GenerationPolicy.objects.filter(study_id=study_id).update(committed=committed)
    ModelSpec.objects.filter(pk=model_spec_id).update(committed=committed, failures_in_row=0)


def cost_of(model_spec: ModelSpec, reserved: Decimal, *, completion: Completion | None, error: Exception | None) -> Decimal:
    """What a finished call is charged: by its usage; nothing where the endpoint surely did no work; else all that was held."""
    if completion is not None and completion.input_tokens is not None and completion.output_tokens is not None:
        return price(model_spec, input_tokens=completion.input_tokens, output_tokens=completion.output_tokens)
    if isinstance(error, EndpointError) and not error.may_be_charged:
        return Decimal(0)
    return reserved


def recount_study(study: Study) -> Decimal:
    """What the attempts of `study` add up to; equals `GenerationPolicy.committed` where no judge or moderation was asked."""
    return _sum(GenerationAttempt.objects.filter(candidate_set__recipe__study=study))


def recount_endpoint(model_spec: ModelSpec) -> Decimal:
    """What the attempts at an endpoint add up to; equals `ModelSpec.committed` where it was asked for candidates only."""
    return _sum(GenerationAttempt.objects.filter(model_spec=model_spec))


def _sum(attempts: QuerySet[GenerationAttempt]) -> Decimal:
    total: Decimal = attempts.aggregate(total=_CHARGE)["total"]
    return total


def _attempts_of(row: GenerationPolicy | ModelSpec) -> QuerySet[GenerationAttempt]:
    if isinstance(row, ModelSpec):
        return GenerationAttempt.objects.filter(model_spec=row)
    return GenerationAttempt.objects.filter(candidate_set__recipe__study_id=row.study_id)
