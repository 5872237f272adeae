"""Have a judge score the candidates of a study on the two value dimensions."""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from apps.core.errors import DomainError
from apps.generation.client import Completion, EndpointError, complete
from apps.generation.judging import RESPONSE_FORMAT, RUBRIC_KEY, judge_messages, parse_scores
from apps.generation.models import Candidate, CandidateSet, InstructionTemplate, ModelSpec, ValueScore
from apps.generation.policies import policy_of
from apps.generation.services.side_calls import Hold, hold_side_call, settle_side_call
from apps.generation.services.spending import BudgetExhausted, BudgetInUse, most_input_tokens
from apps.generation.services.throttling import BREAKER_FAILURES, after_call
from apps.studies.models import Study

MAX_TRIES = 3
# Pauses in a row, without an answer between them, after which a run gives up: with pauses of 30, 60 and 120 s, 3.5 minutes.
MOST_RESTS = 3


class NoJudge(DomainError):
    """The study names no judge, or its rubric is missing."""

    code = "no_judge"


class JudgeUnreachable(DomainError):
    """The judge's endpoint went on failing after `MOST_RESTS` pauses."""

    code = "judge_unreachable"


@dataclass(frozen=True)
class Judge:
    """Who scores, and by which rubric."""

    model_spec: ModelSpec
    rubric: InstructionTemplate


@dataclass(frozen=True)
class Judged:
    """One candidate is done with: scored, or given up after `MAX_TRIES` calls with `error`."""

    candidate_id: int
    error: DomainError | None = None


@dataclass(frozen=True)
class Trouble:
    """A call failed for the `reason` in words and is made again: at once, or `until` then judging rests (told each second)."""

    reason: str
    until: datetime | None = None


@dataclass
class _Task:
    candidate: Candidate
    hold: Hold
    tries: int


def judge_of(study: Study) -> Judge:
    """The judge of the study's policy with the policy's rubric, or else the newest `value_judge` template. Raises `NoJudge`."""
    policy = policy_of(study)
    if policy.judge_model is None:
        raise NoJudge(f"Study {study.slug} names no judge. Choose a model as judge in its generation policy.")
    newest = InstructionTemplate.objects.filter(study=study, key=RUBRIC_KEY).order_by("-version").first()
    rubric = policy.judge_template or newest
    if rubric is None:
        raise NoJudge(f"Study {study.slug} has no rubric: an instruction template with the key {RUBRIC_KEY}.")
    return Judge(policy.judge_model, rubric)


def unjudged_candidates(study: Study, judge: Judge) -> QuerySet[Candidate]:
    """Pre-generated candidates of READY sets that `judge` has not scored. Live sets hold a person's words and go to no judge."""
    return (
        Candidate.objects.filter(
            candidate_set__recipe__study=study, candidate_set__is_live=False, candidate_set__state=CandidateSet.State.READY
        )
        .exclude(value_scores__in=ValueScore.objects.filter(judge=judge.model_spec, rubric=judge.rubric))
        .select_related("candidate_set")
        .order_by("pk")
    )


def judge_candidates(*, study: Study, judge: Judge) -> Iterator[Judged | Trouble]:
    """Score what is not scored yet, `judge.model_spec.concurrency` calls at a time; yields each candidate as it is done with, and what
    goes wrong meanwhile.

    Threads make the calls; this thread holds and settles the money and stores each score at once, so that a run that is cut off loses at
    most its calls in flight (which stay charged at their maximum). Retry-After and the endpoint's limits per minute are respected; a
    circuit breaker works as that of the workers does, for this run alone. After the calls in flight are stored, raises `NoJudge` where the
    rubric lacks a language, `BudgetExhausted`, `BudgetInUse`, `JudgeUnreachable`, and an `EndpointError` that no further call would mend.
    """
    _check_rubric(study, judge)
    todo = deque((pk, 1) for pk in unjudged_candidates(study, judge).values_list("pk", flat=True).iterator())
    pace, breaker = _Pace(judge.model_spec), _Breaker()
    running: dict[Future[Completion], _Task] = {}
    stop: DomainError | None = None
    with ThreadPoolExecutor(max_workers=judge.model_spec.concurrency) as pool:
        while (todo and stop is None) or running:
            if breaker.is_open and not running:
                if breaker.rests == MOST_RESTS:
                    raise JudgeUnreachable(f"The judge gave no answer after {MOST_RESTS} pauses. {breaker.reason}")
                yield from breaker.rest()
            places = 1 if breaker.is_suspicious else judge.model_spec.concurrency
            while todo and stop is None and not breaker.is_open and len(running) < places:
                pk, tries = todo.popleft()
                candidate = Candidate.objects.select_related("candidate_set").get(pk=pk)
                try:
                    task = _begin(study, judge, candidate, tries, pace)
                except DomainError as error:
                    todo.appendleft((pk, tries))
                    # Calls in flight may give back what they hold too much.
                    if not (running and isinstance(error, BudgetExhausted | BudgetInUse)):
                        stop = error
                    break
                running[pool.submit(_ask, judge, candidate)] = task
            finished, _waiting = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                task = running.pop(future)
                failure = _end(judge, task, future)
                breaker.note(failure)
                if isinstance(failure, EndpointError) and failure.needs_mending:
                    stop = failure
                elif failure is None or (task.tries >= MAX_TRIES and not breaker.is_open):
                    yield Judged(task.candidate.pk, failure)
                else:
                    # What fails while the endpoint is away says nothing about this candidate.
                    todo.append((task.candidate.pk, task.tries + (not breaker.is_open)))
                    yield Trouble(str(failure))
    if stop is not None:
        raise stop


def _check_rubric(study: Study, judge: Judge) -> None:
    missing = []
    for language in unjudged_candidates(study, judge).order_by().values_list("candidate_set__language", flat=True).distinct():
        try:
            judge.rubric.text_in(language)
        except LookupError:
            missing.append(language)
    if missing:
        raise NoJudge(f"The rubric {judge.rubric} has no text in {', '.join(sorted(missing))}.")


def _messages(judge: Judge, candidate: Candidate) -> list[dict[str, str]]:
    candidate_set = candidate.candidate_set
    rubric = judge.rubric.text_in(candidate_set.language)
    return judge_messages(rubric, message=candidate_set.messages[-1]["content"], answer=candidate.text)


def _begin(study: Study, judge: Judge, candidate: Candidate, tries: int, pace: "_Pace") -> _Task:
    messages = _messages(judge, candidate)
    pace.wait(most_input_tokens(messages) + judge.model_spec.max_tokens)
    hold = hold_side_call(study_id=study.pk, model_spec=judge.model_spec, messages=messages, response_format=_format(judge))
    return _Task(candidate, hold, tries)


def _ask(judge: Judge, candidate: Candidate) -> Completion:
    """Runs in a thread of the pool; touches no database."""
    return complete(
        model_spec=judge.model_spec, messages=_messages(judge, candidate), temperature=0.0, seed=0, response_format=_format(judge)
    )


def _format(judge: Judge) -> dict[str, object] | None:
    return RESPONSE_FORMAT if judge.model_spec.structured_output else None


def _end(judge: Judge, task: _Task, future: "Future[Completion]") -> DomainError | None:
    """Settle the call and store the score; the error where there is none."""
    try:
        completion = future.result()
    except DomainError as error:
        settle_side_call(task.hold, completion=getattr(error, "completion", None), error=error)
        return error
    cost = settle_side_call(task.hold, completion=completion, error=None)
    try:
        scores = parse_scores(completion.text)
    except DomainError as error:
        return error
    ValueScore.objects.get_or_create(
        candidate=task.candidate,
        judge=judge.model_spec,
        rubric=judge.rubric,
        defaults={
            "rubric_hash": judge.rubric.hash_in(task.candidate.candidate_set.language),
            "traditional_secular": scores.traditional_secular,
            "survival_self_expression": scores.survival_self_expression,
            "model_answered": completion.model,
            "raw_output": completion.text,
            "cost": cost,
        },
    )
    return None


class _Breaker:
    """The circuit breaker of one run. Not the one in the model spec's row: live turns may ask the same endpoint."""

    def __init__(self) -> None:
        self.reason = ""
        self.rests = 0
        self._failures = 0
        self._until: datetime | None = None

    @property
    def is_open(self) -> bool:
        return self._until is not None and self._until > timezone.now()

    @property
    def is_suspicious(self) -> bool:
        """Whether one call has to go well before others follow."""
        return self._failures >= BREAKER_FAILURES

    def note(self, error: DomainError | None) -> None:
        self._failures, self._until = after_call(self._failures, self._until, error, now=timezone.now())
        if error is None:
            self.rests = 0
        else:
            self.reason = str(error)

    def rest(self) -> Iterator[Trouble]:
        """Sleep until the pause is over, telling so each second."""
        self.rests += 1
        while self._until is not None and (left := (self._until - timezone.now()).total_seconds()) > 0:
            yield Trouble(self.reason, self._until)
            time.sleep(min(left, 1.0))


class _Pace:
    """The endpoint's limits per minute, kept within this run."""

    def __init__(self, model_spec: ModelSpec) -> None:
        self._requests, self._tokens = model_spec.requests_per_minute, model_spec.tokens_per_minute
        self._calls: deque[tuple[float, int]] = deque()

    def wait(self, tokens: int) -> None:
        """Sleep until a call of at most `tokens` fits, and count it."""
        if self._requests is None and self._tokens is None:
            return
        while True:
            now = time.monotonic()
            while self._calls and self._calls[0][0] <= now - 60:
                self._calls.popleft()
            fits = self._requests is None or len(self._calls) < self._requests
            used = sum(used for _, used in self._calls)
            if self._tokens is not None and self._calls and used + tokens > self._tokens:
                fits = False
            if fits:
                self._calls.append((now, tokens))
                return
            time.sleep(max(0.01, self._calls[0][0] + 60 - now))
