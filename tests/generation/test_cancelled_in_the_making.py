"""A set that is cancelled while a worker makes it ends with that try: it is made or it is cancelled, and never tried again."""

import uuid
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.generation.models import CandidateSet
from apps.generation.services import Outcome, cancel_generation, generate_set, retry_failed_sets, sweep
from apps.generation.services.claiming import LEASE, claim_set
from apps.generation.services.making import _put_back, _record_failure


@pytest.fixture
def claim(study, recipe):
    row = CandidateSet.objects.create(
        recipe=recipe, language="en", k=4, messages=[{"role": "user", "content": "How should I rest?"}], text_hash="x", seed=1
    )
    found = claim_set(row.pk, uuid.uuid4(), timezone.now())
    assert cancel_generation(study=study) == 1
    return found


def stands(claim) -> tuple[str, str]:
    claim.candidate_set.refresh_from_db()
    return claim.candidate_set.state, claim.candidate_set.error_code


def test_a_failure_is_the_last_one(claim):
    assert stands(claim) == ("GENERATING", "cancelled")
    assert _record_failure(claim, "endpoint_timeout") == Outcome.FAILED
    assert stands(claim) == ("FAILED", "cancelled")


def test_waiting_for_a_place_ends_it_too(claim):
    assert _put_back(claim, "waiting_for_endpoint", retry_at=timezone.now()) == Outcome.FAILED
    assert stands(claim) == ("FAILED", "cancelled")


def test_a_dead_worker_leaves_it_cancelled(claim):
    later = timezone.now() + LEASE + timedelta(seconds=1)
    assert generate_set(candidate_set_id=claim.candidate_set.pk, now=later) == Outcome.NOT_CLAIMED
    assert stands(claim)[0] == "FAILED"
    assert sweep(now=later + timedelta(minutes=5)) == 0


def test_a_retry_brings_it_back(offline_endpoint, claim, study):
    _record_failure(claim, "endpoint_timeout")
    assert retry_failed_sets(study=study) == 1
    assert stands(claim) == ("PENDING", "")
    assert generate_set(candidate_set_id=claim.candidate_set.pk, now=timezone.now()) == Outcome.READY
