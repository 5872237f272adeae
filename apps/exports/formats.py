"""CSV, JSONL and Parquet files of one table, written row by row with flat memory. Same rows, same bytes."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from apps.core.text import neutralise
from apps.exports.schemas import Table

FORMATS = ("csv", "jsonl", "parquet")
# Rows in memory per Parquet row group; fixed, so that the bytes do not depend on how rows arrive.
PARQUET_ROW_GROUP = 1000


def json_line(value: Any) -> str:
    """JSON on one line, UTF-8 letters as they are; the two separators that some readers take for line ends are escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


class TableWriter(Protocol):
    def write(self, row: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class CsvWriter:
    """UTF-8, `\\n` line ends, empty cell = null, lists as JSON. `neutralises`: formula cells are made inert."""

    def __init__(self, path: Path, table: Table, neutralises: bool) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._neutralises = neutralises
        self._writer.writerow(table.column_names)

    def write(self, row: Mapping[str, Any]) -> None:
        self._writer.writerow([self._cell(value) for value in row.values()])

    def _cell(self, value: Any) -> Any:
        if isinstance(value, list):
            return json_line(value)
        return neutralise(value) if self._neutralises and isinstance(value, str) else value

    def close(self) -> None:
        self._file.close()


class JsonlWriter:
    """One JSON object per line, keys in the order of the columns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")

    def write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json_line(dict(row)) + "\n")

    def close(self) -> None:
        self._file.close()


class ParquetWriter:
    """Typed columns as the schema states, zstd, row groups of `PARQUET_ROW_GROUP` rows."""

    def __init__(self, path: Path, table: Table) -> None:
        import pyarrow
        import pyarrow.parquet

        types = {
            "string": pyarrow.string(),
            "bool": pyarrow.bool_(),
            "int64": pyarrow.int64(),
            "float64": pyarrow.float64(),
            "list<string>": pyarrow.list_(pyarrow.string()),
            "list<int64>": pyarrow.list_(pyarrow.int64()),
        }
        self._schema = pyarrow.schema([pyarrow.field(c.name, types[c.type], nullable=c.nullable) for c in table.columns])
        self._writer = pyarrow.parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._batch_from = pyarrow.RecordBatch.from_pylist
        self._rows: list[Mapping[str, Any]] = []

    def write(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == PARQUET_ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        self._writer.write_batch(self._batch_from(self._rows, schema=self._schema))
        self._rows = []

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()


def open_writer(format_name: str, path: Path, table: Table, *, neutralises: bool) -> TableWriter:
    if format_name == "csv":
        return CsvWriter(path, table, neutralises)
    if format_name == "jsonl":
        return JsonlWriter(path)
    return ParquetWriter(path, table)
