"""Reading demographic answers and turning them into published values. Only answers under a granted consent are read."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from apps.annotators.models.demographics import DemographicAnswer
from apps.studies.models import Option, Question, Questionnaire, Study


@dataclass(frozen=True, slots=True)
class ChosenOption:
    """`published` and `stratum` are None where the option has none."""

    code: str
    published: str | None
    stratum: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    """A person's answer to one question. `column` is the published column it feeds, "" for none."""

    question: str
    column: str
    options: tuple[ChosenOption, ...]
    published: str | None


def published_value(question: Question, options: Collection[Option]) -> str | None:
    """The literal in the published column for the chosen options; None means missing.

    One option: its own literal. Several: that of an option that prevails, else the question's literal for several.
    """
    if len(options) == 1:
        return next(iter(options)).published or None
    prevailing = next((option for option in sorted(options, key=lambda option: option.order) if option.prevails), None)
    return (prevailing.published if prevailing else question.published_when_several) or None


def question_codes(study: Study) -> list[str]:
    """Codes of the study's questions in every locale and version, sorted; the eligibility check is not one of them."""
    questions = Question.objects.filter(questionnaire__study_locale__study=study).exclude(
        questionnaire__stage=Questionnaire.Stage.ELIGIBILITY
    )
    return sorted(set(questions.values_list("code", flat=True)))


def answers_of(annotator_pks: Collection[int]) -> dict[int, tuple[Answer, ...]]:
    """The answers of each annotator, sorted by question code. Of a question answered in two versions the newer counts."""
    chosen: dict[int, dict[Question, list[Option]]] = defaultdict(lambda: defaultdict(list))
    rows = (
        DemographicAnswer.objects.filter(annotator__in=annotator_pks, consent__granted=True)
        .exclude(question__questionnaire__stage=Questionnaire.Stage.ELIGIBILITY)
        .select_related("question__questionnaire", "option")
        .order_by("annotator_id", "question__questionnaire__version", "question_id", "option__order")
    )
    for row in rows:
        chosen[row.annotator_id][row.question].append(row.option)
    return {annotator: tuple(_newest(questions)) for annotator, questions in chosen.items()}


def _newest(questions: dict[Question, list[Option]]) -> list[Answer]:
    by_code = {
        question.code: Answer(
            question=question.code,
            column=question.column,
            options=tuple(ChosenOption(option.code, option.published or None, option.stratum or None) for option in options),
            published=published_value(question, options),
        )
        for question, options in questions.items()
    }
    return [by_code[code] for code in sorted(by_code)]
