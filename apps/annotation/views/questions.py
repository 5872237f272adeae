"""Questionnaires, the consent to sensitive ones, guideline and practice."""

import random
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from apps.annotation.errors import StaleForm
from apps.annotation.selectors import Position, Step, current_step
from apps.annotation.services import hand_in_questionnaire, read_guideline, submit_practice
from apps.annotation.services.participation import decide_sensitive_consent
from apps.annotation.views.pages import annotator_page, page, parse_number, parse_uuid, proceed
from apps.annotators.errors import ConsentMissing, InvalidAnswers
from apps.annotators.models import Annotator
from apps.annotators.selectors import current_consent_form, other_locales
from apps.core.rendering import render_markdown
from apps.quotas.errors import AnswerMissing
from apps.studies.models import Guideline, Option, Question, Questionnaire

LONG_LIST = 12  # options from which a drop-down list is easier than a column of buttons


@dataclass(frozen=True)
class Field:
    """A question as the page shows it, with what the person gave before."""

    question: Question
    options: tuple[Option, ...]
    given: tuple[str, ...]
    error: str

    @property
    def name(self) -> str:
        return f"q_{self.question.code}"

    @property
    def widget(self) -> str:
        if self.question.type == Question.Type.BIRTH_YEAR:
            return "year"
        if self.question.type == Question.Type.MULTIPLE:
            return "checkboxes"
        return "list" if len(self.options) > LONG_LIST else "radios"

    @property
    def year(self) -> str:
        """The typed year; empty when an option such as “prefer not to say” was chosen."""
        codes = {option.code for option in self.options}
        return next((value for value in self.given if value not in codes), "")


def _fields(questionnaire: Questionnaire, answers: dict[str, list[str]], problems: dict[str, str]) -> list[Field]:
    texts = {
        "required": _("Please answer this question."),
        "unknown_option": _("Please choose one of the answers in the list."),
        "one_only": _("Please choose one answer only."),
        "exclusive_option": _("“Prefer not to say” cannot be combined with other answers."),
        "year_or_option": _("Please write the year or tick the box, not both."),
        "decides": _(
            "Please answer this question if you can: whether there is a place for you depends on it. You can also leave it open again."
        ),
        "invalid_year": _("Please write your year of birth with four digits, for example 1985."),
    }
    fields = []
    for question in questionnaire.questions.prefetch_related("options"):
        options = list(question.options.all())
        if question.type == Question.Type.BIRTH_YEAR:
            options = [option for option in options if option.min_age is None]
        problem = problems.get(question.code)
        fields.append(
            Field(
                question=question,
                options=tuple(options),
                given=tuple(answers.get(question.code, [])),
                error=texts[problem] if problem else "",
            )
        )
    return fields


@annotator_page(Step.QUESTIONS)
def questions(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    if position is not None and position.questionnaire is not None:
        fields = _fields(position.questionnaire, {}, {})
        context: dict[str, Any] = {"questionnaire": position.questionnaire, "fields": fields}
        if position.questionnaire.stage != Questionnaire.Stage.AFTER:
            context["other_locales"] = other_locales(annotator)
        return page(request, "questions", annotator, **context)
    own = Questionnaire.objects.filter(study_locale=annotator.study_locale_id)
    questionnaire = own.filter(pk=parse_number(request.POST.get("questionnaire", "")) or 0).first()
    if questionnaire is None:
        raise StaleForm
    answers = {name.removeprefix("q_"): request.POST.getlist(name) for name in request.POST if name.startswith("q_")}
    try:
        hand_in_questionnaire(
            annotator=annotator,
            questionnaire=questionnaire,
            answers=answers,
            submission_id=parse_uuid(request.POST.get("submission_id", "")),
            now=timezone.now(),
            was_asked_again=request.POST.get("asked_again") == "yes",
        )
    except (InvalidAnswers, AnswerMissing) as error:
        is_asked_again = isinstance(error, AnswerMissing)
        problems = dict.fromkeys(error.extra["questions"], "decides") if is_asked_again else error.extra["problems"]
        context = {
            "questionnaire": questionnaire,
            "fields": _fields(questionnaire, answers, problems),
            "submission_id": request.POST["submission_id"],
            "has_errors": True,
            "is_asked_again": is_asked_again or request.POST.get("asked_again") == "yes",
        }
        return page(request, "questions", annotator, 422, **context)
    except ConsentMissing:
        raise StaleForm from None
    return proceed(request)


@annotator_page(Step.CONSENT)
def consent(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    """Yes or no to the sensitive questions, asked before they are seen."""
    position = position or current_step(annotator)
    if position.step != Step.CONSENT or position.questionnaire is None:
        raise StaleForm
    purpose = position.questionnaire.consent
    form = current_consent_form(annotator.study_locale, purpose)
    if request.method == "POST":
        decision = request.POST.get("decision", "")
        if decision == "no" or (decision == "yes" and request.POST.get("agreed") == "yes"):
            decide_sensitive_consent(annotator=annotator, purpose=purpose, granted=decision == "yes", now=timezone.now())
            return proceed(request)
        error = _("Please tick the box if you agree, or go on without these questions.")
        return page(
            request, "sensitive_consent", annotator, 422, form=form, body=render_markdown(form.body_as_shown()) if form else "", error=error
        )
    return page(request, "sensitive_consent", annotator, form=form, body=render_markdown(form.body_as_shown()) if form else "")


def _guideline(annotator: Annotator) -> Guideline | None:
    return annotator.study_locale.guidelines.prefetch_related("practice_tasks").order_by("-version").first()


@annotator_page(Step.GUIDELINE)
def guideline(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    if request.method == "POST":
        read_guideline(annotator=annotator, now=timezone.now())
        return proceed(request)
    text = _guideline(annotator)
    context: dict[str, Any] = {
        "guideline": text,
        "body": render_markdown(text.body) if text else "",
        "other_locales": other_locales(annotator),
    }
    return page(request, "guideline", annotator, **context)


@annotator_page(Step.PRACTICE)
def practice(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    """One example with feedback; the order of its two answers is drawn from the person's seed."""
    text = _guideline(annotator)
    task = text.practice_tasks.first() if text else None
    if task is None:
        submit_practice(annotator=annotator, chose_better=True, now=timezone.now())
        return proceed(request)
    better_first = random.Random(annotator.seed).random() < 0.5  # noqa: S311  (a stored, repeatable draw)
    candidates = [task.better, task.worse] if better_first else [task.worse, task.better]
    cards = [{"letter": "AB"[place], "position": place, "text": candidate} for place, candidate in enumerate(candidates)]
    context: dict[str, Any] = {"task": task, "cards": cards}
    if request.method != "POST":
        return page(request, "practice", annotator, other_locales=other_locales(annotator), **context)
    choice = request.POST.get("choice", "")
    if choice not in {"0", "1"}:
        return page(request, "practice", annotator, 422, error=_("Please choose one of the two answers."), **context)
    chose_better = candidates[int(choice)] == task.better
    may_go_on = submit_practice(annotator=annotator, chose_better=chose_better, now=timezone.now())
    feedback = {"chosen": int(choice), "right": chose_better, "may_go_on": may_go_on}
    return page(request, "practice", annotator, feedback=feedback, **context)
