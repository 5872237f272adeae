"""Compiling and checking the gettext catalogues without gettext's own tools."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import polib

# %(name)s, %s and {name}: what a translation must carry over unchanged.
_PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}")
_SOURCES = ("apps", "templates")


def compile_catalogues(folder: Path) -> list[Path]:
    """Write the `.mo` beside each `django.po` under `folder` that is newer than its `.mo`. Returns the written files."""
    written = []
    for source in sorted(folder.glob("*/LC_MESSAGES/django.po")):
        target = source.with_suffix(".mo")
        if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
            continue
        partial = target.with_suffix(".mo.partial")
        polib.pofile(str(source)).save_as_mofile(str(partial))
        partial.replace(target)
        written.append(target)
    return written


def catalogue_problems(folder: Path, languages: Sequence[str]) -> Iterator[str]:
    """One line for each missing catalogue, untranslated or fuzzy message, and lost placeholder."""
    for language in languages:
        path = folder / language / "LC_MESSAGES" / "django.po"
        if not path.is_file():
            yield f"{language}: there is no catalogue {path.name}; run `make messages`"
            continue
        for entry in polib.pofile(str(path)):
            where = f"{language}, line {entry.linenum}: {entry.msgid!r}"
            if entry.obsolete:
                yield f"{where} is obsolete"
            elif entry.fuzzy:
                yield f"{where} is fuzzy"
            elif not entry.translated():
                yield f"{where} is not translated"
            else:
                yield from _placeholder_problems(where, entry)


def _placeholder_problems(where: str, entry: polib.POEntry) -> Iterator[str]:
    singular, plural = set(_PLACEHOLDER.findall(entry.msgid)), set(_PLACEHOLDER.findall(entry.msgid_plural))
    if not entry.msgid_plural:
        if set(_PLACEHOLDER.findall(entry.msgstr)) != singular:
            yield f"{where}: the translation has other placeholders than the source"
        return
    for form, text in entry.msgstr_plural.items():
        # A form for one thing may spell the number out, so it may lack a placeholder but never add one.
        if not set(_PLACEHOLDER.findall(text)) <= singular | plural:
            yield f"{where}: plural form {form} has other placeholders than the source"


def source_problems(root: Path, languages: Sequence[str]) -> Iterator[str]:
    """One line for each message that the sources have and a catalogue lacks, or the other way round. Needs xgettext."""
    with tempfile.TemporaryDirectory() as folder:
        for name in _SOURCES:
            shutil.copytree(root / name, Path(folder, name), ignore=shutil.ignore_patterns("__pycache__", "*.mo"))
        Path(folder, "locale").mkdir()
        subprocess.run(
            [sys.executable, "-m", "django", "makemessages", "-l", "en", "--verbosity", "0"],
            cwd=folder,
            check=True,
            env=_environment_without_settings(),
        )
        wanted = _messages(Path(folder, "locale/en/LC_MESSAGES/django.po"))
    for language in languages:
        path = root / "locale" / language / "LC_MESSAGES" / "django.po"
        if path.is_file():
            present = _messages(path)
            yield from (f"{language}: lacks {text!r}; run `make messages` and translate it" for _, text in sorted(wanted - present))
            yield from (
                f"{language}: still has {text!r}, which no source uses; run `make messages`" for _, text in sorted(present - wanted)
            )


def _messages(path: Path) -> set[tuple[str, str]]:
    return {(entry.msgctxt or "", entry.msgid) for entry in polib.pofile(str(path)) if not entry.obsolete} if path.is_file() else set()


def _environment_without_settings() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return environment
