"""Building releases: a row, then files in a hidden folder, then one rename."""

import fcntl
import logging
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.files.storage import storages
from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from apps.accounts.models import User
from apps.core.enqueue import enqueue_on_commit
from apps.core.errors import DomainError
from apps.exports import folders, rows
from apps.exports.balance import describe_balance
from apps.exports.compatibility import require_community_alignment
from apps.exports.demographics import question_codes
from apps.exports.errors import FolderNotEmpty, UnknownSchema
from apps.exports.formats import FORMATS, TableWriter, open_writer
from apps.exports.models import Release
from apps.exports.schemas import Schema, Table, schema_named
from apps.exports.selectors import (
    PublishedComparison,
    Watermark,
    current_watermark,
    iso,
    load_annotators,
    load_attempts,
    load_candidate_sets,
    load_candidates,
    load_comparisons,
    load_prompts,
    released_comparisons,
    released_conversations,
    snapshot,
)
from apps.quality.selectors import Balance, balance_of
from apps.studies.models import Study
from apps.studies.pseudonyms import Kind, Pseudonyms

logger = logging.getLogger(__name__)

# Conversations (or candidate sets, annotators) read at once: bounds memory, and queries per row.
CHUNK = 500
# A requested release that nobody builds after this time has lost its message.
OVERDUE = timedelta(minutes=1)

Progress = Callable[[int, int], None]


# --- Use cases ------------------------------------------------------------------------------------------------------


def build_release(
    *,
    study: Study,
    schema: str,
    formats: Sequence[str],
    built_by: User | None = None,
    directory: Path | None = None,
    progress: Progress | None = None,
) -> Release:
    """Build a release of `study` now and return its row.

    The files go to `directory` (which must not exist or be empty), or without it to the releases storage, where
    the admin offers them for download. `progress(done, total)` is told of conversations. Raises `UnknownSchema`,
    `ReleaseRefused` and `FolderNotEmpty`, all before anything is written.
    """
    chosen = _checked_formats(formats)
    check_expressible(study=study, schema=schema)
    directory = directory.resolve() if directory else None
    if directory and directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise FolderNotEmpty(f"{directory} is not an empty folder. Name a new one; a release never overwrites.")
    release = _create_release(study, schema, chosen, built_by)
    with _sole_builder(release.pk):
        _build(release, directory, progress)
    return release


def request_release(*, study: Study, schema: str, formats: Sequence[str], built_by: User | None) -> Release:
    """Create the row of a release and have a worker build it. A second press while the first is in work returns the first.

    Raises `UnknownSchema` and `ReleaseRefused`.
    """
    chosen = _checked_formats(formats)
    check_expressible(study=study, schema=schema)
    with transaction.atomic():
        _lock(study)
        same = Release.objects.filter(study=study, schema=schema, formats=chosen, built_by=built_by, state=Release.State.BUILDING)
        release = same.first() or _create_release(study, schema, chosen, built_by)
        enqueue_on_commit("exports.build_release", release.pk, queue="maintenance")
    return release


def build_requested_release(*, release_id: int) -> None:
    """Build the files of a requested release. Does nothing where it is built already, failed, or being built elsewhere."""
    with _sole_builder(release_id) as is_alone:
        release = Release.objects.select_related("study").get(pk=release_id)
        if is_alone and release.state == Release.State.BUILDING:
            _build(release, None, None)


def enqueue_overdue_releases(*, now: datetime) -> int:
    """Send the message again for every release that waits too long; one that is being built ignores it. Returns the number."""
    overdue = Release.objects.filter(state=Release.State.BUILDING, created_at__lt=now - OVERDUE)
    for release in overdue:
        enqueue_on_commit("exports.build_release", release.pk, queue="maintenance")
    return len(overdue)


def check_expressible(*, study: Study, schema: str) -> None:
    """Raise `UnknownSchema` or `ReleaseRefused` where a release of `study` in `schema` cannot be built."""
    if schema_named(schema).name == "community_alignment":
        require_community_alignment(study, current_watermark())


# --- Rows of Release ------------------------------------------------------------------------------------------------


def _checked_formats(formats: Sequence[str]) -> list[str]:
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats:
        raise UnknownSchema(f"There is no file format “{', '.join(unknown)}”; choose from {', '.join(FORMATS)}.")
    return [name for name in FORMATS if name in formats]


def _lock(study: Study) -> None:
    """Numbers of one study are given out one at a time. `no_key` lets annotators join meanwhile."""
    Study.objects.select_for_update(no_key=True).get(pk=study.pk)


def _create_release(study: Study, schema: str, formats: list[str], built_by: User | None) -> Release:
    with transaction.atomic():
        _lock(study)
        last = Release.objects.filter(study=study).aggregate(last=Max("number"))["last"] or 0
        return Release.objects.create(study=study, number=last + 1, schema=schema, formats=formats, built_by=built_by)


@contextmanager
def _sole_builder(release_pk: int) -> Iterator[bool]:
    """Whether this process is the only one to build the release. The lock is a file's, so it dies with the process."""
    folder = Path(storages["releases"].path(".locks"))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"release-{release_pk}").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


# --- Files ----------------------------------------------------------------------------------------------------------


def _build(release: Release, directory: Path | None, progress: Progress | None) -> None:
    """1. Write everything into a hidden folder beside the final one. 2. Rename it. 3. Mark the row.

    A crash before 2 leaves no file under a final name; a crash before 3 leaves a whole folder, which the next attempt
    replaces. Any failure removes what was written and marks the row with the reason.
    """
    # Server-made names only: nothing that a person typed becomes part of a path.
    folder = "" if directory else f"study-{release.study_id}/release-{release.number:04d}"
    final = directory or Path(storages["releases"].path(folder))
    partial = final.with_name(f".{final.name}.partial-{release.pk}")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with snapshot():
            manifest = _write_folder(release, partial, progress)
        if folder:
            shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        release.state = Release.State.FAILED
        reason = str(error) if isinstance(error, DomainError) else f"The build stopped with {type(error).__name__}: {error}"
        release.error = reason[:500]
        release.save(update_fields=["state", "error"])
        raise
    release.state, release.folder, release.manifest, release.built_at = Release.State.BUILT, folder, manifest, timezone.now()
    release.save(update_fields=["state", "folder", "manifest", "built_at"])


def _write_folder(release: Release, folder: Path, progress: Progress | None) -> dict[str, Any]:
    study = release.study
    watermark = current_watermark()
    codes = question_codes(study)
    schema = schema_named(release.schema, codes)
    if schema.name == "community_alignment":
        require_community_alignment(study, watermark)
    balance = balance_of(study, released_conversations(study, watermark))
    with _open_tables(folder, schema, release.formats) as files:
        write = _write_wide if schema.name == "community_alignment" else _write_long
        counts = write(study, watermark, codes, balance, files, progress)
    written = {table.name: files.written[table.name] for table in schema.tables}
    paths = [*folders.write_codebook(folder, schema), folders.write_readme(folder, study.slug, schema, release.formats, written)]
    manifest = {
        "study": study.slug,
        "release": release.number,
        "schema": schema.name,
        "built_at": iso(timezone.now()),
        "watermark": asdict(watermark),
        "code": folders.code_version(),
        "counts": counts,
        "balance": describe_balance(balance),
        "csv": folders.CSV_RULES[schema.neutralises_csv],
        "files": [
            folders.describe_file(folder / f"{table.name}.{name}", table=table.name, format=name, rows=written[table.name])
            for table in schema.tables
            for name in release.formats
        ]
        + [folders.describe_file(path) for path in paths],
    }
    folders.write_manifest(folder, manifest)
    return manifest


class _TableFiles:
    """The open files of a release: a row goes to every format of its table."""

    def __init__(self, folder: Path, schema: Schema, formats: Sequence[str]) -> None:
        self._tables: dict[str, Table] = {table.name: table for table in schema.tables}
        self._writers: dict[str, list[TableWriter]] = {
            table.name: [open_writer(name, folder / f"{table.name}.{name}", table, neutralises=schema.neutralises_csv) for name in formats]
            for table in schema.tables
        }
        self.written: dict[str, int] = defaultdict(int)

    def write(self, table: str, row: rows.Row) -> None:
        self._tables[table].check(row)
        for writer in self._writers[table]:
            writer.write(row)
        self.written[table] += 1

    def close(self) -> None:
        for writers in self._writers.values():
            for writer in writers:
                writer.close()


@contextmanager
def _open_tables(folder: Path, schema: Schema, formats: Sequence[str]) -> Iterator[_TableFiles]:
    files = _TableFiles(folder, schema, formats)
    try:
        yield files
    finally:
        files.close()


# --- Content --------------------------------------------------------------------------------------------------------


def _conversations(
    study: Study, watermark: Watermark, pseudonyms: Pseudonyms, progress: Progress | None
) -> Iterator[list[PublishedComparison]]:
    """The judged turns of each released conversation, in the order of the conversations' pseudonyms.

    Only the keys of all conversations are held at once; their content comes in chunks.
    """
    keys = sorted(
        (pseudonyms.of(Kind.CONVERSATION, pk), pk)
        for pk in released_conversations(study, watermark).values_list("pk", flat=True).iterator(chunk_size=10_000)
    )
    for start in range(0, len(keys), CHUNK):
        chunk = [pk for _, pk in keys[start : start + CHUNK]]
        by_conversation: dict[int, list[PublishedComparison]] = defaultdict(list)
        pks = list(released_comparisons(chunk, watermark).values_list("pk", flat=True))
        for comparison in sorted(load_comparisons(pks, pseudonyms), key=lambda comparison: comparison.turn_number):
            by_conversation[comparison.conversation_pk].append(comparison)
        yield from (by_conversation[pk] for pk in chunk if pk in by_conversation)
        if progress:
            progress(min(start + CHUNK, len(keys)), len(keys))


def _write_wide(
    study: Study, watermark: Watermark, codes: list[str], balance: Balance, files: _TableFiles, progress: Progress | None
) -> dict[str, int]:
    annotators: set[int] = set()
    conversations = comparisons = 0
    for turns in _conversations(study, watermark, Pseudonyms(study.pk), progress):
        files.write("community_alignment", rows.community_alignment_row(turns, balance))
        annotators.add(turns[0].annotator_pk)
        conversations += 1
        comparisons += len(turns)
    return {"annotators": len(annotators), "conversations": conversations, "comparisons": comparisons}


def _write_long(
    study: Study, watermark: Watermark, codes: list[str], balance: Balance, files: _TableFiles, progress: Progress | None
) -> dict[str, int]:
    pseudonyms = Pseudonyms(study.pk)
    annotators: set[int] = set()
    sets: set[int] = set()
    prompts: set[int] = set()
    conversations = 0
    for turns in _conversations(study, watermark, pseudonyms, progress):
        conversations += 1
        for turn in turns:
            files.write("comparisons", rows.comparison_row(turn, balance))
            annotators.add(turn.annotator_pk)
            sets.add(turn.candidate_set_pk)
            if turn.prompt_pk is not None:
                prompts.add(turn.prompt_pk)
    for set_pks in _chunks_by_pseudonym(sets, Kind.CANDIDATE_SET, pseudonyms):
        found = [rows.candidate_row(candidate, pseudonyms) for candidate in load_candidates(set_pks)]
        for row in sorted(found, key=lambda row: (row["candidate_set_id"], row["candidate_id"])):
            files.write("candidates", row)
        set_rows = (rows.candidate_set_row(candidate_set, pseudonyms) for candidate_set in load_candidate_sets(set_pks))
        for row in sorted(set_rows, key=lambda row: row["candidate_set_id"]):
            files.write("candidate_sets", row)
        for row in sorted((rows.attempt_row(attempt, pseudonyms) for attempt in load_attempts(set_pks)), key=_attempt_order):
            files.write("attempts", row)
    for annotator_pks in _chunks_by_pseudonym(annotators, Kind.ANNOTATOR, pseudonyms):
        for annotator in load_annotators(annotator_pks, pseudonyms):
            files.write("annotators", rows.annotator_row(annotator, codes, balance))
    for prompt in load_prompts(prompts):
        files.write("prompts", rows.prompt_row(prompt))
    return {
        "annotators": len(annotators),
        "conversations": conversations,
        "comparisons": files.written["comparisons"],
        "candidates": files.written["candidates"],
        "attempts": files.written["attempts"],
        "prompts": len(prompts),
    }


def _attempt_order(row: rows.Row) -> tuple[str, int, int]:
    return row["candidate_set_id"], row["part"], row["attempt_number"]


def _chunks_by_pseudonym(pks: set[int], kind: Kind, pseudonyms: Pseudonyms) -> Iterator[list[int]]:
    ordered = sorted(pks, key=lambda pk: pseudonyms.of(kind, pk))
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]
