"""A checked study file into the database: creates, updates, adds versions; never deletes what somebody has used."""

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from apps.accounts.models import User
from apps.content.models import Prompt
from apps.desk.study_file import schema
from apps.desk.study_file.errors import FileRefused, Problem
from apps.desk.study_file.fieldwork import forbidden_changes
from apps.desk.study_file.reading import read_study_file
from apps.desk.study_file.snapshot import current_prompts, current_templates, read_study, texts_of
from apps.desk.study_file.source import Source
from apps.generation.models import GenerationPolicy, InstructionTemplate, ModelSpec, Recipe, RecipePart, RecipePartVariant, ValueScore
from apps.quotas.models import QuotaCell
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

CREATED, UPDATED, UNCHANGED, REMOVED = "created", "updated", "unchanged", "removed"


@dataclass
class LoadReport:
    """What a load did: for each kind of row, how many were created, updated, unchanged or removed.

    A new version of a changed text counts as updated; a prompt, recipe or link taken out of use counts as removed.
    """

    study: Study
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, what: str, outcome: str, count: int = 1) -> None:
        if count:
            self.counts.setdefault(what, Counter())[outcome] += count

    def total(self, outcome: str) -> int:
        return sum(counter[outcome] for counter in self.counts.values())


@dataclass(frozen=True)
class PromptRow:
    """A prompt as a file gives it: texts by language."""

    key: str
    topic: str | None
    texts: dict[str, str]
    version: int = 1


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
        self._topics()
        self._count_prompts()
        self._models()
        stale = self._templates()
        self._recipes(stale)
        self._generation()
        self._quotas()
        self._links()
        self._remove_unused()
        return self.report

    def _store_study(self, study: Study | None) -> tuple[Study, str]:
        part = self.file.study
        values: dict[str, Any] = part.model_dump(exclude={"slug", "state", "title", "invitation"})
        values |= _translated("title", part.title) | _translated("invitation", part.invitation or {})
        state = (part.state or (study.state if study else Study.State.DRAFT)).upper()
        values["state"] = state
        if state == Study.State.OPEN and not (study and study.opened_at):
            values["opened_at"] = timezone.now()
        if study is None:
            return Study.objects.create(slug=part.slug, **values), CREATED
        return study, _assign(study, values)

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
            values = {key: getattr(part, key) for key in ("name", "published_country", "explanation_min_words")}
            locale = existing.pop(part.tag, None)
            if locale is None:
                locale = StudyLocale.objects.create(study=self.study, country=part.country, language=part.language, **values)
                self.report.add("locales", CREATED)
            else:
                self.report.add("locales", _assign(locale, values))
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
            _assign(current, values | {"version": max(part.version, current.version)})
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
            values = _translated("title", titles)
            if key in existing:
                self.report.add("topics", _assign(existing[key], values))
            else:
                self.study.topics.create(key=key, **values)
                self.report.add("topics", CREATED)

    def _count_prompts(self) -> None:
        rows = [PromptRow(key, part.topic, part.text, part.version) for key, part in self.file.prompts.items()]
        for outcome, count in store_prompts(study=self.study, rows=rows, retire_others=True).items():
            self.report.add("prompts", outcome, count)

    # --- Generation ---

    def _models(self) -> None:
        existing = {spec.key: spec for spec in self.study.model_specs.select_related("replacement")}
        outcomes: dict[str, str] = {}
        self.model_rows: dict[str, ModelSpec] = {}
        for key, part in self.file.models.items():
            spec = existing.get(key)
            values = part.model_dump(exclude={"replacement"})
            if spec is None:
                spec = ModelSpec.objects.create(study=self.study, key=key, **values)
                outcomes[key] = CREATED
            else:
                outcomes[key] = _assign(spec, values)
            self.model_rows[key] = spec
        for key, part in self.file.models.items():  # once all models that they may name are there
            replacement = self.model_rows[part.replacement] if part.replacement else None
            outcome = _assign(self.model_rows[key], {"replacement": replacement})
            self.report.add("models", outcome if outcomes[key] == UNCHANGED else outcomes[key])

    def _templates(self) -> set[str]:
        """Returns the keys of the templates whose text is another than before."""
        existing = {template.key: template for template in current_templates(self.study)}
        made = self.study.recipes.filter(candidate_sets__isnull=False)
        used = {pk for pks in made.values_list("parts__template_id", "parts__variants__template_id") for pk in pks}
        used.update(ValueScore.objects.filter(rubric__study=self.study).values_list("rubric_id", flat=True))
        changed = set()
        self.template_rows: dict[str, InstructionTemplate] = {}
        for key, part in self.file.templates.items():
            template = existing.get(key) or self.study.instruction_templates.filter(key=key).order_by("-version").first()
            if template is None:
                template = InstructionTemplate.objects.create(
                    study=self.study, key=key, version=part.version, **_translated("text", part.text)
                )
                self.report.add("instruction templates", CREATED)
            elif texts_of(template, "text") == part.text:
                self.report.add("instruction templates", UNCHANGED)
            else:
                changed.add(key)
                version = max(part.version, template.version + 1)
                if template.pk in used or not self.is_pristine:
                    template = InstructionTemplate.objects.create(
                        study=self.study, key=key, version=version, **_translated("text", part.text)
                    )
                else:
                    _assign(template, _translated("text", part.text) | {"version": max(part.version, template.version)})
                self.report.add("instruction templates", UPDATED)
            self.template_rows[key] = template
        return changed

    def _recipes(self, changed_templates: set[str]) -> None:
        """A recipe that gives other candidates than before is a new version, so that made sets keep telling how they were made."""
        before = self.before.recipes if self.before else {}
        changed_models = {
            key
            for key, part in (self.before.models if self.before else {}).items()
            if key in self.file.models and _endpoint(part) != _endpoint(self.file.models[key])
        }
        existing = {recipe.key: recipe for recipe in self.study.recipes.filter(is_current=True)}
        for key, part in self.file.recipes.items():
            recipe = existing.pop(key, None)
            stale = not (_templates_of(part).isdisjoint(changed_templates) and _models_of(part).isdisjoint(changed_models))
            if recipe and before[key].parts == part.parts and not stale:
                self.report.add("recipes", UNCHANGED)
                continue
            self.report.add("recipes", UPDATED if recipe else CREATED)
            if recipe and not self._is_used(recipe):
                recipe.parts.all().delete()
                _assign(recipe, {"version": max(part.version, recipe.version)})
            else:
                if recipe:
                    _assign(recipe, {"is_current": False})
                latest = self.study.recipes.filter(key=key).aggregate(models.Max("version"))["version__max"] or 0
                recipe = Recipe.objects.create(study=self.study, key=key, version=max(part.version, latest + 1))
            for order, p in enumerate(part.parts, start=1):
                row = RecipePart.objects.create(
                    recipe=recipe,
                    order=order,
                    method=p.method,
                    count=p.count,
                    model_spec=self.model_rows[p.model],
                    template=self.template_rows[p.template],
                    temperature=p.temperature,
                )
                for place, variant in enumerate(p.variants, start=1):
                    RecipePartVariant.objects.create(
                        recipe_part=row,
                        order=place,
                        model_spec=self.model_rows[variant.model] if variant.model else None,
                        template=self.template_rows[variant.template] if variant.template else None,
                    )
        for recipe in existing.values():
            if self._is_used(recipe):
                _assign(recipe, {"is_current": False})
            else:
                recipe.delete()
            self.report.add("recipes", REMOVED)

    def _generation(self) -> None:
        policy = GenerationPolicy.objects.filter(study=self.study).first()
        if policy is None and self.file.generation is None:
            return
        part = self.file.generation or schema.GenerationPart()
        names = {"moderation_model", "judge_model", "judge_template"}
        values = part.model_dump(exclude=names) | {
            "moderation_model": self.model_rows[part.moderation_model] if part.moderation_model else None,
            "judge_model": self.model_rows[part.judge_model] if part.judge_model else None,
            "judge_template": self.template_rows[part.judge_template] if part.judge_template else None,
        }
        if policy is None:
            GenerationPolicy.objects.create(study=self.study, **values)
            self.report.add("generation policy", CREATED)
        else:
            self.report.add("generation policy", _assign(policy, values))

    def _is_used(self, recipe: Recipe) -> bool:
        return recipe.candidate_sets.exists() or not self.is_pristine

    # --- Sample ---

    def _quotas(self) -> None:
        existing = {quota.key: quota for quota in self.study.quotas.all()}
        for key, part in self.file.quotas.items():
            quota = existing.pop(key, None)
            if quota is None:
                quota = self.study.quotas.create(key=key, kind=part.kind.upper())
                outcome = CREATED
            else:
                outcome = _assign(quota, {"kind": part.kind.upper()})
            outcome = _set_locales(quota, [self.locale_rows[tag] for tag in part.locales], outcome)
            cells = {cell.key: cell for cell in quota.cells.all()}
            for name, cell_part in part.cells.items():
                cell = cells.pop(name, None)
                if cell is None:
                    QuotaCell.objects.create(quota=quota, key=name, target=cell_part.target, strata=cell_part.strata)
                    outcome = outcome if outcome == CREATED else UPDATED
                elif _assign(cell, cell_part.model_dump()) == UPDATED:
                    outcome = UPDATED
            for cell in cells.values():
                self._delete(cell, ("quotas", key, "cells"), f"expected the cell {cell.key}, since people hold places in it")
                outcome = UPDATED
            self.report.add("quotas", outcome)
        for quota in existing.values():
            self._delete(quota, ("quotas",), f"expected the quota {quota.key}, since people hold places in it")
            self.report.add("quotas", REMOVED)

    def _links(self) -> None:
        existing = {link.name: link for link in self.study.recruitment_links.all()}
        for part in self.file.recruitment_links:
            values = part.model_dump(exclude={"name", "locales", "purpose"}) | {"purpose": part.purpose.upper()}
            link = existing.pop(part.name, None)
            if link is None:
                link = self.study.recruitment_links.create(name=part.name, **values)
                outcome = CREATED
            else:
                outcome = _assign(link, values)
            self.report.add("recruitment links", _set_locales(link, [self.locale_rows[tag] for tag in part.locales], outcome))
        for link in existing.values():
            if not link.annotators.exists():
                link.delete()
                self.report.add("recruitment links", REMOVED)
            else:
                self.report.add("recruitment links", REMOVED if _assign(link, {"is_open": False}) == UPDATED else UNCHANGED)

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


def store_prompts(*, study: Study, rows: list[PromptRow], retire_others: bool = False) -> Counter[str]:
    """Bring the study's current prompts to `rows`: new keys are created, other texts become new versions.

    A changed prompt that has no seat yet, in a study that was never opened, is corrected in place. With `retire_others`
    the current prompts that are not among `rows` leave the study (`is_current` false; deleted where never used).
    Topics must exist. Returns how many were created, updated, unchanged and removed.
    """
    counts: Counter[str] = Counter()
    topics = {topic.key: topic for topic in study.topics.all()}
    current = {prompt.key: prompt for prompt in current_prompts(study)}
    latest: dict[str, int] = dict(study.prompts.values_list("key").annotate(models.Max("version")).values_list("key", "version__max"))
    is_pristine = not (study.opened_at or study.annotators.exists())
    used = set(study.prompts.filter(slots__isnull=False).values_list("pk", flat=True).distinct()) if is_pristine else set()
    new, corrected, moved, retired = [], [], [], []
    for row in rows:
        topic = topics[row.topic] if row.topic else None
        prompt = current.pop(row.key, None)
        if prompt is not None and texts_of(prompt, "text") == row.texts:
            if prompt.topic_id == (topic.pk if topic else None):
                counts[UNCHANGED] += 1
            else:
                prompt.topic = topic
                moved.append(prompt)
            continue
        if prompt is not None and is_pristine and prompt.pk not in used:
            prompt.topic = topic
            prompt.version = max(row.version, prompt.version)
            for name, text in _translated("text", row.texts).items():
                setattr(prompt, name, text)
            corrected.append(prompt)
            continue
        if prompt is not None:
            retired.append(prompt.pk)
            counts[UPDATED] += 1
        else:
            counts[CREATED] += 1
        version = max(row.version, latest.get(row.key, 0) + 1)
        new.append(Prompt(study=study, key=row.key, topic=topic, version=version, **_translated("text", row.texts)))
    counts[UPDATED] += len(corrected) + len(moved)
    if retire_others:
        counts[REMOVED] += len(current)
        unused = [prompt.pk for prompt in current.values() if is_pristine and prompt.pk not in used]
        study.prompts.filter(pk__in=unused).delete()
        retired += [prompt.pk for prompt in current.values()]
    study.prompts.filter(pk__in=retired).update(is_current=False)
    Prompt.objects.bulk_update(moved, ["topic"], batch_size=500)
    text_fields = list(_translated("text", {}))
    Prompt.objects.bulk_update(corrected, ["topic", "version", *text_fields], batch_size=100)
    Prompt.objects.bulk_create(new, batch_size=500)
    return +counts


def _translated(field_name: str, texts: dict[str, str]) -> dict[str, str | None]:
    """Values of all language columns of a translated field: a missing translation is None, never another language's text."""
    return {f"{field_name}_{language}": texts.get(language) for language in settings.CONTENT_LANGUAGES}


def _assign(row: models.Model, values: dict[str, Any]) -> str:
    """Save those of `values` that differ. Returns UPDATED or UNCHANGED."""
    changed = [name for name, value in values.items() if getattr(row, name) != value]
    for name in changed:
        setattr(row, name, values[name])
    if changed:
        row.save(update_fields=changed)
    return UPDATED if changed else UNCHANGED


def _set_locales(row: Any, locales: list[StudyLocale], outcome: str) -> str:
    if {locale.pk for locale in row.locales.all()} == {locale.pk for locale in locales}:
        return outcome
    row.locales.set(locales)
    return outcome if outcome == CREATED else UPDATED


def _same_but_version(first: schema.Part, second: schema.Part) -> bool:
    return first.model_copy(update={"version": 1}) == second.model_copy(update={"version": 1})


def _models_of(recipe: schema.RecipePart) -> set[str | None]:
    return {key for part in recipe.parts for key in (part.model, *(variant.model for variant in part.variants))}


def _templates_of(recipe: schema.RecipePart) -> set[str | None]:
    return {key for part in recipe.parts for key in (part.template, *(variant.template for variant in part.variants))}


def _endpoint(part: schema.ModelPart) -> tuple[str, str, int, bool]:
    return part.base_url, part.model, part.max_tokens, part.structured_output
