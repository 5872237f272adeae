"""The turns of a conversation: shown, judged, continued, ended."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction

from apps.annotation.errors import (
    EmptyMessage,
    ExplanationTooShort,
    MessageTooLong,
    MissingChoice,
    StaleForm,
    SubmissionConflict,
    TooFewTurns,
)
from apps.annotation.language import detect_language
from apps.annotation.models import Assignment, Change, Comparison, ComparisonItem, Conversation, ShownCandidate, Slot, Turn
from apps.annotation.randomness import derive_seed, shuffled
from apps.annotation.selectors import current_work, explanation_minimum, history_of
from apps.annotation.services.assignment import close_assignment, renew_lease
from apps.annotation.services.participation import finish_if_done
from apps.annotators.models import Annotator
from apps.core.text import clean_text, count_words, is_blank
from apps.generation.models import CandidateSet
from apps.generation.services import request_live_set, retry_failed_sets
from apps.generation.services.rewriting import is_message_refused, rewrite_live_message
from apps.studies.models import TaskDesign

MAX_MESSAGE_CHARACTERS = 4000
MAX_EXPLANATION_CHARACTERS = 8000


def _body_hash(**body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


@dataclass
class _LockedWork:
    """A person's running work with every row that a change of it must lock, taken in lock order."""

    annotator: Annotator
    slot: Slot | None
    assignment: Assignment
    conversation: Conversation
    turn: Turn | None

    @property
    def design(self) -> TaskDesign:
        return self.annotator.study.task_design

    @property
    def answered_turns(self) -> int:
        return self.conversation.turns.filter(state=Turn.State.ANSWERED).count()


def _lock_annotator(annotator: Annotator) -> Annotator:
    return Annotator.objects.select_for_update(of=("self",)).select_related("study__task_design", "study_locale").get(pk=annotator.pk)


def _lock_work(annotator: Annotator) -> _LockedWork:
    """Lock annotator (already locked by the caller), slot, assignment, in that order. Raises `StaleForm` without running work."""
    if annotator.state != Annotator.State.ACTIVE:
        raise StaleForm
    work = current_work(annotator)
    if work is None:
        raise StaleForm
    slot = Slot.objects.select_for_update().get(pk=work.assignment.slot_id) if work.assignment.slot_id else None
    assignment = Assignment.objects.select_for_update(of=("self",)).select_related("recipe").get(pk=work.assignment.pk)
    return _LockedWork(annotator, slot, assignment, work.conversation, work.turn)


def _touch(work: _LockedWork, now: datetime) -> None:
    """Renew the lease of work that is still the person's own."""
    if work.assignment.state == Assignment.State.ACTIVE and (work.slot is None or work.assignment.holds_slot(work.slot)):
        renew_lease(assignment=work.assignment, slot=work.slot, minutes=work.annotator.study.lease_minutes, now=now)


def show_turn(*, turn: Turn, device_class: str, now: datetime) -> None:
    """The first rendering of a turn: draw the display order from the stored seed and keep text, position and time.

    Shown again, it changes nothing. Raises `StaleForm` when the set is not complete and ready.
    """
    if turn.state in (Turn.State.SHOWN, Turn.State.ANSWERED):
        return
    with transaction.atomic():
        turn = Turn.objects.select_for_update(of=("self",)).get(pk=turn.pk)
        if turn.state in (Turn.State.SHOWN, Turn.State.ANSWERED):
            return
        candidate_set = turn.candidate_set
        if candidate_set is None:
            raise StaleForm
        candidates = {candidate.slot: candidate for candidate in candidate_set.candidates.all()}
        if not candidate_set.is_ready or len(candidates) != turn.k:
            raise StaleForm
        order = shuffled(sorted(candidates), turn.display_seed)
        ShownCandidate.objects.bulk_create(
            ShownCandidate(turn=turn, candidate=candidates[slot], position=position, text=candidates[slot].text)
            for position, slot in enumerate(order)
        )
        turn.state, turn.shown_at, turn.device_class = Turn.State.SHOWN, now, device_class
        turn.ready_at = turn.ready_at or candidate_set.ready_at
        turn.save(update_fields=["state", "shown_at", "device_class", "ready_at"])


def submit_comparison(
    *,
    annotator: Annotator,
    turn_number: int,
    chosen_position: int | None,
    explanation: str,
    layout: str,
    submission_id: UUID,
    now: datetime,
) -> Comparison:
    """Store which candidate the person prefers, and why. The last turn of a conversation also ends it.

    `chosen_position` is the place on the page, from 0. A replay of `submission_id` with the same contents returns the
    first comparison. Raises `MissingChoice`, `ExplanationTooShort`, `MessageTooLong`, `StaleForm`, `SubmissionConflict`.
    """
    explanation = clean_text(explanation)
    body_hash = _body_hash(turn=turn_number, position=chosen_position, explanation=explanation)
    with transaction.atomic():
        annotator = _lock_annotator(annotator)
        earlier = Comparison.objects.filter(submission_id=submission_id).select_related("turn__conversation").first()
        if earlier is not None:
            if earlier.turn.conversation.annotator_id != annotator.pk or earlier.body_hash != body_hash:
                raise SubmissionConflict
            return earlier
        work = _lock_work(annotator)
        turn = work.turn
        if turn is None or turn.number != turn_number or turn.state != Turn.State.SHOWN:
            raise StaleForm
        shown = {item.position: item for item in turn.shown_candidates.all()}
        if chosen_position is None or chosen_position not in shown:
            raise MissingChoice
        _check_explanation(annotator, work.design, explanation)
        comparison = Comparison.objects.create(
            turn=turn,
            submission_id=submission_id,
            body_hash=body_hash,
            explanation=explanation,
            detected_language=detect_language(explanation),
            created_at=now,
        )
        ComparisonItem.objects.bulk_create(
            ComparisonItem(comparison=comparison, shown_candidate=item, rank=1 if position == chosen_position else 2)
            for position, item in shown.items()
        )
        Change.objects.create(comparison=comparison, kind=Change.Kind.ADDED)
        turn.state, turn.answered_at, turn.layout = Turn.State.ANSWERED, now, layout
        turn.save(update_fields=["state", "answered_at", "layout"])
        if turn.number >= work.design.max_turns:
            _end(work, Assignment.State.COMPLETED, now)
        else:
            _touch(work, now)
    return comparison


def _check_explanation(annotator: Annotator, design: TaskDesign, explanation: str) -> None:
    if len(explanation) > MAX_EXPLANATION_CHARACTERS:
        raise MessageTooLong(characters=len(explanation), maximum=MAX_EXPLANATION_CHARACTERS)
    if design.explanation_policy == TaskDesign.ExplanationPolicy.REQUIRED:
        words, minimum = count_words(explanation), explanation_minimum(annotator, design)
        if words < minimum:
            raise ExplanationTooShort(words=words, minimum=minimum)


def submit_message(*, annotator: Annotator, turn_number: int, message: str, submission_id: UUID, now: datetime) -> Turn:
    """Store the person's next (or own first) message and ask for live candidates.

    Raises `EmptyMessage`, `MessageTooLong`, `StaleForm`, `SubmissionConflict`; a replay returns the first turn.
    """
    message = clean_text(message)
    body_hash = _body_hash(turn=turn_number, message=message)
    with transaction.atomic():
        annotator = _lock_annotator(annotator)
        earlier = Turn.objects.filter(submission_id=submission_id).select_related("conversation").first()
        if earlier is not None:
            if earlier.conversation.annotator_id != annotator.pk or earlier.body_hash != body_hash:
                raise SubmissionConflict
            return earlier
        work = _lock_work(annotator)
        answered = work.answered_turns
        if (
            (work.turn is not None and work.turn.state != Turn.State.ANSWERED)
            or turn_number != answered + 1
            or answered >= work.design.max_turns
        ):
            raise StaleForm
        _check_message(message)
        messages = []
        for exchange in history_of(work.conversation):
            messages += [{"role": "user", "content": exchange.message}, {"role": "assistant", "content": exchange.reply}]
        messages.append({"role": "user", "content": message})
        candidate_set = request_live_set(recipe=work.assignment.recipe, language=annotator.study_locale.language, messages=messages)
        turn_design = work.design.turn_design(turn_number)
        turn = Turn.objects.create(
            conversation=work.conversation,
            number=turn_number,
            state=Turn.State.GENERATING,
            source=Turn.Source.ANNOTATOR,
            message=message,
            detected_language=detect_language(message),
            submission_id=submission_id,
            body_hash=body_hash,
            candidate_set=candidate_set,
            form=turn_design.form,
            k=turn_design.k,
            display_seed=derive_seed(annotator.seed, "display", work.conversation.pk, turn_number),
            created_at=now,
        )
        _touch(work, now)
    return turn


def rewrite_message(*, annotator: Annotator, turn_number: int, message: str, submission_id: UUID, now: datetime) -> Turn:
    """Put another message in the place of one that moderation refused, and ask for its candidates.

    The turn and its candidate set stay the same rows. Raises `EmptyMessage`, `MessageTooLong`, `StaleForm` where nothing was refused,
    `SubmissionConflict`; a replay returns the turn.
    """
    message = clean_text(message)
    body_hash = _body_hash(turn=turn_number, message=message)
    with transaction.atomic():
        annotator = _lock_annotator(annotator)
        earlier = Turn.objects.filter(submission_id=submission_id).select_related("conversation").first()
        if earlier is not None:
            if earlier.conversation.annotator_id != annotator.pk or earlier.body_hash != body_hash:
                raise SubmissionConflict
            return earlier
        work = _lock_work(annotator)
        turn = work.turn
        if turn is None or turn.candidate_set is None or turn.number != turn_number or not is_message_refused(turn.candidate_set):
            raise StaleForm
        _check_message(message)
        rewrite_live_message(candidate_set_id=turn.candidate_set.pk, message=message)
        turn.message, turn.detected_language = message, detect_language(message)
        turn.submission_id, turn.body_hash = submission_id, body_hash
        turn.save(update_fields=["message", "detected_language", "submission_id", "body_hash"])
        _touch(work, now)
    return turn


def _check_message(message: str) -> None:
    """Raises `EmptyMessage` or `MessageTooLong`."""
    if is_blank(message):
        raise EmptyMessage
    if len(message) > MAX_MESSAGE_CHARACTERS:
        raise MessageTooLong(characters=len(message), maximum=MAX_MESSAGE_CHARACTERS)


def end_conversation(*, annotator: Annotator, turn_number: int, now: datetime) -> None:
    """End the conversation after `turn_number - 1` answered turns, at the person's wish.

    Raises `TooFewTurns` before the minimum, `StaleForm` when the page is out of date. Pressed twice, it ends once.
    """
    with transaction.atomic():
        annotator = _lock_annotator(annotator)
        work = _lock_work(annotator)
        if work.turn is None or work.turn.state != Turn.State.ANSWERED or work.turn.number != turn_number - 1:
            raise StaleForm
        if work.turn.number < work.design.min_turns:
            raise TooFewTurns(minimum=work.design.min_turns)
        _end(work, Assignment.State.COMPLETED, now)


def retry_turn(*, annotator: Annotator) -> None:
    """Ask once more for the candidates of a turn whose generation failed. Raises `StaleForm` where nothing failed."""
    with transaction.atomic():
        work = _lock_work(_lock_annotator(annotator))
        turn = work.turn
        if turn is None or turn.candidate_set is None or turn.candidate_set.state != CandidateSet.State.FAILED:
            raise StaleForm
        retry_failed_sets(candidate_set_ids=[turn.candidate_set.pk])


def give_up_turn(*, annotator: Annotator, now: datetime) -> None:
    """End a conversation whose candidates could not be made. It costs the person nothing: it counts as done for them.

    With enough answered turns it is a valid conversation; otherwise its slot goes back to the queue.
    """
    with transaction.atomic():
        work = _lock_work(_lock_annotator(annotator))
        turn = work.turn
        if turn is None or turn.candidate_set is None or turn.candidate_set.state != CandidateSet.State.FAILED:
            raise StaleForm
        turn.state = Turn.State.FAILED
        turn.save(update_fields=["state"])
        enough = work.answered_turns >= work.design.min_turns
        _end(work, Assignment.State.COMPLETED if enough else Assignment.State.RETURNED, now)


def _end(work: _LockedWork, state: str, now: datetime) -> None:
    work.conversation.ended_at = now
    work.conversation.save(update_fields=["ended_at"])
    close_assignment(assignment=work.assignment, slot=work.slot, state=state, now=now)
    finish_if_done(annotator=work.annotator, now=now)
