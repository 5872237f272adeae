"""The codebook, written from the schema definition, so that the two cannot disagree."""

from apps.exports.schemas import community_alignment, long
from apps.exports.schemas.base import Column, Schema, Table
from apps.quality.balance import RULE
from apps.quality.raking import WEIGHT_RULE

CODEBOOK = Table(
    "codebook",
    "one column of one file",
    (
        Column("file", "string", "Stem of the file."),
        Column("column", "string", "Name of the column."),
        Column("type", "string", "Type in Parquet and JSON."),
        Column("nullable", "bool", "Whether it may be missing."),
        Column("values", "string", "Every literal it may hold, joined by “ | ”. Null: free.", True),
        Column("description", "string", "What it holds."),
    ),
)


def codebook_rows(schema: Schema) -> list[dict[str, str | bool | None]]:
    """One row per column of the schema, in the order of files and columns."""
    return [
        {
            "file": table.name,
            "column": column.name,
            "type": column.type,
            "nullable": column.nullable,
            "values": " | ".join(map(str, column.values)) or None,
            "description": column.description,
        }
        for table in schema.tables
        for column in table.columns
    ]


def codebook_markdown(schema: Schema, level: int = 1) -> str:
    """The codebook as a page, its title a heading of `level`."""
    lines = [f"{'#' * level} {schema.title}", ""]
    for table in schema.tables:
        lines += [f"{'#' * (level + 1)} `{table.name}`: {table.row}", "", "| Column | Type | May be null | Meaning |", "|---|---|---|---|"]
        for column in table.columns:
            values = f" One of: {', '.join(f'`{value}`' for value in column.values)}." if column.values else ""
            lines.append(f"| `{column.name}` | {column.type} | {'yes' if column.nullable else 'no'} | {column.description}{values} |")
        lines.append("")
    return "\n".join(lines)


_INTRODUCTION = f"""# Codebook

Written by `python manage.py write_codebook docs/codebook.md` from `apps/exports/schemas/`; a test compares the two. Every release
carries its own copy as `codebook.csv` and `codebook.md`.

**Which rows.** Comparisons of completed conversations (purpose MAIN or OWN) by annotators who came through a fieldwork link and have not
withdrawn, up to the release's watermark. A last turn that was never answered is left out. Of a revised comparison the newest revision below
the watermark counts. Rows are sorted by pseudonym, so that their order says nothing about who joined first.

**Letters** are the positions this annotator saw. Generation slot, source and model are in the long files only.

**Demographic columns.** Each option of a question names the literal it is published as; an option without one is published as
missing. Of several options chosen together: an option marked as prevailing gives its literal, otherwise the
question's own literal for several answers is used. Only answers under a granted consent are read.

**Balanced subset.** {RULE}
Both are false in every row of a study without a rule. The manifest names the rule's version and seed, the tables with year, grade
and source, and for each stratum its share, the people there and those taken.

**Weights.** {WEIGHT_RULE}
The manifest has the effective sample size (Kish: (Σw)² / Σw²), the design effect, and the
largest gap left to a target.

**Files.** CSV is UTF-8 with `\\n` line ends; an empty cell is null, and lists are JSON. JSONL has one object per line. Parquet has the
types below.
In the CSV files of the long schema a cell that a spreadsheet would run as a formula (first character, after spaces, one of
`= + - @` or their full-width twins; or a tab or line break at the start) gets one apostrophe `'` in front; so does a cell that already
starts with apostrophes before such a character. To undo: drop one leading apostrophe wherever the rest of the cell would be
dangerous by that rule. The Community Alignment CSV is a machine format and is unaltered; open it with a program, not with a spreadsheet.

`answer_<question>` and `stratum_<question>` stand for one pair of columns per question code of the study, in alphabetical order; the
eligibility check is not published.

"""


def codebook_page() -> str:
    """docs/codebook.md: both schemas, with `<question>` standing for the codes of a study's questions."""
    pages = [codebook_markdown(schema, level=2) for schema in (community_alignment.SCHEMA, long.schema_for(["<question>"]))]
    return _INTRODUCTION + "\n".join(pages)
