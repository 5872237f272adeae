"""The long schema: several files joined by pseudonyms."""

import json
from datetime import datetime

import pytest

from apps.annotation.models import Comparison, ShownCandidate
from apps.exports.services import build_release
from tests.exports.build import answer, judge, make_conversation, make_turn
from tests.factories import AnnotatorFactory, CandidateSetFactory, PromptFactory, StudyFactory

pytestmark = pytest.mark.django_db

TABLES = ("comparisons", "candidates", "annotators", "prompts")


def long_tables(study, tmp_path) -> dict[str, list[dict]]:
    build_release(study=study, schema="long", formats=["jsonl"], directory=tmp_path / "out")
    return {name: [json.loads(line) for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()] for name in TABLES}


def test_tables_join_and_count_like_the_database(study, tmp_path):
    tables = long_tables(study, tmp_path)
    comparisons = tables["comparisons"]
    assert len(comparisons) == Comparison.objects.current().count() == 18
    assert len({row["comparison_id"] for row in comparisons}) == 18
    assert len({row["conversation_id"] for row in comparisons}) == 6
    assert {row["annotator_id"] for row in comparisons} == {row["annotator_id"] for row in tables["annotators"]}
    shown = {candidate for row in comparisons for candidate in row["display_order"]}
    assert shown == {row["candidate_id"] for row in tables["candidates"]}
    assert len(shown) == ShownCandidate.objects.values("candidate").distinct().count()
    assert [(row["prompt_key"], row["prompt_version"]) for row in tables["prompts"]] == [(study.prompts.get().key, 1)]


def test_the_same_candidate_has_one_id_for_everybody(tmp_path):
    study = StudyFactory()
    prompt = PromptFactory(study=study)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0]):
        make_conversation(AnnotatorFactory(study=study), prompt=prompt, choices=(1,), first_order=order)
    comparisons = long_tables(study, tmp_path)["comparisons"]
    first, second = sorted(comparisons, key=lambda row: row["generation_slots"])
    assert first["display_order"] == second["display_order"][::-1]
    assert first["candidate_set_id"] == second["candidate_set_id"]
    assert first["sources"] == ["negatively_correlated"] * 3 + ["default"]
    assert (first["chosen_letter"], first["ranks"]) == ("B", [2, 1, 2, 2])
    assert first["chosen_candidate_id"] == first["display_order"][1]
    assert not first["is_live"]


def test_times_are_iso_8601_with_offset(study, tmp_path):
    for row in long_tables(study, tmp_path)["comparisons"]:
        assert datetime.fromisoformat(row["shown_at"]).utcoffset().total_seconds() == 0
        assert row["answered_at"] > row["shown_at"]


def test_ties_and_none_are_expressed(tmp_path):
    annotator = AnnotatorFactory()
    conversation = make_conversation(annotator, choices=(0,))
    turn = make_turn(
        conversation, 2, CandidateSetFactory(recipe=annotator.study.recipes.get(), is_live=True), "And now?", source="ANNOTATOR"
    )
    judge(turn, None, outcome=Comparison.Outcome.NONE)
    row = long_tables(annotator.study, tmp_path)["comparisons"][1]
    assert row["outcome"] == "NONE"
    assert row["chosen_letter"] is row["chosen_candidate_id"] is None
    assert row["ranks"] == [None] * 4


def test_pairwise_designs_are_expressed(tmp_path):
    study = StudyFactory(k=2)
    make_conversation(AnnotatorFactory(study=study), choices=(1, 0))
    assert [row["k"] for row in long_tables(study, tmp_path)["comparisons"]] == [2, 2]


def test_annotators_have_codes_and_strata_per_question(tmp_path):
    annotator = AnnotatorFactory()
    answer(annotator, "adult", "yes")
    answer(annotator, "gender", "woman")
    answer(annotator, "race_ethnicity", "white", "black")
    make_conversation(annotator)
    [row] = long_tables(annotator.study, tmp_path)["annotators"]
    assert list(row)[5:] == [
        f"{kind}_{code}" for code in ("birth_year", "gender", "politics", "race_ethnicity") for kind in ("answer", "stratum")
    ]
    assert (row["answer_gender"], row["stratum_gender"]) == ("woman", "female")
    assert (row["answer_race_ethnicity"], row["stratum_race_ethnicity"]) == ("white;black", None)
    assert row["answer_politics"] is None


def test_nothing_internal_leaves(study, tmp_path):
    long_tables(study, tmp_path)
    everything = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    for annotator in study.annotators.all():
        assert str(annotator.public_id) not in everything
        assert annotator.completion_code not in everything
        assert str(annotator.submission_id) not in everything
