"""One worker's hold on a set: a short lease in the row, renewed by a heartbeat while the worker lives."""

import logging
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, connection, transaction
from django.db.models import DateTimeField, F, Q, QuerySet, Value, prefetch_related_objects
from django.db.models.functions import Greatest
from django.utils import timezone

from apps.core.errors import DomainError
from apps.generation.methods import METHODS
from apps.generation.methods.base import OnePerVariant
from apps.generation.models import CandidateSet, GenerationAttempt, GenerationPolicy, Recipe
from apps.generation.services.requesting import CANCELLED

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
        self.parts = list(candidate_set.recipe.parts.select_related("model_spec", "template"))
        by_variant = [part for part in self.parts if isinstance(METHODS[part.method], OnePerVariant)]
        prefetch_related_objects(by_variant, "variants__model_spec", "variants__template")
        study = candidate_set.recipe.study
        self.policy: GenerationPolicy = getattr(study, "generation_policy", None) or GenerationPolicy(study=study)
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

    def lock_row(self) -> CandidateSet:
        """The locked row, within a transaction, with the columns that `holds` reads; others are fetched when asked for."""
        return CandidateSet.objects.select_for_update().only("state", "claim_token").get(pk=self.candidate_set.pk)

    def lock(self) -> CandidateSet:
        """As `lock_row`. Raises `ClaimLost` unless this claim still holds."""
        row = self.lock_row()
        if not self.holds(row):
            raise ClaimLost(f"{row} was taken over")
        return row


def claim_set(pk: int, token: uuid.UUID, now: datetime) -> Claim | None:
    """Take a set that is due, by one conditional UPDATE; None if it is not due, not there to be taken, or its study rests."""
    due = CandidateSet.objects.due(now).filter(pk=pk).exclude(_resting())
    fields = {"state": CandidateSet.State.GENERATING, "claim_token": token, "claimed_until": now + LEASE, "retry_at": None}
    if not due.filter(state=CandidateSet.State.PENDING).update(**fields) and not _take_over(due, fields, pk, now):
        return None
    return Claim(CandidateSet.objects.select_related("recipe__study__generation_policy").get(pk=pk), token, now)


def suspects_that_wait(now: datetime) -> list[int]:
    """Sets one death short of their last try, but for the one that has waited longest; that one too while another is being tried."""
    dead = CandidateSet.objects.filter(state=CandidateSet.State.GENERATING, claimed_until__lt=now, failures=MAX_FAILURES - 2)
    trying = CandidateSet.objects.filter(state=CandidateSet.State.GENERATING, claimed_until__gte=now, failures=MAX_FAILURES - 1)
    waiting = list(dead.exclude(_resting()).order_by("claimed_until", "pk").values_list("pk", flat=True))
    return waiting if trying.exists() else waiting[1:]


def _resting() -> Q:
    """Pre-generation of studies whose generation is paused."""
    return Q(is_live=False, recipe__in=Recipe.objects.filter(study__generation_policy__is_paused=True))


def _take_over(due: QuerySet[CandidateSet], fields: dict[str, Any], pk: int, now: datetime) -> bool:
    """Take a set whose worker died, which counts as a failure, and close the calls that it left; give it up after too many."""
    with transaction.atomic():
        # Not the sweep alone keeps suspects apart: messages that waited while no worker ran come all at once.
        dead = due.filter(state=CandidateSet.State.GENERATING).exclude(pk__in=suspects_that_wait(now))
        if not dead.update(**fields, failures=F("failures") + 1):
            return False
        close_calls(GenerationAttempt.objects.filter(candidate_set=pk), "worker_lost", now=now)
        lost = CandidateSet.objects.filter(Q(failures__gte=MAX_FAILURES) | Q(error_code=CANCELLED), pk=pk)
        return not lost.update(state=CandidateSet.State.FAILED, error_code="worker_lost", claim_token=None, claimed_until=None)


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
