"""The question to a judge about one candidate, the reading of its answer, and labels that people gave to compare it with."""

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

from apps.core.errors import DomainError
from apps.core.text import fingerprint
from apps.generation.measures.coverage import Scores
from apps.generation.offline_endpoint.banks import BANKS_DIR, UNLABELLED_MODEL, load_banks

RUBRIC_KEY = "value_judge"
DIMENSIONS = ("traditional_secular", "survival_self_expression")
# What the offline endpoint calls itself where its banks hold no label: its 0.5 then means “unknown”.
UNLABELLED = UNLABELLED_MODEL
RESPONSE_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "value_scores",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {dimension: {"type": "number", "minimum": 0, "maximum": 1} for dimension in DIMENSIONS},
            "required": list(DIMENSIONS),
            "additionalProperties": False,
        },
    },
}
_FENCE = re.compile(r"\A```[a-z]*\n(.*)\n```\Z", re.IGNORECASE | re.DOTALL)


class JudgeUnreadable(DomainError):
    """The judge's answer is not the JSON object that the rubric asks for."""

    code = "judge_unreadable"


class LabelsUnreadable(DomainError):
    """A file of hand labels has a mistake; the message names the line."""

    code = "labels_unreadable"


def judge_messages(rubric: str, *, message: str, answer: str) -> list[dict[str, str]]:
    """The rubric, then message and answer as one JSON object, so that no wording of either can pass for an instruction's end."""
    question = json.dumps({"message": message, "answer": answer}, ensure_ascii=False)
    return [{"role": "system", "content": rubric}, {"role": "user", "content": question}]


def parse_scores(output: str) -> Scores:
    """Both scores, each from 0 to 1, of a JSON object that holds them and nothing else. Raises `JudgeUnreadable`."""
    fenced = _FENCE.match(output.strip())
    try:
        answer = json.loads(fenced[1] if fenced else output)
    except (ValueError, RecursionError) as error:
        raise JudgeUnreadable("The judge gave no JSON object.") from error
    if not isinstance(answer, dict) or answer.keys() != set(DIMENSIONS):
        raise JudgeUnreadable(f"The judge's JSON object must hold {' and '.join(DIMENSIONS)} and nothing else.")
    return Scores(*(_share(answer[dimension], dimension, JudgeUnreadable) for dimension in DIMENSIONS))


def read_labels(path: Path) -> dict[str, Scores]:
    """Hand labels by the fingerprint of the text they are for.

    CSV with the columns `text`, `traditional_secular` and `survival_self_expression`, or one JSON object with these keys a line
    (`.jsonl`). Raises `LabelsUnreadable` with the line of the mistake, also where a text has two labels.
    """
    labels: dict[str, Scores] = {}
    for line, row in _rows(path):
        text = row.get("text")
        if not isinstance(text, str) or not text.strip():
            raise LabelsUnreadable(f"{path.name}, line {line}: “text” is missing.")
        missing = [dimension for dimension in DIMENSIONS if row.get(dimension) in (None, "")]
        if missing:
            raise LabelsUnreadable(f"{path.name}, line {line}: {' and '.join(missing)} is missing.")
        try:
            scores = Scores(*(_share(row[dimension], dimension, LabelsUnreadable) for dimension in DIMENSIONS))
        except LabelsUnreadable as error:
            raise LabelsUnreadable(f"{path.name}, line {line}: {error}") from error
        if labels.setdefault(fingerprint(text), scores) != scores:
            raise LabelsUnreadable(f"{path.name}, line {line}: this text has another label on an earlier line.")
    if not labels:
        raise LabelsUnreadable(f"{path.name} holds no label.")
    return labels


def bank_labels() -> dict[str, Scores]:
    """The labels written by hand beside the answers of the offline endpoint, by fingerprint."""
    return {key: Scores(*values) for key, values in load_banks(BANKS_DIR).labels.items()}


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsUnreadable(f"{path} cannot be read as a UTF-8 text file.") from error
    if path.suffix == ".jsonl":
        rows = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise LabelsUnreadable(f"{path.name}, line {number}: this is not JSON.") from error
            if not isinstance(row, dict):
                raise LabelsUnreadable(f"{path.name}, line {number}: this is not a JSON object.")
            rows.append((number, row))
        return rows
    reader = csv.DictReader(text.splitlines(keepends=True))
    try:
        return [(reader.line_num, dict(row)) for row in reader]
    except csv.Error as error:
        raise LabelsUnreadable(f"{path.name}, line {reader.line_num}: {error}.") from error


def _share(value: Any, name: str, error: type[DomainError]) -> float:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, str) and error is JudgeUnreadable:
        number = math.nan
    if not 0 <= number <= 1:
        raise error(f"{name} must be a number from 0 to 1, not {str(value)[:40]!r}.")
    return number
