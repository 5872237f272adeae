"""What a reviewer decides about finished sets: accept, reject and have made again, put hand-written candidates in their place.

Whether people have seen a set is known further up (annotation); callers there ask first and mend their slots.
"""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from django.db import transaction

from apps.accounts.models import User
from apps.core.enqueue import enqueue_on_commit
from apps.core.errors import DomainError
from apps.core.text import clean_text, fingerprint, text_hash
from apps.generation.acceptance import AnswerRefused, Fault, Finding, answer_faults, clean_answer, examine_answers, examine_set
from apps.generation.methods import METHODS
from apps.generation.models import Candidate, CandidateSet, GenerationAttempt, Recipe, Verdict
from apps.generation.policies import policy_of
from apps.generation.services.requesting import TASK_NAME, number_from, queue_of, request_candidate_set

CURATED = "curated"
STATE = CandidateSet.State
REVIEWABLE = (STATE.READY, STATE.HELD, STATE.FAILED)


class NotReviewable(DomainError):
    """The set cannot be rejected or edited; the subclasses say why."""

    code = "not_reviewable"


class SetIsLive(NotReviewable):
    """It belongs to one person's turn."""

    code = "set_is_live"


class SetNotFinished(NotReviewable):
    """It waits for a worker or is being made."""

    code = "set_not_finished"


class RejectedBefore(NotReviewable):
    """A reviewer rejected it; `extra`: `successor`, the id of the set in its place (None where there is none)."""

    code = "rejected_before"


class CandidatesRefused(AnswerRefused):
    """Hand-written candidates would be refused from a model too. `faults` has every reason, `code` is the first one's."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(faults[0].code, " ".join(fault_text(fault) for fault in faults))
        self.faults = list(faults)


class ReasonMissing(DomainError):
    """A set is rejected without a word about why."""

    code = "reason_missing"


def fault_text(fault: Fault) -> str:
    """The fault in words, with the candidate that it is about."""
    return f"{'The set' if fault.slot is None else f'Candidate {fault.slot + 1}'}: {fault.words}"


def check_reviewable(candidate_set: CandidateSet, *, states: Sequence[str] = REVIEWABLE) -> None:
    """Raise `SetIsLive`, `RejectedBefore` or `SetNotFinished` where a set cannot be rejected or edited, in words that say what to do.

    `states`: those in which it can.
    """
    name = f"Candidate set {candidate_set.pk}"
    if candidate_set.is_live:
        raise SetIsLive(f"{name} belongs to one person's turn and cannot be made again.")
    if candidate_set.state == STATE.REJECTED:
        successor = _standing_in_place_of(candidate_set)
        way_on = f"Work on candidate set {successor.pk}, which took its place." if successor else "No set has taken its place."
        raise RejectedBefore(f"{name} was rejected before. {way_on}", successor=successor.pk if successor else None)
    if candidate_set.state not in states:
        raise SetNotFinished(f"{name} is not made yet. Wait until it is ready, or cancel the generation of its study first.")


def accept_sets(*, candidate_set_ids: Iterable[int], reviewer: User | None, now: datetime) -> int:
    """Note that `reviewer` has looked at these sets and found them good; how many.

    A HELD set becomes READY by that, with the candidates of its last try: a person has decided what its figures could not.
    Others than READY and HELD stay as they are.
    """
    accepted = 0
    with transaction.atomic():
        rows = CandidateSet.objects.filter(pk__in=set(candidate_set_ids), state__in=[STATE.READY, STATE.HELD])
        for row in rows.select_for_update().order_by("pk"):
            if row.state == STATE.HELD:
                drafts = drafted(row)
                if len(drafts) != row.k:
                    continue
                Candidate.objects.bulk_create(drafts)
            row.reviewed_at, row.reviewed_by, row.review_note = now, reviewer, ""
            row.state, row.ready_at = STATE.READY, row.ready_at or now
            row.error_code = ""
            row.save(update_fields=["reviewed_at", "reviewed_by", "review_note", "state", "ready_at", "error_code"])
            accepted += 1
    return accepted


def drafted(candidate_set: CandidateSet) -> list[Candidate]:
    """Unsaved candidates from the answers that a set without candidates has so far, for a reviewer to look at; may be fewer than k."""
    answered = candidate_set.attempts.filter(state=GenerationAttempt.State.SUCCEEDED).select_related("model_spec").order_by("number")
    by_call: dict[tuple[int, int], GenerationAttempt] = {}
    for attempt in answered:
        by_call.setdefault((attempt.recipe_part_id, attempt.parameters.get("call", 0)), attempt)
    drafts: list[Candidate] = []
    for part in candidate_set.recipe.parts.all():
        method = METHODS[part.method]
        for place, planned in enumerate(method.calls(part)):
            found = by_call.get((part.pk, place))
            if found is None:
                continue
            spec = found.model_spec or planned.model_spec
            with contextlib.suppress(AnswerRefused):
                for text in method.parse(found.raw_output, call=replace(planned, model_spec=spec)):
                    drafts.append(
                        Candidate(
                            candidate_set=candidate_set,
                            slot=len(drafts),
                            text=text,
                            text_fingerprint=fingerprint(text),
                            source=part.method,
                            model_spec=spec,
                            attempt=found,
                        )
                    )
    return drafts


def reject_set(*, candidate_set: CandidateSet, reason: str, reviewer: User | None, now: datetime) -> CandidateSet:
    """Reject a finished pre-generated set and ask for another in its place, which is returned, PENDING and enqueued on commit.

    The rejected one stays with its candidates, its cost and `reason`. Its successor draws from another seed, or the same
    endpoint might say the same again.

    Raises `NotReviewable`, `ReasonMissing`.
    """
    with transaction.atomic():
        row = _reject(candidate_set, reason, reviewer, now)
        successor = _successor(row)
        successor.save()
        enqueue_on_commit(TASK_NAME, successor.pk, queue=queue_of(successor.is_live))
    return successor


def replace_by_hand(
    *, candidate_set: CandidateSet, texts: Sequence[str], reason: str, reviewer: User | None, now: datetime
) -> CandidateSet:
    """Reject a set and put `texts` (its k candidates by slot) in its place as a READY set of source “curated”, which is returned.

    Raises `CandidatesRefused` if the texts would be refused from a model too, `NotReviewable`, `ReasonMissing`.
    """
    with transaction.atomic():
        row = _reject(candidate_set, reason, reviewer, now)
        return _store_curated(_successor(row), texts, reviewer, now)


def curate_set(*, recipe: Recipe, language: str, text: str, texts: Sequence[str], reviewer: User | None, now: datetime) -> CandidateSet:
    """The pre-generated set for `text` with the hand-written candidates `texts`: the present one if it holds just these, else a new one.

    A set that is there already is rejected in its favour, unless a worker is making it. Raises `CandidatesRefused`, `NotReviewable`.
    """
    with transaction.atomic():
        present = request_candidate_set(recipe=recipe, language=language, text=text)
        if holds(present, texts):
            return present
        if present.state == STATE.PENDING and not present.attempts.exists():
            return _store_curated(CandidateSet.objects.select_for_update().get(pk=present.pk), texts, reviewer, now)
        row = _reject(present, "Replaced by imported candidates.", reviewer, now, states=(*REVIEWABLE, STATE.PENDING))
        return _store_curated(_successor(row), texts, reviewer, now)


def present_set(*, recipe: Recipe, language: str, text: str) -> CandidateSet | None:
    """The pre-generated set for `text` that is not rejected, if there is one."""
    rows = CandidateSet.objects.filter(recipe=recipe, language=language, text_hash=text_hash(text), is_live=False)
    return rows.exclude(state=STATE.REJECTED).first()


def holds(candidate_set: CandidateSet, texts: Sequence[str]) -> bool:
    """Whether the set is READY with exactly these texts, in this order."""
    if candidate_set.state != STATE.READY:
        return False
    return [clean_answer(text) for text in texts] == list(candidate_set.candidates.order_by("slot").values_list("text", flat=True))


def examine_curated(texts: Sequence[str], *, recipe: Recipe, language: str) -> list[Finding]:
    """What acceptance says about hand-written candidates. Raises `CandidatesRefused` with everything that refuses them."""
    return _examined([clean_answer(text) for text in texts], recipe=recipe, language=language, k=recipe.k)[0]


def _reject(
    candidate_set: CandidateSet,
    reason: str,
    reviewer: User | None,
    now: datetime,
    *,
    states: Sequence[str] = REVIEWABLE,
) -> CandidateSet:
    note = clean_text(reason)[:300]
    if not note:
        raise ReasonMissing("Say why the set is rejected, so that others can learn from it.")
    row = CandidateSet.objects.select_for_update().get(pk=candidate_set.pk)
    check_reviewable(row, states=states)
    row.state, row.reviewed_at, row.reviewed_by, row.review_note = STATE.REJECTED, now, reviewer, note
    row.claim_token, row.claimed_until, row.retry_at = None, None, None
    row.save(update_fields=["state", "reviewed_at", "reviewed_by", "review_note", "claim_token", "claimed_until", "retry_at"])
    return row


def _standing_in_place_of(rejected: CandidateSet) -> CandidateSet | None:
    rows = CandidateSet.objects.filter(recipe=rejected.recipe_id, language=rejected.language, text_hash=rejected.text_hash, is_live=False)
    return rows.exclude(state=STATE.REJECTED).first()


def _successor(row: CandidateSet) -> CandidateSet:
    """An unsaved PENDING set for the same text, with a seed of its own."""
    return CandidateSet(
        recipe=row.recipe,
        language=row.language,
        k=row.k,
        messages=row.messages,
        text_hash=row.text_hash,
        seed=number_from(row.seed, "after", row.pk) % 2**62,
    )


def _examined(texts: list[str], *, recipe: Recipe, language: str, k: int) -> tuple[list[Finding], str, list[list[float]], float]:
    """Findings and figures of candidates that may be shown. Raises `CandidatesRefused` with every fault of every candidate.

    The set as a whole is measured only once its texts are whole, or it would be blamed for a text that is missing.
    """
    policy = policy_of(recipe.study)
    faults = list(answer_faults(texts, count=k))
    unfit = {fault.slot for fault in faults}
    fit = ["" if slot in unfit else text for slot, text in enumerate(texts)]
    findings = [finding for finding in examine_answers(fit, language=language, policy=policy) if finding.slot not in unfit]
    report = None if faults else examine_set(texts, language=language, policy=policy)
    findings += report.findings if report else []
    faults += [Fault(finding.slot, finding.check_name, finding.detail or finding.check_name) for finding in findings if finding.refuses]
    if report is None or faults:
        raise CandidatesRefused(sorted(faults, key=lambda fault: -1 if fault.slot is None else fault.slot))
    return findings, report.measure, report.similarity, report.diversity


def _store_curated(row: CandidateSet, texts: Sequence[str], reviewer: User | None, now: datetime) -> CandidateSet:
    cleaned = [clean_answer(text) for text in texts]
    findings, measure, similarity, diversity = _examined(cleaned, recipe=row.recipe, language=row.language, k=row.k)
    row.similarity = {"measure": measure, "matrix": similarity}
    row.diversity = diversity
    row.state, row.ready_at, row.retry_at, row.error_code = STATE.READY, now, None, ""
    row.reviewed_at, row.reviewed_by = now, reviewer
    row.save()
    Candidate.objects.bulk_create(
        Candidate(candidate_set=row, slot=slot, text=text, text_fingerprint=fingerprint(text), source=CURATED)
        for slot, text in enumerate(cleaned)
    )
    Verdict.objects.bulk_create(
        Verdict(
            candidate_set=row,
            slot=finding.slot,
            check_name=finding.check_name[:40],
            passed=finding.passed,
            figure=finding.figure,
            detail=finding.detail[:300],
        )
        for finding in findings
    )
    return row
