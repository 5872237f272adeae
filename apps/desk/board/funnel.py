"""The way from a recruitment link to completion, counted per link and locale."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from django.db.models import Case, CharField, Count, Exists, OuterRef, Value, When

from apps.annotation.models import Assignment, Conversation
from apps.annotators.models import Annotator, LinkOpening, RecruitmentLink
from apps.studies.models import Questionnaire, Study


class LeftAt(StrEnum):
    """Where somebody stands who takes part and has been silent for `place_hours`."""

    QUESTIONS = "questions"
    GUIDELINE = "guideline"
    PRACTICE = "practice"
    BETWEEN_TASKS = "between tasks"
    IN_TASK = "in a task"


@dataclass
class FunnelRow:
    """People of one link in one locale. Everybody who consented is completed, at work, silent at a step, or ended."""

    link: str
    purpose: str
    locale: str
    locale_id: int | None
    opened: int = 0
    consented: int = 0
    eligible: int = 0
    placed: int = 0
    started: int = 0
    completed: int = 0
    at_work: int = 0
    silent: Counter[str] = field(default_factory=Counter)  # by LeftAt
    ended: Counter[str] = field(default_factory=Counter)  # by end reason, else by state

    def add(self, other: "FunnelRow") -> None:
        for figure in ("opened", "consented", "eligible", "placed", "started", "completed", "at_work"):
            setattr(self, figure, getattr(self, figure) + getattr(other, figure))
        self.silent += other.silent
        self.ended += other.ended

    @property
    def is_live(self) -> bool:
        return self.purpose == RecruitmentLink.Purpose.LIVE

    @property
    def turned_away(self) -> int:
        """People for whom there was no place or no work."""
        reasons = Annotator.EndReason
        return sum(self.ended[reason] for reason in (reasons.CELL_FULL, reasons.OUTSIDE_CELLS, reasons.NO_CELL, reasons.NO_WORK))


def funnel(study: Study, now: datetime, since: datetime | None = None) -> list[FunnelRow]:
    """One row per link and locale in which something happened, in the order of locales and links; without previews.

    An opening belongs to the person who consented on that page, so that both together count once. An opening on a page
    that still asks for the locale has none. `since` limits to people who joined, and pages opened, from then on.
    """
    purposes = [RecruitmentLink.Purpose.LIVE, RecruitmentLink.Purpose.PILOT]
    links = {link.pk: link for link in study.recruitment_links.filter(purpose__in=purposes)}
    tags = {locale.pk: locale.tag for locale in study.locales.all()}
    people = Annotator.objects.filter(study=study, recruitment_link__in=links).order_by()
    openings = LinkOpening.objects.filter(link__in=links).order_by()
    if since is not None:
        people, openings = people.filter(joined_at__gte=since), openings.filter(opened_at__gte=since)
    rows: dict[tuple[int, int | None], FunnelRow] = {}

    def row_of(link_id: int, locale_id: int | None) -> FunnelRow:
        link = links[link_id]
        new = FunnelRow(link=link.name, purpose=link.purpose, locale=tags.get(locale_id or 0, ""), locale_id=locale_id)
        return rows.setdefault((link_id, locale_id), new)

    groups = people.values_list("recruitment_link_id", "study_locale_id", "state", "end_reason")
    for link_id, locale_id, state, reason, count, placed in groups.annotate(count=Count("pk"), placed=Count("admitted_at")):
        row = row_of(link_id, locale_id)
        row.opened += count
        row.consented += count
        row.eligible += count if state != Annotator.State.SCREENED_OUT else 0
        row.placed += placed
        if state == Annotator.State.COMPLETED:
            row.completed += count
        elif state == Annotator.State.ACTIVE:
            row.at_work += count
        else:
            row.ended[reason or state] += count
    silent = people.filter(state=Annotator.State.ACTIVE, active_at__lt=now - timedelta(hours=study.place_hours))
    for link_id, locale_id, step, count in silent.values_list("recruitment_link_id", "study_locale_id", _step(study)).annotate(
        count=Count("pk")
    ):
        row = row_of(link_id, locale_id)
        row.at_work -= count
        row.silent[step] += count
    begun = people.filter(Exists(Assignment.objects.filter(annotator=OuterRef("pk"))))
    for link_id, locale_id, count in begun.values_list("recruitment_link_id", "study_locale_id").annotate(count=Count("pk")):
        row_of(link_id, locale_id).started += count
    unanswered = openings.exclude(Exists(Annotator.objects.filter(submission_id=OuterRef("submission_id"))))
    for link_id, locale_id, count in unanswered.values_list("link_id", "study_locale_id").annotate(count=Count("pk")):
        row_of(link_id, locale_id).opened += count
    return [rows[key] for key in sorted(rows, key=lambda key: (key[1] or 0, key[0]))]


def totals(rows: Iterable[FunnelRow]) -> dict[int | None, FunnelRow]:
    """The live links of each locale taken together."""
    found: dict[int | None, FunnelRow] = {}
    for row in rows:
        if row.is_live:
            empty = FunnelRow(link="", purpose=row.purpose, locale=row.locale, locale_id=row.locale_id)
            found.setdefault(row.locale_id, empty).add(row)
    return found


def _step(study: Study) -> Case:
    """The step at which somebody stands who takes part."""
    before = [Questionnaire.Stage.ELIGIBILITY, Questionnaire.Stage.BEFORE]
    asking = Questionnaire.objects.filter(study_locale__study=study, stage__in=before, questions__isnull=False).values("study_locale")
    unfinished = Conversation.objects.filter(
        annotator=OuterRef("pk"), ended_at__isnull=True, assignment__state__in=[Assignment.State.ACTIVE, Assignment.State.EXPIRED]
    )
    return Case(
        When(guideline_read_at__isnull=True, admitted_at__isnull=True, study_locale__in=asking, then=Value(LeftAt.QUESTIONS.value)),
        When(guideline_read_at__isnull=True, then=Value(LeftAt.GUIDELINE.value)),
        When(practice_passed_at__isnull=True, then=Value(LeftAt.PRACTICE.value)),
        When(Exists(unfinished), then=Value(LeftAt.IN_TASK.value)),
        default=Value(LeftAt.BETWEEN_TASKS.value),
        output_field=CharField(),
    )
