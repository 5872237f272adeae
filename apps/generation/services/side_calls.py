"""Calls that make no candidates: to the judge and to moderation. They are paid from the same purses, held at their maximum before."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.core.errors import DomainError
from apps.generation.client import Completion, complete
from apps.generation.models import GenerationPolicy, ModelSpec
from apps.generation.services.spending import cost_of, highest_price, lock_purses, reserve
from apps.generation.services.throttling import EndpointPaused, note_outcome

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Hold:
    """What one call may cost at most, held in the study's and the endpoint's purse. A worker that dies leaves it charged."""

    study_id: int
    model_spec: ModelSpec
    amount: Decimal


def hold_side_call(*, study_id: int, model_spec: ModelSpec, messages: Messages, response_format: dict[str, Any] | None = None) -> Hold:
    """Hold the highest price of a call. Raises `BudgetExhausted`, `BudgetInUse`, or `EndpointPaused` while the circuit breaker is open."""
    amount = highest_price(model_spec, messages, response_format)
    with transaction.atomic():
        policy, locked = _purses(study_id, model_spec)
        now = timezone.now()
        if locked.paused_until is not None and locked.paused_until > now:
            raise EndpointPaused(f"Endpoint {locked.key} rests until {locked.paused_until:%H:%M:%S} UTC.", until=locked.paused_until)
        reserve(policy, locked, amount)
    return Hold(study_id, model_spec, amount)


def settle_side_call(hold: Hold, *, completion: Completion | None, error: DomainError | None) -> Decimal:
    """Charge what the call did cost instead of what was held; the cost. Tells the circuit breaker how the call went."""
    cost = cost_of(hold.model_spec, hold.amount, completion=completion, error=error)
    with transaction.atomic():
        policy, model_spec = _purses(hold.study_id, hold.model_spec)
        for row in (policy, model_spec):
            row.committed += cost - hold.amount
            row.save(update_fields=["committed"])
        note_outcome(model_spec, error, now=timezone.now())
    return cost


def ask_beside(
    *, study_id: int, model_spec: ModelSpec, messages: Messages, response_format: dict[str, Any] | None = None
) -> tuple[Completion, Decimal]:
    """One such call, at temperature 0, and its cost. Raises `EndpointError` and what `hold_side_call` raises."""
    hold = hold_side_call(study_id=study_id, model_spec=model_spec, messages=messages, response_format=response_format)
    try:
        completion = complete(model_spec=model_spec, messages=messages, temperature=0.0, seed=0, response_format=response_format)
    except DomainError as error:
        settle_side_call(hold, completion=getattr(error, "completion", None), error=error)
        raise
    return completion, settle_side_call(hold, completion=completion, error=None)


def _purses(study_id: int, model_spec: ModelSpec) -> tuple[GenerationPolicy, ModelSpec]:
    policy, locked = lock_purses(study_id, model_spec.pk)
    if locked is None:
        raise LookupError(f"model spec {model_spec.pk} is gone")
    return policy, locked
