"""A study file as YAML for people: stable key order, long texts as block scalars, one option per line.

Written by hand rather than by PyYAML's emitter, which cannot keep options on one line and wrap long texts at the same time.
"""

import json
import re
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from apps.desk.study_file import schema

WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_RESERVED = {"yes", "no", "true", "false", "on", "off", "y", "n", "null"}
_FOLDABLE = re.compile(r"[^ \t\n]+( [^ \t\n]+)+")
_LINE_BREAKS = re.compile("[\u2028\u2029]")  # YAML 1.1 ends a line at these too
_ONE_LINE_PARTS = (schema.OptionPart, schema.TurnsPart, schema.PayPart, schema.CellPart, schema.SharePart, schema.RecipePartPart)
_VERSION_ONLY_WHEN_RAISED = (schema.RecipePart, schema.PromptPart)


def write_study_file(study_file: schema.StudyFile) -> str:
    """YAML text that `load_study` reads back to the same `study_file`."""
    blocks = []
    for key, value in _items(study_file):
        blocks.append("\n".join(_entry(key, value, 0)))
    return "\n\n".join(blocks) + "\n"


def _items(part: BaseModel) -> list[tuple[str, Any]]:
    """Keys to write, in the order of the schema: those without a value and false flags are left out."""
    items = []
    for key, field in type(part).model_fields.items():
        value = getattr(part, key)
        is_default_flag = isinstance(value, bool) and value == field.default
        is_first_version = key == "version" and value == 1 and isinstance(part, _VERSION_ONLY_WHEN_RAISED)
        if value is None or value in ("", {}) or value == [] or is_default_flag or is_first_version:
            continue
        items.append((key, value))
    return items


def _entry(key: str, value: Any, depth: int) -> list[str]:
    """The lines of `key: value` at `depth` levels of two spaces."""
    indent = "  " * depth
    name = _scalar(key)
    if isinstance(value, _ONE_LINE_PARTS):
        return [f"{indent}{name}: {_flow(value)}"]
    if isinstance(value, BaseModel):
        body = _body(value, depth + 1)
        return [f"{indent}{name}:", *body] if body else [f"{indent}{name}: {{}}"]
    if isinstance(value, dict):
        return [f"{indent}{name}:", *(line for k, v in value.items() for line in _entry(k, v, depth + 1))]
    if isinstance(value, list):
        if all(isinstance(item, str) for item in value):
            return [f"{indent}{name}: [{', '.join(_scalar(item) for item in value)}]"]
        return [f"{indent}{name}:", *(line for item in value for line in _item(item, depth + 1))]
    if isinstance(value, str):
        return _text(f"{indent}{name}:", value, depth + 1)
    return [f"{indent}{name}: {_scalar(value)}"]


def _body(part: BaseModel, depth: int) -> list[str]:
    return [line for key, value in _items(part) for line in _entry(key, value, depth)]


def _item(item: BaseModel, depth: int) -> list[str]:
    indent = "  " * depth
    if isinstance(item, _ONE_LINE_PARTS):
        return [f"{indent}- {_flow(item)}"]
    first, *rest = _body(item, depth + 1)
    return [f"{indent}- {first.lstrip()}", *rest]


def _flow(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in value)}]"
    if not isinstance(value, BaseModel | dict):
        return _scalar(value)
    items = _items(value) if isinstance(value, BaseModel) else list(value.items())
    return "{" + ", ".join(f"{_scalar(k)}: {_flow(v)}" for k, v in items) + "}"


def _text(start: str, text: str, depth: int) -> list[str]:
    """`start` and the text after it: on the same line if short, folded if long, literal if it has lines of its own."""
    indent = "  " * depth
    if _LINE_BREAKS.search(text):
        return [f"{start} {_scalar(text)}"]
    if "\n" in text and not text.startswith((" ", "\t")):
        return [f"{start} |-", *(indent + line if line else "" for line in text.split("\n"))]
    one_line = f"{start} {_scalar(text)}"
    if len(one_line) <= WIDTH or not _FOLDABLE.fullmatch(text):
        return [one_line]
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(indent) + len(line) + 1 + len(word) > WIDTH:
            lines.append(indent + line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [f"{start} >-", *lines, indent + line]


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, int):
        return str(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return str(value)
    quoted = json.dumps(value, ensure_ascii=False)
    return _LINE_BREAKS.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)
