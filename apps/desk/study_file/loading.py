"""A checked study file into the database: creates, updates, adds versions; never deletes what somebody has used."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.db import models, transaction
from django.utils import timezone

from apps.accounts.models import User
from apps.desk.study_file import schema
from apps.desk.study_file.balance import store_balance
from apps.desk.study_file.errors import FileRefused, Problem
from apps.desk.study_file.fieldwork import forbidden_changes
from apps.desk.study_file.loading_generation import load_generation
from apps.desk.study_file.pay import store_excluded, store_pay
from apps.desk.study_file.plan import bring_seats_to_overlap, let_go_of_quota, store_plan
from apps.desk.study_file.reading import read_study_file
from apps.desk.study_file.sample import store_sample
from apps.desk.study_file.snapshot import read_study
from apps.desk.study_file.source import Source
from apps.desk.study_file.storing import CREATED, REMOVED, UNCHANGED, UPDATED, LoadReport, PromptRow, assign, store_prompts, translated
from apps.studies.models import (
    Guideline,
    Option,
    PracticeTask,
    Question,
    Questionnaire,
    Study,
    StudyLocale,
    StudyMembership,
    TaskDesign,
    TurnDesign,
)


def load_study_file(path: str | Path, *, owner: User | None = None) -> LoadReport:
    """Create the study of the file at `path`, or bring the existing one to what the file says, in one transaction.

    `owner` becomes an owner of the study. Loading the same file again changes nothing. Seats and candidate sets are
    not made here: `pregenerate` does that.

    Raises `FileRefused` with every problem (file, line, key, what was expected); then nothing has been stored.
    """
    source, file = read_study_file(Path(path))
    with transaction.atomic():
        study = Study.objects.select_for_update().filter(slug=file.study.slug).first()
        if study and study.annotators.exists():
            problems = forbidden_changes(source, read_study(study), file)
            if problems:
                raise FileRefused(source.name, problems)
        report = _Loading(source, file, study).run()
        store_excluded(report.study, source, file.study.excluded_studies, owner, report.add)
        if owner is not None:
            StudyMembership.objects.update_or_create(study=report.study, user=owner, defaults={"role": StudyMembership.Role.OWNER})
    return report


class _Loading:
    """One load. Each method brings one kind of row to what the file says and counts what it did."""

    def __init__(self, source: Source, file: schema.StudyFile, study: Study | None) -> None:
        self.source = source
        self.file = file
        # Texts of a study that was never opened are corrected in place: nobody can have read them.
        self.is_pristine = study is None or not (study.opened_at or study.is_open or study.annotators.exists())
        self.before = read_study(study) if study else None
        row, outcome = self._store_study(study)
        self.report = LoadReport(row)
        self.report.add("study", outcome)

    @property
    def study(self) -> Study:
        return self.report.study

    def run(self) -> LoadReport:
        self._task_design()
        self._locales()
        store_pay(self.file.locales, self.locale_rows, self.report.add)
        self._topics()
        self._count_prompts()
        load_generation(self.study, self.file, before=self.before, is_pristine=self.is_pristine, report=self.report)
        let_go_of_quota(self.study, self.file.assignment)
        self._quotas()
        self._assignment()
        store_balance(self.study, self.file.balance, self.locale_rows, self.report.add)
        self._links()
        self._remove_unused()
        bring_seats_to_overlap(self.study, self.before)
        return self.report

    def _store_study(self, study: Study | None) -> tuple[Study, str]:
        part = self.file.study
        values: dict[str, Any] = part.model_dump(exclude={"slug", "state", "title", "invitation", "excluded_studies"})
        values |= translated("title", part.title) | translated("invitation", part.invitation or {})
        state = (part.state or (study.state if study else Study.State.DRAFT)).upper()
        values["state"] = state
        if state == Study.State.OPEN and not (study and study.opened_at):
            values["opened_at"] = timezone.now()
        if study is None:
            return Study.objects.create(slug=part.slug, **values), CREATED
        return study, assign(study, values)

    def _task_design(self) -> None:
        if self.before and self.before.task_design == self.file.task_design:
            self.report.add("task design", UNCHANGED)
            return
        part = self.file.task_design
        design, created = TaskDesign.objects.update_or_create(
            study=self.study,
            defaults={
                "min_turns": part.min_turns,
                "max_turns": part.max_turns,
                "explanation_policy": part.explanation.policy.upper(),
                "explanation_min_words": part.explanation.min_words,
            },
        )
        design.turn_designs.all().delete()
        for turns in part.turns:
            TurnDesign.objects.create(
                task_design=design,
                first_turn=turns.first,
                last_turn=turns.last,
                form=turns.form.upper(),
                k=turns.k,
                next_turn_source=turns.next_turn_source.upper(),
            )
        self.report.add("task design", CREATED if created else UPDATED)

    # --- Locales and their texts ---

    def _locales(self) -> None:
        existing = {locale.tag: locale for locale in self.study.locales.all()}
        parts_before = {part.tag: part for part in self.before.locales} if self.before else {}
        self.locale_rows: dict[str, StudyLocale] = {}
        for part in self.file.locales:
            values = {key: getattr(part, key) for key in ("name", "published_country", "time_zone", "explanation_min_words")}
            locale = existing.pop(part.tag, None)
            if locale is None:
                locale = StudyLocale.objects.create(study=self.study, country=part.country, language=part.language, **values)
                self.report.add("locales", CREATED)
            else:
                self.report.add("locales", assign(locale, values))
            self.locale_rows[part.tag] = locale
            self._locale_texts(locale, part, parts_before.get(part.tag))
        for tag, locale in existing.items():
            self._delete(locale, ("locales",), f"expected the locale {tag}, since work has been stored for it")
            self.report.add("locales", REMOVED)

    def _locale_texts(self, locale: StudyLocale, new: schema.LocalePart, old: schema.LocalePart | None) -> None:
        for purpose in ("participation", "sensitive"):
            part, before = getattr(new.consent, purpose), getattr(old.consent, purpose) if old else None
            values = {"title": part.title, "body": part.body, "statement": part.statement} if part else {}
            self._versioned(locale.consent_forms, {"purpose": purpose.upper()}, part, before, values)
        values = {"title": new.guideline.title, "body": new.guideline.body}
        guideline = self._versioned(locale.guidelines, {}, new.guideline, old.guideline if old else None, values)
        if guideline:
            self._practice(guideline, new.guideline)
        for stage in ("eligibility", "before", "after"):
            part, before = getattr(new.questionnaires, stage), getattr(old.questionnaires, stage) if old else None
            values = {"title": part.title, "intro": part.intro, "consent": part.consent.upper()} if part else {}
            questionnaire = self._versioned(locale.questionnaires, {"stage": stage.upper()}, part, before, values)
            if questionnaire:
                self._questions(questionnaire, part)

    def _versioned(self, rows: Any, which: dict[str, str], part: Any, before: Any, values: dict[str, Any]) -> Any:
        """Bring one versioned text to `part`. Returns the row whose children are to be written, None if nothing changed.

        `rows` is the locale's related manager, `which` picks purpose or stage, `before` is the newest version's content.
        """
        what = str(rows.model._meta.verbose_name_plural)
        if part is None:
            if before is not None:
                rows.filter(**which).delete()
                self.report.add(what, REMOVED)
            return None
        if before is None:
            self.report.add(what, CREATED)
            return rows.create(**which, version=part.version, **values)
        if _same_but_version(before, part):
            self.report.add(what, UNCHANGED)
            return None
        self.report.add(what, UPDATED)
        current = rows.filter(**which).order_by("-version").first()
        if self.is_pristine:
            assign(current, values | {"version": max(part.version, current.version)})
            return current
        return rows.create(**which, version=max(part.version, current.version + 1), **values)

    def _practice(self, guideline: Guideline, part: schema.GuidelinePart) -> None:
        guideline.practice_tasks.all().delete()
        PracticeTask.objects.bulk_create(
            PracticeTask(guideline=guideline, order=order, **task.model_dump()) for order, task in enumerate(part.practice, start=1)
        )

    def _questions(self, questionnaire: Questionnaire, part: schema.QuestionnairePart) -> None:
        questionnaire.questions.all().delete()
        options = []
        for order, asked in enumerate(part.questions, start=1):
            values = asked.model_dump(exclude={"options", "type", "column"})
            question = Question.objects.create(
                questionnaire=questionnaire, order=order, type=asked.type.upper(), column=asked.column or "", **values
            )
            options += [Option(question=question, order=place, **o.model_dump()) for place, o in enumerate(asked.options, start=1)]
        Option.objects.bulk_create(options)

    # --- Content ---

    def _topics(self) -> None:
        existing = {topic.key: topic for topic in self.study.topics.all()}
        for key, titles in self.file.topics.items():
            values = translated("title", titles)
            if key in existing:
                self.report.add("topics", assign(existing[key], values))
            else:
                self.study.topics.create(key=key, **values)
                self.report.add("topics", CREATED)

    def _count_prompts(self) -> None:
        rows = [PromptRow(key, part.topic, part.text, part.version, part.is_gold) for key, part in self.file.prompts.items()]
        for outcome, count in store_prompts(study=self.study, rows=rows, retire_others=True).items():
            self.report.add("prompts", outcome, count)

    # --- Sample ---

    def _quotas(self) -> None:
        store_sample(study=self.study, source=self.source, file=self.file, locales=self.locale_rows, add=self.report.add)

    def _assignment(self) -> None:
        outcome = store_plan(self.study, self.file.assignment)
        if outcome is not None:
            self.report.add("assignment plan", outcome)

    def _links(self) -> None:
        existing = {link.name: link for link in self.study.recruitment_links.all()}
        for part in self.file.recruitment_links:
            values = part.model_dump(exclude={"name", "locales"}) | {"kind": part.kind.upper(), "purpose": part.purpose.upper()}
            link = existing.pop(part.name, None)
            if link is None:
                link = self.study.recruitment_links.create(name=part.name, **values)
                outcome = CREATED
            else:
                outcome = assign(link, values)
            self.report.add("recruitment links", _set_locales(link, [self.locale_rows[tag] for tag in part.locales], outcome))
        for link in existing.values():
            if not link.annotators.exists():
                link.delete()
                self.report.add("recruitment links", REMOVED)
            else:
                self.report.add("recruitment links", REMOVED if assign(link, {"is_open": False}) == UPDATED else UNCHANGED)

    # --- What the file no longer has ---

    def _remove_unused(self) -> None:
        """Topics, templates and models that left the file go, unless earlier versions of prompts or recipes still point at them."""
        leftovers: Iterable[tuple[str, models.QuerySet[Any]]] = [
            ("topics", self.study.topics.exclude(key__in=self.file.topics)),
            ("instruction templates", self.study.instruction_templates.exclude(key__in=self.file.templates)),
            ("models", self.study.model_specs.exclude(key__in=self.file.models)),
        ]
        for what, rows in leftovers:
            for row in rows:
                with contextlib.suppress(models.ProtectedError), transaction.atomic():
                    row.delete()
                    self.report.add(what, REMOVED)

    def _delete(self, row: models.Model, path: Any, message: str) -> None:
        try:
            row.delete()
        except models.ProtectedError as error:
            raise FileRefused(self.source.name, [Problem(self.source.line(path), self.source.label(path), message)]) from error


def _set_locales(row: Any, locales: list[StudyLocale], outcome: str) -> str:
    if {locale.pk for locale in row.locales.all()} == {locale.pk for locale in locales}:
        return outcome
    row.locales.set(locales)
    return outcome if outcome == CREATED else UPDATED


def _same_but_version(first: schema.Part, second: schema.Part) -> bool:
    return first.model_copy(update={"version": 1}) == second.model_copy(update={"version": 1})
