"""Population tables and quotas in study files."""

import pytest

from apps.desk.study_file import FileRefused, dump_study, load_study_file, read_study_file
from apps.quotas.models import Placement, PopulationTable, QuotaCell, TargetChange
from apps.quotas.services import place_annotator
from tests.desk.study_files import SMALL, changed, line_of, write
from tests.factories import AnnotatorFactory
from tests.quotas.sampling import NOW

QUOTAS = "quotas:\n  women_and_men:\n    kind: hard\n    locales: [en-US, fr-FR]\n"
POPULATION = """population:
  builtin: [US/gender, US/urban_rural]
  own:
    census:
      country: US
      dimension: sex
      source: "A census."
      shares:
        women: {share: 0.6, strata: {gender: [woman]}}
        men: {share: 0.4, strata: {gender: male}}
quotas:
  by_table:
    kind: hard
    locales: [en-US]
    table: US/gender
    total: 101
    outside_share: 0.1
  by_census: {kind: soft, locales: [en-US], table: census, total: 5, no_cell: ask}
  women_and_men:
    kind: hard
    locales: [en-US, fr-FR]
"""


@pytest.fixture
def load(tmp_path):
    return lambda *replacements: load_study_file(write(tmp_path, changed((QUOTAS, POPULATION), *replacements)))


@pytest.mark.django_db
def test_targets_follow_from_the_table_and_the_total(load):
    study = load().study
    quota = study.quotas.get(key="by_table")
    assert {cell.key: (cell.target, cell.strata) for cell in quota.cells.all()} == {
        "female": (51, {"gender": ["female"]}),
        "male": (50, {"gender": ["male"]}),
    }
    assert (quota.table.grade, quota.table.year, quota.total) == ("A", "2024", 101)
    assert list(study.quotas.get(key="by_census").cells.values_list("key", "target")) == [("women", 3), ("men", 2)]
    assert study.quotas.get(key="by_census").no_cell == "ASK"
    assert set(study.population_tables.values_list("key", flat=True)) == {"US/gender", "US/urban_rural", "census"}


@pytest.mark.django_db
def test_a_dump_names_built_in_tables_and_leaves_computed_cells_out(load, tmp_path):
    dump = dump_study(load().study)
    assert 'builtin: ["US/gender", "US/urban_rural"]' in dump
    assert dump.count("cells:") == 1
    again = load_study_file(write(tmp_path, dump, "dump.yaml"))
    assert set(again.counts["quotas"]) == set(again.counts["population tables"]) == {"unchanged"}


@pytest.mark.django_db
def test_an_edited_target_is_dumped_as_it_is(load, tmp_path):
    study = load().study
    QuotaCell.objects.filter(quota__key="by_table", key="male").update(target=70)
    dump = dump_study(study)
    assert "male: {target: 70, strata: {gender: [male]}}" in dump
    assert read_study_file(write(tmp_path, dump, "dump.yaml"))[1].quotas["by_table"].cells["male"].target == 70


@pytest.mark.django_db
def test_a_target_changed_by_a_file_during_fieldwork_leaves_a_line_in_the_log(load):
    study = load(("  seed: 7\n", "  seed: 7\n  state: open\n")).study
    place_annotator(annotator=AnnotatorFactory(study=study), now=NOW)
    assert Placement.objects.count() == 3
    load(("  seed: 7\n", "  seed: 7\n  state: open\n"), ("total: 101", "total: 50"))
    lines = TargetChange.objects.order_by("pk").values_list("cell__key", "before", "after", "user")
    assert list(lines) == [("female", 51, 25, None), ("male", 50, 25, None)]


@pytest.mark.django_db
def test_tables_that_left_the_file_go(load, tmp_path):
    study = load().study
    load_study_file(write(tmp_path, SMALL))
    assert not PopulationTable.objects.filter(study=study).exists()
    assert study.quotas.count() == 1


MISTAKES = [
    (("US/gender, US/urban", "US/sex, US/urban"), "builtin", "population.builtin", "unknown built-in table “US/sex”"),
    (("table: US/gender", "table: FR/gender"), "table: FR/gender", "quotas.by_table.table", "unknown population table “FR/gender”"),
    (("table: US/gender", "table: US/urban_rural"), "table: US/urban_rural", "quotas.by_table.table", "no question tells the strata"),
    (("    total: 101\n", ""), "  by_table:", "quotas.by_table", "expected `total`"),
    (("    table: US/gender\n    total: 101\n", ""), "  by_table:", "quotas.by_table", "expected `cells`, or `table` and `total`"),
    (("share: 0.6", "share: 0.5"), "      shares:", "population.own.census.shares", "sum to 1 (± 0.001), found 0.9"),
    (("strata: {gender: [woman]}", "strata: {gender: [cat]}"), "by_census", "quotas.by_census.table", "unknown stratum “cat”"),
    (
        ("{share: 0.4, strata: {gender: male}}", "{share: 0.4, strata: {gender: [male, woman]}}"),
        "        men: {",
        "population.own.census.shares.men",
        "overlaps with line ",
    ),
    (
        ("    total: 101\n", "    cells:\n      a: {target: 3, strata: {gender: male}}\n      b: {target: 4, strata: {gender: male}}\n"),
        "      b: {",
        "quotas.by_table.cells.b",
        "overlaps with line ",
    ),
    (("    census:\n", "    US/gender:\n"), "builtin", "population.builtin", "stands below `own` too"),
]


@pytest.mark.parametrize(("change", "place", "key", "message"), MISTAKES, ids=[message for *_, message in MISTAKES])
def test_every_mistake_is_named_with_its_line(tmp_path, change, place, key, message):
    text = changed((QUOTAS, POPULATION), change)
    with pytest.raises(FileRefused) as refused:
        read_study_file(write(tmp_path, text))
    found = [problem for problem in refused.value.problems if message in problem.message]
    assert found, refused.value.problems
    assert found[0].key.startswith(key)
    assert found[0].line == line_of(text, place)
