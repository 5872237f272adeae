"""Finished work, made row by row: what the annotation services leave behind, without walking their pages."""

import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from apps.annotation.models import Assignment, Change, Comparison, ComparisonItem, Conversation, ShownCandidate, Slot, Turn
from apps.annotators.models import Annotator, Consent
from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse
from apps.content.models import Prompt
from apps.generation.models import CandidateSet, GenerationAttempt
from apps.studies.models import ConsentForm, Question, Study
from tests.factories import AnnotatorFactory, CandidateSetFactory, PromptFactory, StudyFactory

START = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
# The transaction of every change made here: long finished, on PostgreSQL too, where the test's own is still open.
FINISHED_TRANSACTION = 0


def make_turn(
    conversation: Conversation, number: int, candidate_set: CandidateSet, message: str, *, source: str, order: Sequence[int] | None = None
) -> Turn:
    """A turn whose candidates were shown in `order` (generation slots by position)."""
    candidates = {candidate.slot: candidate for candidate in candidate_set.candidates.all()}
    order = order or random.Random(f"{conversation.pk}/{number}").sample(sorted(candidates), len(candidates))
    shown_at = START + timedelta(minutes=number)
    turn = Turn.objects.create(
        conversation=conversation, number=number, state=Turn.State.SHOWN, source=source, message=message, candidate_set=candidate_set,
        form="PICK_ONE", k=len(candidates), display_seed=1, created_at=shown_at, ready_at=shown_at, shown_at=shown_at,
        device_class="phone", layout="column",
    )  # fmt: skip
    for position, slot in enumerate(order):
        ShownCandidate.objects.create(turn=turn, candidate=candidates[slot], position=position, text=candidates[slot].text)
    return turn


def judge(
    turn: Turn, position: int | None, explanation: str = "It answers the question.", *, revision: int = 1,
    outcome: str = Comparison.Outcome.PREFERENCE, transaction_id: int | None = FINISHED_TRANSACTION,
) -> Comparison:  # fmt: skip
    """The answer to a turn, with its place in the change sequence. `transaction_id=None`: the running one."""
    at = START + timedelta(minutes=turn.number, seconds=30)
    Comparison.objects.filter(turn=turn).update(is_current=False)
    comparison = Comparison.objects.create(
        turn=turn, revision=revision, submission_id=uuid.uuid4(), body_hash="0" * 64, outcome=outcome, explanation=explanation,
        detected_language="en" if explanation else "", created_at=at,
    )  # fmt: skip
    for shown in turn.shown_candidates.all():
        rank = None if position is None else 1 if shown.position == position else 2
        ComparisonItem.objects.create(comparison=comparison, shown_candidate=shown, rank=rank)
    kind = Change.Kind.ADDED if revision == 1 else Change.Kind.REVISED
    extra = {} if transaction_id is None else {"transaction_id": transaction_id}
    Change.objects.create(comparison=comparison, kind=kind, **extra)
    turn.state, turn.answered_at = Turn.State.ANSWERED, at
    turn.save(update_fields=["state", "answered_at"])
    return comparison


def make_conversation(
    annotator: Annotator, *, prompt: Prompt | None = None, own: bool = False, choices: Sequence[int] = (0, 2), abandoned: bool = False,
    state: str = Assignment.State.COMPLETED, transaction_id: int | None = FINISHED_TRANSACTION, first_order: Sequence[int] | None = None,
    explanation: str = "It answers the question.",
) -> Conversation:  # fmt: skip
    """A conversation with one judged turn per entry of `choices` (position chosen). `abandoned` adds a turn shown but not answered."""
    study, language = annotator.study, annotator.study_locale.language
    recipe = study.recipes.get()
    k = recipe.k
    slot = None
    if own:
        message = "Tell me about bees."
        first_set = CandidateSetFactory(recipe=recipe, language=language, k=k, is_live=True)
    else:
        prompt = prompt or PromptFactory(study=study)
        message = prompt.text_in(language)
        first_set = CandidateSet.objects.filter(recipe=recipe, language=language, text_hash=prompt.hash_in(language)).first()
        first_set = first_set or CandidateSetFactory(recipe=recipe, language=language, k=k, text=message)
        slot = Slot.objects.create(
            prompt=prompt, study_locale=annotator.study_locale, recipe=recipe, candidate_set=first_set, queue_position=1,
            ordinal=Slot.objects.filter(prompt=prompt, study_locale=annotator.study_locale, recipe=recipe).count() + 1,
            state=Slot.State.FILLED if state == Assignment.State.COMPLETED else Slot.State.OPEN,
        )  # fmt: skip
    assignment = Assignment.objects.create(
        annotator=annotator, slot=slot, prompt=None if own else prompt, recipe=recipe, state=state, submission_id=uuid.uuid4(),
        purpose=Assignment.Purpose.OWN if own else Assignment.Purpose.MAIN, lease_expires_at=START, claimed_at=START,
    )  # fmt: skip
    conversation = Conversation.objects.create(assignment=assignment, annotator=annotator, started_at=START, ended_at=START)
    for number, choice in enumerate(choices, start=1):
        live = number > 1
        candidate_set = CandidateSetFactory(recipe=recipe, language=language, k=k, is_live=True) if live else first_set
        turn = make_turn(
            conversation, number, candidate_set, f"And then, part {number}?" if live else message,
            source=Turn.Source.ANNOTATOR if live or own else Turn.Source.PREGENERATED, order=None if live else first_order,
        )  # fmt: skip
        judge(turn, choice, explanation, transaction_id=transaction_id)
    if abandoned:
        last = CandidateSetFactory(recipe=recipe, language=language, k=k, is_live=True)
        make_turn(conversation, len(choices) + 1, last, "One more thing", source=Turn.Source.ANNOTATOR)
    return conversation


def answer(annotator: Annotator, code: str, *options: str, granted: bool = True) -> None:
    """Store the person's answer to question `code` of their locale, under the consent that its questionnaire names."""
    question = Question.objects.get(questionnaire__study_locale=annotator.study_locale, code=code)
    questionnaire = question.questionnaire
    form = ConsentForm.objects.get(study_locale=annotator.study_locale, purpose=questionnaire.consent)
    consent, _ = Consent.objects.get_or_create(
        annotator=annotator, consent_form=form,
        defaults={"granted": granted, "text_hash": form.hash_as_shown(), "language": annotator.study_locale.language, "given_at": START},
    )  # fmt: skip
    response, _ = QuestionnaireResponse.objects.get_or_create(
        annotator=annotator, questionnaire=questionnaire,
        defaults={"submission_id": uuid.uuid4(), "body_hash": "0" * 64, "submitted_at": START},
    )  # fmt: skip
    for option in question.options.filter(code__in=options):
        DemographicAnswer.objects.create(response=response, annotator=annotator, consent=consent, question=question, option=option)


def record_how_it_was_made(candidate_set: CandidateSet) -> None:
    """Two calls behind the candidates of a factory's set, after one that failed, and the set's figures."""
    k = candidate_set.k
    candidate_set.diversity = 0.4
    candidate_set.similarity = {"measure": "test", "matrix": [[1.0 if row == column else 0.6 for column in range(k)] for row in range(k)]}
    candidate_set.save()
    slots = {
        "negatively_correlated": candidate_set.candidates.filter(slot__lt=k - 1),
        "default": candidate_set.candidates.filter(slot=k - 1),
    }
    for part in candidate_set.recipe.parts.all():
        for number, state in enumerate(["FAILED", "SUCCEEDED"] if part.method == "default" else ["SUCCEEDED"], start=1):
            attempt = GenerationAttempt.objects.create(
                candidate_set=candidate_set, recipe_part=part, model_spec=part.model_spec, number=number, state=state,
                error_code="truncated" if state == "FAILED" else "", template_hash=part.template.hash_in(candidate_set.language),
                parameters={"model": part.model_spec.model, "count": part.count, "temperature": 0.7, "seed": 11, "max_tokens": 900},
                raw_output=f"raw output {number}\nof {part.method}", model_answered="polyphony-offline-1",
                input_tokens=50, output_tokens=70,
                cost="0.000123", latency_ms=840, started_at=START, finished_at=START,
            )  # fmt: skip
        slots[part.method].update(attempt=attempt, model_spec=part.model_spec)


def small_study(people: int = 3) -> Study:
    """A study with `people` annotators in turn in en-US and fr-FR, each with a MAIN and an OWN conversation and some answers."""
    study = StudyFactory()
    locales = list(study.locales.all())
    prompt = PromptFactory(study=study)
    for number in range(people):
        annotator = AnnotatorFactory(study=study, study_locale=locales[number % 2])
        answer(annotator, "birth_year", ["18_34", "55_plus"][number % 2])
        answer(annotator, "gender", "woman")
        answer(annotator, "race_ethnicity", "white", "black")
        make_conversation(annotator, prompt=prompt, choices=(number % 4, 1))
        make_conversation(annotator, own=True, choices=(3, 0, 1, 2), explanation="")
    for candidate_set in CandidateSet.objects.filter(recipe__study=study):
        record_how_it_was_made(candidate_set)
    return study
