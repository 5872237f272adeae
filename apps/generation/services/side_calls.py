"""Calls that make no candidates: to the judge, to moderation and to test an endpoint.

They are paid from the same purses, held at their maximum before. Only moderation, which live turns wait for, shares the circuit breaker
with the calls for candidates: a judge that fails must not stop a live turn, and a test is somebody's wish to know.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils import timezone

from apps.core.errors import DomainError
from apps.generation.client import Completion, complete
from apps.generation.models import ModelSpec
from apps.generation.services.spending import change, cost_of, highest_price, lock_purses, reserve
from apps.generation.services.throttling import check_breaker, note_outcome

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Hold:
    """What one call may cost at most, held in the study's and the endpoint's purse. A worker that dies leaves it charged."""

    study_id: int
    model_spec: ModelSpec
    amount: Decimal
    heeds_breaker: bool


def hold_side_call(
    *,
    study_id: int,
    model_spec: ModelSpec,
    messages: Messages,
    response_format: dict[str, Any] | None = None,
    heeds_breaker: bool = False,
) -> Hold:
    """Hold the highest price of a call. Raises `BudgetExhausted`, `BudgetInUse`, and `EndpointPaused` where the call heeds the breaker."""
    amount = highest_price(model_spec, messages, response_format)
    with transaction.atomic():
        policy, locked = lock_purses(study_id, model_spec.pk)
        if heeds_breaker:
            check_breaker(locked, now=timezone.now())
        reserve(policy, locked, amount)
    return Hold(study_id, model_spec, amount, heeds_breaker)


def settle_side_call(hold: Hold, *, completion: Completion | None, error: DomainError | None) -> Decimal:
    """Charge what the call did cost instead of what was held; the cost. A call that heeds the breaker tells it how it went."""
    cost = cost_of(hold.model_spec, hold.amount, completion=completion, error=error)
    with transaction.atomic():
        policy, model_spec = lock_purses(hold.study_id, hold.model_spec.pk)
        change(policy, model_spec, cost - hold.amount)
        if hold.heeds_breaker:
            note_outcome(model_spec, error, now=timezone.now())
    return cost


def ask_beside(
    *,
    study_id: int,
    model_spec: ModelSpec,
    messages: Messages,
    response_format: dict[str, Any] | None = None,
    heeds_breaker: bool,
) -> tuple[Completion, Decimal]:
    """One such call, at temperature 0, and its cost. Raises `EndpointError` and what `hold_side_call` raises."""
    hold = hold_side_call(
        study_id=study_id, model_spec=model_spec, messages=messages, response_format=response_format, heeds_breaker=heeds_breaker
    )
    try:
        completion = complete(model_spec=model_spec, messages=messages, temperature=0.0, seed=0, response_format=response_format)
    except DomainError as error:
        settle_side_call(hold, completion=getattr(error, "completion", None), error=error)
        raise
    return completion, settle_side_call(hold, completion=completion, error=None)
