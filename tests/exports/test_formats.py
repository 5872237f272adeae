"""CSV, JSONL and Parquet hold the same rows and load in the usual libraries."""

import csv
import json

import pandas
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.text import neutralise, restore
from apps.exports.schemas import schema_named
from apps.exports.services import build_release
from tests.exports.build import make_conversation
from tests.factories import AnnotatorFactory

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "＝1", "＋1", "－1", "＠x", " =1", "'=1", "''-2", "\n=3"]


def from_csv(value: str, column) -> object:
    """The value of a CSV cell by its column's type, as codebook.md describes it."""
    if value == "":
        return None
    if column.type.startswith("list<"):
        return json.loads(value)
    return {"bool": lambda v: v == "True", "int64": int, "float64": float, "string": str}[column.type](value)


@pytest.mark.django_db
@pytest.mark.parametrize("schema_name", ["community_alignment", "long"])
def test_the_three_formats_agree(study, tmp_path, schema_name):
    build_release(study=study, schema=schema_name, formats=["csv", "jsonl", "parquet"], directory=tmp_path / "out")
    schema = schema_named(schema_name, ["birth_year", "gender", "politics", "race_ethnicity"])
    for table in schema.tables:
        stem = tmp_path / "out" / table.name
        lines = [json.loads(line) for line in stem.with_suffix(".jsonl").read_text().splitlines()]
        with stem.with_suffix(".csv").open(newline="") as file:
            cells = [
                {c.name: from_csv(restore(row[c.name]) if schema.neutralises_csv else row[c.name], c) for c in table.columns}
                for row in csv.DictReader(file)
            ]
        parquet = pyarrow.parquet.read_table(stem.with_suffix(".parquet"))
        assert lines
        assert cells == lines
        assert parquet.to_pylist() == lines
        types = {"list<element: string>": "list<string>", "list<element: int64>": "list<int64>", "double": "float64"}
        assert [types.get(str(field.type), str(field.type)) for field in parquet.schema] == [column.type for column in table.columns]


@pytest.mark.django_db
def test_pandas_loads_every_format_alike(study, tmp_path):
    build_release(study=study, schema="community_alignment", formats=["csv", "jsonl", "parquet"], directory=tmp_path / "out")
    stem = tmp_path / "out" / "community_alignment"
    frames = [
        pandas.read_csv(stem.with_suffix(".csv"), keep_default_na=False, na_values=[""]),
        pandas.read_json(stem.with_suffix(".jsonl"), lines=True),
        pandas.read_parquet(stem.with_suffix(".parquet")),
    ]
    for frame in frames:
        assert frame.shape == (6, 45)
        assert frame["is_pregenerated_first_prompt"].dtype == bool
        assert frame["wave"].tolist() == [1] * 6
        assert frame["first_turn_preferred_response"].notna().all()
        assert frame["conversation_id"].tolist() == frames[0]["conversation_id"].tolist()


@pytest.mark.django_db
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("schema_name", "formats"),
    [
        ("community_alignment", ["csv"]),
        ("community_alignment", ["csv", "jsonl", "parquet"]),
        ("community_alignment", ["jsonl"]),
        ("long", ["csv", "jsonl", "parquet"]),
        ("long", ["csv"]),
    ],
)
def test_the_lines_in_the_readme_load_the_release(study, tmp_path, monkeypatch, schema_name, formats):
    """Each table's line for pandas and its line for Hugging Face `datasets` are run as they stand."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "out"
    build_release(study=study, schema=schema_name, formats=formats, directory=folder)
    monkeypatch.chdir(folder)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    lines = [line for line in code.splitlines() if " = " in line]
    assert len(lines) == (2 if schema_name == "community_alignment" else 12)
    for line in lines:
        found: dict = {"pandas": pandas, "datasets": datasets}
        exec(line, found)  # noqa: S102  (the documented lines are what is tested)
        table, loaded = line.split(" = ")[0], found[line.split(" = ")[0]]
        if table == "community_alignment":
            assert (len(loaded), len(loaded.columns if " = pandas" in line else loaded.column_names)) == (6, 45)
            assert set(loaded["first_turn_preferred_response"]) <= {f"response_{letter}" for letter in "abcd"}
        sizes = {"community_alignment": 6, "comparisons": 18, "candidates": 68, "candidate_sets": 17, "attempts": 51}
        assert len(loaded) == (sizes | {"annotators": 3, "prompts": 1})[table]


@pytest.mark.parametrize("cell", FORMULAS)
def test_s7_formula_cells_are_inert_and_come_back(cell):
    assert neutralise(cell) == f"'{cell}"
    assert restore(neutralise(cell)) == cell


@given(st.text(alphabet=st.sampled_from("'=+-@\t\r\n ＝＋－＠ab1"), max_size=8))
def test_s7_the_rule_is_reversible_and_leaves_nothing_dangerous(cell):
    neutral = neutralise(cell)
    assert restore(neutral) == cell
    assert neutral.lstrip()[:1] not in set("=+-@＝＋－＠")
    assert neutral[:1] not in {"\t", "\r", "\n"}


@pytest.mark.django_db
def test_s7_long_csv_is_neutralised_and_machine_formats_are_not(tmp_path):
    annotator = AnnotatorFactory()
    make_conversation(annotator, choices=(0,), explanation='=HYPERLINK("x")')
    texts = {}
    for schema, table in (("long", "comparisons"), ("community_alignment", "community_alignment")):
        release = build_release(study=annotator.study, schema=schema, formats=["csv", "jsonl"], directory=tmp_path / schema)
        with (tmp_path / schema / f"{table}.csv").open(newline="") as file:
            [texts[schema]] = [row.get("explanation") or row.get("first_turn_feedback") for row in csv.DictReader(file)]
        assert '=HYPERLINK(\\"x\\")' in (tmp_path / schema / f"{table}.jsonl").read_text()
        assert ("apostrophe" in release.manifest["csv"]) is (schema == "long")
    assert texts == {"long": '\'=HYPERLINK("x")', "community_alignment": '=HYPERLINK("x")'}


@pytest.mark.django_db
def test_r14_any_text_keeps_its_lines_and_signs(tmp_path):
    """Line ends, quotes, separators that some readers take for line ends, Devanagari, emoji, and words that look like nulls."""
    text = 'First "line",\nsecond\u2028third\u2029नमस्ते 🐝 ;NA'
    annotator = AnnotatorFactory()
    make_conversation(annotator, choices=(0,), explanation=text)
    build_release(study=annotator.study, schema="community_alignment", formats=["csv", "jsonl", "parquet"], directory=tmp_path / "out")
    stem = tmp_path / "out" / "community_alignment"
    assert len(stem.with_suffix(".jsonl").read_text().splitlines()) == 1
    assert pandas.read_csv(stem.with_suffix(".csv"))["first_turn_feedback"].tolist() == [text]
    assert pandas.read_json(stem.with_suffix(".jsonl"), lines=True)["first_turn_feedback"].tolist() == [text]
    assert pandas.read_parquet(stem.with_suffix(".parquet"))["first_turn_feedback"].tolist() == [text]
