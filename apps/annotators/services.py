"""Joining, consenting, answering and leaving."""

import hashlib
import json
import secrets
from calendar import monthrange
from datetime import datetime
from functools import cache
from uuid import UUID
from zoneinfo import available_timezones

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.functions import Coalesce

from apps.annotators.errors import (
    AnswersDiffer,
    ConsentMissing,
    IdentityMissing,
    InvalidAnswers,
    LinkClosed,
    NotEligible,
    SubmissionConflict,
    Underage,
    UnknownLocale,
)
from apps.annotators.identities import OutsideIdentity, encrypt, outside_hash
from apps.annotators.models import Annotator, Consent, LinkOpening, PanelIdentity, RecruitmentLink
from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse
from apps.annotators.selectors import annotator_by_identity, current_consent_form, granted_consent, took_part_in
from apps.studies.models import ConsentForm, Option, Question, Questionnaire, Study, StudyLocale

YOUNGEST_PLAUSIBLE_AGE, OLDEST_PLAUSIBLE_AGE = 5, 115  # outside: a slip of the finger, not an answer


def join_study(
    *,
    link: RecruitmentLink,
    study_locale: StudyLocale,
    agreed: bool,
    submission_id: UUID,
    device_class: str,
    now: datetime,
    identity: OutsideIdentity | None = None,
    time_zone: str = "",
) -> Annotator:
    """Store a person, their consent and their panel's identity in one step.

    A second press with the same `submission_id` returns the same person, and so does another form of somebody whose
    `identity` has joined the study before: the unique constraints decide which of two came first. Somebody who took part
    in an excluded study is stored as turned away. A `time_zone` that does not exist is ignored.

    Raises `LinkClosed`, `UnknownLocale`, `ConsentMissing` (box not ticked), `IdentityMissing` (on the link of a panel),
    `SubmissionConflict` (id of another link or person).
    """
    if (identity is None) != (link.kind == RecruitmentLink.Kind.DIRECT):
        raise IdentityMissing
    if not link.is_open or not link.study.is_open:
        raise LinkClosed
    if not link.locales.filter(pk=study_locale.pk).exists():
        raise UnknownLocale
    if not agreed:
        raise ConsentMissing
    form = current_consent_form(study_locale, ConsentForm.Purpose.PARTICIPATION)
    if form is None:
        raise LinkClosed("the locale has no consent form")
    is_known = identity is not None and link.counts and took_part_in(studies=link.study.excluded_studies.all(), identity=identity)
    ending = {"state": Annotator.State.SCREENED_OUT, "end_reason": Annotator.EndReason.EARLIER_STUDY, "ended_at": now} if is_known else {}
    try:
        with transaction.atomic():
            annotator = Annotator.objects.create(
                study=link.study,
                study_locale=study_locale,
                recruitment_link=link,
                submission_id=submission_id,
                external_id_hash=_hash_of(link, identity),
                wave=link.study.wave,
                seed=secrets.randbits(62),
                device_class=device_class,
                time_zone=time_zone if time_zone in _time_zones() else "",
                joined_at=now,
                active_at=now,
                **ending,
            )
            _store_consent(annotator=annotator, form=form, granted=True, now=now)
            if identity is not None:
                PanelIdentity.objects.create(
                    annotator=annotator,
                    participant=encrypt(identity.participant),
                    panel_study=identity.panel_study,
                    panel_session=encrypt(identity.panel_session),
                    received_at=now,
                )
    except IntegrityError:
        existing = _joined_before(link=link, study_locale=study_locale, identity=identity, submission_id=submission_id)
        if existing is None:
            raise SubmissionConflict from None
        return existing
    return annotator


def _joined_before(
    *, link: RecruitmentLink, study_locale: StudyLocale, identity: OutsideIdentity | None, submission_id: UUID
) -> Annotator | None:
    """Whom a unique constraint kept from joining again: the same identity, or without one the same form."""
    if identity is not None:
        return annotator_by_identity(study=link.study, identity=identity)
    return Annotator.objects.filter(submission_id=submission_id, recruitment_link=link, study_locale=study_locale).first()


def _hash_of(link: RecruitmentLink, identity: OutsideIdentity | None) -> str | None:
    if identity is None:
        return None
    return outside_hash(study_pk=link.study_id, kind=identity.kind, participant=identity.participant)


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())  # walks the folders of the time zone database


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
) -> None:
    """Store a handed-in questionnaire.

    `answers` maps question codes to option codes (a year of birth: to the year or to an option code). A question left
    out is stored as not answered. The year itself is dropped: its age band and five-year group stay.
    Raises `InvalidAnswers` with every problem, `NotEligible` (and `Underage`, one of them) where an answer shows that the
    person cannot take part, `ConsentMissing`, `SubmissionConflict`; then nothing is stored.
    """
    body_hash = hashlib.sha256(json.dumps(answers, sort_keys=True).encode()).hexdigest()
    earlier = QuestionnaireResponse.objects.filter(submission_id=submission_id).first()
    if earlier is not None:
        if earlier.annotator_id != annotator.pk or earlier.body_hash != body_hash:
            raise SubmissionConflict
        return
    consent = granted_consent(annotator, questionnaire.consent)
    if consent is None:
        raise ConsentMissing
    chosen = _chosen_options(questionnaire=questionnaire, answers=answers, now=now)
    if any(option.screens_out for _, options, _ in chosen for option in options):
        raise NotEligible
    with transaction.atomic():
        response, created = QuestionnaireResponse.objects.get_or_create(
            annotator=annotator,
            questionnaire=questionnaire,
            defaults={"submission_id": submission_id, "body_hash": body_hash, "submitted_at": now},
        )
        if not created:
            return  # handed in from another tab: the first one stands
        DemographicAnswer.objects.bulk_create(
            DemographicAnswer(
                response=response, annotator=annotator, consent=consent, question=question, option=option, age_group=age_group
            )
            for question, options, age_group in chosen
            for option in options
        )


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
    if problems:
        raise InvalidAnswers(problems=problems)
    return chosen


class InvalidYear(InvalidAnswers):
    code = "invalid_year"


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


def end_participation(*, annotator: Annotator, state: str, now: datetime, reason: str = "") -> bool:
    """Move an active person to a final state, for one of `Annotator.EndReason`. Returns False when they had ended before."""
    active = Annotator.objects.filter(pk=annotator.pk, state=Annotator.State.ACTIVE)
    ended = active.update(state=state, ended_at=now, end_reason=reason)
    if ended:
        annotator.state, annotator.ended_at, annotator.end_reason = state, now, reason
    return bool(ended)


def erase_answers(*, annotator: Annotator) -> None:
    """Delete what the person told about themselves; consents stay as the proof of what was agreed."""
    DemographicAnswer.objects.filter(annotator=annotator).delete()
    QuestionnaireResponse.objects.filter(annotator=annotator).update(body_hash="")  # of one answer, a hash can be guessed back


def note_opening(*, link: RecruitmentLink, study_locale: StudyLocale, submission_id: UUID, now: datetime) -> None:
    """Count that a browser showed the first page of `link`; once per form, and never for a preview."""
    if link.purpose == RecruitmentLink.Purpose.PREVIEW:
        return
    opening = LinkOpening(link=link, study_locale=study_locale, submission_id=submission_id, opened_at=now)
    LinkOpening.objects.bulk_create([opening], ignore_conflicts=True)


def carry_answers(*, annotator: Annotator, study_locale: StudyLocale) -> None:
    """Bring the answers of a person who moves to `study_locale` over to its questionnaires.

    A questionnaire comes along when the other locale asks each of its questions, knows each chosen option by the same
    code, and asks nothing more. Of one that does not, the answers are dropped and it is asked anew; a person who has been
    admitted by them cannot do that. Raises `AnswersDiffer`.
    """
    for response in QuestionnaireResponse.objects.filter(annotator=annotator).select_related("questionnaire").order_by("pk"):
        stage = response.questionnaire.stage
        questionnaire = study_locale.questionnaires.filter(stage=stage).order_by("-version").first()
        asked_before = set(response.questionnaire.questions.values_list("code", flat=True))
        questions = {question.code: question for question in questionnaire.questions.prefetch_related("options")} if questionnaire else {}
        answers = list(response.answers.select_related("question", "option"))
        options = {(code, option.code): option for code, question in questions.items() for option in question.options.all()}
        known = all((answer.question.code, answer.option.code) in options for answer in answers)
        if questionnaire is not None and known and asked_before == set(questions):
            for answer in answers:
                answer.option = options[answer.question.code, answer.option.code]
                answer.question = questions[answer.question.code]
            DemographicAnswer.objects.bulk_update(answers, ["question", "option"])
            response.questionnaire = questionnaire
            response.save(update_fields=["questionnaire"])
            continue
        if annotator.admitted_at is not None:
            raise AnswersDiffer
        response.answers.all().delete()
        response.delete()


def delete_old_identities(*, now: datetime) -> int:
    """Delete the panel identities of people who ended, or were last active, longer ago than their study keeps them."""
    deleted = 0
    identities = PanelIdentity.objects.annotate(last_seen=Coalesce("annotator__ended_at", "annotator__active_at"))
    for study in Study.objects.filter(annotators__panel_identity__isnull=False).distinct():
        limit = _months_before(now, study.retention_months)
        deleted += _forget(identities.filter(annotator__study=study, last_seen__lt=limit))
    return deleted


def settle_payments(*, link: RecruitmentLink, until: datetime) -> int:
    """Mark what was due to people of `link` by `until` as paid, and forget who of them has withdrawn. Returns how many were forgotten."""
    with transaction.atomic():
        RecruitmentLink.objects.filter(pk=link.pk).update(settled_at=until)
        withdrawn = Annotator.objects.filter(recruitment_link=link, state=Annotator.State.WITHDRAWN, ended_at__lte=until)
        return _forget(PanelIdentity.objects.filter(annotator__in=withdrawn))


def _forget(identities: QuerySet[PanelIdentity]) -> int:
    """Delete `identities`; who of these people has withdrawn is not known again either. Returns how many there were."""
    with transaction.atomic():
        people = list(identities.values_list("annotator_id", flat=True))
        Annotator.objects.filter(pk__in=people, state=Annotator.State.WITHDRAWN).update(external_id_hash=None)
        return PanelIdentity.objects.filter(annotator__in=people).delete()[0]


def _months_before(moment: datetime, months: int) -> datetime:
    year, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, monthrange(year, month + 1)[1]))
