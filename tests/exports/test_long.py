"""The long schema: several files joined by pseudonyms."""

import hashlib
import json
from datetime import datetime

import pytest

from apps.annotation.models import Comparison, ShownCandidate
from apps.exports.schemas.long import schema_for
from apps.exports.services import build_release
from apps.generation.models import Candidate, CandidateSet, GenerationAttempt, InstructionTemplate, RecipePartVariant
from tests.exports.build import answer, judge, make_conversation, make_turn, record_how_it_was_made
from tests.factories import AnnotatorFactory, CandidateSetFactory, PromptFactory, StudyFactory

pytestmark = pytest.mark.django_db

TABLES = ("comparisons", "candidates", "candidate_sets", "attempts", "annotators", "prompts")


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


def test_every_candidate_tells_how_it_was_made(study, tmp_path):
    tables = long_tables(study, tmp_path)
    candidates, attempts = tables["candidates"], {row["attempt_id"]: row for row in tables["attempts"]}
    for row in candidates:
        attempt = attempts[row["attempt_id"]]
        assert attempt["state"] == "SUCCEEDED"
        assert attempt["candidate_set_id"] == row["candidate_set_id"]
        assert (row["source"], row["template"], row["template_version"]) == (attempt["method"], attempt["method"], 1)
        assert row["raw_output_sha256"] == hashlib.sha256(attempt["raw_output"].encode()).hexdigest()
        assert (row["model_asked"], row["model_answered"]) == ("polyphony-offline", "polyphony-offline-1")
        assert (row["temperature"], row["seed"], row["cost"], row["latency_ms"]) == (0.7, 11, 0.000123, 840)
        assert (row["input_tokens"], row["output_tokens"]) == (50, 70)
        assert json.loads(row["parameters"])["max_tokens"] == 900
        assert row["attempt_number"] == (2 if row["source"] == "default" else 1)
    template = InstructionTemplate.objects.get(study=study, key="default")
    hashes = {row["language"]: row["template_hash"] for row in candidates if row["source"] == "default"}
    assert hashes == {language: template.hash_in(language) for language in ("en", "fr")}


def test_figures_of_a_call_say_that_they_repeat_for_its_candidates():
    for table in schema_for([]).tables:
        shared = {column.name for column in table.columns if "sum it over attempts" in column.description}
        assert shared == ({"input_tokens", "output_tokens", "cost"} if table.name == "candidates" else set())


def test_failed_calls_are_told_with_their_cost(study, tmp_path):
    failed = [row for row in long_tables(study, tmp_path)["attempts"] if row["state"] == "FAILED"]
    assert len(failed) == CandidateSet.objects.count()
    assert {(row["error_code"], row["cost"], row["attempt_number"]) for row in failed} == {("truncated", 0.000123, 1)}


def test_sets_have_their_similarity_matrix(study, tmp_path):
    tables = long_tables(study, tmp_path)
    assert {row["candidate_set_id"] for row in tables["candidate_sets"]} == {row["candidate_set_id"] for row in tables["comparisons"]}
    for row in tables["candidate_sets"]:
        matrix = json.loads(row["similarity"])
        assert [matrix[slot][slot] for slot in range(row["k"])] == [1.0] * 4
        assert (row["diversity"], row["similarity_measure"], row["recipe"]) == (0.4, "test", "nc3")


def test_a_curated_candidate_has_no_call(tmp_path):
    annotator = AnnotatorFactory()
    make_conversation(annotator, choices=(0,))
    Candidate.objects.update(source="curated")
    tables = long_tables(annotator.study, tmp_path)
    assert tables["attempts"] == []
    for row in tables["candidates"]:
        assert row["source"] == "curated"
        unknown = ["model", "attempt_id", "raw_output_sha256", "template", "template_hash", "model_asked", "seed", "cost", "parameters"]
        assert [row[name] for name in unknown] == [None] * len(unknown)


def test_a_persona_names_the_instruction_of_its_variant(tmp_path):
    annotator = AnnotatorFactory()
    make_conversation(annotator, choices=(0,))
    candidate_set = CandidateSet.objects.get()
    nurse = InstructionTemplate.objects.create(study=annotator.study, key="nurse", version=3, text_en="Answer as a nurse.", text_fr="Oui.")
    part = candidate_set.recipe.parts.get(method="default")
    RecipePartVariant.objects.create(recipe_part=part, order=1, template=nurse)
    record_how_it_was_made(candidate_set)
    GenerationAttempt.objects.filter(recipe_part=part).update(template_hash=nurse.hash_in("en"))
    [row] = [row for row in long_tables(annotator.study, tmp_path)["candidates"] if row["slot"] == 3]
    assert (row["template"], row["template_version"]) == ("nurse", 3)


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
    assert list(row)[5:8] == ["in_balanced_subset", "raking_weight", "balance_rule"]
    assert list(row)[8:] == [
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
