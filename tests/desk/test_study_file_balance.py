"""The balance rule in study files."""

import pytest

from apps.desk.study_file import FileRefused, dump_study, load_study_file, read_study_file
from apps.quality.selectors import current_rule
from tests.desk.study_files import SMALL, changed, line_of, write
from tests.desk.test_study_file_sample import POPULATION, QUOTAS

BALANCE = """balance:
  min_annotators: 4
  sets:
    - table: US/gender
      locales: [en-US]
      weights: [census]

recruitment_links:
"""


@pytest.fixture
def load(tmp_path):
    return lambda *more: load_study_file(write(tmp_path, changed((QUOTAS, POPULATION), ("recruitment_links:\n", BALANCE), *more)))


@pytest.mark.django_db
def test_the_file_makes_a_rule_with_the_seed_of_the_study(load, tmp_path):
    report = load()
    rule = current_rule(report.study)
    assert (rule.version, rule.seed, rule.min_annotators, rule.max_weight) == (1, 7, 4, 5)
    [margin] = rule.margins.all()
    assert (margin.table.key, [each.table.key for each in margin.raking_tables.all()]) == ("US/gender", ["census"])
    assert report.counts["balance rule"] == {"created": 1}
    assert load().counts["balance rule"] == {"unchanged": 1}
    assert load_study_file(write(tmp_path, dump_study(report.study), "dump.yaml")).counts["balance rule"] == {"unchanged": 1}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "change",
    [
        ("min_annotators: 4", "min_annotators: 5"),
        ("min_annotators: 4", "seed: 9"),
        ("min_annotators: 4", "max_weight: 2.5"),
        ("      weights: [census]\n", ""),
        ("women: {share: 0.6", "women: {share: 0.601"),
    ],
)
def test_a_difference_is_the_next_version(load, change):
    study = load().study
    more = (change, ("men: {share: 0.4", "men: {share: 0.399")) if "0.601" in change[1] else (change,)
    assert load(*more).counts["balance rule"] == {"updated": 1}
    assert current_rule(study).version == 2


@pytest.mark.django_db
def test_a_file_without_the_part_ends_balancing(load, tmp_path):
    study = load().study
    assert load_study_file(write(tmp_path, SMALL)).counts["balance rule"] == {"removed": 1}
    assert "balance:" not in dump_study(study)
    assert "balance rule" not in load_study_file(write(tmp_path, SMALL)).counts
    assert load().counts["balance rule"] == {"created": 1}


MISTAKES = [
    (("- table: US/gender", "- table: US/sex"), "- table: US/sex", "balance.sets", "unknown population table “US/sex”"),
    (("- table: US/gender", "- table: US/urban_rural"), "- table: US/urban_rural", "balance.sets", "no question tells the strata"),
    (("weights: [census]", "weights: [US/gender]"), "weights: [US/gender]", "balance.sets", "US/gender is named already"),
    (("[en-US]\n      weights", "[en-GB]\n      weights"), "[en-GB]", "balance.sets", "unknown locale “en-GB”"),
    (("[en-US]\n      weights", "[en-US, en-US]\n      weights"), "[en-US, en-US]", "balance.sets", "each locale once"),
    (
        ("women: {share: 0.6, strata: {gender: [woman]}}", "women: {share: 0.6, strata: {cats: [many]}}"),
        "weights: [census]", "balance.sets", "a table of questions that en-US asks, not cats",
    ),
    (("min_annotators: 4", "min_annotators: 0"), "min_annotators: 0", "balance.min_annotators", "expected at least 1"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "place", "key", "message"), MISTAKES, ids=[message for *_, message in MISTAKES])
def test_every_mistake_is_named_with_its_line(tmp_path, change, place, key, message):
    text = changed((QUOTAS, POPULATION), ("recruitment_links:\n", BALANCE), change)
    with pytest.raises(FileRefused) as refused:
        read_study_file(write(tmp_path, text))
    found = [problem for problem in refused.value.problems if message in problem.message]
    assert found, refused.value.problems
    assert found[0].key.startswith(key)
    assert found[0].line == line_of(text, place)
