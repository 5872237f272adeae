"""Forms of recipes in the admin: a current recipe is whole, by the same rules as one of a study file."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.forms import BaseInlineFormSet

from apps.generation.completeness import PlannedPart, missing_markers, part_gaps, recipe_gaps
from apps.generation.models import Recipe, RecipePart, RecipePartVariant
from apps.studies.models import TurnDesign


class RecipePartFormSet(BaseInlineFormSet):
    """The parts of one recipe, which have to be whole where the recipe is current."""

    def clean(self) -> None:
        super().clean()
        recipe = self.instance
        if any(self.errors) or not recipe.is_current or recipe.study_id is None:
            return
        # The parts of a recipe that made sets are frozen, and their forms empty.
        frozen = recipe.pk is not None and recipe.candidate_sets.exists()
        parts = list(recipe.parts.all()) if frozen else [form.instance for form in self.forms if _is_kept(self, form)]
        planned = [_planned(part, part.variants.all() if part.pk else []) for part in parts]
        gaps = list(recipe_gaps(planned, shown=_sizes_shown(recipe)))
        told = [f"{'The recipe' if gap.part is None else f'Part {parts[gap.part].order}'}: {gap.message}." for gap in gaps]
        told += _gaps_of_instructions(recipe, parts) if parts else ["A current recipe has at least one part."]
        if any(gap.part is not None for gap in gaps):
            told.append("Save the recipe with “Is current” off, mend the variants on the page of the part, then make it current.")
        if told:
            raise ValidationError(told)


class RecipePartVariantFormSet(BaseInlineFormSet):
    """The variants of one part. Those of a current recipe have to be as many as the part's answers."""

    def clean(self) -> None:
        super().clean()
        part = self.instance
        if any(self.errors):
            return
        variants = [form.instance for form in self.forms if _is_kept(self, form)]
        others = list(part.recipe.parts.exclude(pk=part.pk).prefetch_related("variants")) if part.recipe.is_current else []
        planned = [_planned(part, variants), *(_planned(other, other.variants.all()) for other in others)]
        gaps = recipe_gaps(planned, shown=_sizes_shown(part.recipe)) if part.recipe.is_current else part_gaps(planned[0])
        told = []
        for gap in gaps:
            if not gap.part:
                where = "This part" if gap.part == 0 else "The recipe"
                told.append(f"{where if gap.variant is None else f'Variant {variants[gap.variant].order}'}: {gap.message}.")
        if part.recipe.is_current:
            told += _gaps_of_instructions(part.recipe, [part], {part.pk: variants})
        if told:
            raise ValidationError(told)


def _is_kept(formset: Any, form: Any) -> bool:
    """Whether the row of `form` is there once the formset is saved."""
    return (form.instance.pk is not None or form.has_changed()) and form not in formset.deleted_forms


def _planned(part: RecipePart, variants: Iterable[RecipePartVariant]) -> PlannedPart:
    named = []
    for row in variants:
        values = {"model": row.model_spec_id, "template": row.template_id}
        named.append([name for name, value in values.items() if value is not None])
    return PlannedPart(part.method, part.count, named)


def _sizes_shown(recipe: Recipe) -> set[int]:
    return set(TurnDesign.objects.filter(task_design__study=recipe.study_id).values_list("k", flat=True))


def _gaps_of_instructions(
    recipe: Recipe, parts: Sequence[RecipePart], variants: dict[int, list[RecipePartVariant]] | None = None
) -> list[str]:
    """Languages of the study that an instruction of `parts` lacks, and what else it has to hold. `variants`: unsaved ones, by part."""
    told: dict[str, None] = {}
    languages = list(dict.fromkeys(recipe.study.locales.values_list("language", flat=True)))
    for part in parts:
        rows = (variants or {}).get(part.pk, part.variants.all() if part.pk else [])
        for template in {row.template or part.template for row in rows} or {part.template}:
            texts = {language: getattr(template, f"text_{language}") or "" for language in languages}
            missing = [language for language, text in texts.items() if not text]
            if missing:
                told[f"The instruction {template} has no text in {', '.join(missing)}."] = None
            for text in filter(None, texts.values()):
                for marker in missing_markers(part.method, text, structured_output=part.model_spec.structured_output):
                    told[f"The instruction {template} lacks {marker}, which a negatively correlated part needs."] = None
    return list(told)
