"""Joining, consenting, answering and leaving."""

import hashlib
import json
import secrets
from datetime import datetime
from uuid import UUID

from django.db import IntegrityError, transaction

from apps.annotators.errors import ConsentMissing, InvalidAnswers, LinkClosed, SubmissionConflict, UnknownLocale
from apps.annotators.models import Annotator, Consent, RecruitmentLink
from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse
from apps.annotators.selectors import current_consent_form, granted_consent
from apps.studies.models import ConsentForm, Option, Question, Questionnaire, StudyLocale

YOUNGEST_PLAUSIBLE_AGE, OLDEST_PLAUSIBLE_AGE = 5, 115  # outside: a slip of the finger, not an answer


def join_study(
    *, link: RecruitmentLink, study_locale: StudyLocale, agreed: bool, submission_id: UUID, device_class: str, now: datetime
) -> Annotator:
    """Store a person and their consent in one step. A second press with the same `submission_id` returns the same person.

    Raises `LinkClosed`, `UnknownLocale`, `ConsentMissing` (box not ticked), `SubmissionConflict` (id of another link).
    """
    if not link.is_open or not link.study.is_open:
        raise LinkClosed
    if not link.locales.filter(pk=study_locale.pk).exists():
        raise UnknownLocale
    if not agreed:
        raise ConsentMissing
    form = current_consent_form(study_locale, ConsentForm.Purpose.PARTICIPATION)
    if form is None:
        raise LinkClosed("the locale has no consent form")
    try:
        with transaction.atomic():
            annotator = Annotator.objects.create(
                study=link.study,
                study_locale=study_locale,
                recruitment_link=link,
                submission_id=submission_id,
                wave=link.study.wave,
                seed=secrets.randbits(62),
                device_class=device_class,
                joined_at=now,
            )
            _store_consent(annotator=annotator, form=form, granted=True, now=now)
    except IntegrityError:
        existing = Annotator.objects.filter(submission_id=submission_id, recruitment_link=link, study_locale=study_locale).first()
        if existing is None:
            raise SubmissionConflict from None
        return existing
    return annotator


def decide_consent(*, annotator: Annotator, purpose: str, granted: bool, now: datetime) -> None:
    """Store yes or no to the locale's current form of `purpose`; the first decision stands."""
    form = current_consent_form(annotator.study_locale, purpose)
    if form is not None:
        _store_consent(annotator=annotator, form=form, granted=granted, now=now)


def _store_consent(*, annotator: Annotator, form: ConsentForm, granted: bool, now: datetime) -> None:
    Consent.objects.get_or_create(
        annotator=annotator,
        consent_form=form,
        defaults={
            "granted": granted,
            "text_hash": form.hash_as_shown(),
            "language": annotator.study_locale.language,
            "given_at": now,
        },
    )


def answer_questionnaire(
    *, annotator: Annotator, questionnaire: Questionnaire, answers: dict[str, list[str]], submission_id: UUID, now: datetime
) -> bool:
    """Store a handed-in questionnaire. Returns False when an answer shows that the person is not eligible; then nothing is stored.

    `answers` maps question codes to option codes (a year of birth: to the year or to an option code). A question left
    out is stored as not answered. The year itself is dropped: its age band and five-year group stay.
    Raises `InvalidAnswers` with every problem, `ConsentMissing`, `SubmissionConflict`.
    """
    body_hash = hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()
    earlier = QuestionnaireResponse.objects.filter(submission_id=submission_id).first()
    if earlier is not None:
        if earlier.annotator_id != annotator.pk or earlier.body_hash != body_hash:
            raise SubmissionConflict
        return True
    consent = granted_consent(annotator, questionnaire.consent)
    if consent is None:
        raise ConsentMissing
    try:
        chosen = _chosen_options(questionnaire=questionnaire, answers=answers, now=now)
    except Underage:
        return False
    if any(option.screens_out for _, options, _ in chosen for option in options):
        return False
    with transaction.atomic():
        response, created = QuestionnaireResponse.objects.get_or_create(
            annotator=annotator,
            questionnaire=questionnaire,
            defaults={"submission_id": submission_id, "body_hash": body_hash, "submitted_at": now},
        )
        if not created:
            return True  # handed in from another tab: the first one stands
        DemographicAnswer.objects.bulk_create(
            DemographicAnswer(
                response=response, annotator=annotator, consent=consent, question=question, option=option, age_group=age_group
            )
            for question, options, age_group in chosen
            for option in options
        )
    return True


def _chosen_options(
    *, questionnaire: Questionnaire, answers: dict[str, list[str]], now: datetime
) -> list[tuple[Question, list[Option], str]]:
    """The options that `answers` name, per question, with the five-year age group where one follows."""
    chosen: list[tuple[Question, list[Option], str]] = []
    problems: dict[str, str] = {}
    for question in questionnaire.questions.prefetch_related("options"):
        given = [value.strip() for value in answers.get(question.code, []) if value.strip()]
        options = [option for option in question.options.all() if option.code in given]
        age_group = ""
        if question.type == Question.Type.BIRTH_YEAR and given and not options:
            try:
                options, age_group = _age_band(question, given[0], now)
            except InvalidAnswers as error:
                problems[question.code] = error.code
                continue
        if not given:
            if question.required:
                problems[question.code] = "required"
            continue
        if question.type == Question.Type.BIRTH_YEAR and options and len(set(given)) > 1:
            problems[question.code] = "year_or_option"
        elif not options or (len(options) < len(set(given)) and not age_group):
            problems[question.code] = "unknown_option"
        elif question.type != Question.Type.MULTIPLE and len(options) > 1:
            problems[question.code] = "one_only"
        elif len(options) > 1 and any(option.exclusive for option in options):
            problems[question.code] = "exclusive_option"
        chosen.append((question, options, age_group))
    if "underage" in problems.values():
        raise Underage
    if problems:
        raise InvalidAnswers(problems=problems)
    return chosen


class InvalidYear(InvalidAnswers):
    code = "invalid_year"


class Underage(InvalidAnswers):
    code = "underage"


def _age_band(question: Question, year: str, now: datetime) -> tuple[list[Option], str]:
    """Band and five-year group of the age reached on 31 December. Raises `InvalidYear`, `Underage`."""
    digits = "".join(str(int(character)) if character.isdecimal() else character for character in year)  # Devanagari digits too
    if not (digits.isascii() and digits.isdecimal() and len(digits) == 4):
        raise InvalidYear
    age = now.year - int(digits)
    if not YOUNGEST_PLAUSIBLE_AGE <= age <= OLDEST_PLAUSIBLE_AGE:
        raise InvalidYear
    bands = [option for option in question.options.all() if option.min_age is not None]
    for option in bands:
        if option.min_age is not None and option.min_age <= age and (option.max_age is None or age <= option.max_age):
            start = age - age % 5
            return [option], f"{start}-{start + 4}"
    raise Underage


def end_participation(*, annotator: Annotator, state: str, now: datetime) -> bool:
    """Move an active person to a final state. Returns False when they had ended before."""
    ended = Annotator.objects.filter(pk=annotator.pk, state=Annotator.State.ACTIVE).update(state=state, ended_at=now)
    if ended:
        annotator.state, annotator.ended_at = state, now
    return bool(ended)


def erase_answers(*, annotator: Annotator) -> None:
    """Delete what the person told about themselves; consents stay as the proof of what was agreed."""
    DemographicAnswer.objects.filter(annotator=annotator).delete()
    QuestionnaireResponse.objects.filter(annotator=annotator).update(body_hash="")  # of one answer, a hash can be guessed back
