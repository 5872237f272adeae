"""The shape of a study file: which keys there are, of which type and within which bounds. See docs/study-files.md.

The same classes describe a file (validated) and a study in the database (built by `snapshot`), so both can be compared.
Every leaf arrives as text; its type is the one its key asks for, hence `code: no` is the text “no”, never a boolean.
"""

from decimal import Decimal
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError as DjangoValidationError
from django.core.validators import validate_email
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from apps.annotators.models.people import parameter_name
from apps.core.text import clean_text
from apps.studies.models.study import validate_time_zone

FORMAT = 1


def _email(text: str) -> str:
    try:
        validate_email(text)
    except DjangoValidationError as error:
        raise ValueError("expected an e-mail address") from error
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or any(c.isspace() for c in text)):
        raise ValueError("expected an http or https address without a user name, for example https://host/v1")
    return text


def _parameter(text: str) -> str:
    try:
        if text:
            parameter_name(text)
    except DjangoValidationError as error:
        raise ValueError(error.message[0].lower() + error.message[1:].rstrip(".")) from error
    return text


def _time_zone(name: str) -> str:
    try:
        validate_time_zone(name)
    except DjangoValidationError as error:
        raise ValueError("expected a time zone of the IANA database, for example Asia/Kolkata") from error
    return name


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, AfterValidator(clean_text), Field(min_length=1)]
ShortText = Annotated[str, AfterValidator(clean_text), Field(min_length=1, max_length=200)]
Sentence = Annotated[str, AfterValidator(clean_text), Field(min_length=1, max_length=500)]
Label = Annotated[str, AfterValidator(clean_text), Field(min_length=1, max_length=300)]
Literal100 = Annotated[str, AfterValidator(clean_text), Field(max_length=100)]
Slug = Annotated[str, Field(pattern=r"^[-a-zA-Z0-9_]+$", max_length=60)]
PromptKey = Annotated[str, Field(pattern=r"^[-a-zA-Z0-9_]+$", max_length=80)]
Url = Annotated[str, Field(max_length=200), AfterValidator(_url)]
Code = Annotated[str, AfterValidator(clean_text), Field(max_length=40)]
Small = Annotated[int, Field(ge=1, le=32767)]
Texts = Annotated[dict[str, Text], Field(min_length=1)]
Titles = Annotated[dict[str, ShortText], Field(min_length=1)]
Price = Annotated[Decimal, Field(ge=0, max_digits=10, decimal_places=4)]
Money = Annotated[Decimal, Field(ge=0, max_digits=8, decimal_places=2)]
Budget = Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=6)]
Limit = Annotated[int, Field(ge=1, le=2147483647)]
Share = Annotated[Decimal, Field(ge=0, le=1, decimal_places=2)]
CellKey = Annotated[str, Field(min_length=1, max_length=120)]
Strata = dict[str, Annotated[list[Literal100], BeforeValidator(_listed), Field(min_length=1, max_length=500)]]


class Part(BaseModel):
    """A mapping of the file. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StudyPart(Part):
    slug: Slug
    state: Annotated[Literal["draft", "open", "paused", "closed"] | None, BeforeValidator(_lower)] = None
    title: Titles
    invitation: Texts | None = None
    organisation: ShortText
    contact_email: Annotated[str, Field(max_length=254), AfterValidator(_email)]
    session_minutes: Small = 20
    retention_months: Small = 12
    overlap: Small = 10
    prompts_per_wave: Annotated[int, Field(ge=1, le=2147483647)] = 50
    conversations_per_annotator: Small = 8
    min_conversations: Small = 1
    max_conversations_per_day: Small | None = None
    own_prompt_share: Annotated[Decimal, Field(ge=0, le=1, decimal_places=2)] = Decimal(0)
    lease_minutes: Small = 60
    place_hours: Small = 24
    wave: Small = 1
    excluded_studies: Annotated[list[Slug], Field(max_length=100)] = []
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]


class ExplanationPart(Part):
    policy: Annotated[Literal["off", "optional", "required"], BeforeValidator(_lower)] = "required"
    min_words: Annotated[int, Field(ge=0, le=1000)] = 15


class TurnsPart(Part):
    first: Small
    last: Small
    form: Annotated[Literal["pick_one"], BeforeValidator(_lower)] = "pick_one"
    k: Annotated[int, Field(ge=2, le=6)]
    next_turn_source: Annotated[Literal["annotator"], BeforeValidator(_lower)] = "annotator"


class TaskDesignPart(Part):
    min_turns: Small
    max_turns: Small
    explanation: ExplanationPart
    turns: Annotated[list[TurnsPart], Field(min_length=1)]


class ConsentPart(Part):
    version: Small = 1
    title: ShortText
    body: Text
    statement: Sentence


class ConsentsPart(Part):
    participation: ConsentPart
    sensitive: ConsentPart | None = None


class PracticePart(Part):
    prompt: Text
    better: Text
    worse: Text
    feedback_right: Text
    feedback_wrong: Text


class GuidelinePart(Part):
    version: Small = 1
    title: ShortText
    body: Text
    practice: Annotated[list[PracticePart], Field(max_length=20)] = []


class OptionPart(Part):
    code: Annotated[str, Field(pattern=r"^[-a-zA-Z0-9_]+$", max_length=60)]
    label: Label
    min_age: Annotated[int, Field(ge=0, le=150)] | None = None
    max_age: Annotated[int, Field(ge=0, le=150)] | None = None
    stratum: Literal100 = ""
    published: Literal100 = ""
    screens_out: bool = False
    prevails: bool = False
    exclusive: bool = False


class QuestionPart(Part):
    code: Slug
    type: Annotated[Literal["single", "multiple", "birth_year"], BeforeValidator(_lower)]
    column: Literal["age", "gender", "education", "political", "ethnicity"] | None = None
    published_when_several: Literal100 = ""
    required: bool = False
    text: Text
    help: Annotated[str, AfterValidator(clean_text)] = ""
    options: Annotated[list[OptionPart], Field(min_length=2, max_length=500)]


class QuestionnairePart(Part):
    version: Small = 1
    consent: Annotated[Literal["participation", "sensitive"], BeforeValidator(_lower)] = "participation"
    title: ShortText
    intro: Annotated[str, AfterValidator(clean_text)] = ""
    questions: Annotated[list[QuestionPart], Field(min_length=1, max_length=200)]


class QuestionnairesPart(Part):
    eligibility: QuestionnairePart | None = None
    before: QuestionnairePart | None = None
    after: QuestionnairePart | None = None


class PayPart(Part):
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    completed: Money
    per_conversation: Money = Decimal(0)
    screened_out: Money = Decimal(0)


class LocalePart(Part):
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
    name: Annotated[Literal100, Field(min_length=1)]
    published_country: Annotated[str, Field(min_length=1, max_length=60)]
    time_zone: Annotated[str, AfterValidator(_time_zone)] = "UTC"
    explanation_min_words: Annotated[int, Field(ge=0, le=1000)] | None = None
    pay: PayPart | None = None
    consent: ConsentsPart
    guideline: GuidelinePart
    questionnaires: QuestionnairesPart

    @property
    def tag(self) -> str:
        return f"{self.language}-{self.country}"


class SharePart(Part):
    share: Annotated[Decimal, Field(ge=0, le=1, decimal_places=8)]
    strata: Strata = {}


class OwnTablePart(Part):
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
    dimension: Annotated[str, Field(min_length=1, max_length=60)]
    year: Annotated[str, Field(max_length=20)] = ""
    grade: Literal["A", "B", "C", "D", ""] = ""
    source: Annotated[str, AfterValidator(clean_text)] = ""
    note: Annotated[str, AfterValidator(clean_text)] = ""
    shares: Annotated[dict[CellKey, SharePart], Field(min_length=1)]


class PopulationPart(Part):
    """Tables that ship with the platform, by key, and tables of the study's own."""

    builtin: Annotated[list[str], Field(max_length=1000)] = []
    own: dict[Annotated[str, Field(min_length=1, max_length=80)], OwnTablePart] = {}


class CellPart(Part):
    target: Annotated[int, Field(ge=0, le=2147483647)]
    strata: Strata = {}


class QuotaPart(Part):
    """Without `cells`, they follow from `table` and `total`."""

    kind: Annotated[Literal["hard", "soft", "monitor"], BeforeValidator(_lower)] = "hard"
    locales: Annotated[list[str], Field(min_length=1)]
    table: str | None = None
    total: Annotated[int, Field(ge=0, le=2147483647)] | None = None
    no_cell: Annotated[Literal["admit", "refuse", "ask"] | None, BeforeValidator(_lower)] = None
    outside_share: Annotated[Decimal, Field(ge=0, le=1, decimal_places=3)] | None = None
    cells: dict[CellKey, CellPart] = {}


class BalancePart(Part):
    quota: Slug
    max_share: Annotated[Decimal, Field(gt=0, le=1, decimal_places=2)] = Decimal("0.5")


class RepeatPart(Part):
    share: Share
    after_tasks: Annotated[int, Field(ge=0, le=32767)] = 10
    after_hours: Annotated[int, Field(ge=0, le=32767)] = 24


class GoldPart(Part):
    share: Share


class AssignmentPart(Part):
    policy: Annotated[str, Field(max_length=40)] = "fill_to_overlap"
    balance: BalancePart | None = None
    set_size: Small | None = None
    repeat: RepeatPart | None = None
    gold: GoldPart | None = None


class LocaleSetPart(Part):
    """Locales balanced together: the table that their subset matches, and further ones for the weights."""

    table: str
    locales: Annotated[list[str], Field(min_length=1)]
    weights: list[str] = []


class BalanceRulePart(Part):
    """Without `seed`, the study's."""

    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    min_annotators: Small = 10
    max_weight: Annotated[Decimal, Field(ge=1, le=100, decimal_places=1)] = Decimal(5)
    sets: Annotated[list[LocaleSetPart], Field(min_length=1)]


class ModelPart(Part):
    base_url: Url = ""
    model: Annotated[str, Field(min_length=1, max_length=120)]
    api_key_variable: Annotated[str, Field(pattern=r"^([A-Z][A-Z0-9_]*)?$", max_length=60)] = ""
    max_tokens: Annotated[int, Field(ge=1, le=2147483647)]
    timeout_seconds: Small = 60
    structured_output: bool = False
    concurrency: Small = 8
    requests_per_minute: Limit | None = None
    tokens_per_minute: Limit | None = None
    input_price: Price = Decimal(0)
    output_price: Price = Decimal(0)
    budget: Budget | None = None
    replacement: str | None = None


class TemplatePart(Part):
    version: Small = 1
    text: Texts


class VariantPart(Part):
    model: str | None = None
    template: str | None = None


class RecipePartPart(Part):
    method: Literal["negatively_correlated", "default", "temperature", "multi_model", "persona"]
    count: Annotated[int, Field(ge=1, le=6)]
    model: str
    template: str
    temperature: Annotated[Decimal, Field(ge=0, le=2, decimal_places=2)] = Decimal(1)
    variants: Annotated[list[VariantPart], Field(max_length=6)] = []


class RecipePart(Part):
    version: Small = 1
    parts: Annotated[list[RecipePartPart], Field(min_length=1, max_length=6)]


class GenerationPart(Part):
    budget: Budget | None = None
    min_words: Annotated[int, Field(ge=0, le=32767)] = 10
    max_words: Small = 400
    max_length_ratio: Annotated[Decimal, Field(ge=1, lt=100, decimal_places=2)] = Decimal(2)
    near_duplicate_similarity: Share = Decimal("0.95")
    diversity_floor: Share = Decimal(0)
    max_regenerations: Annotated[int, Field(ge=0, le=100)] = 2
    moderation_model: str | None = None
    judge_model: str | None = None
    judge_template: str | None = None


class PromptPart(Part):
    version: Small = 1
    topic: str | None = None
    is_gold: bool = False
    text: Texts


class RecruitmentLinkPart(Part):
    name: Annotated[Literal100, Field(min_length=1)]
    locales: Annotated[list[str], Field(min_length=1)]
    kind: Annotated[Literal["direct", "prolific", "panel"], BeforeValidator(_lower)] = "direct"
    purpose: Annotated[Literal["live", "pilot", "preview"], BeforeValidator(_lower)] = "live"
    is_open: bool = True
    participant_parameter: Annotated[str, Field(max_length=40), AfterValidator(_parameter)] = ""
    completion_code: Code = ""
    completion_url: Url = ""
    screen_out_code: Code = ""
    screen_out_url: Url = ""
    quota_full_code: Code = ""
    quota_full_url: Url = ""


class StudyFile(Part):
    """A whole study. Languages and references between keys are checked by `rules`."""

    format: int
    study: StudyPart
    task_design: TaskDesignPart
    locales: Annotated[list[LocalePart], Field(min_length=1, max_length=200)]
    population: PopulationPart | None = None
    quotas: dict[Slug, QuotaPart] = {}
    assignment: AssignmentPart | None = None
    balance: BalanceRulePart | None = None
    models: dict[Slug, ModelPart] = {}
    templates: dict[Slug, TemplatePart] = {}
    recipes: dict[Slug, RecipePart] = {}
    generation: GenerationPart | None = None
    topics: dict[Slug, dict[str, Annotated[str, AfterValidator(clean_text), Field(min_length=1, max_length=100)]]] = {}
    prompts: dict[PromptKey, PromptPart] = {}
    recruitment_links: Annotated[list[RecruitmentLinkPart], Field(max_length=1000)] = []
