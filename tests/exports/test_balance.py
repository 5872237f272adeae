"""The balanced subset and the weights in releases."""

import hashlib
import json

import pytest

from apps.annotation.services.participation import withdraw
from apps.annotators.models import Annotator
from apps.exports.services import build_release
from apps.quality.models import BalanceRule
from tests.factories import PromptFactory, StudyFactory
from tests.quality.sampling import NOW, balance_rule, completed, with_work

pytestmark = pytest.mark.django_db


@pytest.fixture
def study():
    """Three women and two men who completed, on one prompt, each with a message of their own too; one man still at work."""
    study = StudyFactory()
    prompt = PromptFactory(study=study)
    people = [completed(study, gender) for gender in ("woman", "woman", "woman", "woman", "man", "man")]
    people.append(completed(study, "man", state=Annotator.State.ACTIVE))
    for person in people:
        with_work(person, prompt=prompt)
        with_work(person, own=True)
    return study


def release(study, tmp_path, name, schema="long"):
    built = build_release(study=study, schema=schema, formats=["jsonl"], directory=tmp_path / name)
    tables = {path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in (tmp_path / name).glob("*.jsonl")}
    return tables, built.manifest


def test_without_a_rule_all_is_false_and_empty(study, tmp_path):
    tables, manifest = release(study, tmp_path, "out")
    assert manifest["balance"] is None
    for row in tables["annotators"]:
        assert (row["in_balanced_subset"], row["raking_weight"], row["balance_rule"]) == (False, None, None)
    assert not any(row["in_balanced_subset"] or row["in_balanced_subset_10"] for row in tables["comparisons"])


def test_long_and_wide_say_the_same(study, tmp_path):
    balance_rule(study, min_annotators=4)
    long, manifest = release(study, tmp_path, "long")
    subset = {row["annotator_id"] for row in long["annotators"] if row["in_balanced_subset"]}
    assert len(subset) == 5  # 3 women and 2 men: the tie goes to the first line
    for row in long["comparisons"]:
        assert row["in_balanced_subset"] == (row["annotator_id"] in subset)
        assert row["in_balanced_subset_10"] == (row["annotator_id"] in subset and row["purpose"] == "MAIN")
    wide, _ = release(study, tmp_path, "wide", "community_alignment")
    flags = {row["conversation_id"]: (row["in_balanced_subset"], row["in_balanced_subset_10"]) for row in long["comparisons"]}
    found = {row["conversation_id"]: (row["in_balanced_subset"], row["in_balanced_subset_10"]) for row in wide["community_alignment"]}
    assert found == flags
    weights = [row["raking_weight"] for row in long["annotators"]]
    assert sorted(weights, key=str) == [0.75] * 4 + [1.5] * 2 + [None]
    assert {row["balance_rule"] for row in long["annotators"]} == {1}
    told = manifest["balance"]
    assert (told["rule_version"], told["seed"], told["min_annotators"]) == (1, 7, 4)
    [each] = told["sets"]
    assert (each["locales"], each["annotators"], each["prompts_with_enough_annotators"]) == (["en-US"], 5, 1)
    assert {name: each["table"][name] for name in ("key", "year", "source", "grade")} == {
        "key": "gender", "year": "2024", "source": "A census.", "grade": "A",
    }  # fmt: skip
    assert [(row["stratum"], row["share"], row["available"], row["taken"]) for row in each["strata"]] == [
        ("women", 0.5, 4, 3), ("men", 0.5, 2, 2),
    ]  # fmt: skip
    assert each["raking"]["effective_size"] == pytest.approx(36 / 6.75, abs=1e-3)


def test_a_prompt_with_too_few_people_is_not_in_the_smaller_part(study, tmp_path):
    balance_rule(study, min_annotators=6)
    tables, _ = release(study, tmp_path, "out")
    assert any(row["in_balanced_subset"] for row in tables["comparisons"])
    assert not any(row["in_balanced_subset_10"] for row in tables["comparisons"])


def test_the_draw_can_be_repeated_from_the_release(study, tmp_path):
    """By the rule's words alone: SHA-256 of “seed/annotator_id”."""
    balance_rule(study)
    tables, manifest = release(study, tmp_path, "out")
    [each] = manifest["balance"]["sets"]
    candidates = [row for row in tables["annotators"] if row["raking_weight"] is not None]
    drawn = set()
    for stratum in each["strata"]:
        [options] = stratum["questions"].values()
        people = [row["annotator_id"] for row in candidates if row["stratum_gender"] in options]
        people.sort(key=lambda name: hashlib.sha256(f"7/{name}".encode()).hexdigest())
        drawn.update(people[: stratum["taken"]])
    assert drawn == {row["annotator_id"] for row in tables["annotators"] if row["in_balanced_subset"]}


@pytest.mark.parametrize("schema", ["long", "community_alignment"])
def test_a_second_build_has_the_same_bytes(study, tmp_path, schema):
    balance_rule(study)
    manifests = [release(study, tmp_path, name, schema)[1] for name in ("first", "second")]
    assert manifests[0]["files"] == manifests[1]["files"]
    assert manifests[0]["balance"] == manifests[1]["balance"]


def test_whoever_withdraws_leaves_the_subset_and_the_weights(study, tmp_path):
    balance_rule(study)
    before, _ = release(study, tmp_path, "before")
    gone = Annotator.objects.filter(state="COMPLETED").first()
    withdraw(annotator=gone, now=NOW)
    after, manifest = release(study, tmp_path, "after")
    assert len(after["annotators"]) == len(before["annotators"]) - 1
    assert sum(row["available"] for row in manifest["balance"]["sets"][0]["strata"]) == 5
    assert sum(row["raking_weight"] or 0 for row in after["annotators"]) == pytest.approx(5, abs=1e-4)


def test_a_release_names_the_version_that_was_in_force(study, tmp_path):
    balance_rule(study)
    balance_rule(study, seed=8)
    assert BalanceRule.objects.count() == 2
    assert release(study, tmp_path, "out")[1]["balance"]["rule_version"] == 2
