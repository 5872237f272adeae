"""When an endpoint may be called: places, rates, the pauses that it asks for, and the circuit breaker.

All figures are rows that every worker sees. They are read under the lock of the model spec, so that limits hold over all workers together.
"""

import threading
from datetime import datetime, timedelta

from apps.core.errors import DomainError
from apps.generation.client import EndpointError
from apps.generation.models import GenerationAttempt, ModelSpec

BREAKER_FAILURES = 5
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=10)
MINUTE = timedelta(minutes=1)
# How soon a place that another process frees is noticed; places freed in this process are told at once.
POLL = timedelta(seconds=1)

_freed = threading.Condition()


class MustWait(DomainError):
    """The endpoint takes no call now. `until`: when it is worth asking again."""

    code = "waiting_for_endpoint"

    def __init__(self, message: str, *, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class EndpointPaused(MustWait):
    """The endpoint failed too often, or asked for rest."""

    code = "endpoint_paused"


def check_place(model_spec: ModelSpec, *, is_live: bool, tokens: int, now: datetime) -> None:
    """Let a call of at most `tokens` pass or raise `MustWait`. The caller has locked `model_spec` and stores the attempt before it commits.

    Work that nobody waits for leaves one place and one request a minute free for live turns.
    """
    check_breaker(model_spec, now=now)
    calls = GenerationAttempt.objects.filter(model_spec=model_spec)
    # After a pause one call goes through, and the others once it went well.
    places = 1 if model_spec.failures_in_row >= BREAKER_FAILURES else _share(model_spec.concurrency, is_live)
    if calls.filter(state=GenerationAttempt.State.CALLING, answered_at=None).count() >= places:
        raise MustWait(f"All {places} places of endpoint {model_spec.key} are taken.", until=now + POLL)
    recent = calls.filter(started_at__gt=now - MINUTE)
    if model_spec.requests_per_minute is not None:
        most = _share(model_spec.requests_per_minute, is_live)
        newest = list(recent.order_by("-started_at").values_list("started_at", flat=True)[:most])
        if len(newest) >= most:
            raise MustWait(f"Endpoint {model_spec.key} had {most} requests within a minute.", until=newest[-1] + MINUTE)
    if model_spec.tokens_per_minute is not None:
        _check_tokens(model_spec, list(recent.order_by("started_at")), tokens, model_spec.tokens_per_minute)


def _check_tokens(model_spec: ModelSpec, recent: list[GenerationAttempt], tokens: int, most: int) -> None:
    """A call that alone is above the limit passes once the minute before it was empty."""
    used = [_tokens(attempt) for attempt in recent]
    over = sum(used) + tokens - most
    for attempt, figure in zip(recent, used, strict=True):
        if over <= 0:
            return
        over -= figure
        if over <= 0 or attempt is recent[-1]:
            raise MustWait(f"Endpoint {model_spec.key} had its {most} tokens of this minute.", until=attempt.started_at + MINUTE)


def _tokens(attempt: GenerationAttempt) -> int:
    if attempt.input_tokens is None or attempt.output_tokens is None:
        return int(attempt.parameters.get("most_tokens", 0))
    return attempt.input_tokens + attempt.output_tokens


def _share(limit: int, is_live: bool) -> int:
    return limit if is_live or limit <= 1 else limit - 1


def note_outcome(model_spec: ModelSpec, error: Exception | None, *, now: datetime) -> None:
    """Count what a call says about the endpoint, whose row the caller has locked; open or close the breaker as `after_call` has it."""
    before = model_spec.failures_in_row, model_spec.paused_until
    after = after_call(*before, error, now=now)
    if after != before:
        model_spec.failures_in_row, model_spec.paused_until = after
        model_spec.save(update_fields=["failures_in_row", "paused_until"])


def after_call(
    failures_in_row: int, paused_until: datetime | None, error: Exception | None, *, now: datetime
) -> tuple[int, datetime | None]:
    """The failures in a row and the end of the pause after a call that ended with `error`, or went well (None).

    Five failures in a row that are the endpoint's own pause it for 30 s, then twice as long after each failure more, up to 10 minutes.
    Calls that began before the pause and fail within it change nothing. A Retry-After pauses the endpoint for everybody.
    """
    resting = paused_until is not None and paused_until > now
    if isinstance(error, EndpointError) and error.is_endpoints_own:
        if not resting:
            failures_in_row += 1
            over = failures_in_row - BREAKER_FAILURES
            if over >= 0:
                paused_until = now + min(FIRST_PAUSE * 2 ** min(over, 10), LONGEST_PAUSE)
    elif not (isinstance(error, EndpointError) and error.made_no_call):
        failures_in_row = 0
    asked = getattr(error, "retry_after", None)
    if asked:
        until = now + timedelta(seconds=asked)
        paused_until = max(until, paused_until or until)
    return failures_in_row, paused_until


def check_breaker(model_spec: ModelSpec, *, now: datetime) -> None:
    """Raises `EndpointPaused` while the endpoint rests."""
    if model_spec.paused_until is not None and model_spec.paused_until > now:
        raise EndpointPaused(
            f"Endpoint {model_spec.key} ({model_spec.address}) rests until {model_spec.paused_until:%H:%M:%S} UTC.",
            until=model_spec.paused_until,
        )


def close_breaker(model_spec: ModelSpec) -> None:
    """Let calls through again: somebody tested the endpoint and it answered."""
    ModelSpec.objects.filter(pk=model_spec.pk).update(failures_in_row=0, paused_until=None)


def wait_for_place(seconds: float) -> None:
    """Sleep until a call of this process ends, at most `seconds`."""
    with _freed:
        _freed.wait(timeout=seconds)


def note_answer(attempt: GenerationAttempt, *, now: datetime) -> None:
    """Free the place of a call whose answer has arrived; it is examined and stored without one."""
    GenerationAttempt.objects.filter(pk=attempt.pk, state=GenerationAttempt.State.CALLING).update(answered_at=max(now, attempt.started_at))
    tell_place_freed()


def tell_place_freed() -> None:
    """Wake threads of this process that wait. Two: the first may be one that must leave its place to live turns."""
    with _freed:
        _freed.notify(2)
