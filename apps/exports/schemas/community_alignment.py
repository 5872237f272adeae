"""The wide schema, compatible with Community Alignment v1.1: one row per conversation, exactly 45 columns."""

from apps.exports.schemas.balance import BALANCE_COLUMNS
from apps.exports.schemas.base import Column, Schema, Table

TURNS = ("first", "second", "third", "fourth")
LETTERS = ("a", "b", "c", "d")
LANGUAGES = ("en", "fr", "it", "pt", "hi")
COUNTRIES = ("united states", "france", "italy", "brazil", "india")
AGES = ("18-34", "35-45", "46-54", "55+")
WAVES = (1, 2)
# Column of the released file for each `Question.column`.
DEMOGRAPHIC_COLUMNS = {
    "age": "annotator_age",
    "gender": "annotator_gender",
    "education": "annotator_education_level",
    "political": "annotator_political",
    "ethnicity": "annotator_ethnicity",
}


def _turn_columns(turn: str) -> list[Column]:
    later = turn != "first"
    never = " Null where the conversation has no such turn." if later else ""
    return [
        Column(f"{turn}_turn_prompt", "string", f"The annotator's message, or the prompt shown, at the {turn} turn.{never}", later),
        Column(
            f"{turn}_turn_responses",
            "string",
            "The four candidates as one text block under the headings “# Response A:” … “# Response D:”, in the order this annotator "
            f"saw.{never}",
            later,
        ),
        *[
            Column(f"{turn}_turn_response_{letter}", "string", f"The candidate this annotator saw as {letter.upper()}.{never}", later)
            for letter in LETTERS
        ],
        Column(
            f"{turn}_turn_preferred_response",
            "string",
            f"The chosen candidate, by the letter this annotator saw.{never}",
            later,
            tuple(f"response_{letter}" for letter in LETTERS),
        ),
        Column(f"{turn}_turn_feedback", "string", "Why the annotator chose it, in their words. Null where nothing was written.", True),
    ]


_answer = "Null: not asked, not answered, or answered with an option that is published as missing."

COLUMNS: tuple[Column, ...] = (
    Column("conversation_id", "string", "Pseudonym of the conversation; unique in the file."),
    Column("assigned_lang", "string", "Language of the annotator's locale (pt for pt-BR); what they wrote may differ.", False, LANGUAGES),
    Column("annotator_id", "string", "Pseudonym of the annotator, the same in every release of the study."),
    *[column for turn in TURNS for column in _turn_columns(turn)],
    Column("annotator_age", "string", f"Age band. {_answer}", True, AGES),
    Column("annotator_gender", "string", f"Gender. {_answer}", True),
    Column("annotator_education_level", "string", f"Level of education. {_answer}", True),
    Column("annotator_political", "string", f"Political orientation, asked under a consent of its own. {_answer}", True),
    Column("annotator_ethnicity", "string", f"The origin question of the annotator's country, under a consent of its own. {_answer}", True),
    Column("annotator_country", "string", "Country of the annotator's locale.", False, COUNTRIES),
    Column(
        "is_pregenerated_first_prompt",
        "bool",
        "True: the first prompt came from the study. False: the annotator wrote it.",
    ),
    *BALANCE_COLUMNS,
    Column("wave", "int64", "Recruitment wave in which the annotator joined.", False, WAVES),
)

SCHEMA = Schema(
    name="community_alignment",
    title="Compatible with Community Alignment v1.1: one row per conversation, 45 columns",
    neutralises_csv=False,
    tables=(Table("community_alignment", "one completed conversation", COLUMNS),),
)
