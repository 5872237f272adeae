"""What loading a study and importing prompts share: rows that are brought to what a file says, and a count of what that did."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import models

from apps.content.models import Prompt
from apps.desk.study_file.snapshot import current_prompts, texts_of
from apps.studies.models import Study

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
    is_gold: bool | None = None  # None: as it is


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
        was_gold = prompt is not None and prompt.is_gold
        is_gold = was_gold if row.is_gold is None else row.is_gold
        if prompt is not None and texts_of(prompt, "text") == row.texts:
            if prompt.topic_id == (topic.pk if topic else None) and was_gold == is_gold:
                counts[UNCHANGED] += 1
            else:
                prompt.topic, prompt.is_gold = topic, is_gold
                moved.append(prompt)
            continue
        if prompt is not None and is_pristine and prompt.pk not in used:
            prompt.topic, prompt.is_gold = topic, is_gold
            prompt.version = max(row.version, prompt.version)
            for name, text in translated("text", row.texts).items():
                setattr(prompt, name, text)
            corrected.append(prompt)
            continue
        if prompt is not None:
            retired.append(prompt.pk)
            counts[UPDATED] += 1
        else:
            counts[CREATED] += 1
        version = max(row.version, latest.get(row.key, 0) + 1)
        new.append(Prompt(study=study, key=row.key, topic=topic, version=version, is_gold=is_gold, **translated("text", row.texts)))
    counts[UPDATED] += len(corrected) + len(moved)
    if retire_others:
        counts[REMOVED] += len(current)
        unused = [prompt.pk for prompt in current.values() if is_pristine and prompt.pk not in used]
        study.prompts.filter(pk__in=unused).delete()
        retired += [prompt.pk for prompt in current.values()]
    study.prompts.filter(pk__in=retired).update(is_current=False)
    Prompt.objects.bulk_update(moved, ["topic", "is_gold"], batch_size=500)
    text_fields = list(translated("text", {}))
    Prompt.objects.bulk_update(corrected, ["topic", "is_gold", "version", *text_fields], batch_size=100)
    Prompt.objects.bulk_create(new, batch_size=500)
    return +counts


def translated(field_name: str, texts: dict[str, str]) -> dict[str, str | None]:
    """Values of all language columns of a translated field: a missing translation is None, never another language's text."""
    return {f"{field_name}_{language}": texts.get(language) for language in settings.CONTENT_LANGUAGES}


def assign(row: models.Model, values: dict[str, Any]) -> str:
    """Save those of `values` that differ. Returns UPDATED or UNCHANGED."""
    changed = [name for name, value in values.items() if getattr(row, name) != value]
    for name in changed:
        setattr(row, name, values[name])
    if changed:
        row.save(update_fields=changed)
    return UPDATED if changed else UNCHANGED
