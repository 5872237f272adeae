"""A study file from disk, checked. Every error of the file is found before any is reported."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from apps.desk.study_file.balance import broken_balance_rules
from apps.desk.study_file.errors import FileRefused, Problem
from apps.desk.study_file.rules import broken_rules
from apps.desk.study_file.sample import with_computed_cells
from apps.desk.study_file.schema import FORMAT, StudyFile
from apps.desk.study_file.source import Key, Source, read_source

_EXPECTED = {
    "int_parsing": "expected a whole number",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing_size": "expected a smaller number",
    "decimal_parsing": "expected a number",
    "decimal_type": "expected a number",
    "finite_number": "expected a number",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "string_type": "expected text",
    "string_too_short": "expected text, found nothing",
    "model_type": "expected keys below it",
    "dict_type": "expected keys below it",
    "list_type": "expected a list: lines that start with “- ”",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "less_than": "expected less than {lt}",
    "string_too_long": "expected at most {max_length} characters",
    "decimal_max_places": "expected at most {decimal_places} decimals",
    "decimal_max_digits": "expected at most {max_digits} digits",
    "too_short": "expected at least {min_length}, found {actual_length}",
    "too_long": "expected at most {max_length}, found {actual_length}",
    "literal_error": "expected {expected}",
}
_PATTERNS = {
    r"^[-a-zA-Z0-9_]+$": "expected letters a–z, digits, “_” and “-” only",
    r"^[A-Z]{2}$": "expected two capital letters such as IN",
    r"^[A-Z]{3}$": "expected three capital letters such as EUR",
    r"^[a-z]{2,3}$": "expected a language code such as hi",
    r"^([A-Z][A-Z0-9_]*)?$": "expected the name of an environment variable such as VENDOR_API_KEY, never the key itself",
}


def read_study_file(path: Path) -> tuple[Source, StudyFile]:
    """Read, parse and check `path`. Raises `FileRefused` with all its problems."""
    source = read_source(path)
    if source.tree.get("format") not in (str(FORMAT), None):
        found = str(source.tree["format"])[:20]
        raise FileRefused(
            source.name, [source.problem(("format",), f"expected {FORMAT}, the format that this version reads, found {found}")]
        )
    problems = [*source.problems, *broken_rules(source), *broken_balance_rules(source)]
    study_file: StudyFile | None = None
    try:
        study_file = StudyFile.model_validate(source.tree)
    except ValidationError as error:
        problems += [_problem(source, detail) for detail in error.errors(include_url=False)]
    if problems or study_file is None:
        raise FileRefused(source.name, list(dict.fromkeys(problems)))
    return source, with_computed_cells(study_file)


def _problem(source: Source, detail: Any) -> Problem:
    kind, context = detail["type"], detail.get("ctx", {})
    path: tuple[Key, ...] = tuple(key for key in detail["loc"] if key != "[key]")
    if kind == "missing":
        parent = path[:-1]
        return Problem(source.line(parent), source.label(path), "expected this key, found none")
    if kind == "extra_forbidden":
        return source.problem(path, "unknown key")
    if kind == "string_pattern_mismatch":
        message = _PATTERNS[context["pattern"]]
    elif kind == "value_error":
        message = str(context["error"])
    else:
        message = _EXPECTED[kind].format(**context) if kind in _EXPECTED else detail["msg"]
    return source.problem(path, message + _found(detail["input"]))


def _found(value: Any) -> str:
    if value is None:
        return ", found nothing"
    if isinstance(value, str):
        return f", found “{value[:40]}{'…' if len(value) > 40 else ''}”" if value else ""
    return ", found a list" if isinstance(value, list) else ", found keys"
