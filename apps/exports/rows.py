"""From published values to the rows of each table. A row has exactly the columns of its table, in their order."""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from django.conf import settings

from apps.content.models import Prompt
from apps.exports.demographics import Answer
from apps.exports.schemas.community_alignment import DEMOGRAPHIC_COLUMNS, LETTERS, TURNS
from apps.exports.selectors import PublishedAnnotator, PublishedComparison, iso
from apps.generation.models import Candidate, CandidateSet, GenerationAttempt, InstructionTemplate
from apps.quality.selectors import Balance
from apps.studies.pseudonyms import Kind, Pseudonyms

Row = dict[str, Any]


def community_alignment_row(turns: Sequence[PublishedComparison], balance: Balance) -> Row:
    """One conversation from its judged turns, in order. Later turns that were not judged are null columns."""
    first = turns[0]
    by_number = {turn.turn_number: turn for turn in turns}
    row: Row = {
        "conversation_id": first.conversation,
        "assigned_lang": first.annotator.language,
        "annotator_id": first.annotator.pseudonym,
    }
    for number, name in enumerate(TURNS, start=1):
        row |= _turn_columns(name, by_number.get(number))
    return row | {
        **{name: _published_in(column, first.annotator.answers) for column, name in DEMOGRAPHIC_COLUMNS.items()},
        "annotator_country": first.annotator.country,
        "is_pregenerated_first_prompt": first.purpose == "MAIN",
        **_balance_columns(first, balance),
        "wave": first.annotator.wave,
    }


def _turn_columns(name: str, turn: PublishedComparison | None) -> Row:
    texts = [candidate.text for candidate in turn.candidates] if turn else [None] * len(LETTERS)
    chosen = turn.chosen if turn else None
    return {
        f"{name}_turn_prompt": turn.message if turn else None,
        f"{name}_turn_responses": _responses_block(turn) if turn else None,
        **{f"{name}_turn_response_{letter}": text for letter, text in zip(LETTERS, texts, strict=True)},
        f"{name}_turn_preferred_response": f"response_{chosen.letter.lower()}" if chosen else None,
        f"{name}_turn_feedback": turn.explanation if turn else None,
    }


def _responses_block(turn: PublishedComparison) -> str:
    return "\n\n".join(f"# Response {candidate.letter}:\n{candidate.text}" for candidate in turn.candidates)


def _published_in(column: str, answers: Sequence[Answer]) -> str | None:
    return next((answer.published for answer in answers if answer.column == column and answer.published), None)


def _balance_columns(turn: PublishedComparison, balance: Balance) -> Row:
    return {
        "in_balanced_subset": balance.holds(turn.annotator.pseudonym),
        "in_balanced_subset_10": balance.holds_prompt(turn.annotator.pseudonym, turn.prompt_pk),
    }


def comparison_row(turn: PublishedComparison, balance: Balance) -> Row:
    chosen = turn.chosen
    return {
        "comparison_id": turn.pseudonym,
        "conversation_id": turn.conversation,
        "annotator_id": turn.annotator.pseudonym,
        "locale": turn.annotator.locale,
        "language": turn.annotator.language,
        "wave": turn.annotator.wave,
        "purpose": turn.purpose,
        "prompt_key": turn.prompt_key,
        "prompt_version": turn.prompt_version,
        "recipe": turn.recipe,
        "recipe_version": turn.recipe_version,
        "turn_number": turn.turn_number,
        "message": turn.message,
        "message_language": turn.message_language,
        "candidate_set_id": turn.candidate_set,
        "is_live": turn.is_live,
        "form": turn.form,
        "k": turn.k,
        "display_order": [candidate.pseudonym for candidate in turn.candidates],
        "generation_slots": [candidate.slot for candidate in turn.candidates],
        "sources": [candidate.source for candidate in turn.candidates],
        "models": [candidate.model for candidate in turn.candidates],
        "ranks": [candidate.rank for candidate in turn.candidates],
        "outcome": turn.outcome,
        "chosen_candidate_id": chosen.pseudonym if chosen else None,
        "chosen_letter": chosen.letter if chosen else None,
        "explanation": turn.explanation,
        "explanation_language": turn.explanation_language,
        "shown_at": iso(turn.shown_at),
        "answered_at": iso(turn.answered_at),
        "device_class": turn.device_class,
        "layout": turn.layout,
        "revision": turn.revision,
        **_balance_columns(turn, balance),
    }


def candidate_row(candidate: Candidate, pseudonyms: Pseudonyms) -> Row:
    attempt = candidate.attempt
    return {
        "candidate_id": pseudonyms.of(Kind.CANDIDATE, candidate.pk),
        "candidate_set_id": pseudonyms.of(Kind.CANDIDATE_SET, candidate.candidate_set_id),
        "language": candidate.candidate_set.language,
        "slot": candidate.slot,
        "source": candidate.source,
        "model": candidate.model_spec.model if candidate.model_spec else None,
        "attempt_id": pseudonyms.of(Kind.ATTEMPT, attempt.pk) if attempt else None,
        "attempt_number": attempt.number if attempt else None,
        "raw_output_sha256": hashlib.sha256(attempt.raw_output.encode()).hexdigest() if attempt else None,
        **_call_columns(attempt, candidate.candidate_set.language),
        "text": candidate.text,
    }


def candidate_set_row(candidate_set: CandidateSet, pseudonyms: Pseudonyms) -> Row:
    similarity = candidate_set.similarity or {}
    return {
        "candidate_set_id": pseudonyms.of(Kind.CANDIDATE_SET, candidate_set.pk),
        "language": candidate_set.language,
        "recipe": candidate_set.recipe.key,
        "recipe_version": candidate_set.recipe.version,
        "k": candidate_set.k,
        "is_live": candidate_set.is_live,
        "seed": candidate_set.seed,
        "regenerations": candidate_set.regenerations,
        "diversity": candidate_set.diversity,
        "similarity_measure": similarity.get("measure"),
        "similarity": json.dumps(similarity["matrix"]) if "matrix" in similarity else None,
        "was_reviewed": candidate_set.reviewed_at is not None,
        "ready_at": iso(candidate_set.ready_at),
    }


def attempt_row(attempt: GenerationAttempt, pseudonyms: Pseudonyms) -> Row:
    return {
        "attempt_id": pseudonyms.of(Kind.ATTEMPT, attempt.pk),
        "candidate_set_id": pseudonyms.of(Kind.CANDIDATE_SET, attempt.candidate_set_id),
        "part": attempt.recipe_part.order,
        "method": attempt.recipe_part.method,
        "attempt_number": attempt.number,
        "state": attempt.state,
        "error_code": attempt.error_code or None,
        **_call_columns(attempt, attempt.candidate_set.language),
        "raw_output": attempt.raw_output or None,
        "started_at": iso(attempt.started_at),
        "finished_at": iso(attempt.finished_at),
    }


def _call_columns(attempt: GenerationAttempt | None, language: str) -> Row:
    """What candidates and attempts both tell about the call; nulls for a candidate that no call made."""
    template = _template_of(attempt, language) if attempt else None
    parameters = attempt.parameters if attempt else {}
    temperature = parameters.get("temperature")
    return {
        "template": template.key if template else None,
        "template_version": template.version if template else None,
        "template_hash": attempt.template_hash if attempt else None,
        "model_asked": parameters.get("model"),
        "model_answered": (attempt.model_answered or None) if attempt else None,
        "temperature": None if temperature is None else float(temperature),
        "seed": parameters.get("seed"),
        "parameters": json.dumps(parameters, ensure_ascii=False, sort_keys=True) if attempt else None,
        "input_tokens": attempt.input_tokens if attempt else None,
        "output_tokens": attempt.output_tokens if attempt else None,
        "cost": float(attempt.cost) if attempt else None,
        "latency_ms": attempt.latency_ms if attempt else None,
    }


def _template_of(attempt: GenerationAttempt, language: str) -> InstructionTemplate | None:
    """The instruction of the call: the one of its part or of a variant whose text has the stored hash."""
    part = attempt.recipe_part
    templates = [part.template, *(variant.template for variant in part.variants.all() if variant.template)]
    for template in templates:
        with contextlib.suppress(LookupError):
            if template.hash_in(language) == attempt.template_hash:
                return template
    return None


def annotator_row(annotator: PublishedAnnotator, question_codes: Sequence[str], balance: Balance) -> Row:
    answers = {answer.question: answer for answer in annotator.answers}
    weight = balance.weight_of(annotator.pseudonym)
    row: Row = {
        "annotator_id": annotator.pseudonym,
        "locale": annotator.locale,
        "language": annotator.language,
        "country": annotator.country,
        "wave": annotator.wave,
        "in_balanced_subset": balance.holds(annotator.pseudonym),
        "raking_weight": None if weight is None else round(weight, 6),
        "balance_rule": balance.rule.version if balance.rule else None,
    }
    for code in question_codes:
        options = answers[code].options if code in answers else ()
        row[f"answer_{code}"] = ";".join(option.code for option in options) or None
        row[f"stratum_{code}"] = ";".join(option.stratum for option in options if option.stratum) or None
    return row


def prompt_row(prompt: Prompt) -> Row:
    return {
        "prompt_key": prompt.key,
        "prompt_version": prompt.version,
        "topic": prompt.topic.key if prompt.topic else None,
        **{f"text_{language}": getattr(prompt, f"text_{language}") or None for language in settings.CONTENT_LANGUAGES},
    }
