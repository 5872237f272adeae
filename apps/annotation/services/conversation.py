"""The turns of a conversation: shown, judged, continued, ended."""

import hashlib
import json
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, connection, transaction

from apps.annotation.errors import (
    EmptyMessage,
    ExplanationTooShort,
    MessageTooLong,
    MissingChoice,
    StaleForm,
    TooFewTurns,
)
from apps.annotation.language import detect_language
from apps.annotation.models import Assignment, Change, Comparison, ShownCandidate, Slot, Turn
from apps.annotation.randomness import derive_seed, shuffled
from apps.annotation.selectors import Work, current_work, explanation_minimum, history_of
from apps.annotation.services.leases import close_assignment, complete_on_slot, renew_lease, touch_annotator
from apps.annotation.services.participation import finish_if_done
from apps.annotators.errors import SubmissionConflict
from apps.annotators.models import Annotator
from apps.core.statements import CompiledSelect, update_row
from apps.core.text import clean_text, count_words, is_blank
from apps.generation.models import Candidate, CandidateSet
from apps.generation.services import request_live_set, retry_failed_sets
from apps.generation.services.rewriting import is_message_refused, rewrite_live_message
from apps.studies.models import TaskDesign

MAX_MESSAGE_CHARACTERS = 4000
MAX_EXPLANATION_CHARACTERS = 8000


def _body_hash(**body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


_LOCKED = CompiledSelect(
    lambda pk: Annotator.objects.select_for_update(of=("self",)).select_related("study__task_design", "study_locale").filter(pk=pk)
)


def _lock_annotator(annotator: Annotator) -> Annotator:
    """The person locked, with study, design and locale as they are now: what the caller read may be out of date."""
    [locked] = _LOCKED(annotator.pk)
    return locked


def _work_of(annotator: Annotator) -> Work:
    """The running work of the (locked) person. Raises `StaleForm` without.

    Only slot and assignment may still be changed by others, who take over a slot whose lease ran out. What follows from them is therefore
    decided by its fencing token when it is stored.
    """
    work = current_work(annotator) if annotator.state == Annotator.State.ACTIVE else None
    if work is None:
        raise StaleForm
    return work


def _answered_turns(work: Work) -> int:
    return work.conversation.turns.filter(state=Turn.State.ANSWERED).count()


def _touch(annotator: Annotator, work: Work, now: datetime) -> None:
    """Note that the person is active and renew the lease of work that is still their own."""
    touch_annotator(annotator=annotator, now=now)
    renew_lease(assignment=work.assignment, minutes=annotator.study.lease_minutes, now=now)


_READY_CANDIDATES = CompiledSelect(
    lambda candidate_set: Candidate.objects.filter(
        candidate_set=candidate_set, candidate_set__state=CandidateSet.State.READY
    ).select_related("candidate_set")
)


def show_turn(*, turn: Turn, device_class: str, now: datetime) -> tuple[tuple[int, str], ...]:
    """Position and text of the candidates of a turn as this person sees them.

    The first rendering draws the display order from the stored seed and keeps text, position and time; shown again, it changes
    nothing. Raises `StaleForm` when the set is not complete and ready.
    """
    if turn.state not in (Turn.State.SHOWN, Turn.State.ANSWERED) and turn.candidate_set_id is not None:
        with transaction.atomic():
            candidates = {candidate.slot: candidate for candidate in _READY_CANDIDATES(turn.candidate_set_id)}
            if len(candidates) != turn.k:
                raise StaleForm
            order = [candidates[slot] for slot in shuffled(sorted(candidates), turn.display_seed)]
            ready_at = turn.ready_at or order[0].candidate_set.ready_at
            not_shown = {"shown_at": None}
            if update_row(turn, where=not_shown, state=Turn.State.SHOWN, shown_at=now, device_class=device_class, ready_at=ready_at):
                ShownCandidate.objects.bulk_create(
                    ShownCandidate(turn=turn, candidate=candidate, position=position, text=candidate.text)
                    for position, candidate in enumerate(order)
                )
                return tuple((position, candidate.text) for position, candidate in enumerate(order))
    # Shown before, or by another tab that was first: then the update above has waited for its commit.
    return tuple(turn.shown_candidates.values_list("position", "text"))


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
    language = detect_language(explanation[:MAX_EXPLANATION_CHARACTERS])  # before any lock: the first one loads a model
    try:
        with transaction.atomic():
            annotator = _lock_annotator(annotator)
            work = _work_of(annotator)
            design, turn = annotator.study.task_design, work.turn
            if turn is None or turn.number != turn_number or turn.state != Turn.State.SHOWN:
                raise StaleForm
            if chosen_position is None or chosen_position >= turn.k:
                raise MissingChoice
            _check_explanation(annotator, design, explanation)
            comparison = Comparison.objects.create(
                turn=turn,
                submission_id=submission_id,
                body_hash=body_hash,
                explanation=explanation,
                detected_language=language,
                created_at=now,
            )
            _rank_items(comparison, chosen_position)
            Change.objects.create(comparison=comparison, kind=Change.Kind.ADDED)
            update_row(turn, state=Turn.State.ANSWERED, answered_at=now, layout=layout)
            if turn.number >= work.assignment.max_turns(design):
                _end(annotator, work, Assignment.State.COMPLETED, now)
            else:
                _touch(annotator, work, now)
    except (StaleForm, IntegrityError) as error:
        # What was stored under this id made the form stale, or stands in the way of another turn's comparison.
        earlier = Comparison.objects.filter(submission_id=submission_id).select_related("turn__conversation").first()
        if earlier is None:
            raise
        if earlier.turn.conversation.annotator_id != annotator.pk or earlier.body_hash != body_hash:
            raise SubmissionConflict from error
        return earlier
    return comparison


def _rank_items(comparison: Comparison, chosen_position: int) -> None:
    """One item per shown candidate, in one statement: the chosen one first, the others behind it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO annotation_comparisonitem (comparison_id, shown_candidate_id, rank) "
            "SELECT %s, id, CASE WHEN position = %s THEN 1 ELSE 2 END FROM annotation_showncandidate WHERE turn_id = %s ORDER BY position",
            [comparison.pk, chosen_position, comparison.turn_id],
        )


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
    language = detect_language(message[:MAX_MESSAGE_CHARACTERS])
    with transaction.atomic():
        annotator = _lock_annotator(annotator)
        earlier = Turn.objects.filter(submission_id=submission_id).select_related("conversation").first()
        if earlier is not None:
            if earlier.conversation.annotator_id != annotator.pk or earlier.body_hash != body_hash:
                raise SubmissionConflict
            return earlier
        work = _work_of(annotator)
        design, answered = annotator.study.task_design, _answered_turns(work)
        if (
            (work.turn is not None and work.turn.state != Turn.State.ANSWERED)
            or turn_number != answered + 1
            or answered >= work.assignment.max_turns(design)
        ):
            raise StaleForm
        _check_message(message)
        messages = []
        for exchange in history_of(work.conversation):
            messages += [{"role": "user", "content": exchange.message}, {"role": "assistant", "content": exchange.reply}]
        messages.append({"role": "user", "content": message})
        candidate_set = request_live_set(recipe=work.assignment.recipe, language=annotator.study_locale.language, messages=messages)
        turn_design = design.turn_design(turn_number)
        turn = Turn.objects.create(
            conversation=work.conversation,
            number=turn_number,
            state=Turn.State.GENERATING,
            source=Turn.Source.ANNOTATOR,
            message=message,
            detected_language=language,
            submission_id=submission_id,
            body_hash=body_hash,
            candidate_set=candidate_set,
            form=turn_design.form,
            k=turn_design.k,
            display_seed=derive_seed(annotator.seed, "display", work.conversation.pk, turn_number),
            created_at=now,
        )
        _touch(annotator, work, now)
    return turn


def rewrite_message(*, annotator: Annotator, turn_number: int, message: str, submission_id: UUID, now: datetime) -> Turn:
    """Put another message in the place of one that moderation refused, and ask for its candidates.

    The turn and its candidate set stay the same rows. Raises `EmptyMessage`, `MessageTooLong`, `StaleForm` where nothing was refused,
    `SubmissionConflict`; a replay returns the turn.
    """
    message = clean_text(message)
    body_hash = _body_hash(turn=turn_number, message=message)
    language = detect_language(message[:MAX_MESSAGE_CHARACTERS])
    with transaction.atomic():
        annotator = _lock_annotator(annotator)
        earlier = Turn.objects.filter(submission_id=submission_id).select_related("conversation").first()
        if earlier is not None:
            if earlier.conversation.annotator_id != annotator.pk or earlier.body_hash != body_hash:
                raise SubmissionConflict
            return earlier
        work = _work_of(annotator)
        turn = work.turn
        if turn is None or turn.candidate_set is None or turn.number != turn_number or not is_message_refused(turn.candidate_set):
            raise StaleForm
        _check_message(message)
        rewrite_live_message(candidate_set_id=turn.candidate_set.pk, message=message)
        turn.message, turn.detected_language = message, language
        turn.submission_id, turn.body_hash = submission_id, body_hash
        turn.save(update_fields=["message", "detected_language", "submission_id", "body_hash"])
        _touch(annotator, work, now)
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
        work = _work_of(annotator)
        if work.turn is None or work.turn.state != Turn.State.ANSWERED or work.turn.number != turn_number - 1:
            raise StaleForm
        minimum = work.assignment.min_turns(annotator.study.task_design)
        if work.turn.number < minimum:
            raise TooFewTurns(minimum=minimum)
        _end(annotator, work, Assignment.State.COMPLETED, now)


def retry_turn(*, annotator: Annotator) -> None:
    """Ask once more for the candidates of a turn whose generation failed. Raises `StaleForm` where nothing failed."""
    with transaction.atomic():
        annotator = _lock_annotator(annotator)
        work = _work_of(annotator)
        turn = work.turn
        if turn is None or turn.candidate_set is None or turn.candidate_set.state != CandidateSet.State.FAILED:
            raise StaleForm
        retry_failed_sets(candidate_set_ids=[turn.candidate_set.pk])


def give_up_turn(*, annotator: Annotator, now: datetime) -> None:
    """End a conversation whose candidates could not be made. It costs the person nothing: it counts as done for them.

    With enough answered turns it is a valid conversation; otherwise its slot goes back to the queue.
    """
    with transaction.atomic():
        annotator = _lock_annotator(annotator)
        work = _work_of(annotator)
        turn = work.turn
        if turn is None or turn.candidate_set is None or turn.candidate_set.state != CandidateSet.State.FAILED:
            raise StaleForm
        turn.state = Turn.State.FAILED
        turn.save(update_fields=["state"])
        enough = _answered_turns(work) >= work.assignment.min_turns(annotator.study.task_design)
        _end(annotator, work, Assignment.State.COMPLETED if enough else Assignment.State.RETURNED, now)


def _end(annotator: Annotator, work: Work, state: str, now: datetime) -> None:
    update_row(work.conversation, ended_at=now)
    touch_annotator(annotator=annotator, now=now)
    if state != Assignment.State.COMPLETED or not complete_on_slot(assignment=work.assignment, now=now):
        slot = Slot.objects.select_for_update().get(pk=work.assignment.slot_id) if work.assignment.slot_id else None
        assignment = Assignment.objects.select_for_update(of=("self",)).get(pk=work.assignment.pk)
        close_assignment(assignment=assignment, slot=slot, state=state, now=now)
    if work.finished + 1 >= annotator.study.conversations_per_annotator:  # at most: repeated and gold items do not count
        finish_if_done(annotator=annotator, now=now)
