"""What leaves the platform, read up to a watermark: by conversations for a release, by changes for the API."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, Max, OuterRef, Prefetch, Q, QuerySet

from apps.annotation.models import Assignment, Change, Comparison, Conversation, ShownCandidate
from apps.annotators.models import Annotator, RecruitmentLink
from apps.content.models import Prompt
from apps.core import sequence
from apps.exports.demographics import Answer, answers_of
from apps.generation.models import Candidate, CandidateSet, GenerationAttempt
from apps.studies.models import Study, StudyLocale
from apps.studies.pseudonyms import Kind, Pseudonyms

PUBLISHED_PURPOSES = (Assignment.Purpose.MAIN, Assignment.Purpose.OWN)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the change sequence."""

    transaction_id: int
    change_id: int


START = Position(-1, 0)


@dataclass(frozen=True, slots=True)
class Watermark:
    """Changes of transactions below `transaction_id`, up to `change_id`, are final: no later commit adds to them."""

    transaction_id: int
    change_id: int

    def covers(self) -> Q:
        """Condition on `Change`."""
        return Q(transaction_id__lt=self.transaction_id, id__lte=self.change_id)


@dataclass(frozen=True, slots=True)
class PublishedAnnotator:
    pseudonym: str
    locale: str
    language: str
    country: str
    wave: int
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class PublishedCandidate:
    """A candidate as one person saw it. `position` counts from 0, `rank` 1 is best, `model` None is curated."""

    pseudonym: str
    position: int
    letter: str
    slot: int
    source: str
    model: str | None
    text: str
    rank: int | None
    chosen: bool


@dataclass(frozen=True, slots=True)
class PublishedComparison:
    """One comparison with all that leaves the platform about it. Primary keys are for joins inside and never leave."""

    pseudonym: str
    conversation: str
    annotator: PublishedAnnotator
    purpose: str
    assignment_state: str
    prompt_key: str | None
    prompt_version: int | None
    recipe: str
    recipe_version: int
    turn_number: int
    message: str
    message_language: str | None
    candidate_set: str
    is_live: bool
    form: str
    k: int
    candidates: tuple[PublishedCandidate, ...]
    outcome: str
    explanation: str | None
    explanation_language: str | None
    shown_at: datetime | None
    answered_at: datetime | None
    device_class: str | None
    layout: str | None
    revision: int
    is_current: bool
    conversation_pk: int
    annotator_pk: int
    candidate_set_pk: int
    prompt_pk: int | None

    @property
    def chosen(self) -> PublishedCandidate | None:
        """The preferred candidate; None for a tie and for “none”."""
        return next((candidate for candidate in self.candidates if candidate.chosen), None)


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One change. An erased comparison comes without its content: whoever holds a copy deletes it."""

    position: Position
    kind: str
    comparison_pseudonym: str
    comparison: PublishedComparison | None


@contextmanager
def snapshot() -> Iterator[None]:
    """Run the reads of a release on one state of the database.

    PostgreSQL: a REPEATABLE READ, READ ONLY transaction; inside a caller's transaction that one's view is used. SQLite:
    no transaction, because an IMMEDIATE one would stop every writer; there the watermark and the list of
    conversations, both taken first, bound what is read.
    """
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        yield
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def current_watermark() -> Watermark:
    bound = sequence.watermark()
    last = Change.objects.filter(transaction_id__lt=bound).aggregate(last=Max("id"))["last"]
    return Watermark(bound, last or 0)


def released_conversations(study: Study, watermark: Watermark) -> QuerySet[Conversation]:
    """Completed conversations that a release holds: by live, not withdrawn annotators, wholly below the watermark."""
    first_turns = Change.objects.filter(
        watermark.covers(), comparison__turn__conversation=OuterRef("pk"), comparison__turn__number=1
    ).exclude(kind=Change.Kind.ERASED)
    # A conversation of which a turn was added later waits for the next release, so that none goes out in part.
    later_turns = Change.objects.filter(~watermark.covers(), comparison__turn__conversation=OuterRef("pk"), kind=Change.Kind.ADDED)
    return Conversation.objects.filter(
        Exists(first_turns),
        ~Exists(later_turns),
        assignment__in=Assignment.objects.counted().filter(purpose__in=PUBLISHED_PURPOSES),
        annotator__study=study,
        annotator__recruitment_link__purpose=RecruitmentLink.Purpose.LIVE,
    ).exclude(annotator__state=Annotator.State.WITHDRAWN)


def released_comparisons(conversations: QuerySet[Conversation] | Collection[int], watermark: Watermark) -> QuerySet[Comparison]:
    """Of each turn of `conversations` the newest comparison below the watermark; turns with an erased one are left out."""
    below = Change.objects.filter(watermark.covers()).exclude(kind=Change.Kind.ERASED)
    newer = Comparison.objects.filter(
        Exists(below.filter(comparison=OuterRef("pk"))), turn=OuterRef("turn"), revision__gt=OuterRef("revision")
    )
    erased = Change.objects.filter(comparison__turn=OuterRef("turn"), kind=Change.Kind.ERASED)
    return Comparison.objects.filter(
        Exists(below.filter(comparison=OuterRef("pk"))), ~Exists(newer), ~Exists(erased), turn__conversation__in=conversations
    )


def load_comparisons(pks: Collection[int], pseudonyms: Pseudonyms) -> list[PublishedComparison]:
    """The comparisons `pks` with all that is published about them, in a handful of queries, in no particular order."""
    shown = ShownCandidate.objects.select_related("candidate__model_spec").order_by("position")
    comparisons = list(
        Comparison.objects.filter(pk__in=pks)
        .select_related(
            "turn__candidate_set",
            "turn__conversation__assignment__prompt",
            "turn__conversation__assignment__recipe",
            "turn__conversation__annotator__study_locale",
        )
        .prefetch_related("items", Prefetch("turn__shown_candidates", queryset=shown))
    )
    people = {comparison.turn.conversation.annotator_id: comparison.turn.conversation.annotator for comparison in comparisons}
    annotators = published_annotators(people.values(), pseudonyms)
    return [_published(comparison, annotators, pseudonyms) for comparison in comparisons]


def published_annotators(people: Collection[Annotator], pseudonyms: Pseudonyms) -> dict[int, PublishedAnnotator]:
    """By primary key. `people` come with their `study_locale`."""
    answers = answers_of([annotator.pk for annotator in people])
    return {
        annotator.pk: PublishedAnnotator(
            pseudonym=pseudonyms.of(Kind.ANNOTATOR, annotator.pk),
            locale=annotator.study_locale.tag,
            language=annotator.study_locale.language,
            country=annotator.study_locale.published_country,
            wave=annotator.wave,
            answers=answers.get(annotator.pk, ()),
        )
        for annotator in people
    }


def _published(comparison: Comparison, annotators: dict[int, PublishedAnnotator], pseudonyms: Pseudonyms) -> PublishedComparison:
    turn = comparison.turn
    assignment = turn.conversation.assignment
    candidate_set = turn.candidate_set
    if candidate_set is None:
        raise LookupError(f"{comparison} judges a turn without candidates")
    ranks = {item.shown_candidate_id: item.rank for item in comparison.items.all()}
    best = [shown for shown, rank in ranks.items() if rank == 1]
    chosen = best[0] if comparison.outcome == Comparison.Outcome.PREFERENCE and len(best) == 1 else None
    return PublishedComparison(
        pseudonym=pseudonyms.of(Kind.COMPARISON, comparison.pk),
        conversation=pseudonyms.of(Kind.CONVERSATION, turn.conversation_id),
        annotator=annotators[turn.conversation.annotator_id],
        purpose=assignment.purpose,
        assignment_state=assignment.state,
        prompt_key=assignment.prompt.key if assignment.prompt else None,
        prompt_version=assignment.prompt.version if assignment.prompt else None,
        recipe=assignment.recipe.key,
        recipe_version=assignment.recipe.version,
        turn_number=turn.number,
        message=turn.message,
        message_language=turn.detected_language or None,
        candidate_set=pseudonyms.of(Kind.CANDIDATE_SET, candidate_set.pk),
        is_live=candidate_set.is_live,
        form=turn.form,
        k=turn.k,
        candidates=tuple(
            PublishedCandidate(
                pseudonym=pseudonyms.of(Kind.CANDIDATE, shown.candidate_id),
                position=shown.position,
                letter=shown.letter,
                slot=shown.candidate.slot,
                source=shown.candidate.source,
                model=shown.candidate.model_spec.model if shown.candidate.model_spec else None,
                text=shown.text,
                rank=ranks.get(shown.pk),
                chosen=shown.pk == chosen,
            )
            for shown in turn.shown_candidates.all()
        ),
        outcome=comparison.outcome,
        explanation=comparison.explanation or None,
        explanation_language=comparison.detected_language or None,
        shown_at=turn.shown_at,
        answered_at=turn.answered_at,
        device_class=turn.device_class or None,
        layout=turn.layout or None,
        revision=comparison.revision,
        is_current=comparison.is_current,
        conversation_pk=turn.conversation_id,
        annotator_pk=turn.conversation.annotator_id,
        candidate_set_pk=candidate_set.pk,
        prompt_pk=assignment.prompt_id,
    )


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with offset and milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds") if moment else None


def load_candidates(set_pks: Collection[int]) -> list[Candidate]:
    found = Candidate.objects.filter(candidate_set__in=set_pks)
    return list(
        found.select_related("candidate_set", "model_spec", "attempt__recipe_part__template").prefetch_related(
            "attempt__recipe_part__variants__template"
        )
    )


def load_candidate_sets(set_pks: Collection[int]) -> list[CandidateSet]:
    return list(CandidateSet.objects.filter(pk__in=set_pks).select_related("recipe"))


def load_attempts(set_pks: Collection[int]) -> list[GenerationAttempt]:
    """The calls for these sets, by set, part and number."""
    found = GenerationAttempt.objects.filter(candidate_set__in=set_pks).order_by("candidate_set", "recipe_part__order", "number")
    return list(found.select_related("candidate_set", "recipe_part__template").prefetch_related("recipe_part__variants__template"))


def load_annotators(pks: Collection[int], pseudonyms: Pseudonyms) -> list[PublishedAnnotator]:
    """Sorted by pseudonym."""
    found = published_annotators(Annotator.objects.filter(pk__in=pks).select_related("study_locale"), pseudonyms)
    return sorted(found.values(), key=lambda annotator: annotator.pseudonym)


def load_prompts(pks: Collection[int]) -> list[Prompt]:
    return list(Prompt.objects.filter(pk__in=pks).select_related("topic").order_by("key", "version"))


@dataclass(frozen=True, slots=True)
class ReleaseSize:
    annotators: int
    conversations: int
    comparisons: int


def release_size(study: Study, watermark: Watermark | None = None) -> ReleaseSize:
    """What a release built now would hold."""
    mark = watermark or current_watermark()
    conversations = released_conversations(study, mark)
    return ReleaseSize(
        annotators=conversations.values("annotator").distinct().count(),
        conversations=conversations.count(),
        comparisons=released_comparisons(conversations, mark).count(),
    )


# --- The feed of the API --------------------------------------------------------------------------------------------


def feed(study: Study, after: Position, watermark: Watermark, limit: int) -> list[FeedEntry]:
    """Up to `limit` changes of `study` after a position and below the watermark, in the order of the sequence.

    The feed holds every comparison by live annotators who have not withdrawn, whatever the state of its conversation: a
    filter on that state would hide for good what was unfinished when the reader passed it. `assignment_state`
    tells the state at the time of reading.
    """
    conversation = "comparison__turn__conversation"
    changes = list(
        Change.objects.filter(watermark.covers(), _after(after))
        .filter(
            Q(kind=Change.Kind.ERASED)
            | (
                Q(**{f"{conversation}__assignment__purpose__in": PUBLISHED_PURPOSES})
                & ~Q(**{f"{conversation}__annotator__state": Annotator.State.WITHDRAWN})
            ),
            **{
                f"{conversation}__annotator__study": study,
                f"{conversation}__annotator__recruitment_link__purpose": RecruitmentLink.Purpose.LIVE,
            },
        )
        .annotate(is_erased=Exists(Change.objects.filter(comparison__turn=OuterRef("comparison__turn"), kind=Change.Kind.ERASED)))
        .order_by("transaction_id", "id")[:limit]
    )
    pseudonyms = Pseudonyms(study.pk)
    readable = [change.comparison_id for change in changes if not change.is_erased]
    by_pseudonym = {comparison.pseudonym: comparison for comparison in load_comparisons(readable, pseudonyms)}
    entries = []
    for change in changes:
        name = pseudonyms.of(Kind.COMPARISON, change.comparison_id)
        kind = Change.Kind.ERASED if change.is_erased else change.kind
        entries.append(FeedEntry(Position(change.transaction_id, change.pk), kind, name, by_pseudonym.get(name)))
    return entries


def _after(position: Position) -> Q:
    return Q(transaction_id__gt=position.transaction_id) | Q(transaction_id=position.transaction_id, id__gt=position.change_id)


@dataclass(frozen=True, slots=True)
class StudyOverview:
    """A study as the API describes it. `title` holds one text per language that has one."""

    slug: str
    title: dict[str, str]
    state: str
    locales: list[StudyLocale]
    counts: ReleaseSize


def study_overview(study: Study) -> StudyOverview:
    titles = {language: getattr(study, f"title_{language}") for language in settings.CONTENT_LANGUAGES}
    return StudyOverview(
        slug=study.slug,
        title={language: title for language, title in titles.items() if title},
        state=study.state,
        locales=list(study.locales.all()),
        counts=release_size(study),
    )
