"""How a release schema is written down. Rows, files, codebook and tests are all derived from or checked by it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

ColumnType = Literal["string", "bool", "int64", "float64", "list<string>", "list<int64>"]

_PYTHON_TYPES: dict[str, type] = {"string": str, "bool": bool, "int64": int, "float64": float}


@dataclass(frozen=True)
class Column:
    """One column. `values` lists every literal it may hold (empty: free); only a `nullable` column may be null."""

    name: str
    type: ColumnType
    description: str
    nullable: bool = False
    values: tuple[str | int, ...] = ()

    def accepts(self, value: Any) -> bool:
        """Whether `value` has the column's type and, where the column names its literals, is one of them."""
        if value is None:
            return self.nullable
        if self.type.startswith("list<"):
            inner = _PYTHON_TYPES[self.type[5:-1]]
            return isinstance(value, list) and all(item is None or type(item) is inner for item in value)
        return type(value) is _PYTHON_TYPES[self.type] and (not self.values or value in self.values)


@dataclass(frozen=True)
class Table:
    """One file of a release. `name` is the file's stem, `row` says what one row is."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    def check(self, row: Mapping[str, Any]) -> None:
        """Raise `ValueError` for a row with other columns than the table's, or a value its column does not accept."""
        if list(row) != self.column_names:
            raise ValueError(f"{self.name}: the row's columns differ from the schema: {sorted(set(row) ^ set(self.column_names))}")
        for column in self.columns:
            if not column.accepts(row[column.name]):
                raise ValueError(f"{self.name}: {column.name} holds {row[column.name]!r}, which the schema does not allow")


@dataclass(frozen=True)
class Schema:
    """A kind of release. `neutralises_csv`: formula cells of its CSV files are made inert (see `exports.formats`)."""

    name: str
    title: str
    neutralises_csv: bool
    tables: tuple[Table, ...]

    def table(self, name: str) -> Table:
        return next(table for table in self.tables if table.name == name)
