"""Where a person is and what their pages show. Reads only; the pages' data are frozen and hold no model, source or generation slot."""

from dataclasses import dataclass
from enum import StrEnum

from apps.annotation.models import Assignment, Comparison, Conversation, Turn
from apps.annotators.models import Annotator
from apps.annotators.selectors import has_decided, pending_questionnaire
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
    """The conversation a person is in, and its last turn (None before their own first message)."""

    assignment: Assignment
    conversation: Conversation
    turn: Turn | None


@dataclass(frozen=True)
class Position:
    """A step with the rows its page needs."""

    step: Step
    work: Work | None = None
    questionnaire: Questionnaire | None = None


def current_work(annotator: Annotator) -> Work | None:
    """The unfinished conversation, also one whose lease was lost and that will end as surplus."""
    conversation = (
        Conversation.objects.filter(
            annotator=annotator, ended_at__isnull=True, assignment__state__in=[Assignment.State.ACTIVE, Assignment.State.EXPIRED]
        )
        .select_related("assignment__slot", "assignment__recipe")
        .order_by("-pk")
        .first()
    )
    if conversation is None:
        return None
    turn = conversation.turns.select_related("candidate_set").order_by("-number").first()
    return Work(assignment=conversation.assignment, conversation=conversation, turn=turn)


def finished_conversations(annotator: Annotator) -> int:
    """Conversations that the person has ended, whether counted, surplus or broken off by a failure of ours."""
    return (
        Conversation.objects.filter(annotator=annotator, ended_at__isnull=False)
        .exclude(assignment__state=Assignment.State.WITHDRAWN)
        .count()
    )


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


def progress_of(annotator: Annotator) -> Progress:
    done = finished_conversations(annotator)
    total = annotator.study.conversations_per_annotator
    return Progress(conversation=min(done + 1, total), conversations=total)


def explanation_minimum(annotator: Annotator, design: TaskDesign) -> int:
    """Words a required explanation has at least in this person's locale."""
    own = annotator.study_locale.explanation_min_words
    return design.explanation_min_words if own is None else own


def history_of(conversation: Conversation) -> tuple[Exchange, ...]:
    """The answered turns in order, each with the chosen reply."""
    exchanges = []
    turns = conversation.turns.filter(state=Turn.State.ANSWERED).prefetch_related("comparisons__items__shown_candidate")
    for turn in turns:
        reply = ""
        for comparison in turn.comparisons.all():
            if comparison.is_current and comparison.outcome == Comparison.Outcome.PREFERENCE:
                reply = next(item.shown_candidate.text for item in comparison.items.all() if item.rank == 1)
        exchanges.append(Exchange(message=turn.message, reply=reply))
    return tuple(exchanges)


def comparison_page(annotator: Annotator, work: Work) -> ComparisonPage:
    """The page of a turn that has been shown."""
    turn = work.turn
    if turn is None:
        raise ValueError("a conversation without a turn has no comparison page")
    design = annotator.study.task_design
    return ComparisonPage(
        turn_number=turn.number,
        max_turns=design.max_turns,
        history=history_of(work.conversation),
        message=turn.message,
        cards=tuple(Card(letter=shown.letter, position=shown.position, text=shown.text) for shown in turn.shown_candidates.all()),
        explanation_policy=design.explanation_policy,
        explanation_min_words=explanation_minimum(annotator, design),
        progress=progress_of(annotator),
    )


def message_page(annotator: Annotator, work: Work) -> MessagePage:
    design = annotator.study.task_design
    answered = work.turn.number if work.turn is not None else 0
    return MessagePage(
        turn_number=answered + 1,
        max_turns=design.max_turns,
        history=history_of(work.conversation),
        may_end=answered >= design.min_turns,
        progress=progress_of(annotator),
    )
