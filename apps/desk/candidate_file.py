"""Candidates written or chosen by hand, from a JSONL file into a study: all or nothing."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db import transaction

from apps.accounts.models import User
from apps.annotation.services.reviewing import SetWasShown, curate_candidate_set
from apps.content.models import Prompt
from apps.desk.study_file.errors import FileRefused, Problem
from apps.desk.study_file.source import decode, read_bounded
from apps.generation.arms import arms_of_study
from apps.generation.models import Recipe
from apps.generation.services.reviewing import CandidatesRefused, NotReviewable, fault_text
from apps.studies.models import Study

MAX_BYTES = 100 * 1024 * 1024
MAX_PROBLEMS = 1000
KEYS = ("prompt", "language", "candidates")


@dataclass(frozen=True)
class _Line:
    """One set as the file gives it, with the prompt's text in that language and the recipe of the prompt's arm."""

    number: int
    label: str
    recipe: Recipe
    language: str
    text: str
    candidates: list[str]


Progress = Callable[[list[_Line]], Iterator[_Line]]


def import_candidate_file(
    *, study: Study, path: str | Path, now: datetime, reviewer: User | None = None, progress: Progress | None = None
) -> Counter[str]:
    """Store the candidates of `path` (a JSON object a line: prompt key, language, candidates by slot) as READY sets of source “curated”.

    A set that the study has for that prompt and language already is rejected in favour of the new one, unless somebody has
    seen it. The same file again changes nothing. `progress(lines)` wraps the lines while they are checked and stored.
    Returns how many sets were stored and how many were there already (stored, unchanged).
    Raises `FileRefused` with every problem by line; then nothing has been stored.
    """
    path = Path(path)
    problems: list[Problem] = []
    counts: Counter[str] = Counter()
    text = decode(path.name, read_bounded(path, MAX_BYTES))
    with transaction.atomic():
        study = Study.objects.select_for_update().get(pk=study.pk)
        lines = _lines(study, text, problems)
        if not lines and not problems:
            problems.append(Problem(1, "", "expected at least one candidate set, found none"))
        for line in progress(lines) if progress else lines:
            try:
                _, is_new = curate_candidate_set(
                    recipe=line.recipe, language=line.language, text=line.text, texts=line.candidates, reviewer=reviewer, now=now
                )
                counts["stored" if is_new else "unchanged"] += 1
            except CandidatesRefused as refused:
                for fault in refused.faults:
                    _add(path.name, problems, line.number, line.label, f"{fault_text(fault)} ({fault.code})")
            except (NotReviewable, SetWasShown) as refused:
                _add(path.name, problems, line.number, line.label, str(refused))
        if problems:
            raise FileRefused(path.name, problems)
    return counts


def _add(name: str, problems: list[Problem], line: int, key: str, message: str) -> None:
    problems.append(Problem(line, key, message))
    if len(problems) == MAX_PROBLEMS:
        problems.append(Problem(line + 1, "", f"the first {MAX_PROBLEMS} problems are listed; the file was read no further"))
        raise FileRefused(name, problems)


def _lines(study: Study, text: str, problems: list[Problem]) -> list[_Line]:
    languages = list(dict.fromkeys(study.locales.order_by("pk").values_list("language", flat=True)))
    prompts = {prompt.key: prompt for prompt in Prompt.objects.current().filter(study=study)}
    arms = arms_of_study(study)
    seen: dict[tuple[str, str], int] = {}
    lines = []
    for number, content in enumerate(text.split("\n"), start=1):
        if not content.strip() or len(problems) > MAX_PROBLEMS:
            continue
        row = _object(content, number, problems)
        if row is None:
            continue
        before = len(problems)
        key, language, candidates = row["prompt"], row["language"], row["candidates"]
        label = f"{key}, {language}"
        if not isinstance(key, str) or key not in prompts:
            problems.append(Problem(number, "prompt", f"expected the key of a current prompt of {study.slug}, found {_shown(key)}"))
        if not isinstance(language, str) or language not in languages:
            problems.append(Problem(number, "language", f"expected one of {', '.join(languages) or 'none'}, found {_shown(language)}"))
        if not isinstance(candidates, list) or not all(isinstance(candidate, str) for candidate in candidates):
            problems.append(Problem(number, "candidates", "expected a list of texts"))
        if len(problems) > before:
            continue
        message = getattr(prompts[key], f"text_{language}")
        recipe = arms.get(key)
        if recipe is None:
            problems.append(Problem(number, label, "expected a study with a current recipe"))
        elif not message:
            problems.append(Problem(number, label, f"expected a prompt with a text in {language}"))
        elif (earlier := seen.setdefault((key, language), number)) != number:
            problems.append(Problem(number, label, f"expected each set once: it stands on line {earlier} already"))
        else:
            lines.append(_Line(number, label, recipe, language, message, candidates))
    return lines


def _object(content: str, number: int, problems: list[Problem]) -> dict[str, Any] | None:
    """The JSON object of one line with exactly the right keys, or None and what is wrong with it."""
    try:
        row = json.loads(content)
    except (ValueError, RecursionError):
        problems.append(Problem(number, "", "expected one JSON object"))
        return None
    if not isinstance(row, dict) or set(row) != set(KEYS):
        problems.append(Problem(number, "", f"expected one JSON object with the keys {', '.join(KEYS)}"))
        return None
    return row


def _shown(value: Any) -> str:
    return f"“{value[:60]}”" if isinstance(value, str) else "no text"
