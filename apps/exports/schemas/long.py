"""The long schema: several files joined by pseudonyms, with everything the wide file has no room for."""

from collections.abc import Iterable

from django.conf import settings

from apps.exports.schemas.balance import BALANCE_COLUMNS, IN_BALANCED_SUBSET
from apps.exports.schemas.base import Column, Schema, Table

_shown = "by position as this annotator saw them, A first"

COMPARISONS = Table(
    "comparisons",
    "one turn with its current comparison",
    (
        Column("comparison_id", "string", "Pseudonym of the comparison; unique in the file."),
        Column("conversation_id", "string", "Pseudonym of the conversation."),
        Column("annotator_id", "string", "Pseudonym of the annotator; joins to annotators."),
        Column("locale", "string", "Locale of the annotator, for example hi-IN."),
        Column("language", "string", "Language of the locale."),
        Column("wave", "int64", "Recruitment wave of the annotator."),
        Column("purpose", "string", "MAIN: a prompt of the study. OWN: the annotator's own first message.", False, ("MAIN", "OWN")),
        Column("prompt_key", "string", "Key of the first prompt; joins to prompts. Null for an own first message.", True),
        Column("prompt_version", "int64", "Version of the first prompt. Null for an own first message.", True),
        Column("recipe", "string", "Arm: key of the recipe that made the candidates."),
        Column("recipe_version", "int64", "Version of the recipe."),
        Column("turn_number", "int64", "Turn within the conversation, from 1."),
        Column("message", "string", "The message that the candidates answer."),
        Column("message_language", "string", "Detected language of a message the annotator wrote. Null: study text or unsure.", True),
        Column("candidate_set_id", "string", "Pseudonym of the candidate set, the same for everybody who saw it."),
        Column("is_live", "bool", "True: the set was made for this turn. False: made before fieldwork and shared."),
        Column("form", "string", "Form of the comparison, for example PICK_ONE."),
        Column("k", "int64", "Number of candidates shown."),
        Column("display_order", "list<string>", f"Candidate ids {_shown}; join to candidates."),
        Column("generation_slots", "list<int64>", f"Slot in which each candidate was generated, from 0, {_shown}."),
        Column("sources", "list<string>", f"Sampling method of each candidate, {_shown}."),
        Column("models", "list<string>", f"Model of each candidate, {_shown}; null for a curated one."),
        Column("ranks", "list<int64>", f"Rank of each candidate, 1 is best, {_shown}; null where the outcome ranks nothing."),
        Column("outcome", "string", "What the annotator decided.", False, ("PREFERENCE", "TIE", "NONE")),
        Column("chosen_candidate_id", "string", "The preferred candidate. Null unless the outcome is a preference for one.", True),
        Column("chosen_letter", "string", "Its letter on the annotator's screen.", True, tuple("ABCDEF")),
        Column("explanation", "string", "Why, in the annotator's words. Null where nothing was written.", True),
        Column("explanation_language", "string", "Detected language of the explanation. Null: none or unsure.", True),
        Column("shown_at", "string", "First time the candidates were shown: ISO 8601 with offset.", True),
        Column("answered_at", "string", "When the answer was stored: ISO 8601 with offset.", True),
        Column("device_class", "string", "phone, tablet or desktop. Null: unknown.", True),
        Column("layout", "string", "How the candidates stood: column or side_by_side. Null: unknown.", True),
        Column("revision", "int64", "Revision of the comparison that is current; 1 was never revised."),
        *BALANCE_COLUMNS,
    ),
)

_CURATED = "Null: curated."


def _call_columns(shared: str = "") -> tuple[Column, ...]:
    """What is known of a call. `shared`: what to say of figures that repeat where several rows come of one call."""
    return (
        Column("template", "string", "Key of the instruction. Null: curated, or changed since.", True),
        Column("template_version", "int64", "Version of the instruction. Null: curated, or changed since.", True),
        Column("template_hash", "string", f"SHA-256 of the instruction. {_CURATED}", True),
        Column("model_asked", "string", f"Model name as it was asked for. {_CURATED}", True),
        Column("model_answered", "string", "Model name that the endpoint gave with its answer. Null: curated, or none given.", True),
        Column("temperature", "float64", f"Temperature of the call. {_CURATED}", True),
        Column("seed", "int64", f"Seed of the call. {_CURATED}", True),
        Column("parameters", "string", f"All parameters of the call as JSON. {_CURATED}", True),
        Column("input_tokens", "int64", f"Tokens that the call read. {shared}Null: curated, or not told.", True),
        Column("output_tokens", "int64", f"Tokens that the call wrote. {shared}Null: curated, or not told.", True),
        Column("cost", "float64", f"Price of the call in the currency of the study's prices. {shared}{_CURATED}", True),
        Column("latency_ms", "int64", "Time from the call to its answer in milliseconds. Null: curated, or no answer.", True),
    )


_PER_CALL = "Per call, so it repeats for each candidate of the call: sum it over attempts, never over candidates. "

CANDIDATES = Table(
    "candidates",
    "one candidate that occurs in comparisons",
    (
        Column("candidate_id", "string", "Pseudonym of the candidate, the same for everybody who saw it; unique in the file."),
        Column("candidate_set_id", "string", "Pseudonym of its set."),
        Column("language", "string", "Language of the set."),
        Column("slot", "int64", "Generation slot, from 0; never the position on a screen."),
        Column("source", "string", "Sampling method, or “curated”."),
        Column("model", "string", "Model name as it was asked for. Null: curated.", True),
        Column("attempt_id", "string", f"Pseudonym of the call that gave it; joins to attempts. {_CURATED}", True),
        Column("attempt_number", "int64", f"Number of that call for its part of the recipe; 1 was the first. {_CURATED}", True),
        Column("raw_output_sha256", "string", f"SHA-256 of what the call gave; the text stands in attempts. {_CURATED}", True),
        *_call_columns(_PER_CALL),
        Column("text", "string", "The candidate."),
    ),
)

CANDIDATE_SETS = Table(
    "candidate_sets",
    "one candidate set that occurs in comparisons",
    (
        Column("candidate_set_id", "string", "Pseudonym of the set; unique in the file."),
        Column("language", "string", "Language of the set."),
        Column("recipe", "string", "Arm: key of the recipe."),
        Column("recipe_version", "int64", "Version of the recipe."),
        Column("k", "int64", "Number of candidates."),
        Column("is_live", "bool", "True: made for one turn. False: made before fieldwork and shared."),
        Column("seed", "int64", "Seed from which the seeds of its calls are drawn."),
        Column("regenerations", "int64", "Times the whole set was made again for its diversity."),
        Column("diversity", "float64", "1 − mean pairwise similarity, 0 to 1. Null: not measured.", True),
        Column("similarity_measure", "string", "What measured the similarity. Null: not measured.", True),
        Column("similarity", "string", "Matrix of pairwise similarities by slot, as JSON. Null: not measured.", True),
        Column("was_reviewed", "bool", "Whether a reviewer looked at it and accepted it."),
        Column("ready_at", "string", "When it was complete: ISO 8601 with offset.", True),
    ),
)

ATTEMPTS = Table(
    "attempts",
    "one call to a model for a set that occurs in comparisons, failed ones too",
    (
        Column("attempt_id", "string", "Pseudonym of the call; unique in the file."),
        Column("candidate_set_id", "string", "Pseudonym of the set it was made for."),
        Column("part", "int64", "Order of the part of the recipe that asked."),
        Column("method", "string", "Sampling method of that part."),
        Column("attempt_number", "int64", "1 for the first call for the part."),
        Column("state", "string", "How it ended.", False, ("CALLING", "SUCCEEDED", "FAILED")),
        Column("error_code", "string", "Why it failed or was refused. Null: neither.", True),
        *_call_columns(),
        Column("raw_output", "string", "What the model gave, before cleaning. Null: nothing.", True),
        Column("started_at", "string", "When it was made: ISO 8601 with offset."),
        Column("finished_at", "string", "When its outcome was stored.", True),
    ),
)

PROMPTS = Table(
    "prompts",
    "one prompt that occurs in comparisons",
    (
        Column("prompt_key", "string", "Key of the prompt."),
        Column("prompt_version", "int64", "Version of its text; key and version are unique in the file."),
        Column("topic", "string", "Key of its topic. Null: none.", True),
        *[
            Column(f"text_{language}", "string", f"The prompt in {language}. Null: not translated.", True)
            for language in settings.CONTENT_LANGUAGES
        ],
    ),
)


def annotators_table(question_codes: Iterable[str]) -> Table:
    """The annotators file of a study that asks these questions: two columns for each."""
    questions = [
        column
        for code in question_codes
        for column in (
            Column(f"answer_{code}", "string", f"Codes of the options chosen for {code}, joined by “;”. Null: not answered.", True),
            Column(f"stratum_{code}", "string", "Strata of these options, joined by “;”. Null: none.", True),
        )
    ]
    return Table(
        "annotators",
        "one annotator who occurs in comparisons",
        (
            Column("annotator_id", "string", "Pseudonym of the annotator; unique in the file."),
            Column("locale", "string", "Locale, for example hi-IN."),
            Column("language", "string", "Language of the locale."),
            Column("country", "string", "Country as published, for example india."),
            Column("wave", "int64", "Recruitment wave."),
            IN_BALANCED_SUBSET,
            Column(
                "raking_weight",
                "float64",
                "Weight to the study's population tables, mean 1 in each set of locales. Null: participation not completed, locale in no "
                "set, or no balance rule.",
                True,
            ),
            Column("balance_rule", "int64", "Version of the balance rule that gave both. Null: the study has none.", True),
            *questions,
        ),
    )


def schema_for(question_codes: Iterable[str]) -> Schema:
    return Schema(
        name="long",
        title="Long: comparisons, candidates and how they were made, annotators and prompts, joined by pseudonyms",
        neutralises_csv=True,
        tables=(COMPARISONS, CANDIDATES, CANDIDATE_SETS, ATTEMPTS, annotators_table(question_codes), PROMPTS),
    )
