"""What a study file may still change once people have joined the study.

The rule: whatever shapes the data of people who have already taken part stays as it is. Wording, prompts, targets,
links and more seats may change; see docs/study-files.md.
"""

from collections.abc import Iterator

from apps.desk.study_file.errors import Problem
from apps.desk.study_file.schema import StudyFile
from apps.desk.study_file.source import KeyPath, Source

_CONSENT_FACTS = ("organisation", "contact_email", "session_minutes", "retention_months")
_FIXED_STUDY_KEYS = ("conversations_per_annotator", "own_prompt_share", "seed")
_FIXED_LOCALE_KEYS = ("published_country", "explanation_min_words")


def forbidden_changes(source: Source, before: StudyFile, after: StudyFile) -> list[Problem]:
    """The differences between `before` (the study now) and `after` (the file) that must not happen during fieldwork."""
    changes = [
        *_study(before, after),
        *_locales(before, after),
        *_generation(before, after),
        *_quotas(before, after),
        *_links(before, after),
        *_prompts(before, after),
    ]
    return [source.problem(path, f"people have joined this study: {message}") for path, message in changes]


Change = tuple[KeyPath, str]


def _study(before: StudyFile, after: StudyFile) -> Iterator[Change]:
    for key in _FIXED_STUDY_KEYS:
        old, new = getattr(before.study, key), getattr(after.study, key)
        if old != new:
            yield ("study", key), f"expected {old} as before, found {new}"
    for key in _CONSENT_FACTS:
        old, new = getattr(before.study, key), getattr(after.study, key)
        if old != new:
            message = f"expected “{old}” as before, since they agreed to it; for newcomers write the new one into the consent texts"
            yield ("study", key), message
    if after.study.state == "draft":
        yield ("study", "state"), "expected open, paused or closed"
    if before.task_design != after.task_design:
        yield ("task_design",), "expected the task design as before"


def _locales(before: StudyFile, after: StudyFile) -> Iterator[Change]:
    places = {locale.tag: place for place, locale in enumerate(after.locales)}
    for old in before.locales:
        if old.tag not in places:
            yield ("locales",), f"expected the locale {old.tag} as before, found none"
            continue
        path: KeyPath = ("locales", places[old.tag])
        new = after.locales[places[old.tag]]
        for key in _FIXED_LOCALE_KEYS:
            if getattr(old, key) != getattr(new, key):
                yield (*path, key), f"expected {getattr(old, key)} as before"
        for section, key in [("consent", "sensitive"), *(("questionnaires", stage) for stage in ("eligibility", "before", "after"))]:
            if getattr(getattr(old, section), key) and not getattr(getattr(new, section), key):
                yield (*path, section), f"expected `{key}` as before, found none; its wording may change"


def _generation(before: StudyFile, after: StudyFile) -> Iterator[Change]:
    for key in before.recipes.keys() | after.recipes.keys():
        old_recipe, new_recipe = before.recipes.get(key), after.recipes.get(key)
        if not old_recipe or not new_recipe or old_recipe.parts != new_recipe.parts:
            yield ("recipes", key), "expected the recipes as before"
    for key, old in before.models.items():
        new = after.models.get(key)
        if new and (old.model, old.max_tokens, old.structured_output) != (new.model, new.max_tokens, new.structured_output):
            message = f"expected the model {old.model} with max_tokens {old.max_tokens} and structured_output "
            yield ("models", key), message + ("true as before" if old.structured_output else "false as before")
    for key, template in before.templates.items():
        if key in after.templates and after.templates[key].text != template.text:
            yield ("templates", key), "expected the instruction as before"


def _quotas(before: StudyFile, after: StudyFile) -> Iterator[Change]:
    for key in before.quotas.keys() | after.quotas.keys():
        old, new = before.quotas.get(key), after.quotas.get(key)
        if not old or not new:
            yield ("quotas", key), "expected the quotas as before; targets and kinds may change"
            continue
        if set(old.locales) != set(new.locales):
            yield ("quotas", key, "locales"), "expected the locales as before"
        if {name: cell.strata for name, cell in old.cells.items()} != {name: cell.strata for name, cell in new.cells.items()}:
            yield ("quotas", key, "cells"), "expected the cells and strata as before; targets may change"


def _prompts(before: StudyFile, after: StudyFile) -> Iterator[Change]:
    for key, prompt in after.prompts.items():
        if key in before.prompts and before.prompts[key].is_gold != prompt.is_gold:
            was = "true" if before.prompts[key].is_gold else "false"
            yield ("prompts", key, "is_gold"), f"expected {was} as before; use another key for the other kind"


def _links(before: StudyFile, after: StudyFile) -> Iterator[Change]:
    old = {link.name: link for link in before.recruitment_links}
    for place, link in enumerate(after.recruitment_links):
        for key in ("kind", "participant_parameter"):
            if link.name in old and getattr(old[link.name], key) != getattr(link, key):
                yield ("recruitment_links", place, key), f"expected “{getattr(old[link.name], key)}” as before; make another link instead"
