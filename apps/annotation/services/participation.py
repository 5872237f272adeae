"""The frame around the conversations: questions and placement, guideline and practice, completion and leaving."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from apps.annotation.errors import StaleForm
from apps.annotation.models import Assignment, Change, Comparison, Conversation, Draft, ShownCandidate, Slot, Turn
from apps.annotation.selectors import Step, current_step, finished_conversations
from apps.annotators.models import Annotator
from apps.annotators.selectors import pending_questionnaire
from apps.annotators.services import answer_questionnaire, decide_consent, end_participation, erase_answers
from apps.generation.services import erase_live_sets
from apps.quotas.errors import QuotaCellFull
from apps.quotas.services import complete_placements, place_annotator, release_placements
from apps.studies.models import Questionnaire


def hand_in_questionnaire(
    *, annotator: Annotator, questionnaire: Questionnaire, answers: dict[str, list[str]], submission_id: UUID, now: datetime
) -> None:
    """Store the answers; the last questionnaire before the tasks also places the person in their quota cells.

    A person who is not eligible, or whose cell is full, ends here and reads so on the next page; what they answered is
    not kept. Raises what `answer_questionnaire` raises, and `StaleForm` for a person who has ended.
    """
    try:
        with transaction.atomic():
            annotator = Annotator.objects.select_for_update(of=("self",)).select_related("study", "study_locale").get(pk=annotator.pk)
            if annotator.state != Annotator.State.ACTIVE:
                raise StaleForm
            eligible = answer_questionnaire(
                annotator=annotator, questionnaire=questionnaire, answers=answers, submission_id=submission_id, now=now
            )
            if not eligible:
                _turn_away(annotator=annotator, state=Annotator.State.SCREENED_OUT, now=now)
                return
            before = [Questionnaire.Stage.ELIGIBILITY, Questionnaire.Stage.BEFORE]
            if questionnaire.stage in before and pending_questionnaire(annotator, list(before)) is None:
                place_annotator(annotator=annotator, now=now)
            finish_if_done(annotator=annotator, now=now)
    except QuotaCellFull:
        with transaction.atomic():
            _turn_away(annotator=annotator, state=Annotator.State.QUOTA_FULL, now=now)


def _turn_away(*, annotator: Annotator, state: str, now: datetime) -> None:
    """End a participation before any work; earlier questionnaires are not kept either, as the next page promises."""
    if end_participation(annotator=annotator, state=state, now=now):
        erase_answers(annotator=annotator)


def decide_sensitive_consent(*, annotator: Annotator, purpose: str, granted: bool, now: datetime) -> None:
    """Store yes or no to sensitive questions. No is as good as yes: the questions are then not asked."""
    with transaction.atomic():
        annotator = Annotator.objects.select_for_update(of=("self",)).select_related("study", "study_locale").get(pk=annotator.pk)
        if annotator.state != Annotator.State.ACTIVE:
            raise StaleForm
        decide_consent(annotator=annotator, purpose=purpose, granted=granted, now=now)
        finish_if_done(annotator=annotator, now=now)


def read_guideline(*, annotator: Annotator, now: datetime) -> None:
    """Note that the guideline was read. Raises `StaleForm` while questions are open."""
    if current_step(annotator).step == Step.GUIDELINE:
        Annotator.objects.filter(pk=annotator.pk, guideline_read_at__isnull=True).update(guideline_read_at=now)
    elif annotator.guideline_read_at is None:
        raise StaleForm


def submit_practice(*, annotator: Annotator, chose_better: bool, now: datetime) -> bool:
    """Count a try at the practice task; True when it may go on.

    Two tries with feedback: after the second the person goes on whatever they chose (screening by comprehension is a
    study's own decision and comes with the annotator's experience).
    """
    with transaction.atomic():
        annotator = Annotator.objects.select_for_update(of=("self",)).get(pk=annotator.pk)
        if annotator.guideline_read_at is None or annotator.state != Annotator.State.ACTIVE:
            raise StaleForm
        if annotator.practice_passed_at is not None:
            return True
        annotator.practice_tries += 1
        if chose_better or annotator.practice_tries >= 2:
            annotator.practice_passed_at = now
        annotator.save(update_fields=["practice_tries", "practice_passed_at"])
    return annotator.practice_passed_at is not None


def finish_if_done(*, annotator: Annotator, now: datetime, no_more_work: bool = False) -> None:
    """Complete the participation once the conversations are done (or none is left) and no question is open."""
    done = finished_conversations(annotator)
    if done < annotator.study.conversations_per_annotator and not (no_more_work and done):
        return
    if pending_questionnaire(annotator, [Questionnaire.Stage.AFTER]) is not None:
        return
    if end_participation(annotator=annotator, state=Annotator.State.COMPLETED, now=now):
        complete_placements(annotator=annotator, now=now)


ERASED = ""


def withdraw(*, annotator: Annotator, now: datetime) -> None:
    """Leave the study: open and unpublished work is given back, and the person's own words and answers are emptied.

    What stays is an empty shell that keeps the books right: who consented to what and when, which slots were judged, and
    a tombstone per comparison for readers of the change sequence. Withdrawing twice changes nothing.
    """
    with transaction.atomic():
        annotator = Annotator.objects.select_for_update(of=("self",)).get(pk=annotator.pk)
        if annotator.state == Annotator.State.WITHDRAWN:
            return
        slots = list(Slot.objects.select_for_update().filter(assignments__annotator=annotator).order_by("pk"))
        assignments = {assignment.slot_id: assignment for assignment in annotator.assignments.exclude(state=Assignment.State.WITHDRAWN)}
        for slot in slots:
            assignment = assignments.get(slot.pk)
            if assignment is not None and slot.fencing_token == assignment.fencing_token and slot.state != Slot.State.RETIRED:
                slot.state, slot.lease_expires_at = Slot.State.OPEN, None
                slot.save(update_fields=["state", "lease_expires_at"])
        annotator.assignments.update(state=Assignment.State.WITHDRAWN, ended_at=now)
        Conversation.objects.filter(annotator=annotator, ended_at__isnull=True).update(ended_at=now)
        release_placements(annotator=annotator, now=now)
        erase_annotator(annotator=annotator)
        Annotator.objects.filter(pk=annotator.pk).update(
            state=Annotator.State.WITHDRAWN, ended_at=annotator.ended_at or now, external_id_hash=None, device_class=""
        )


def erase_annotator(*, annotator: Annotator) -> None:
    """Empty every row that holds the person's words or answers."""
    turns = Turn.objects.filter(conversation__annotator=annotator)
    live_sets = list(turns.filter(candidate_set__is_live=True).values_list("candidate_set_id", flat=True))
    ShownCandidate.objects.filter(turn__in=turns, candidate__candidate_set__is_live=True).update(text=ERASED)
    erase_live_sets(candidate_set_ids=live_sets)
    turns.filter(source=Turn.Source.ANNOTATOR).update(message=ERASED, detected_language="", body_hash="")
    Draft.objects.filter(turn__in=turns).delete()
    comparisons = Comparison.objects.filter(turn__in=turns)
    for comparison in comparisons.filter(is_current=True):
        Change.objects.create(comparison=comparison, kind=Change.Kind.ERASED)
    comparisons.update(explanation=ERASED, detected_language="", body_hash="")
    erase_answers(annotator=annotator)
