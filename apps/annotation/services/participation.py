"""The frame around the conversations: questions and placement, guideline and practice, completion and leaving."""

from datetime import datetime
from uuid import UUID

from django.db import transaction

from apps.annotation.errors import StaleForm
from apps.annotation.models import Assignment, Change, Comparison, Conversation, Draft, ShownCandidate, Turn
from apps.annotation.selectors import Step, current_step, current_work, finished_conversations
from apps.annotation.services.admission import AdmissionRefused, admit_annotator, check_work
from apps.annotation.services.leases import give_back_slots, release_offers
from apps.annotators.errors import NotEligible, Underage, UnknownLocale
from apps.annotators.models import Annotator
from apps.annotators.selectors import pending_questionnaire
from apps.annotators.services import answer_questionnaire, carry_answers, decide_consent, end_participation, erase_answers
from apps.generation.services import erase_live_sets
from apps.quotas.models import Placement
from apps.quotas.services import complete_placements, move_placements, release_placements
from apps.studies.models import ConsentForm, Questionnaire, StudyLocale


def hand_in_questionnaire(
    *,
    annotator: Annotator,
    questionnaire: Questionnaire,
    answers: dict[str, list[str]],
    submission_id: UUID,
    now: datetime,
    was_asked_again: bool = False,
) -> None:
    """Store the answers; the last questionnaire before the tasks also decides whether the person is admitted.

    A person who is not eligible, or for whom there is no place or no work, ends here and reads so on the next page; what
    they answered is not kept. Raises what else `answer_questionnaire` raises, `StaleForm` for a person who has ended, and, unless
    it `was_asked_again`, `AnswerMissing` for a question left open that decides about a place; then nothing is stored.
    """
    try:
        with transaction.atomic():
            annotator = _lock_active(annotator)
            try:
                answer_questionnaire(
                    annotator=annotator, questionnaire=questionnaire, answers=answers, submission_id=submission_id, now=now
                )
            except Underage as error:
                raise AdmissionRefused(Annotator.EndReason.UNDERAGE) from error
            except NotEligible as error:
                raise AdmissionRefused(Annotator.EndReason.NOT_ELIGIBLE) from error
            before = [Questionnaire.Stage.ELIGIBILITY, Questionnaire.Stage.BEFORE]
            if questionnaire.stage in before and pending_questionnaire(annotator, list(before)) is None:
                askable = [] if was_asked_again else list(questionnaire.questions.values_list("code", flat=True))
                admit_annotator(annotator=annotator, now=now, askable=askable)
            finish_if_done(annotator=annotator, now=now)
    except AdmissionRefused as refused:
        with transaction.atomic():
            _turn_away(annotator=annotator, reason=refused.reason, now=now)


def _lock_active(annotator: Annotator) -> Annotator:
    """The person as stored now, locked. Raises `StaleForm` for one who has ended."""
    rows = Annotator.objects.select_for_update(of=("self",)).select_related("study", "study_locale", "recruitment_link")
    annotator = rows.get(pk=annotator.pk)
    if annotator.state != Annotator.State.ACTIVE:
        raise StaleForm
    return annotator


_SCREENED_OUT = {Annotator.EndReason.UNDERAGE, Annotator.EndReason.NOT_ELIGIBLE, Annotator.EndReason.EARLIER_STUDY}


def _turn_away(*, annotator: Annotator, reason: Annotator.EndReason, now: datetime) -> None:
    """End a participation before any work; earlier questionnaires are not kept either, as the next page promises."""
    state = Annotator.State.SCREENED_OUT if reason in _SCREENED_OUT else Annotator.State.QUOTA_FULL
    if end_participation(annotator=annotator, state=state, now=now, reason=reason):
        erase_answers(annotator=annotator)


def decide_sensitive_consent(*, annotator: Annotator, purpose: str, granted: bool, now: datetime) -> None:
    """Store yes or no to sensitive questions. No is as good as yes: the questions are then not asked."""
    with transaction.atomic():
        annotator = Annotator.objects.select_for_update(of=("self",)).select_related("study", "study_locale").get(pk=annotator.pk)
        if annotator.state != Annotator.State.ACTIVE:
            raise StaleForm
        decide_consent(annotator=annotator, purpose=purpose, granted=granted, now=now)
        finish_if_done(annotator=annotator, now=now)


def switch_locale(*, annotator: Annotator, study_locale: StudyLocale, now: datetime) -> None:
    """Move a person to another locale of their link, before their first task; they have agreed to its consent form.

    Answers come along where both locales ask the same, and so do the places of somebody who was admitted. Guideline and
    practice begin anew. All of it happens, or nothing.

    Raises `StaleForm` (somebody who has ended or has had a task), `UnknownLocale`, `AnswersDiffer`, `AdmissionRefused`
    (no work for them there), and what `move_placements` raises.
    """
    with transaction.atomic():
        rows = Annotator.objects.select_for_update(of=("self",)).select_related("study", "recruitment_link")
        annotator = rows.get(pk=annotator.pk)
        if annotator.state != Annotator.State.ACTIVE or annotator.assignments.exists():
            raise StaleForm
        if not annotator.recruitment_link.locales.filter(pk=study_locale.pk).exists():
            raise UnknownLocale
        annotator.study_locale = study_locale
        annotator.guideline_read_at = annotator.practice_passed_at = None
        annotator.practice_tries = 0
        annotator.save(update_fields=["study_locale", "guideline_read_at", "practice_passed_at", "practice_tries"])
        decide_consent(annotator=annotator, purpose=ConsentForm.Purpose.PARTICIPATION, granted=True, now=now)
        carry_answers(annotator=annotator, study_locale=study_locale)
        if annotator.admitted_at is not None:
            move_placements(annotator=annotator, now=now)
            if annotator.recruitment_link.counts:
                check_work(annotator=annotator, now=now)


def read_guideline(*, annotator: Annotator, now: datetime) -> None:
    """Note that the guideline was read. In a study that asks nothing before the tasks, this is where people are admitted.

    Raises `StaleForm` while questions are open.
    """
    if current_step(annotator).step != Step.GUIDELINE:
        if annotator.guideline_read_at is None:
            raise StaleForm
        return
    try:
        with transaction.atomic():
            annotator = _lock_active(annotator)
            admit_annotator(annotator=annotator, now=now)
            Annotator.objects.filter(pk=annotator.pk, guideline_read_at__isnull=True).update(guideline_read_at=now)
    except AdmissionRefused as refused:
        with transaction.atomic():
            _turn_away(annotator=annotator, reason=refused.reason, now=now)


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


def finish_if_done(*, annotator: Annotator, now: datetime) -> None:
    """Complete the participation of the (locked) person once the conversations are done and no question is open."""
    if finished_conversations(annotator) >= annotator.study.conversations_per_annotator:
        _finish(annotator=annotator, now=now)


def finish_without_work(*, annotator: Annotator, now: datetime) -> None:
    """Complete the participation of somebody for whom no work is left, if they have done some and no question is open.

    Nothing happens where another window of theirs has found work meanwhile.
    """
    with transaction.atomic():
        annotator = _lock_active(annotator)
        if current_work(annotator) is None and finished_conversations(annotator):
            _finish(annotator=annotator, now=now)


def _finish(*, annotator: Annotator, now: datetime) -> None:
    if pending_questionnaire(annotator, [Questionnaire.Stage.AFTER]) is not None:
        return
    if end_participation(annotator=annotator, state=Annotator.State.COMPLETED, now=now):
        complete_placements(annotator=annotator, now=now)
        release_offers(annotator=annotator, now=now)


ERASED = ""


def withdraw(*, annotator: Annotator, now: datetime) -> None:
    """Leave the study: open and unpublished work is given back, and the person's own words and answers are emptied.

    The panel's identity stays, encrypted and as a keyed hash, because what was done is paid, once, until the retention is over or
    the payments are settled.
    What stays else is an empty shell that keeps the books right: who consented to what and when, which slots were judged, and
    a tombstone per comparison for readers of the change sequence. Withdrawing twice changes nothing.
    """
    with transaction.atomic():
        annotator = Annotator.objects.select_for_update(of=("self",)).get(pk=annotator.pk)
        if annotator.state == Annotator.State.WITHDRAWN:
            return
        give_back_slots(annotator=annotator)
        annotator.assignments.update(state=Assignment.State.WITHDRAWN, ended_at=now)
        Conversation.objects.filter(annotator=annotator, ended_at__isnull=True).update(ended_at=now)
        release_placements(annotator=annotator, reason=Placement.ReleaseReason.WITHDRAWAL, now=now)
        erase_annotator(annotator=annotator)
        Annotator.objects.filter(pk=annotator.pk).update(
            state=Annotator.State.WITHDRAWN, ended_at=annotator.ended_at or now, device_class="", time_zone=""
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
