"""Thousands of translated prompts from a CSV or JSONL file into one study: all or nothing."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from apps.core.text import clean_text, text_hash
from apps.desk.study_file.errors import FileRefused, Problem
from apps.desk.study_file.source import decode, read_bounded
from apps.desk.study_file.storing import PromptRow, store_prompts
from apps.studies.models import Study

MAX_BYTES = 100 * 1024 * 1024
MAX_PROBLEMS = 1000
MAX_TEXT = 20_000
_KEY = re.compile(r"[-a-zA-Z0-9_]{1,80}")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Row = tuple[int, dict[str, Any]]
Progress = Callable[[Iterator[Row], int], Iterator[Row]]


class _Problems(list[Problem]):
    """Everything wrong so far; gives up on a file that is wrong all over."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def add(self, line: int, key: str, message: str) -> None:
        self.append(Problem(line, key, message))
        if len(self) == MAX_PROBLEMS:
            self.append(Problem(line + 1, "", f"the first {MAX_PROBLEMS} problems are listed; the file was read no further"))
            raise FileRefused(self.name, self)


def import_prompt_file(*, study: Study, path: str | Path, progress: Progress | None = None) -> Counter[str]:
    """Add the prompts of `path` to `study` in one transaction: .csv or .jsonl, columns key, topic, one per language, perhaps is_gold.

    The same text again changes nothing; another text is a new version; prompts that the file does not name stay.
    `progress(rows, total)` wraps the rows while they are checked; `total` is about their number.
    Returns how many were created, updated and unchanged.
    Raises `FileRefused` with every problem by line; then nothing has been stored.
    """
    path = Path(path)
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise FileRefused(path.name, [Problem(0, "", "expected a file that ends in .csv or .jsonl")])
    text = decode(path.name, read_bounded(path, MAX_BYTES))
    problems = _Problems(path.name)
    languages = [str(language) for language in dict.fromkeys(study.locales.order_by("pk").values_list("language", flat=True))]
    with transaction.atomic():
        study = Study.objects.select_for_update().get(pk=study.pk)
        found = reader(text, languages, problems)
        rows = _checked(study, languages, problems, progress(found, text.count("\n")) if progress else found)
        if not rows and not problems:
            problems.add(1, "", "expected at least one prompt, found none")
        if problems:
            raise FileRefused(path.name, problems)
        return store_prompts(study=study, rows=rows)


def _columns(languages: list[str]) -> str:
    return ", ".join(["key", "topic", *languages])


def _csv_rows(text: str, languages: list[str], problems: _Problems) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 0
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add(line, "", f"expected valid CSV: {error}")
            return
        if header is None:
            header = [cell.strip() for cell in cells]
            if not _header_is_right(header, languages, problems, line):
                return
        elif len(cells) not in (0, len(header)):
            problems.add(line, "", f"expected {len(header)} cells, found {len(cells)}")
        elif any(cell.strip() for cell in cells):
            yield line, dict(zip(header, cells, strict=True))


def _header_is_right(header: list[str], languages: list[str], problems: _Problems, line: int) -> bool:
    before = len(problems)
    expected = f"expected the columns {_columns(languages)}"
    if len(header) == 1 and re.search("[;\t]", header[0]):
        problems.add(line, "", f"{expected}, separated by commas")
        return False
    for column in ("key", *languages):
        if column not in header:
            problems.add(line, column, f"{expected}; this one is missing")
    for column in dict.fromkeys(header):
        if column not in ("key", "topic", "is_gold", *settings.CONTENT_LANGUAGES):
            problems.add(line, column[:60], f"unknown column; {expected}")
        elif header.count(column) > 1:
            problems.add(line, column, "expected each column once")
    return len(problems) == before


def _jsonl_rows(text: str, languages: list[str], problems: _Problems) -> Iterator[Row]:
    known = {"key", "topic", "is_gold", *settings.CONTENT_LANGUAGES}
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content, object_pairs_hook=_object_without_repeats)
        except RecursionError:
            problems.add(line, "", "expected a flat JSON object")
            continue
        except ValueError as error:
            problems.add(line, "", f"expected one JSON object: {error}")
            continue
        if not isinstance(row, dict):
            problems.add(line, "", f"expected one JSON object with the keys {_columns(languages)}")
            continue
        unknown = [name for name in row if name not in known]
        for name in unknown:
            problems.add(line, name[:60], f"unknown key; expected {_columns(languages)}")
        if not unknown:
            yield line, row


def _object_without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _checked(study: Study, languages: list[str], problems: _Problems, rows: Iterator[Row]) -> list[PromptRow]:
    topics = set(study.topics.values_list("key", flat=True))
    # Once people have joined, a prompt stays what it is: what they judged counts as before.
    is_fixed = dict(study.prompts.filter(is_current=True).values_list("key", "is_gold")) if study.annotators.exists() else {}
    keys: dict[str, int] = {}
    texts_seen: dict[tuple[str, str], tuple[str, int]] = {}
    checked = []
    for line, row in rows:
        key = row.get("key")
        if not isinstance(key, str) or not _KEY.fullmatch(key := key.strip()):
            problems.add(line, "key", "expected 1 to 80 letters a–z, digits, “_” or “-”")
            continue
        if key in keys:
            problems.add(line, "key", f"expected each prompt once: {key} stands on line {keys[key]} already")
            continue
        keys[key] = line
        topic = row.get("topic") or None
        if topic is not None and (not isinstance(topic, str) or ((topic := topic.strip() or None) and topic not in topics)):
            problems.add(line, "topic", f"expected a topic of the study ({', '.join(sorted(topics)) or 'it has none'}) or nothing")
        texts = {}
        for language in settings.CONTENT_LANGUAGES:
            text = _text(row.get(language), language in languages, line, f"{key}, {language}", problems)
            if not text:
                continue
            texts[language] = text
            other, other_line = texts_seen.setdefault((language, text_hash(text)), (key, line))
            if other != key:
                problems.add(line, f"{key}, {language}", f"expected a text of its own: {other} on line {other_line} has the same")
        is_gold = _flag(row.get("is_gold"), line, problems)
        if is_gold is not None and is_fixed.get(key, is_gold) != is_gold:
            problems.add(line, "is_gold", f"expected {str(not is_gold).lower()} as before, since people have joined this study")
        checked.append(PromptRow(key, topic, texts, is_gold=is_gold))
    if not problems:
        _refuse_texts_of_other_prompts(study, languages, keys, texts_seen, problems)
    return checked


_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _flag(value: Any, line: int, problems: _Problems) -> bool | None:
    """None where nothing is said."""
    if isinstance(value, bool):
        return value
    text = value.strip().lower() if isinstance(value, str) else value
    if text in (None, ""):
        return None
    if not isinstance(text, str) or text not in _FLAGS:
        problems.add(line, "is_gold", "expected true, false or nothing")
        return None
    return _FLAGS[text]


def _text(value: Any, is_needed: bool, line: int, key: str, problems: _Problems) -> str:
    if value is None or value == "":
        if is_needed:
            problems.add(line, key, "expected a text, found none")
        return ""
    if not isinstance(value, str):
        problems.add(line, key, "expected a text")
        return ""
    control = _CONTROL.search(value)
    if control:
        problems.add(line, key, f"expected printable text, found the control character U+{ord(control[0]):04X}")
        return ""
    text = clean_text(value)
    if len(text) > MAX_TEXT:
        problems.add(line, key, f"expected at most {MAX_TEXT} characters, found {len(text)}")
    if not text and is_needed:
        problems.add(line, key, "expected a text, found only spaces")
    return text


def _refuse_texts_of_other_prompts(
    study: Study,
    languages: list[str],
    keys: dict[str, int],
    texts_seen: dict[tuple[str, str], tuple[str, int]],
    problems: _Problems,
) -> None:
    others = study.prompts.filter(is_current=True).exclude(key__in=list(keys))
    for other in others:
        for language in languages:
            text = getattr(other, f"text_{language}")
            seen = texts_seen.get((language, text_hash(text))) if text else None
            if seen:
                key, line = seen
                problems.add(line, f"{key}, {language}", f"expected a text of its own: the study's prompt {other.key} has the same")
