"""Use cases of candidate generation: ask for a set, make it, retry it, bring back what got lost."""

import hashlib
import random
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from django.db import IntegrityError, transaction
from django.db.models import DateTimeField, F, Q, QuerySet, Value
from django.db.models.functions import Greatest
from django.utils import timezone

from apps.content.models import Prompt
from apps.core.enqueue import enqueue_on_commit
from apps.core.errors import DomainError
from apps.core.text import clean_text, fingerprint, text_hash
from apps.generation.acceptance import AnswerRefused
from apps.generation.client import Completion, EndpointError, complete
from apps.generation.methods import METHODS
from apps.generation.models import Candidate, CandidateSet, GenerationAttempt, ModelSpec, Recipe, RecipePart
from apps.studies.models import Study

TASK_NAME = "generation.generate_set"
MAX_FAILURES = 4
# What a claim lasts beyond the deadlines of its calls: name resolution, the database, a slow machine.
CLAIM_MARGIN = timedelta(seconds=60)
# Sets that one sweep enqueues at most, and how long bulk work has to rest before a sweep takes its messages for lost.
SWEEP_LIMIT = 200
IDLE = timedelta(seconds=30)


class Outcome(StrEnum):
    """What one run of `generate_set` came to."""

    NOT_CLAIMED = "NOT_CLAIMED"
    READY = "READY"
    RETRY = "RETRY"
    FAILED = "FAILED"


class ClaimLost(DomainError):
    """Another worker took the set over while this one was calling."""

    code = "claim_lost"


class SetRefused(DomainError):
    """The parts are each fine and do not fit together. `attempt` is the one to ask again, where there is one."""

    def __init__(self, code: str, message: str, *, attempt: GenerationAttempt | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.attempt = attempt


@dataclass(frozen=True)
class RequestedSets:
    """Sets wanted for a study: their ids, and the texts that could not be asked for ("prompt key, language")."""

    ids: frozenset[int]
    missing_texts: tuple[str, ...]


# --- Asking for sets ------------------------------------------------------------------------------------------------


def request_candidate_set(*, recipe: Recipe, language: str, text: str) -> CandidateSet:
    """The pre-generated set for `text`, made PENDING if there is none yet. Safe when two ask at once; enqueues nothing."""
    wanted = _pregenerated(recipe, language, text, k=recipe.k)
    existing = CandidateSet.objects.filter(recipe=recipe, language=language, text_hash=wanted.text_hash, is_live=False)
    existing = existing.exclude(state=CandidateSet.State.REJECTED)
    found = existing.first()
    if found is not None:
        return found
    try:
        with transaction.atomic():
            wanted.save()
    except IntegrityError:
        return existing.get()
    return wanted


def request_sets_for_study(*, study: Study) -> RequestedSets:
    """Make sure that each current prompt × language of the study × current recipe has a set. Enqueues nothing."""
    ids: set[int] = set()
    missing: list[str] = []
    languages = list(dict.fromkeys(study.locales.values_list("language", flat=True)))
    prompts = list(Prompt.objects.current().filter(study=study))
    texts: dict[str, list[str]] = {language: [] for language in languages}
    for prompt in prompts:
        for language in languages:
            try:
                texts[language].append(prompt.text_in(language))
            except LookupError:
                missing.append(f"{prompt.key}, {language}")
    for recipe in study.recipes.filter(is_current=True).prefetch_related("parts"):
        k = recipe.k
        for language in languages:
            wanted = {row.text_hash: row for row in (_pregenerated(recipe, language, text, k=k) for text in texts[language])}
            existing = CandidateSet.objects.filter(recipe=recipe, language=language, is_live=False).exclude(
                state=CandidateSet.State.REJECTED
            )
            there = set(existing.values_list("text_hash", flat=True))
            # Two that run at once wish for the same rows; the unique constraint lets the second pass without a word.
            CandidateSet.objects.bulk_create(
                [row for key, row in wanted.items() if key not in there], ignore_conflicts=True, batch_size=500
            )
            ids.update(pk for pk, key in existing.values_list("pk", "text_hash") if key in wanted)
    return RequestedSets(ids=frozenset(ids), missing_texts=tuple(missing))


def request_live_set(*, recipe: Recipe, language: str, messages: list[dict[str, str]]) -> CandidateSet:
    """A new set that answers the last of `messages` for one turn, PENDING and enqueued on commit."""
    cleaned = [{"role": message["role"], "content": clean_text(message["content"])} for message in messages]
    last = text_hash(cleaned[-1]["content"])
    candidate_set = CandidateSet.objects.create(
        recipe=recipe,
        language=language,
        k=recipe.k,
        is_live=True,
        messages=cleaned,
        text_hash=last,
        seed=_set_seed(recipe.study, language, last),
    )
    enqueue_on_commit(TASK_NAME, candidate_set.pk, queue="interactive")
    return candidate_set


def enqueue_pending(*, study: Study) -> int:
    """Enqueue the study's pre-generated sets that are due; how many. Asking twice does no harm: the claim decides."""
    ids = list(
        CandidateSet.objects.due(timezone.now()).filter(recipe__study=study, is_live=False).order_by("pk").values_list("pk", flat=True)
    )
    for pk in ids:
        enqueue_on_commit(TASK_NAME, pk, queue="bulk")
    return len(ids)


def retry_failed_sets(*, study: Study | None = None, candidate_set_ids: Iterable[int] | None = None) -> int:
    """Give FAILED sets (of `study`, among `candidate_set_ids`) a fresh count of tries and enqueue them; how many."""
    failed = CandidateSet.objects.filter(state=CandidateSet.State.FAILED)
    if study is not None:
        failed = failed.filter(recipe__study=study)
    wanted = None if candidate_set_ids is None else set(candidate_set_ids)
    with transaction.atomic():
        rows = [row for row in failed.select_for_update().order_by("pk") if wanted is None or row.pk in wanted]
        for row in rows:
            row.state, row.failures, row.error_code, row.retry_at = CandidateSet.State.PENDING, 0, "", None
            enqueue_on_commit(TASK_NAME, row.pk, queue=_queue(row.is_live))
        CandidateSet.objects.bulk_update(rows, ["state", "failures", "error_code", "retry_at"], batch_size=200)
    return len(rows)


def _pregenerated(recipe: Recipe, language: str, text: str, *, k: int) -> CandidateSet:
    cleaned = clean_text(text)
    key = text_hash(cleaned)
    return CandidateSet(
        recipe=recipe,
        language=language,
        k=k,
        messages=[{"role": "user", "content": cleaned}],
        text_hash=key,
        seed=_set_seed(recipe.study, language, key),
    )


def _set_seed(study: Study, language: str, key: str) -> int:
    return _number(study.seed, language, key) % 2**62


def _number(*parts: object) -> int:
    """A whole number below 2**64 that the parts determine."""
    return int.from_bytes(hashlib.sha256(":".join(map(str, parts)).encode()).digest()[:8], "big")


def _queue(is_live: bool) -> str:
    return "interactive" if is_live else "bulk"


# --- Making one set -------------------------------------------------------------------------------------------------


class _Claim:
    """One worker's hold on a set. Its clock starts at the `now` of the caller and goes on with the machine's."""

    def __init__(self, candidate_set: CandidateSet, token: uuid.UUID, now: datetime, started: float) -> None:
        self.candidate_set = candidate_set
        self.token = token
        self.parts = list(candidate_set.recipe.parts.select_related("model_spec", "template"))
        self._now = now
        self._started = started

    def now(self) -> datetime:
        return self._now + timedelta(seconds=time.monotonic() - self._started)

    def holds(self, candidate_set: CandidateSet) -> bool:
        return candidate_set.state == CandidateSet.State.GENERATING and candidate_set.claim_token == self.token

    def lock(self) -> CandidateSet:
        """The locked row, within a transaction. Raises `ClaimLost` unless this claim still holds."""
        row = CandidateSet.objects.select_for_update().get(pk=self.candidate_set.pk)
        if not self.holds(row):
            raise ClaimLost(f"{row} was taken over")
        return row


def generate_set(*, candidate_set_id: int, now: datetime, claim_token: uuid.UUID | None = None) -> Outcome:
    """Make the candidates of one set, if nobody else is making them.

    1. Claim by one conditional UPDATE: a PENDING set that is due, or a GENERATING one whose claim ran out (its worker
       died: that counts as a failure, and calls it left in flight are closed). The claim outlasts all deadlines of the calls together.
    2. Outside any transaction, for each answer that no earlier succeeded attempt covers: store an attempt (CALLING; the claim is
       checked in the same transaction), call, store what came back. One failure ends the run; what succeeded stays.
    3. In one transaction: check that the claim still holds, store exactly k distinct candidates with slots numbered over
       the parts, mark READY. If two parts gave the same text, the later part's attempt is failed and only it is asked again.
    4. On failure: count it, wait (exponential with jitter, at least what the endpoint asked for), PENDING again; after four, FAILED.

    A run that finds the set claimed, finished or taken over changes nothing. `claim_token` lets the caller name its own claim.
    """
    claim = _claim(candidate_set_id, claim_token or uuid.uuid4(), now)
    if claim is None:
        return Outcome.NOT_CLAIMED
    try:
        return _make(claim)
    except ClaimLost:
        return Outcome.NOT_CLAIMED


def _make(claim: _Claim) -> Outcome:
    """Steps 2 to 4 of `generate_set`. Raises `ClaimLost`."""
    try:
        for part in claim.parts:
            _ask_for_part(claim, part)
        return _finish(claim)
    except ClaimLost:
        raise
    except SetRefused as error:
        if error.attempt is not None:
            # Its output stays stored; the state makes the next run ask for this part again.
            GenerationAttempt.objects.filter(pk=error.attempt.pk).update(
                state=GenerationAttempt.State.FAILED, error_code=error.code, error_detail=str(error)
            )
        return _record_failure(claim, error.code)
    except DomainError as error:
        return _record_failure(claim, error.code, retry_after=getattr(error, "retry_after", None))


def record_unexpected_failure(*, candidate_set_id: int, claim_token: uuid.UUID, now: datetime) -> None:
    """Count an error that nobody foresaw as a failure of the set, so that a set which breaks its workers stops in the end."""
    candidate_set = CandidateSet.objects.select_related("recipe").get(pk=candidate_set_id)
    claim = _Claim(candidate_set, claim_token, now, time.monotonic())
    try:
        _record_failure(claim, "unexpected_error")
    except ClaimLost:
        return


def _claim(pk: int, token: uuid.UUID, now: datetime) -> _Claim | None:
    started = time.monotonic()
    candidate_set = CandidateSet.objects.select_related("recipe").get(pk=pk)
    claim = _Claim(candidate_set, token, now, started)
    seconds = sum(part.model_spec.timeout_seconds * len(METHODS[part.method].calls(part.count)) for part in claim.parts)
    fields = {
        "state": CandidateSet.State.GENERATING,
        "claim_token": token,
        "claimed_until": now + timedelta(seconds=seconds) + CLAIM_MARGIN,
        "retry_at": None,
    }
    due = CandidateSet.objects.due(now).filter(pk=pk)
    with transaction.atomic():
        taken_over = due.filter(state=CandidateSet.State.GENERATING).update(**fields, failures=F("failures") + 1)
        if not taken_over and not due.filter(state=CandidateSet.State.PENDING).update(**fields):
            return None
        if taken_over:
            _close_calls(candidate_set.attempts.all(), "worker_lost", now=now)
            if claim.lock().failures >= MAX_FAILURES:
                CandidateSet.objects.filter(pk=pk).update(
                    state=CandidateSet.State.FAILED, error_code="worker_lost", claim_token=None, claimed_until=None
                )
                return None
    return claim


def _ask_for_part(claim: _Claim, part: RecipePart) -> None:
    """Make the calls of `part` that no succeeded attempt covers. Raises what made one fail."""
    method = METHODS[part.method]
    for count in method.calls(part.count)[len(_succeeded(claim.candidate_set, part)) :]:
        messages = method.messages(part, language=claim.candidate_set.language, conversation=claim.candidate_set.messages, count=count)
        attempt = _begin_attempt(claim, part, count)
        try:
            completion = complete(
                model_spec=part.model_spec,
                messages=messages,
                temperature=float(part.temperature),
                seed=attempt.parameters["seed"],
            )
        except EndpointError as error:
            _end_attempt(claim, attempt, error=error, completion=error.completion)
            raise
        try:
            method.parse(completion.text, count=count)
        except AnswerRefused as error:
            _end_attempt(claim, attempt, error=error, completion=completion)
            raise
        _end_attempt(claim, attempt, error=None, completion=completion)


def _succeeded(candidate_set: CandidateSet, part: RecipePart) -> list[GenerationAttempt]:
    """The attempts that cover `part`, one per call of its method, in order."""
    rows = candidate_set.attempts.filter(recipe_part=part, state=GenerationAttempt.State.SUCCEEDED).order_by("number")
    return list(rows[: len(METHODS[part.method].calls(part.count))])


def _begin_attempt(claim: _Claim, part: RecipePart, count: int) -> GenerationAttempt:
    with transaction.atomic():
        candidate_set = claim.lock()
        earlier = candidate_set.attempts.filter(recipe_part=part).order_by("-number").first()
        number = earlier.number + 1 if earlier else 1
        return GenerationAttempt.objects.create(
            candidate_set=candidate_set,
            recipe_part=part,
            number=number,
            template_hash=part.template.hash_in(candidate_set.language),
            parameters={
                "model": part.model_spec.model,
                "count": count,
                "max_tokens": part.model_spec.max_tokens,
                "temperature": float(part.temperature),
                "seed": _number(candidate_set.seed, part.order, number) % 2**31,
            },
            started_at=claim.now(),
        )


def _end_attempt(claim: _Claim, attempt: GenerationAttempt, *, error: DomainError | None, completion: Completion | None) -> None:
    """Store what came of the call. Raises `ClaimLost` if the set was taken over or erased meanwhile; then only the figures are kept."""
    state = GenerationAttempt.State
    row = GenerationAttempt.objects.filter(pk=attempt.pk)
    with transaction.atomic():
        candidate_set = CandidateSet.objects.select_for_update().get(pk=claim.candidate_set.pk)
        if completion is not None:
            row.update(
                model_answered=completion.model,
                input_tokens=completion.input_tokens,
                output_tokens=completion.output_tokens,
                cost=_cost(attempt.recipe_part.model_spec, completion),
            )
        held = claim.holds(candidate_set)
        if held and completion is not None:
            row.update(raw_output=completion.text)
        if not held:
            error = ClaimLost("The set was taken over or erased while the call ran.")
        row.filter(state=state.CALLING).update(
            state=state.FAILED if error else state.SUCCEEDED,
            error_code=error.code if error else "",
            error_detail=str(error)[:500] if error else "",
            finished_at=claim.now(),
        )
    if not held:
        raise ClaimLost(f"{candidate_set} was taken over")


def _close_calls(attempts: QuerySet[GenerationAttempt], code: str, *, now: datetime) -> None:
    """Fail those of `attempts` that are still marked as in flight."""
    attempts.filter(state=GenerationAttempt.State.CALLING).update(
        state=GenerationAttempt.State.FAILED,
        error_code=code,
        error_detail="The worker that made this call ended before it stored an answer.",
        finished_at=Greatest(F("started_at"), Value(now, output_field=DateTimeField())),
    )


def _cost(model_spec: ModelSpec, completion: Completion) -> Decimal:
    """Price of the call in the currency of the model spec's prices, which are per million tokens."""
    price = (completion.input_tokens or 0) * model_spec.input_price + (completion.output_tokens or 0) * model_spec.output_price
    return (price / 1_000_000).quantize(Decimal("0.000001"))


def _finish(claim: _Claim) -> Outcome:
    """Store the candidates and mark the set READY. Raises `SetRefused`, `AnswerRefused` or `ClaimLost` and stores nothing."""
    candidates: list[Candidate] = []
    seen: set[str] = set()
    for part in claim.parts:
        method = METHODS[part.method]
        for attempt, count in zip(_succeeded(claim.candidate_set, part), method.calls(part.count), strict=True):
            try:
                texts = method.parse(attempt.raw_output, count=count)
            except AnswerRefused as error:
                # It was fine when it came; the rules have become stricter since.
                raise SetRefused(error.code, str(error), attempt=attempt) from error
            prints = [fingerprint(text) for text in texts]
            if not seen.isdisjoint(prints):
                raise SetRefused("duplicate_answers", "The answer equals one of another part of the set.", attempt=attempt)
            seen.update(prints)
            for text, text_fingerprint in zip(texts, prints, strict=True):
                candidates.append(
                    Candidate(
                        candidate_set=claim.candidate_set,
                        slot=len(candidates),
                        text=text,
                        text_fingerprint=text_fingerprint,
                        source=part.method,
                        model_spec=part.model_spec,
                        attempt=attempt,
                    )
                )
    if len(candidates) != claim.candidate_set.k:
        raise SetRefused("recipe_changed", f"The recipe makes {len(candidates)} candidates, the set wants {claim.candidate_set.k}.")
    with transaction.atomic():
        row = claim.lock()
        Candidate.objects.bulk_create(candidates)
        row.state, row.ready_at, row.error_code = CandidateSet.State.READY, claim.now(), ""
        row.claim_token, row.claimed_until = None, None
        row.save(update_fields=["state", "ready_at", "error_code", "claim_token", "claimed_until"])
    return Outcome.READY


def _record_failure(claim: _Claim, code: str, *, retry_after: float | None = None) -> Outcome:
    """Count a failure of the set and plan the next try, or give up. Raises `ClaimLost`."""
    with transaction.atomic():
        row = claim.lock()
        now = claim.now()
        _close_calls(row.attempts.all(), code, now=now)
        row.failures += 1
        row.error_code = code[:40]
        row.claim_token, row.claimed_until = None, None
        if row.failures >= MAX_FAILURES:
            row.state, row.retry_at = CandidateSet.State.FAILED, None
        else:
            row.state, row.retry_at = CandidateSet.State.PENDING, now + max(_backoff(row), timedelta(seconds=retry_after or 0))
        row.save(update_fields=["state", "failures", "error_code", "claim_token", "claimed_until", "retry_at"])
    return Outcome.FAILED if row.state == CandidateSet.State.FAILED else Outcome.RETRY


def _backoff(row: CandidateSet) -> timedelta:
    """1, 2, 4 s for a live set, 5, 10, 20 s for others, each times 0.5 to 1.5 so that sets which failed together come back apart."""
    jitter = random.Random(_number(row.seed, row.pk, row.failures)).uniform(0.5, 1.5)  # noqa: S311  (spreads load, guards nothing)
    return timedelta(seconds=(1 if row.is_live else 5) * 2 ** (row.failures - 1) * jitter)


# --- Bringing back what got lost ------------------------------------------------------------------------------------


def sweep(*, now: datetime) -> int:
    """Enqueue due sets whose message may be lost, and close calls of dead workers. Returns how many sets were enqueued.

    1. Calls in flight whose set no longer has a live claim are FAILED (worker_lost).
    2. Live sets that are due go to `interactive`; retries and dead claims of pre-generation to `bulk`.
    3. Sets that nobody tried yet have a message waiting, so they are enqueued only once bulk work has rested for half a minute;
       else each sweep would add the whole backlog to the queue again.
    """
    claimed = Q(candidate_set__state=CandidateSet.State.GENERATING, candidate_set__claimed_until__gte=now)
    _close_calls(GenerationAttempt.objects.exclude(claimed), "worker_lost", now=now)

    due = CandidateSet.objects.due(now).order_by("pk")
    bulk = due.filter(is_live=False)
    untried = Q(state=CandidateSet.State.PENDING, retry_at__isnull=True)
    resting = (
        not CandidateSet.objects.filter(is_live=False, state=CandidateSet.State.GENERATING, claimed_until__gte=now).exists()
        and not GenerationAttempt.objects.filter(candidate_set__is_live=False, started_at__gt=now - IDLE).exists()
    )
    found = [
        *due.filter(is_live=True).values_list("pk", "is_live")[:SWEEP_LIMIT],
        *(bulk if resting else bulk.exclude(untried)).values_list("pk", "is_live")[:SWEEP_LIMIT],
    ]
    for pk, is_live in found:
        enqueue_on_commit(TASK_NAME, pk, queue=_queue(is_live))
    return len(found)


# --- Erasing a person's words -----------------------------------------------------------------------------------------

ERASED_TEXT = "[erased]"


def erase_live_sets(*, candidate_set_ids: Iterable[int]) -> None:
    """Empty live sets of a person who left: their messages, what models answered to them, and the raw outputs.

    The rows stay, so that costs and counts keep adding up. Pre-generated sets are never touched.
    """
    sets = CandidateSet.objects.filter(pk__in=list(candidate_set_ids), is_live=True)
    with transaction.atomic():
        ids = list(sets.select_for_update().order_by("pk").values_list("pk", flat=True))
        CandidateSet.objects.filter(pk__in=ids).update(
            messages=[], text_hash="", state=CandidateSet.State.REJECTED, claim_token=None, claimed_until=None
        )
        GenerationAttempt.objects.filter(candidate_set__in=ids).update(raw_output="", error_detail="")
        candidates = list(Candidate.objects.filter(candidate_set__in=ids))
        for candidate in candidates:
            candidate.text, candidate.text_fingerprint = ERASED_TEXT, f"erased-{candidate.slot}"
        Candidate.objects.bulk_update(candidates, ["text", "text_fingerprint"], batch_size=200)
