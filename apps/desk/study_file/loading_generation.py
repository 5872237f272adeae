"""The generation part of a study file into the database: models, instruction templates, recipes and the policy."""

from django.db.models import Max

from apps.desk.study_file import schema
from apps.desk.study_file.snapshot import current_templates, texts_of
from apps.desk.study_file.storing import CREATED, REMOVED, UNCHANGED, UPDATED, LoadReport, assign, translated
from apps.generation.models import GenerationPolicy, InstructionTemplate, ModelSpec, Recipe, RecipePart, RecipePartVariant, ValueScore
from apps.studies.models import Study


def load_generation(
    study: Study, file: schema.StudyFile, *, before: schema.StudyFile | None, is_pristine: bool, report: LoadReport
) -> None:
    """Bring models, templates, recipes and policy of `study` to what `file` says; `before` is what the study was.

    `is_pristine`: nobody can have read anything of the study, so texts are corrected in place.
    """
    loading = _Loading(study, file, before, is_pristine, report)
    loading.load_models()
    loading.load_recipes(loading.load_templates())
    loading.load_policy()


class _Loading:
    """Each method brings one kind of row to what the file says and counts what it did."""

    def __init__(
        self, study: Study, file: schema.StudyFile, before: schema.StudyFile | None, is_pristine: bool, report: LoadReport
    ) -> None:
        self.study = study
        self.file = file
        self.before = before
        self.is_pristine = is_pristine
        self.report = report
        self.model_rows: dict[str, ModelSpec] = {}
        self.template_rows: dict[str, InstructionTemplate] = {}

    def load_models(self) -> None:
        existing = {spec.key: spec for spec in self.study.model_specs.select_related("replacement")}
        outcomes: dict[str, str] = {}
        for key, part in self.file.models.items():
            spec = existing.get(key)
            values = part.model_dump(exclude={"replacement"})
            if spec is None:
                spec = ModelSpec.objects.create(study=self.study, key=key, **values)
                outcomes[key] = CREATED
            else:
                outcomes[key] = assign(spec, values)
            self.model_rows[key] = spec
        for key, part in self.file.models.items():  # once all models that they may name are there
            replacement = self.model_rows[part.replacement] if part.replacement else None
            outcome = assign(self.model_rows[key], {"replacement": replacement})
            self.report.add("models", outcome if outcomes[key] == UNCHANGED else outcomes[key])

    def load_templates(self) -> set[str]:
        """Returns the keys of the templates whose text is another than before."""
        existing = {template.key: template for template in current_templates(self.study)}
        made = self.study.recipes.filter(candidate_sets__isnull=False)
        used = {pk for pks in made.values_list("parts__template_id", "parts__variants__template_id") for pk in pks}
        used.update(ValueScore.objects.filter(rubric__study=self.study).values_list("rubric_id", flat=True))
        changed = set()
        for key, part in self.file.templates.items():
            template = existing.get(key) or self.study.instruction_templates.filter(key=key).order_by("-version").first()
            if template is None:
                template = InstructionTemplate.objects.create(
                    study=self.study, key=key, version=part.version, **translated("text", part.text)
                )
                self.report.add("instruction templates", CREATED)
            elif texts_of(template, "text") == part.text:
                self.report.add("instruction templates", UNCHANGED)
            else:
                changed.add(key)
                version = max(part.version, template.version + 1)
                if template.pk in used or not self.is_pristine:
                    template = InstructionTemplate.objects.create(
                        study=self.study, key=key, version=version, **translated("text", part.text)
                    )
                else:
                    assign(template, translated("text", part.text) | {"version": max(part.version, template.version)})
                self.report.add("instruction templates", UPDATED)
            self.template_rows[key] = template
        return changed

    def load_recipes(self, changed_templates: set[str]) -> None:
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
                assign(recipe, {"version": max(part.version, recipe.version)})
            else:
                if recipe:
                    assign(recipe, {"is_current": False})
                latest = self.study.recipes.filter(key=key).aggregate(Max("version"))["version__max"] or 0
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
                assign(recipe, {"is_current": False})
            else:
                recipe.delete()
            self.report.add("recipes", REMOVED)

    def load_policy(self) -> None:
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
            self.report.add("generation policy", assign(policy, values))

    def _is_used(self, recipe: Recipe) -> bool:
        return recipe.candidate_sets.exists() or not self.is_pristine


def _models_of(recipe: schema.RecipePart) -> set[str | None]:
    return {key for part in recipe.parts for key in (part.model, *(variant.model for variant in part.variants))}


def _templates_of(recipe: schema.RecipePart) -> set[str | None]:
    return {key for part in recipe.parts for key in (part.template, *(variant.template for variant in part.variants))}


def _endpoint(part: schema.ModelPart) -> tuple[str, str, int, bool]:
    return part.base_url, part.model, part.max_tokens, part.structured_output
