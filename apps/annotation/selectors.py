"""Where a person is and what their pages show. Reads only; the pages' data are frozen and hold no model, source or generation slot."""

from dataclasses import dataclass
from enum import StrEnum

from django.db.models import Count, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from apps.annotation.models import Assignment, Comparison, ComparisonItem, Conversation, Turn
from apps.annotation.models.conversations import letter_at
from apps.annotators.models import Annotator
from apps.annotators.selectors import has_decided, pending_questionnaire
from apps.core.statements import CompiledSelect
from apps.generation.models import CandidateSet
from apps.studies.models import Questionnaire, TaskDesign


class Step(StrEnum):
    """A person's current step; each has one page."""

    PAUSED = "paused"
    QUESTIONS = "questions"
    CONSENT = "consent"
    GUIDELINE = "guideline"
    PRACTICE = "practice"
    START = "start"
    COMPARE = "compare"
    WAIT = "wait"
    TROUBLE = "trouble"
    MESSAGE = "message"
    DONE = "done"
    ENDED = "ended"


@dataclass(frozen=True)
class Work:
    """The conversation a person is in, its last turn (None before their own first message), and how many they have ended.

    `shown`: position and text of the turn's candidates, where they were read already.
    """

    assignment: Assignment
    conversation: Conversation
    turn: Turn | None
    finished: int
    shown: tuple[tuple[int, str], ...] | None = None


@dataclass(frozen=True)
class Position:
    """A step with the rows its page needs."""

    step: Step
    work: Work | None = None
    questionnaire: Questionnaire | None = None


def annotator_at_work(pk: int) -> Annotator | None:
    """The person with study, task design and locale, which every page and form needs."""
    annotator = _ANNOTATOR.first(pk)
    if annotator is not None:
        annotator.study_locale.study = annotator.study
    return annotator


_ANNOTATOR = CompiledSelect(lambda pk: Annotator.objects.select_related("study__task_design", "study_locale").filter(pk=pk))

_UNFINISHED = [Assignment.State.ACTIVE, Assignment.State.EXPIRED]
_SESSION = [Assignment.Purpose.MAIN, Assignment.Purpose.OWN, Assignment.Purpose.PILOT]
_LEFT = [Assignment.State.WITHDRAWN, Assignment.State.SKIPPED]


def _finished_by(annotator: int | OuterRef) -> QuerySet[Conversation]:
    ended = Conversation.objects.filter(annotator=annotator, ended_at__isnull=False)
    return ended.filter(~Q(assignment__state__in=_LEFT), assignment__purpose__in=_SESSION)


def _counted(finished: QuerySet[Conversation]) -> Coalesce:
    return Coalesce(Subquery(finished.values("annotator").annotate(number=Count("pk")).values("number"), output_field=IntegerField()), 0)


_LAST_TURN = CompiledSelect(
    lambda annotator: (
        Turn.objects.filter(
            conversation__annotator=annotator, conversation__ended_at__isnull=True, conversation__assignment__state__in=_UNFINISHED
        )
        .select_related("conversation__assignment")
        .annotate(finished=_counted(_finished_by(OuterRef("conversation__annotator"))))
        .order_by("-conversation", "-number")[:1]
    )
)
_WITHOUT_TURN = CompiledSelect(
    lambda annotator: (
        Conversation.objects.filter(annotator=annotator, ended_at__isnull=True, assignment__state__in=_UNFINISHED, turns__isnull=True)
        .select_related("assignment")
        .annotate(finished=_counted(_finished_by(OuterRef("annotator"))))
        .order_by("-pk")[:1]
    )
)


def current_work(annotator: Annotator) -> Work | None:
    """The unfinished conversation, also one whose lease was lost and that will end as surplus."""
    turn = _LAST_TURN.first(annotator.pk)
    row = turn or _WITHOUT_TURN.first(annotator.pk)
    if row is None:
        return None
    conversation = row if isinstance(row, Conversation) else row.conversation
    return Work(assignment=conversation.assignment, conversation=conversation, turn=turn, finished=row.finished)  # type: ignore[union-attr]


@dataclass(frozen=True)
class Standing:
    """How far a person is: conversations begun and ended, and the assignment of the unfinished one."""

    begun: int
    finished: int
    running: int | None


_STANDING = CompiledSelect(
    lambda annotator: (
        Annotator.objects.filter(pk=annotator)
        .only("pk")
        .annotate(
            begun=_counted(Conversation.objects.filter(annotator=OuterRef("pk"))),
            finished=_counted(_finished_by(OuterRef("pk"))),
            running=Subquery(
                Conversation.objects.filter(annotator=OuterRef("pk"), ended_at__isnull=True, assignment__state__in=_UNFINISHED)
                .order_by("-pk")
                .values("assignment")[:1]
            ),
        )
    )
)


def standing_of(annotator: Annotator) -> Standing:
    """What a claim must know of a (locked) person's work so far, in one statement."""
    [row] = _STANDING(annotator.pk)
    return Standing(begun=row.begun, finished=row.finished, running=row.running)  # type: ignore[attr-defined]  # annotated above


def finished_conversations(annotator: Annotator) -> int:
    """Conversations of their session that the person has ended, whether counted, surplus or broken off by a failure of ours.

    Repeated and gold items come on top, and a skipped conversation is made up for by another.
    """
    return _finished_by(annotator.pk).count()


def current_step(annotator: Annotator) -> Position:
    """Where the person is. The one function behind back, refresh, second tab, resume and wrong addresses."""
    if annotator.state == Annotator.State.COMPLETED:
        return Position(Step.DONE)
    if annotator.state != Annotator.State.ACTIVE:
        return Position(Step.ENDED)
    if not annotator.study.is_open:
        return Position(Step.PAUSED)
    if annotator.guideline_read_at is None:
        questionnaire = pending_questionnaire(annotator, [Questionnaire.Stage.ELIGIBILITY, Questionnaire.Stage.BEFORE])
        if questionnaire is not None:
            return Position(Step.QUESTIONS, questionnaire=questionnaire)
        return Position(Step.GUIDELINE)
    if annotator.practice_passed_at is None:
        return Position(Step.PRACTICE)
    work = current_work(annotator)
    if work is not None:
        return Position(_step_in_conversation(work), work=work)
    if finished_conversations(annotator):
        questionnaire = pending_questionnaire(annotator, [Questionnaire.Stage.AFTER])
        if questionnaire is not None:
            if not has_decided(annotator, questionnaire.consent):
                return Position(Step.CONSENT, questionnaire=questionnaire)
            return Position(Step.QUESTIONS, questionnaire=questionnaire)
    return Position(Step.START)


def _step_in_conversation(work: Work) -> Step:
    turn = work.turn
    if turn is None or turn.state == Turn.State.ANSWERED:
        return Step.MESSAGE
    if turn.state in (Turn.State.READY, Turn.State.SHOWN):
        return Step.COMPARE
    if turn.candidate_set is not None and turn.candidate_set.state == CandidateSet.State.READY:
        return Step.COMPARE
    if turn.candidate_set is not None and turn.candidate_set.state in (CandidateSet.State.FAILED, CandidateSet.State.REJECTED):
        return Step.TROUBLE
    return Step.WAIT


@dataclass(frozen=True)
class Progress:
    """Place in the session, in conversations."""

    conversation: int
    conversations: int


@dataclass(frozen=True)
class Exchange:
    """An earlier turn: what was said and the reply the person chose."""

    message: str
    reply: str


@dataclass(frozen=True)
class Card:
    """A candidate as the page may know it."""

    letter: str
    position: int
    text: str


@dataclass(frozen=True)
class ComparisonPage:
    """Everything a comparison page shows. Blind by construction."""

    turn_number: int
    max_turns: int
    history: tuple[Exchange, ...]
    message: str
    cards: tuple[Card, ...]
    explanation_policy: str
    explanation_min_words: int
    progress: Progress


@dataclass(frozen=True)
class MessagePage:
    """What the page for the next (or own first) message shows."""

    turn_number: int
    max_turns: int
    history: tuple[Exchange, ...]
    may_end: bool
    progress: Progress


def progress_of(annotator: Annotator, work: Work | None = None) -> Progress:
    done = finished_conversations(annotator) if work is None else work.finished
    total = annotator.study.conversations_per_annotator
    return Progress(conversation=min(done + 1, total), conversations=total)


def explanation_minimum(annotator: Annotator, design: TaskDesign) -> int:
    """Words a required explanation has at least in this person's locale."""
    own = annotator.study_locale.explanation_min_words
    return design.explanation_min_words if own is None else own


def history_of(conversation: Conversation) -> tuple[Exchange, ...]:
    """The answered turns in order, each with the chosen reply; one statement however many they are."""
    chosen = ComparisonItem.objects.filter(
        comparison__turn=OuterRef("pk"), comparison__is_current=True, comparison__outcome=Comparison.Outcome.PREFERENCE, rank=1
    )
    turns = conversation.turns.filter(state=Turn.State.ANSWERED).annotate(reply=Subquery(chosen.values("shown_candidate__text")[:1]))
    return tuple(Exchange(message=message, reply=reply or "") for message, reply in turns.values_list("message", "reply"))


def comparison_page(annotator: Annotator, work: Work) -> ComparisonPage:
    """The page of a turn that has been shown."""
    turn = work.turn
    if turn is None:
        raise ValueError("a conversation without a turn has no comparison page")
    design = annotator.study.task_design
    shown = turn.shown_candidates.values_list("position", "text") if work.shown is None else work.shown
    return ComparisonPage(
        turn_number=turn.number,
        max_turns=work.assignment.max_turns(design),
        history=history_of(work.conversation) if turn.number > 1 else (),
        message=turn.message,
        cards=tuple(Card(letter=letter_at(position), position=position, text=text) for position, text in shown),
        explanation_policy=design.explanation_policy,
        explanation_min_words=explanation_minimum(annotator, design),
        progress=progress_of(annotator, work),
    )


def message_page(annotator: Annotator, work: Work) -> MessagePage:
    design = annotator.study.task_design
    answered = work.turn.number if work.turn is not None else 0
    return MessagePage(
        turn_number=answered + 1,
        max_turns=work.assignment.max_turns(design),
        history=history_of(work.conversation) if answered else (),
        may_end=answered >= work.assignment.min_turns(design),
        progress=progress_of(annotator, work),
    )
