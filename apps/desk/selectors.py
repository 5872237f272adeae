"""What the researcher's desk shows about each study."""

from dataclasses import dataclass

from django.contrib.auth.models import AnonymousUser
from django.db.models import Count, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from apps.accounts.models import User
from apps.annotation.models import Assignment, Slot
from apps.annotators.models import Annotator, RecruitmentLink
from apps.generation.models import CandidateSet
from apps.studies.models import Study, StudyLocale


@dataclass(frozen=True)
class StudyOverview:
    """One line of the desk's first page; every number is counted when asked. People and conversations are those of fieldwork."""

    pk: int
    slug: str
    state: str
    locales: int
    sets_ready: int
    sets_waiting: int
    sets_failed: int
    taking_part: int
    completed: int
    conversations: int
    seats: int


def _count(
    rows: QuerySet[Annotator] | QuerySet[Assignment] | QuerySet[CandidateSet] | QuerySet[Slot] | QuerySet[StudyLocale], path: str
) -> Coalesce:
    """How many of `rows` belong to the outer study, as a subquery: joins over several relations would multiply."""
    counted = rows.order_by().filter(**{path: OuterRef("pk")}).values(path).annotate(number=Count("pk")).values("number")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)


def study_overviews(user: User | AnonymousUser) -> list[StudyOverview]:
    """The studies that `user` is a member of, newest first, in one query."""
    live = RecruitmentLink.Purpose.LIVE
    people = Annotator.objects.filter(recruitment_link__purpose=live)
    conversations = Assignment.objects.counted().filter(annotator__recruitment_link__purpose=live)
    pregenerated = CandidateSet.objects.filter(is_live=False)
    unfinished = Q(state=CandidateSet.State.PENDING) | Q(state=CandidateSet.State.GENERATING)
    studies = Study.objects.visible_to(user).annotate(
        locale_count=_count(StudyLocale.objects.all(), "study"),
        sets_ready=_count(pregenerated.filter(state=CandidateSet.State.READY), "recipe__study"),
        sets_waiting=_count(pregenerated.filter(unfinished), "recipe__study"),
        sets_failed=_count(pregenerated.filter(state=CandidateSet.State.FAILED), "recipe__study"),
        taking_part=_count(people.filter(state=Annotator.State.ACTIVE), "study"),
        completed=_count(people.filter(state=Annotator.State.COMPLETED), "study"),
        conversation_count=_count(conversations, "annotator__study"),
        seats=_count(Slot.objects.exclude(state=Slot.State.RETIRED), "study_locale__study"),
    )
    return [
        StudyOverview(
            pk=study.pk,
            slug=study.slug,
            state=study.get_state_display(),
            locales=study.locale_count,
            sets_ready=study.sets_ready,
            sets_waiting=study.sets_waiting,
            sets_failed=study.sets_failed,
            taking_part=study.taking_part,
            completed=study.completed,
            conversations=study.conversation_count,
            seats=study.seats,
        )
        for study in studies.order_by("-pk")
    ]
