"""From bytes to a plain tree that knows the line of each key. Refuses what a study file never needs."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from apps.desk.study_file.errors import FileRefused, Problem

MAX_BYTES = 20 * 1024 * 1024
MAX_DEPTH = 16
_NULLS = {"", "~", "null", "Null", "NULL"}
_CONTROL = "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
_UNWANTED = re.compile(f"[{_CONTROL}]")
_UNWANTED_IN_SOURCE = re.compile(f"[{_CONTROL}\u2028\u2029]")  # the last two end a line in YAML 1.1, which no editor shows
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where the wheel has it: ten times faster

Key = str | int
KeyPath = tuple[Key, ...]


@dataclass
class Source:
    """A parsed file. `tree` holds dicts, lists, strings and None only: types are the schema's business.

    `lines` has the line of every key and list item by its path, for example `("prompts", "unpaid_loan", "topic")`.
    """

    name: str
    tree: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, path: KeyPath) -> int:
        """The line of `path`, or of the nearest key above it that the file has."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def label(self, path: KeyPath) -> str:
        """`path` in words: list items are named by their tag, code, key or name, else by their number from 1."""
        words = ""
        item = self.tree
        for key in path:
            item = self._child(item, key)
            if isinstance(key, int):
                words += f"[{self._item_name(item) or key + 1}]"
            else:
                words += f".{key}" if words else key
        return words

    def problem(self, path: KeyPath, message: str) -> Problem:
        return Problem(self.line(path), self.label(path), message)

    @staticmethod
    def _child(item: Any, key: Key) -> Any:
        if isinstance(item, dict):
            return item.get(key)
        return item[key] if isinstance(item, list) and isinstance(key, int) and key < len(item) else None

    @staticmethod
    def _item_name(item: Any) -> str:
        if not isinstance(item, dict):
            return ""
        if isinstance(item.get("language"), str) and isinstance(item.get("country"), str):
            return f"{item['language']}-{item['country']}"
        name = next((item[key] for key in ("code", "name") if isinstance(item.get(key), str)), "")
        return str(name)[:60]


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """The bytes of a regular file of at most `max_bytes`. Raises `FileRefused` otherwise."""
    try:
        if not path.is_file():
            what = "expected a file, found a folder or device" if path.exists() else "there is no such file"
            raise FileRefused(path.name or str(path), [Problem(0, "", what)])
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise FileRefused(path.name, [Problem(0, "", f"cannot be read: {error.strerror}")]) from error
    if len(data) > max_bytes:
        raise FileRefused(path.name, [Problem(0, "", f"expected at most {max_bytes // 1024 // 1024} MB")])
    return data


def decode(name: str, data: bytes) -> str:
    """UTF-8 text without BOM. Raises `FileRefused` with the line of the first byte that is something else."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileRefused(name, [Problem(line, "", f"expected UTF-8 text, found the byte 0x{data[error.start]:02x}")]) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_source(path: Path) -> Source:
    """Read and parse one YAML file. Raises `FileRefused` where it cannot be parsed any further."""
    text = decode(path.name, read_bounded(path, MAX_BYTES))
    unwanted = _UNWANTED_IN_SOURCE.search(text)
    if unwanted:
        line = text.count("\n", 0, unwanted.start()) + 1
        raise FileRefused(path.name, [Problem(line, "", f"expected printable text, found the control character U+{ord(unwanted[0]):04X}")])
    source = Source(path.name)
    try:
        _Builder(source, text).build()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"expected valid YAML: {error.problem or 'it cannot be parsed'}"
        if error.context:
            message += f" {error.context}" + (f" that starts on line {error.context_mark.line + 1}" if error.context_mark else "")
        raise FileRefused(path.name, [*source.problems, Problem(mark.line + 1 if mark else 1, "", message)]) from error
    except yaml.YAMLError as error:
        raise FileRefused(path.name, [*source.problems, Problem(1, "", f"expected valid YAML: {error}")]) from error
    if not isinstance(source.tree, dict):
        raise FileRefused(
            path.name, [*source.problems, Problem(1, "", "expected the keys of a study file, such as `format:` and `study:`")]
        )
    return source


class _Builder:
    """Builds the tree from parser events, so that depth, anchors and tags are refused before anything is built from them."""

    def __init__(self, source: Source, text: str) -> None:
        self.source = source
        self.events = yaml.parse(text, Loader=_Loader)

    def build(self) -> None:
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._refused(event, "expected one document, found a second one")
                self.source.tree = self._value(self._next(), ())
        if not documents:
            raise FileRefused(self.source.name, [Problem(1, "", "expected the keys of a study file, found an empty file")])

    def _next(self) -> Any:
        return next(self.events)

    @staticmethod
    def _line(event: Any) -> int:
        return int(event.start_mark.line) + 1

    def _value(self, event: Any, path: KeyPath) -> Any:
        self._refuse_specials(event, path)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(event := self._next(), yaml.SequenceEndEvent):
                here = (*path, len(items))
                self.source.lines[here] = self._line(event)
                items.append(self._value(event, here))
            return items
        mapping: dict[str, Any] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key: Any = event
            self._refuse_specials(key, path)
            if not isinstance(key, yaml.ScalarEvent):
                raise self._refused(key, "expected a simple key, found a list or mapping as key")
            line = self._line(key)
            here = (*path, key.value)
            if _UNWANTED.search(key.value):
                raise self._refused(key, "expected a printable key, found a control character in it")
            duplicate = here in self.source.lines
            if duplicate:
                message = f"expected each key once; it stands on line {self.source.lines[here]} already"
                self.source.problems.append(Problem(line, ".".join(map(str, here)), message))
                here = (*path, f"{key.value} (line {line})")
            self.source.lines[here] = line
            value = self._value(self._next(), here)
            if not duplicate:
                mapping[key.value] = value
        return mapping

    def _scalar(self, event: Any, path: KeyPath) -> str | None:
        value: str = event.value
        is_plain = event.implicit[0]
        if is_plain and value in _NULLS:
            return None
        unwanted = _UNWANTED.search(value)
        if unwanted:
            self.source.problems.append(
                Problem(
                    self._line(event),
                    ".".join(map(str, path)),
                    f"expected printable text, found the control character U+{ord(unwanted[0]):04X}",
                )
            )
            return _UNWANTED.sub("", value)
        return value

    def _refuse_specials(self, event: Any, path: KeyPath) -> None:
        if len(path) > MAX_DEPTH:
            raise self._refused(event, f"expected at most {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            raise self._refused(event, "expected the text itself: aliases (*) are not used in study files")
        if getattr(event, "anchor", None):
            raise self._refused(event, "expected no anchor: anchors (&) are not used in study files")
        if getattr(event, "tag", None):
            raise self._refused(event, f"expected no tag, found {event.tag[:60]}: tags (!) are not used in study files")

    def _refused(self, event: Any, message: str) -> FileRefused:
        return FileRefused(self.source.name, [*self.source.problems, Problem(self._line(event), "", message)])
