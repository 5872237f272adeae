"""Use cases of candidate generation: ask for a set, make it, pay for it, wait for a place, bring back what got lost."""

from apps.generation.services.claiming import MAX_FAILURES, ClaimLost
from apps.generation.services.erasing import ERASED_TEXT, erase_live_sets
from apps.generation.services.estimating import estimate_generation
from apps.generation.services.making import Outcome, SetRefused, generate_set, record_unexpected_failure
from apps.generation.services.requesting import (
    TASK_NAME,
    RequestedSets,
    cancel_generation,
    enqueue_pending,
    pause_generation,
    request_candidate_set,
    request_live_set,
    request_sets_for_study,
    resume_generation,
    retry_failed_sets,
)
from apps.generation.services.spending import recount_endpoint, recount_study
from apps.generation.services.sweeping import sweep

__all__ = [
    "ERASED_TEXT",
    "MAX_FAILURES",
    "TASK_NAME",
    "ClaimLost",
    "Outcome",
    "RequestedSets",
    "SetRefused",
    "cancel_generation",
    "enqueue_pending",
    "erase_live_sets",
    "estimate_generation",
    "generate_set",
    "pause_generation",
    "record_unexpected_failure",
    "recount_endpoint",
    "recount_study",
    "request_candidate_set",
    "request_live_set",
    "request_sets_for_study",
    "resume_generation",
    "retry_failed_sets",
    "sweep",
]
