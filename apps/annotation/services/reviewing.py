"""Rejecting candidate sets that nobody has seen, with the slots that wait for them."""

from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from apps.accounts.models import User
from apps.annotation.models import Slot, Turn
from apps.annotation.services.seating import repoint_slots
from apps.core.errors import DomainError
from apps.generation.models import CandidateSet, Recipe
from apps.generation.services import reviewing


class SetWasShown(DomainError):
    """Somebody has seen the candidates: what they judged stays as it was. Reject or edit sets before fieldwork."""

    code = "set_was_shown"


def check_changeable(candidate_set: CandidateSet) -> None:
    """Raise what `reject_candidate_set` and `edit_candidate_set` would: `SetWasShown` or a `NotReviewable`. For a page to ask first."""
    reviewing.check_reviewable(candidate_set)
    _check_unseen(candidate_set)


def reject_candidate_set(*, candidate_set: CandidateSet, reason: str, reviewer: User | None, now: datetime) -> CandidateSet:
    """Reject a set that nobody has seen, have another made, and let the slots wait for that one, which is returned.

    Raises `SetWasShown`, and `NotReviewable` or `ReasonMissing` as `reviewing.reject_set`.
    """
    with transaction.atomic():
        _hold_slots(candidate_set)
        successor = reviewing.reject_set(candidate_set=candidate_set, reason=reason, reviewer=reviewer, now=now)
        repoint_slots(rejected=candidate_set, replacement=successor)
    return successor


def edit_candidate_set(
    *, candidate_set: CandidateSet, texts: Sequence[str], reason: str, reviewer: User | None, now: datetime
) -> CandidateSet:
    """Put hand-written candidates in the place of a set that nobody has seen; returns the curated set.

    Raises `SetWasShown`, and `CandidatesRefused`, `NotReviewable` or `ReasonMissing` as `reviewing.replace_by_hand`.
    """
    with transaction.atomic():
        _hold_slots(candidate_set)
        curated = reviewing.replace_by_hand(candidate_set=candidate_set, texts=texts, reason=reason, reviewer=reviewer, now=now)
        repoint_slots(rejected=candidate_set, replacement=curated)
    return curated


def curate_candidate_set(
    *, recipe: Recipe, language: str, text: str, texts: Sequence[str], reviewer: User | None, now: datetime
) -> tuple[CandidateSet, bool]:
    """The pre-generated set for `text` with the hand-written candidates `texts`, and whether anything changed.

    Raises `SetWasShown`, and `CandidatesRefused` or `NotReviewable` as `reviewing.curate_set`.
    """
    with transaction.atomic():
        present = reviewing.present_set(recipe=recipe, language=language, text=text)
        if present is not None and reviewing.holds(present, texts):
            return present, False
        if present is not None:
            _hold_slots(present)
        curated = reviewing.curate_set(recipe=recipe, language=language, text=text, texts=texts, reviewer=reviewer, now=now)
        if present is not None and present.pk != curated.pk:
            repoint_slots(rejected=present, replacement=curated)
    return curated, True


def _hold_slots(candidate_set: CandidateSet) -> None:
    """Lock the set's slots, so that nobody claims one meanwhile. Raises `SetWasShown` if somebody already has."""
    list(Slot.objects.select_for_update().filter(candidate_set=candidate_set).order_by("pk").values_list("pk", flat=True))
    _check_unseen(candidate_set)


def _check_unseen(candidate_set: CandidateSet) -> None:
    if Turn.objects.filter(candidate_set=candidate_set).exists():
        raise SetWasShown("People have seen these candidates, so they stay. Only sets that nobody has seen can be rejected or changed.")
