"""One worker's hold on a set: a short lease in the row, renewed by a heartbeat while the worker lives."""

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import DatabaseError, connection, transaction
from django.db.models import DateTimeField, F, QuerySet, Value
from django.db.models.functions import Greatest
from django.utils import timezone

from apps.core.errors import DomainError
from apps.generation.models import CandidateSet, GenerationAttempt, GenerationPolicy

MAX_FAILURES = 4
# A dead worker's sets are free after the lease; the sweep, each 10 s, finds them. Two beats in a row may get lost.
LEASE = timedelta(seconds=15)
BEAT_SECONDS = 5.0
# What a run may last beyond the deadlines of its calls: waiting for places, name resolution, a slow machine. Then its heart stops.
MARGIN_SECONDS = 120.0

logger = logging.getLogger(__name__)


class ClaimLost(DomainError):
    """Another worker took the set over while this one was calling."""

    code = "claim_lost"


class Claim:
    """Its clock starts at the `now` of the caller and goes on with the machine's. `covered`: answers so far, by part and call."""

    def __init__(self, candidate_set: CandidateSet, token: uuid.UUID, now: datetime) -> None:
        self.candidate_set = candidate_set
        self.token = token
        self.parts = list(candidate_set.recipe.parts.select_related("recipe", "model_spec", "template").prefetch_related("variants"))
        self.covered: dict[int, dict[int, GenerationAttempt]] | None = None
        self.ends = time.monotonic() + MARGIN_SECONDS
        self._now = now
        self._started = time.monotonic()

    def now(self) -> datetime:
        return self._now + timedelta(seconds=time.monotonic() - self._started)

    def expects_call(self, seconds: float) -> None:
        """Keep the heart beating for a call with this deadline."""
        self.ends = time.monotonic() + seconds + MARGIN_SECONDS

    def holds(self, candidate_set: CandidateSet) -> bool:
        return candidate_set.state == CandidateSet.State.GENERATING and candidate_set.claim_token == self.token

    def lock(self) -> CandidateSet:
        """The locked row, within a transaction. Raises `ClaimLost` unless this claim still holds."""
        row = CandidateSet.objects.select_for_update().get(pk=self.candidate_set.pk)
        if not self.holds(row):
            raise ClaimLost(f"{row} was taken over")
        return row


def claim_set(pk: int, token: uuid.UUID, now: datetime) -> Claim | None:
    """Take a set that is due, by one conditional UPDATE; None if it is not due, not there to be taken, or its study rests."""
    candidate_set = CandidateSet.objects.select_related("recipe__study").get(pk=pk)
    if not candidate_set.is_live and GenerationPolicy.objects.filter(study=candidate_set.recipe.study_id, is_paused=True).exists():
        return None
    fields = {"state": CandidateSet.State.GENERATING, "claim_token": token, "claimed_until": now + LEASE, "retry_at": None}
    due = CandidateSet.objects.due(now).filter(pk=pk)
    with transaction.atomic():
        taken_over = due.filter(state=CandidateSet.State.GENERATING).update(**fields, failures=F("failures") + 1)
        if not taken_over and not due.filter(state=CandidateSet.State.PENDING).update(**fields):
            return None
        if taken_over:
            close_calls(candidate_set.attempts.all(), "worker_lost", now=now)
        candidate_set.refresh_from_db(fields=["state", "failures", "error_code", "regenerations", "claim_token", "messages"])
        if taken_over and candidate_set.failures >= MAX_FAILURES:
            CandidateSet.objects.filter(pk=pk).update(
                state=CandidateSet.State.FAILED, error_code="worker_lost", claim_token=None, claimed_until=None
            )
            return None
    return Claim(candidate_set, token, now)


def close_calls(attempts: QuerySet[GenerationAttempt], code: str, *, now: datetime) -> None:
    """Fail those of `attempts` that are still marked as in flight. They may have been served, so they stay charged at their maximum."""
    attempts.filter(state=GenerationAttempt.State.CALLING).update(
        state=GenerationAttempt.State.FAILED,
        error_code=code,
        error_detail="The worker that made this call ended before it stored an answer.",
        cost=F("reserved"),
        finished_at=Greatest(F("started_at"), Value(now, output_field=DateTimeField())),
    )


class Heartbeat:
    """Renews the leases of all claims of this process from one thread, which lives only while there are claims."""

    def __init__(self) -> None:
        self._claims: dict[uuid.UUID, Claim] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keeping(self, claim: Claim) -> Iterator[None]:
        with self._lock:
            self._claims[claim.token] = claim
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="candidate-set-heartbeat", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._claims.pop(claim.token, None)

    def beat(self) -> None:
        """Renew the leases of claims whose run is not overdue."""
        with self._lock:
            tokens = [token for token, claim in self._claims.items() if claim.ends > time.monotonic()]
        held = CandidateSet.objects.filter(claim_token__in=tokens, state=CandidateSet.State.GENERATING)
        held.update(claimed_until=Greatest(F("claimed_until"), Value(timezone.now() + LEASE, output_field=DateTimeField())))

    def _run(self) -> None:
        while True:
            time.sleep(BEAT_SECONDS)
            with self._lock:
                if not self._claims:
                    self._thread = None
                    return
            try:
                self.beat()
            except DatabaseError as error:
                logger.warning("leases of candidate sets were not renewed, the next beat tries again: %s", error)
            finally:
                connection.close()


heartbeat = Heartbeat()
