"""What stands beside the tables in a release's folder: manifest, codebook, README."""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings

from apps.exports.formats import CsvWriter
from apps.exports.schemas import Schema
from apps.exports.schemas.codebook import CODEBOOK, codebook_markdown, codebook_rows

_CHUNK = 1024 * 1024
CSV_RULES = {
    True: "Formula cells carry one leading apostrophe; codebook.md says how to undo it.",
    False: "A machine format: cells are unaltered, so do not open the CSV in a spreadsheet.",
}
_PANDAS = {
    "parquet": 'pandas.read_parquet("{file}")',
    "csv": 'pandas.read_csv("{file}", keep_default_na=False, na_values=[""])',
    "jsonl": 'pandas.read_json("{file}", lines=True)',
}
_DATASETS = {
    "parquet": 'datasets.load_dataset("parquet", data_files="{file}", split="train")',
    "csv": 'datasets.load_dataset("csv", data_files="{file}", split="train", keep_default_na=False, na_values=[""])',
    "jsonl": 'datasets.load_dataset("json", data_files="{file}", split="train")',
}


def describe_file(path: Path, **facts: Any) -> dict[str, Any]:
    """Name, size in bytes and SHA-256 of a file, with `facts`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return {"name": path.name, **facts, "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


@cache
def code_version() -> dict[str, str]:
    """The project's version, and a hash of the sources that make releases (equal hash, equal export code): rows, names, balance rule."""
    project = Path(settings.BASE_DIR) / "pyproject.toml"
    version = tomllib.loads(project.read_text())["project"]["version"] if project.is_file() else "unknown"
    digest = hashlib.sha256()
    apps = Path(__file__).parent.parent
    for source in sorted([*(apps / "exports").rglob("*.py"), *(apps / "quality").rglob("*.py"), apps / "studies" / "pseudonyms.py"]):
        digest.update(f"{source.relative_to(apps).as_posix()}\n".encode() + source.read_bytes())
    return {"version": version, "exports_sha256": digest.hexdigest()}


def write_codebook(folder: Path, schema: Schema) -> list[Path]:
    writer = CsvWriter(folder / "codebook.csv", CODEBOOK, neutralises=True)
    for row in codebook_rows(schema):
        writer.write(row)
    writer.close()
    (folder / "codebook.md").write_text(codebook_markdown(schema), encoding="utf-8")
    return [folder / "codebook.csv", folder / "codebook.md"]


def write_readme(folder: Path, study_slug: str, schema: Schema, formats: Sequence[str], rows: Mapping[str, int]) -> Path:
    best = next(name for name in ("parquet", "csv", "jsonl") if name in formats)
    lines = [
        f"# Release of {study_slug}",
        "",
        f"{schema.title}. Columns: codebook.md and codebook.csv. Watermark and checksums: manifest.json.",
        "",
        "| File | One row is | Rows |",
        "|---|---|---|",
        *[f"| {table.name} | {table.row} | {rows[table.name]} |" for table in schema.tables],
        "",
        CSV_RULES[schema.neutralises_csv],
        "",
        "Load it:",
        "",
        "```python",
        "import datasets, pandas",
        "",
    ]
    for table in schema.tables:
        file = f"{table.name}.{best}"
        lines += [f"{table.name} = {_PANDAS[best].format(file=file)}", f"{table.name} = {_DATASETS[best].format(file=file)}"]
    path = folder / "README.md"
    path.write_text("\n".join([*lines, "```", ""]), encoding="utf-8")
    return path


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
