"""Admission: whether there is a place and work for a person who has answered the questions before the tasks."""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db.models import QuerySet

from apps.annotation.models import Assignment, Slot
from apps.annotators.models import Annotator, RecruitmentLink
from apps.annotators.selectors import took_part_earlier
from apps.core.errors import DomainError
from apps.generation.models import CandidateSet
from apps.quotas.errors import NoCellFits, OutsideCellsFull, QuotaCellFull
from apps.quotas.services import place_annotator
from apps.studies.models import StudyLocale


class AdmissionRefused(DomainError):
    """There is no place or no work for the person. `reason` is one of `Annotator.EndReason`."""

    code = "admission_refused"

    def __init__(self, reason: Annotator.EndReason) -> None:
        super().__init__(reason=reason.value)
        self.reason = reason


def admit_annotator(*, annotator: Annotator, now: datetime, askable: Collection[str] = ()) -> None:
    """Admit the (locked) person, once.

    1. Whoever took part in an excluded study is refused.
    2. Take a place in every quota (`place_annotator`).
    3. Lock the locale, so that admissions to it count the work one after the other, and see that enough is left.
    4. Note the time.

    People of pilot and preview links hold no places and take no seats: they are always admitted. `askable`: questions that
    can be asked once more. Raises `AdmissionRefused`, and `AnswerMissing` as `place_annotator` does; then nothing has been written.
    """
    if annotator.admitted_at is not None:
        return
    if annotator.recruitment_link.counts:
        if took_part_earlier(annotator):
            raise AdmissionRefused(Annotator.EndReason.EARLIER_STUDY)
        try:
            place_annotator(annotator=annotator, now=now, askable=askable)
        except QuotaCellFull as full:
            raise AdmissionRefused(Annotator.EndReason.CELL_FULL) from full
        except OutsideCellsFull as full:
            raise AdmissionRefused(Annotator.EndReason.OUTSIDE_CELLS) from full
        except NoCellFits as outside:
            raise AdmissionRefused(Annotator.EndReason.NO_CELL) from outside
        check_work(annotator=annotator, now=now)
    annotator.admitted_at = now
    annotator.save(update_fields=["admitted_at"])


def check_work(*, annotator: Annotator, now: datetime) -> None:
    """Raise `AdmissionRefused` (NO_WORK) unless the locale has a minimum session for the person, whatever others still take.

    Open seats must cover all that people at work may still claim, and `min_conversations` more, on as many different
    prompts. As everybody may claim equally many, whoever was admitted earlier keeps their minimum too. The locale stays
    locked until the transaction ends.
    """
    study = annotator.study
    if study.own_prompt_share >= 1:
        return  # every conversation opens with the person's own message and needs no seat
    StudyLocale.objects.select_for_update(no_key=True).get(pk=annotator.study_locale_id)
    wanted = _still_claimable(annotator, now) + study.min_conversations
    # So many seats are on `min_conversations` different prompts at least, for none has more seats than the overlap.
    enough = max(wanted, study.overlap * (study.min_conversations - 1) + 1)
    ready = Slot.objects.filter(study_locale_id=annotator.study_locale_id, candidate_set__state=CandidateSet.State.READY)
    prompts = _prompts(ready.filter(state=Slot.State.OPEN).order_by("queue_position")[:enough])
    if len(prompts) < enough:  # seats whose lease ran out are given out as well
        abandoned = ready.abandoned(now)
        prompts += _prompts(abandoned[: enough - len(prompts)])
    if len(prompts) < wanted or len(set(prompts)) < study.min_conversations:
        raise AdmissionRefused(Annotator.EndReason.NO_WORK)


def _prompts(slots: QuerySet[Slot]) -> list[int]:
    return list(slots.values_list("prompt_id", flat=True))


def _still_claimable(annotator: Annotator, now: datetime) -> int:
    """Seats that the other people at work in this locale may still claim; those idle for `place_hours` have lost their claim."""
    study = annotator.study
    at_work = Annotator.objects.filter(
        study_locale_id=annotator.study_locale_id,
        state=Annotator.State.ACTIVE,
        admitted_at__isnull=False,
        active_at__gte=now - timedelta(hours=study.place_hours),
        recruitment_link__purpose=RecruitmentLink.Purpose.LIVE,
    ).exclude(pk=annotator.pk)
    given_back = [Assignment.State.SKIPPED, Assignment.State.WITHDRAWN]  # a conversation that we broke off counts as done for the person
    session = [Assignment.Purpose.MAIN, Assignment.Purpose.OWN]
    begun = Assignment.objects.filter(annotator__in=at_work, purpose__in=session).exclude(state__in=given_back).count()
    return at_work.count() * study.conversations_per_annotator - begun
