"""The codebook, the schema definition and what is exported say the same."""

import csv
import json
from pathlib import Path

import pytest
from django.conf import settings

from apps.exports.schemas import schema_named
from apps.exports.schemas.codebook import codebook_page, codebook_rows
from apps.exports.services import build_release
from tests.exports.build import small_study

QUESTIONS = ["birth_year", "gender", "politics", "race_ethnicity"]


def test_the_committed_page_is_the_generated_one():
    committed = (Path(settings.BASE_DIR) / "docs" / "codebook.md").read_text()
    assert committed == codebook_page(), "run: python manage.py write_codebook docs/codebook.md"


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["community_alignment", "long"])
def test_an_export_agrees_with_its_codebook(tmp_path, name):
    build_release(study=small_study(), schema=name, formats=["jsonl"], directory=tmp_path / "out")
    with (tmp_path / "out" / "codebook.csv").open(newline="") as file:
        codebook = list(csv.DictReader(file))
    expected = [
        {**row, "nullable": str(row["nullable"]), "values": row["values"] or ""} for row in codebook_rows(schema_named(name, QUESTIONS))
    ]
    assert codebook == expected
    types = {"string": str, "bool": bool, "int64": int, "float64": float, "list<string>": list, "list<int64>": list}
    for table in {row["file"] for row in codebook}:
        columns = [row for row in codebook if row["file"] == table]
        for line in (tmp_path / "out" / f"{table}.jsonl").read_text().splitlines():
            row = json.loads(line)
            assert list(row) == [column["column"] for column in columns]
            for column in columns:
                value = row[column["column"]]
                if value is None:
                    assert column["nullable"] == "True"
                else:
                    assert type(value) is types[column["type"]]
                    assert not column["values"] or str(value) in column["values"].split(" | ")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("wave", True),
        ("wave", 3),
        ("wave", "1"),
        ("wave", None),
        ("annotator_age", "17"),
        ("in_balanced_subset", 0),
        ("annotator_gender", 1),
    ],
)
def test_a_value_that_the_schema_does_not_allow_is_not_accepted(column, value):
    [found] = [c for c in schema_named("community_alignment").tables[0].columns if c.name == column]
    assert not found.accepts(value)
