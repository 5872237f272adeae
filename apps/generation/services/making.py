"""Make one candidate set: claim it, call for what is missing, judge it, store it."""

import random
import statistics
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from itertools import combinations

from django.db import transaction

from apps.core.errors import DomainError
from apps.core.text import count_words, fingerprint
from apps.generation import moderation
from apps.generation.acceptance import AnswerRefused, Finding, SetReport, examine_answers, examine_set
from apps.generation.client import Completion, EndpointError, complete
from apps.generation.methods import METHODS
from apps.generation.methods.base import Call, InstructionMissing, OneByOne, RecipeIncomplete, fit_context
from apps.generation.models import Candidate, CandidateSet, GenerationAttempt, GenerationPolicy, ModelSpec, RecipePart, Verdict
from apps.generation.offline_endpoint.banks import DRAWS
from apps.generation.selectors import BUDGET_EXHAUSTED, NEVER
from apps.generation.services import spending, throttling
from apps.generation.services.claiming import MAX_FAILURES, Claim, ClaimLost, claim_set, close_calls, heartbeat
from apps.generation.services.requesting import CANCELLED, number_from
from apps.generation.services.spending import BudgetExhausted, BudgetInUse
from apps.generation.services.throttling import EndpointPaused, MustWait

# How long a worker's thread waits for a place at an endpoint before it puts the set back.
PATIENCE_SECONDS = 20.0
# From this failure on, a live turn asks the replacement endpoint.
FAILURES_BEFORE_REPLACEMENT = 2

_State = GenerationAttempt.State


class Outcome(StrEnum):
    """What one run of `generate_set` came to."""

    NOT_CLAIMED = "NOT_CLAIMED"
    READY = "READY"
    RETRY = "RETRY"
    WAITING = "WAITING"
    HELD = "HELD"
    FAILED = "FAILED"


class SetRefused(DomainError):
    """The parts are each fine and do not fit together. `attempts` are those to ask again."""

    def __init__(self, code: str, message: str, *, attempts: Iterable[GenerationAttempt] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.attempts = list(attempts)


class TooAlike(SetRefused):
    """The set is below the study's diversity floor: all of it is made again, a bounded number of times."""


@dataclass(frozen=True)
class _Piece:
    """One answer of the set under way: whose it is and where it came from."""

    text: str
    part: RecipePart
    attempt: GenerationAttempt


def generate_set(*, candidate_set_id: int, now: datetime, claim_token: uuid.UUID | None = None) -> Outcome:
    """Make the candidates of one set, if nobody else is making them.

    Where the study names a moderation endpoint, a live message is shown to it before the first call and the answers before they count.

    1. Claim by one conditional UPDATE: a PENDING set that is due, or a GENERATING one whose lease ran out (its worker
       died: that counts as a failure, and calls it left in flight are closed). A heartbeat renews the short lease.
    2. Outside any transaction, for each answer that no earlier succeeded attempt covers: in one transaction check the claim, find a
       place at the endpoint, hold the call's highest cost and store an attempt (CALLING); call; settle and store what came back with the
       verdicts on it. One failure ends the run; what succeeded stays.
    3. In one transaction: check that the claim still holds, store exactly k distinct candidates with slots numbered over the parts and
       the measured similarity, mark READY. What does not fit together is asked again, by attempt; a set below the diversity floor
       is made again whole, at most `max_regenerations` times, then HELD (a live one FAILED: a person is waiting).
    4. On failure: count it, wait (exponential with jitter, at least what the endpoint asked for), PENDING again; after four, FAILED.
       No place within 20 s and no money are no failures: the set goes back to PENDING with the reason (a live one without money is FAILED).

    A run that finds the set claimed, finished or taken over changes nothing. `claim_token` lets the caller name its own claim.
    """
    claim = claim_set(candidate_set_id, claim_token or uuid.uuid4(), now)
    if claim is None:
        return Outcome.NOT_CLAIMED
    with heartbeat.keeping(claim):
        try:
            return _make(claim, claim.policy)
        except ClaimLost:
            return Outcome.NOT_CLAIMED


def record_unexpected_failure(*, candidate_set_id: int, claim_token: uuid.UUID, now: datetime) -> None:
    """Count an error that nobody foresaw as a failure of the set, so that a set which breaks its workers stops in the end."""
    candidate_set = CandidateSet.objects.select_related("recipe").get(pk=candidate_set_id)
    try:
        _record_failure(Claim(candidate_set, claim_token, now), "unexpected_error")
    except ClaimLost:
        return


def _make(claim: Claim, policy: GenerationPolicy) -> Outcome:
    """Steps 2 to 4 of `generate_set`. Raises `ClaimLost`."""
    try:
        moderation.moderate_message(claim.candidate_set)
        while True:
            for part in claim.parts:
                _ask_for_part(claim, part, policy)
            try:
                return _finish(claim, policy)
            except TooAlike as error:
                if not _begin_again(claim, error, policy):
                    return _record_failure(claim, error.code, final=True) if claim.candidate_set.is_live else Outcome.HELD
    except ClaimLost:
        raise
    except SetRefused as error:
        _refuse_attempts(error)
        return _record_failure(claim, error.code)
    except moderation.MessageNotAllowed as error:
        return _record_failure(claim, error.code, final=True)
    except BudgetExhausted as error:
        if claim.candidate_set.is_live:
            return _record_failure(claim, error.code, final=True)
        return _put_back(claim, error.code, retry_at=NEVER)
    except MustWait as error:
        if claim.candidate_set.is_live and isinstance(error, EndpointPaused):
            # A person is waiting: a few tries, then their page offers a way on.
            return _record_failure(claim, error.code)
        jitter = timedelta(seconds=_random(claim.candidate_set, "place").uniform(0, 3))
        return _put_back(claim, error.code, retry_at=error.until + jitter)
    except DomainError as error:
        # What no call can mend is not tried again; a live turn still has its replacement endpoint to ask.
        hopeless = getattr(error, "made_no_call", False) or isinstance(error, InstructionMissing | RecipeIncomplete)
        final = hopeless and not claim.candidate_set.is_live
        return _record_failure(claim, error.code, retry_after=getattr(error, "retry_after", None), final=final)


# --- Calls ------------------------------------------------------------------------------------------------------------


def _ask_for_part(claim: Claim, part: RecipePart, policy: GenerationPolicy) -> None:
    """Make the calls of `part` that no succeeded attempt covers. Raises what made one fail."""
    method = METHODS[part.method]
    covered = _covered(claim, part)
    for place, planned in enumerate(method.calls(part)):
        if place in covered:
            continue
        call = replace(planned, model_spec=_endpoint(claim, planned.model_spec))
        messages, dropped = fit_context(
            method.messages(call, language=claim.candidate_set.language, conversation=claim.candidate_set.messages)
        )
        response_format = method.response_format(call)
        parameters = {
            "model": call.model_spec.model,
            "call": place,
            "count": call.count,
            "max_tokens": call.model_spec.max_tokens,
            "temperature": call.temperature,
            "structured_output": response_format is not None,
            "most_tokens": spending.most_input_tokens(messages, response_format) + call.model_spec.max_tokens,
            "exchanges_dropped": dropped,
        }
        attempt = _begin_attempt(claim, part, call, parameters, spending.highest_price(call.model_spec, messages, response_format))
        try:
            completion = complete(
                model_spec=call.model_spec,
                messages=messages,
                temperature=call.temperature,
                seed=attempt.parameters["seed"],
                response_format=response_format,
            )
        except EndpointError as error:
            _end_attempt(claim, call, attempt, error=error, completion=error.completion)
            raise
        throttling.note_answer(attempt, now=claim.now())
        findings: list[Finding] = []
        try:
            answers = method.parse(completion.text, call=call)
            findings = examine_answers(answers, language=claim.candidate_set.language, policy=policy)
            refusing = next((finding for finding in findings if finding.refuses), None)
            if refusing is not None:
                raise AnswerRefused(refusing.check_name, refusing.detail or f"The answer did not pass the check {refusing.check_name}.")
        except AnswerRefused as error:
            _end_attempt(claim, call, attempt, error=error, completion=completion, findings=findings)
            raise
        _end_attempt(claim, call, attempt, error=None, completion=completion, findings=findings)


def _endpoint(claim: Claim, model_spec: ModelSpec) -> ModelSpec:
    """The endpoint to ask: for a live turn the replacement, where there is one and the first failed twice or rests."""
    candidate_set = claim.candidate_set
    replacement = model_spec.replacement
    if not candidate_set.is_live or replacement is None:
        return model_spec
    paused_until = ModelSpec.objects.values_list("paused_until", flat=True).get(pk=model_spec.pk)
    rests = paused_until is not None and paused_until > claim.now()
    return replacement if rests or candidate_set.failures >= FAILURES_BEFORE_REPLACEMENT else model_spec


def _covered(claim: Claim, part: RecipePart) -> dict[int, GenerationAttempt]:
    """The succeeded attempts of `part` by the place of the call that they answer. Read once in a run; `_end_attempt` adds to it."""
    if claim.covered is None:
        claim.covered = {}
        rows = claim.candidate_set.attempts.filter(state=_State.SUCCEEDED).select_related("model_spec").order_by("number")
        for row in rows:
            found = claim.covered.setdefault(row.recipe_part_id, {})
            found.setdefault(row.parameters.get("call", len(found)), row)
    return claim.covered.setdefault(part.pk, {})


def _begin_attempt(claim: Claim, part: RecipePart, call: Call, parameters: dict[str, object], reserved: Decimal) -> GenerationAttempt:
    """A stored attempt with a place at the endpoint and its highest cost held. Raises `MustWait`, `BudgetExhausted`, `ClaimLost`."""
    gives_up = time.monotonic() + PATIENCE_SECONDS
    is_live, tokens, waited = claim.candidate_set.is_live, int(str(parameters["most_tokens"])), False
    while True:
        claim.expects_call(call.model_spec.timeout_seconds)
        try:
            if waited:  # A look first, so that those who wait do not keep the others from the locks.
                throttling.check_place(ModelSpec.objects.get(pk=call.model_spec.pk), is_live=is_live, tokens=tokens, now=claim.now())
            return _store_attempt(claim, part, call, parameters, reserved)
        except MustWait as wait:
            waited = True
            seconds = (wait.until - claim.now()).total_seconds()
            if seconds > gives_up - time.monotonic():
                raise
            throttling.wait_for_place(max(0.05, seconds))


def _call_seed(claim: Claim, part: RecipePart, place: object, number: int) -> int:
    """Below 2**31. Its last digits number the independent draws of the set, by which the offline endpoint keeps them apart."""
    earlier = sum(one.count for one in claim.parts if one.order < part.order and isinstance(METHODS[one.method], OneByOne))
    return number_from(claim.candidate_set.seed, part.order, number) % 2_000_000 * DRAWS + earlier + int(str(place))


def _store_attempt(claim: Claim, part: RecipePart, call: Call, parameters: dict[str, object], reserved: Decimal) -> GenerationAttempt:
    """One short transaction: the set's row, the policy, the model spec, the attempt, in this order of locks."""
    with transaction.atomic():
        claim.lock()
        candidate_set = claim.candidate_set
        numbers = GenerationAttempt.objects.filter(candidate_set=candidate_set, recipe_part=part).order_by("-number")
        number = (numbers.values_list("number", flat=True).first() or 0) + 1
        now = claim.now()
        policy, model_spec = spending.lock_purses(candidate_set.recipe.study_id, call.model_spec.pk)
        throttling.check_place(model_spec, is_live=candidate_set.is_live, tokens=int(str(parameters["most_tokens"])), now=now)
        try:
            spending.reserve(policy, model_spec, reserved)
        except BudgetInUse as error:
            raise MustWait(str(error), until=now + throttling.POLL) from error
        attempt = GenerationAttempt.objects.create(
            candidate_set=candidate_set,
            recipe_part=part,
            model_spec=call.model_spec,
            number=number,
            template_hash=call.template.hash_in(candidate_set.language),
            parameters={**parameters, "seed": _call_seed(claim, part, parameters["call"], number)},
            reserved=reserved,
            started_at=now,
        )
        if candidate_set.error_code == BUDGET_EXHAUSTED:
            # There is money again: the others of the recipe that waited for it are due.
            CandidateSet.objects.filter(
                recipe=candidate_set.recipe_id, state=CandidateSet.State.PENDING, error_code=BUDGET_EXHAUSTED, retry_at=NEVER
            ).update(error_code="", retry_at=now)
            candidate_set.error_code = ""
        return attempt


def _end_attempt(
    claim: Claim,
    call: Call,
    attempt: GenerationAttempt,
    *,
    error: DomainError | None,
    completion: Completion | None,
    findings: Iterable[Finding] = (),
) -> None:
    """Settle the call and store what came of it. Raises `ClaimLost` if the set was taken over or erased meanwhile; then only the
    figures are kept.
    """
    with transaction.atomic():
        candidate_set = claim.lock_row()
        held = claim.holds(candidate_set)
        # A sweep that took this worker for dead may have closed the call meanwhile.
        stored = GenerationAttempt.objects.select_for_update().only("state", "cost").get(pk=attempt.pk)
        calling = stored.state == _State.CALLING
        cost = charged = attempt.reserved if calling else stored.cost
        changes: dict[str, object] = {}
        if calling or completion is not None:
            cost = changes["cost"] = spending.cost_of(call.model_spec, attempt.reserved, completion=completion, error=error)
        if completion is not None:
            changes |= {"model_answered": completion.model, "latency_ms": round(completion.latency_seconds * 1000)}
            changes |= {"input_tokens": completion.input_tokens, "output_tokens": completion.output_tokens}
            changes |= {"raw_output": completion.text} if held else {}
        outcome = error if held else ClaimLost("The set was taken over or erased while the call ran.")
        if calling:
            changes |= {"state": _State.FAILED if outcome else _State.SUCCEEDED, "finished_at": max(claim.now(), attempt.started_at)}
            changes |= {"error_code": outcome.code[:40], "error_detail": str(outcome)[:500]} if outcome else {}
        GenerationAttempt.objects.filter(pk=attempt.pk).update(**changes)
        if held:
            Verdict.objects.bulk_create(_verdict(candidate_set.pk, attempt.pk, finding) for finding in findings)
        # Last, because every worker waits for these rows.
        study_id = claim.candidate_set.recipe.study_id
        if error is None:
            spending.settle(study_id=study_id, model_spec_id=call.model_spec.pk, amount=cost - charged)
        else:
            policy, model_spec = spending.lock_purses(study_id, call.model_spec.pk)
            spending.change(policy, model_spec, cost - charged)
            throttling.note_outcome(model_spec, error, now=claim.now())
    if claim.covered is not None and changes.get("state") == _State.SUCCEEDED:
        for name, value in changes.items():
            setattr(attempt, name, value)
        claim.covered.setdefault(attempt.recipe_part_id, {})[attempt.parameters["call"]] = attempt
    throttling.tell_place_freed()
    if not held:
        raise ClaimLost(f"{candidate_set} was taken over")


def _verdict(candidate_set_id: int, attempt_id: int | None, finding: Finding) -> Verdict:
    """`slot` of a verdict on an attempt counts within that attempt's output."""
    return Verdict(
        candidate_set_id=candidate_set_id,
        attempt_id=attempt_id,
        slot=finding.slot,
        check_name=finding.check_name[:40],
        passed=finding.passed,
        figure=finding.figure,
        detail=finding.detail[:300],
    )


# --- The set as a whole -----------------------------------------------------------------------------------------------


def _finish(claim: Claim, policy: GenerationPolicy) -> Outcome:
    """Store the candidates and mark the set READY. Raises `SetRefused`, `TooAlike` or `ClaimLost` and makes nothing visible."""
    pieces = _pieces(claim)
    if len(pieces) != claim.candidate_set.k:
        raise SetRefused("recipe_changed", f"The recipe makes {len(pieces)} candidates, the set wants {claim.candidate_set.k}.")
    report = examine_set([piece.text for piece in pieces], language=claim.candidate_set.language, policy=policy)
    refusal = _refusal(pieces, report, policy)
    with transaction.atomic():
        row = claim.lock()
        Verdict.objects.bulk_create(_verdict(row.pk, None, finding) for finding in report.findings)
        row.diversity, row.similarity = report.diversity, {"measure": report.measure, "matrix": report.similarity}
        if refusal is None:
            Candidate.objects.bulk_create(
                Candidate(
                    candidate_set=row,
                    slot=slot,
                    text=piece.text,
                    text_fingerprint=fingerprint(piece.text),
                    source=piece.part.method,
                    model_spec=piece.attempt.model_spec,
                    attempt=piece.attempt,
                )
                for slot, piece in enumerate(pieces)
            )
            row.state, row.ready_at, row.error_code = CandidateSet.State.READY, claim.now(), ""
            row.claim_token, row.claimed_until = None, None
        row.save(update_fields=["state", "ready_at", "error_code", "claim_token", "claimed_until", "diversity", "similarity"])
    if refusal is not None:
        raise refusal
    return Outcome.READY


def _pieces(claim: Claim) -> list[_Piece]:
    """The answers of the set in the order of their slots.

    Raises `SetRefused` where two are the same text, moderation refuses one or a rule became stricter, and what the moderation call
    raises; the answers then wait for it and are not asked for again.
    """
    pieces: list[_Piece] = []
    seen: set[str] = set()
    for part in claim.parts:
        method = METHODS[part.method]
        covered = _covered(claim, part)
        for place, planned in enumerate(method.calls(part)):
            attempt = covered[place]
            try:
                texts = method.parse(attempt.raw_output, call=replace(planned, model_spec=attempt.model_spec or planned.model_spec))
                moderation.moderate_answers(claim.candidate_set, texts)
            except AnswerRefused as error:
                raise SetRefused(error.code, str(error), attempts=[attempt]) from error
            prints = {fingerprint(text) for text in texts}
            if not seen.isdisjoint(prints):
                raise SetRefused("duplicate_answers", "The answer equals one of another part of the set.", attempts=[attempt])
            seen |= prints
            pieces += [_Piece(text, part, attempt) for text in texts]
    return pieces


def _refusal(pieces: list[_Piece], report: SetReport, policy: GenerationPolicy) -> SetRefused | None:
    """What is wrong with the set as a whole and the attempts to ask again for it: the later of two that are alike, the odd length."""
    refusing = {finding.check_name: finding for finding in report.findings if finding.refuses}
    if not refusing:
        return None
    if "near_duplicate" in refusing:
        limit = float(policy.near_duplicate_similarity)
        later = [pieces[j].attempt for i, j in combinations(range(len(pieces)), 2) if report.similarity[i][j] >= limit]
        return SetRefused("near_duplicate", refusing["near_duplicate"].detail, attempts=later[:1])
    if "length_ratio" in refusing:
        words = [count_words(piece.text) for piece in pieces]
        middle = statistics.median(words)
        odd = max(range(len(pieces)), key=lambda slot: abs(words[slot] - middle))
        return SetRefused("length_ratio", refusing["length_ratio"].detail, attempts=[pieces[odd].attempt])
    name, finding = next(iter(refusing.items()))
    every = {piece.attempt.pk: piece.attempt for piece in pieces}.values()
    return (TooAlike if name == "diversity" else SetRefused)(name, finding.detail, attempts=every)


def _refuse_attempts(error: SetRefused) -> None:
    """Let the next run ask again. What came back and what it cost stay stored."""
    GenerationAttempt.objects.filter(pk__in=[attempt.pk for attempt in error.attempts]).update(
        state=_State.FAILED, error_code=error.code[:40], error_detail=str(error)[:500]
    )


def _begin_again(claim: Claim, error: TooAlike, policy: GenerationPolicy) -> bool:
    """Plan the set anew, or hold it once it was made anew `max_regenerations` times. Raises `ClaimLost`."""
    with transaction.atomic():
        row = claim.lock()
        again = row.error_code != CANCELLED and row.regenerations < policy.max_regenerations
        if again:
            row.regenerations += 1
            _refuse_attempts(error)
            claim.covered = None
        elif not row.is_live:
            row.state, row.error_code, row.claim_token, row.claimed_until = CandidateSet.State.HELD, error.code, None, None
        row.save(update_fields=["state", "regenerations", "error_code", "claim_token", "claimed_until"])
    return again


# --- Giving the set back ----------------------------------------------------------------------------------------------


def _record_failure(claim: Claim, code: str, *, retry_after: float | None = None, final: bool = False) -> Outcome:
    """Count a failure of the set and plan the next try, or give up. Raises `ClaimLost`."""
    with transaction.atomic():
        row = claim.lock()
        now = claim.now()
        close_calls(row.attempts.all(), code, now=now)
        row.failures += 1
        cancelled = row.error_code == CANCELLED
        row.error_code = CANCELLED if cancelled else code[:40]
        row.claim_token, row.claimed_until = None, None
        if final or cancelled or row.failures >= MAX_FAILURES:
            row.state, row.retry_at = CandidateSet.State.FAILED, None
        else:
            row.state, row.retry_at = CandidateSet.State.PENDING, now + max(_backoff(row), timedelta(seconds=retry_after or 0))
        row.save(update_fields=["state", "failures", "error_code", "claim_token", "claimed_until", "retry_at"])
    return Outcome.FAILED if row.state == CandidateSet.State.FAILED else Outcome.RETRY


def _put_back(claim: Claim, code: str, *, retry_at: datetime) -> Outcome:
    """PENDING again until `retry_at`, without counting a failure; FAILED where it was cancelled. Raises `ClaimLost`."""
    with transaction.atomic():
        row = claim.lock()
        cancelled = row.error_code == CANCELLED
        if cancelled:
            row.state = CandidateSet.State.FAILED
        else:
            row.state, row.error_code, row.retry_at = CandidateSet.State.PENDING, code, retry_at
        row.claim_token, row.claimed_until = None, None
        row.save(update_fields=["state", "error_code", "retry_at", "claim_token", "claimed_until"])
    return Outcome.FAILED if cancelled else Outcome.WAITING


def _backoff(row: CandidateSet) -> timedelta:
    """1, 2, 4 s for a live set, 5, 10, 20 s for others, each times 0.5 to 1.5 so that sets which failed together come back apart."""
    return timedelta(seconds=(1 if row.is_live else 5) * 2 ** (row.failures - 1) * _random(row, row.failures).uniform(0.5, 1.5))


def _random(row: CandidateSet, *parts: object) -> random.Random:
    """Spreads load; guards nothing."""
    return random.Random(number_from(row.seed, row.pk, *parts))  # noqa: S311
