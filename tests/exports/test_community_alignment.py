"""The wide schema: 45 columns, letters as each person saw them, nulls, and what it refuses."""

import csv
import json
from pathlib import Path

import pytest

from apps.annotation.models import Assignment, Comparison
from apps.annotators.models import Annotator, RecruitmentLink
from apps.exports.errors import FolderNotEmpty, ReleaseRefused, UnknownSchema
from apps.exports.models import Release
from apps.exports.schemas import community_alignment
from apps.exports.services import build_release
from apps.studies.models import TurnDesign
from tests.exports.build import answer, judge, make_conversation, make_turn
from tests.factories import AnnotatorFactory, CandidateSetFactory, RecruitmentLinkFactory, StudyFactory

pytestmark = pytest.mark.django_db


def wide_rows(study, tmp_path: Path, name: str = "out") -> list[dict]:
    build_release(study=study, schema="community_alignment", formats=["jsonl"], directory=tmp_path / name)
    return [json.loads(line) for line in (tmp_path / name / "community_alignment.jsonl").read_text().splitlines()]


def only_row(annotator, tmp_path) -> dict:
    [row] = wide_rows(annotator.study, tmp_path)
    return row


@pytest.fixture
def annotator(db) -> Annotator:
    return AnnotatorFactory()


def test_columns_are_those_of_the_released_file():
    turns = []
    for turn in ("first", "second", "third", "fourth"):
        turns += [f"{turn}_turn_prompt", f"{turn}_turn_responses"]
        turns += [f"{turn}_turn_response_{letter}" for letter in "abcd"]
        turns += [f"{turn}_turn_preferred_response", f"{turn}_turn_feedback"]
    expected = [
        "conversation_id", "assigned_lang", "annotator_id", *turns, "annotator_age", "annotator_gender", "annotator_education_level",
        "annotator_political", "annotator_ethnicity", "annotator_country", "is_pregenerated_first_prompt", "in_balanced_subset",
        "in_balanced_subset_10", "wave",
    ]  # fmt: skip
    assert [column.name for column in community_alignment.COLUMNS] == expected
    assert len(expected) == 45


def test_csv_header_and_literals(study, tmp_path):
    build_release(study=study, schema="community_alignment", formats=["csv"], directory=tmp_path / "out")
    with (tmp_path / "out" / "community_alignment.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == [column.name for column in community_alignment.COLUMNS]
    assert len(rows) == 6
    by_name = [dict(zip(header, row, strict=True)) for row in rows]
    assert {row["assigned_lang"] for row in by_name} == {"en", "fr"}
    assert {row["annotator_country"] for row in by_name} == {"united states", "france"}
    assert {row["annotator_age"] for row in by_name} == {"18-34", "55+"}
    assert {row["is_pregenerated_first_prompt"] for row in by_name} == {"True", "False"}
    assert {row["in_balanced_subset"] for row in by_name} == {"False"}
    assert {row["wave"] for row in by_name} == {"1"}


def test_letters_are_the_positions_this_person_saw(annotator, tmp_path):
    make_conversation(annotator, choices=(1,), first_order=[3, 0, 2, 1])
    row = only_row(annotator, tmp_path)
    candidate_texts = {
        item.candidate.slot: item.text for item in annotator.conversations.get().turns.get().shown_candidates.select_related("candidate")
    }
    assert [row[f"first_turn_response_{letter}"] for letter in "abcd"] == [candidate_texts[slot] for slot in (3, 0, 2, 1)]
    assert row["first_turn_preferred_response"] == "response_b"
    assert row["first_turn_responses"] == (
        f"# Response A:\n{candidate_texts[3]}\n\n# Response B:\n{candidate_texts[0]}\n\n"
        f"# Response C:\n{candidate_texts[2]}\n\n# Response D:\n{candidate_texts[1]}"
    )


def test_turns_without_a_comparison_are_null(annotator, tmp_path):
    make_conversation(annotator, choices=(0, 3), abandoned=True)
    row = only_row(annotator, tmp_path)
    assert row["second_turn_preferred_response"] == "response_d"
    assert row["second_turn_prompt"] == "And then, part 2?"
    for turn in ("third", "fourth"):
        assert {value for name, value in row.items() if name.startswith(turn)} == {None}


def test_an_empty_explanation_is_null(annotator, tmp_path):
    make_conversation(annotator, choices=(0,), explanation="")
    assert only_row(annotator, tmp_path)["first_turn_feedback"] is None


def test_an_own_first_message_is_not_pregenerated(annotator, tmp_path):
    make_conversation(annotator, own=True)
    row = only_row(annotator, tmp_path)
    assert row["is_pregenerated_first_prompt"] is False
    assert row["first_turn_prompt"] == "Tell me about bees."


@pytest.mark.parametrize(
    ("options", "published"),
    [
        (["white"], "White"),
        (["white", "black"], "Other"),
        (["white", "hispanic"], "Hispanic or Latino"),
        (["hispanic"], "Hispanic or Latino"),
        (["prefer_not_to_say"], "Prefer not to say"),
        ([], None),
    ],
)
def test_several_options_become_one_published_value(annotator, tmp_path, options, published):
    answer(annotator, "race_ethnicity", *options)
    make_conversation(annotator)
    assert only_row(annotator, tmp_path)["annotator_ethnicity"] == published


def test_missing_published_values_are_null(annotator, tmp_path):
    answer(annotator, "gender", "prefer_not_to_say")
    make_conversation(annotator)
    row = only_row(annotator, tmp_path)
    assert row["annotator_gender"] is None
    assert row["annotator_age"] is None
    assert row["annotator_political"] is None


def test_answers_without_a_granted_consent_never_leave(annotator, tmp_path):
    answer(annotator, "politics", "left", granted=False)
    make_conversation(annotator)
    assert only_row(annotator, tmp_path)["annotator_political"] is None


@pytest.mark.parametrize("state", ["ACTIVE", "EXPIRED", "RETURNED", "SKIPPED", "SURPLUS", "WITHDRAWN"])
def test_only_completed_conversations_count(annotator, tmp_path, state):
    make_conversation(annotator, state=state)
    assert wide_rows(annotator.study, tmp_path) == []


def test_a_completed_conversation_counts_before_the_person_is_done(annotator, tmp_path):
    make_conversation(annotator)
    assert annotator.state == Annotator.State.ACTIVE
    assert len(wide_rows(annotator.study, tmp_path)) == 1


def test_repeats_and_gold_are_left_out(annotator, tmp_path):
    conversation = make_conversation(annotator)
    for purpose, first in (("REPEAT", conversation.assignment_id), ("GOLD", None)):
        Assignment.objects.filter(pk=conversation.assignment_id).update(purpose=purpose, slot=None, repeats=first)
        assert wide_rows(annotator.study, tmp_path, purpose) == []


def test_pilots_are_left_out(tmp_path):
    study = StudyFactory()
    link = RecruitmentLinkFactory(study=study, purpose=RecruitmentLink.Purpose.PILOT)
    make_conversation(AnnotatorFactory(study=study, recruitment_link=link))
    assert wide_rows(study, tmp_path) == []


def test_the_withdrawn_are_left_out(annotator, tmp_path):
    make_conversation(annotator)
    Annotator.objects.update(state=Annotator.State.WITHDRAWN, ended_at=annotator.joined_at)
    assert wide_rows(annotator.study, tmp_path) == []


def test_other_studies_are_left_out(annotator, tmp_path):
    make_conversation(AnnotatorFactory())
    make_conversation(annotator)
    assert len(wide_rows(annotator.study, tmp_path)) == 1


def test_the_newest_revision_counts(annotator, tmp_path):
    turn = make_conversation(annotator, choices=(0,)).turns.get()
    judge(turn, 2, "On second thought.", revision=2)
    row = only_row(annotator, tmp_path)
    assert row["first_turn_preferred_response"] == "response_c"
    assert row["first_turn_feedback"] == "On second thought."


def refused(study, tmp_path) -> str:
    with pytest.raises(ReleaseRefused) as caught:
        build_release(study=study, schema="community_alignment", formats=["csv"], directory=tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))
    assert not Release.objects.exists()
    return str(caught.value)


def test_a_pairwise_design_is_refused(tmp_path):
    assert "shows 2 candidates at turns 1–4, the schema has 4" in refused(StudyFactory(k=2), tmp_path)


def test_a_design_of_more_than_four_turns_is_refused(tmp_path):
    study = StudyFactory()
    study.task_design.max_turns = 6
    study.task_design.save()
    TurnDesign.objects.update(last_turn=6)
    assert "up to 6 turns, the schema has 4" in refused(study, tmp_path)


@pytest.mark.parametrize("outcome", [Comparison.Outcome.TIE, Comparison.Outcome.NONE])
def test_ties_in_the_data_are_refused(annotator, tmp_path, outcome):
    conversation = make_conversation(annotator, choices=(0,))
    turn = make_turn(
        conversation, 2, CandidateSetFactory(recipe=annotator.study.recipes.get(), is_live=True), "And now?", source="ANNOTATOR"
    )
    judge(turn, None, outcome=outcome)
    assert "1 comparisons are a tie or “none”" in refused(annotator.study, tmp_path)


def test_pairwise_data_of_an_older_design_is_refused(tmp_path):
    study = StudyFactory(k=2)
    make_conversation(AnnotatorFactory(study=study))
    TurnDesign.objects.update(k=4)
    assert "2 comparisons showed another number of candidates than 4" in refused(study, tmp_path)


def test_values_outside_the_literals_are_refused_all_at_once(annotator, tmp_path):
    make_conversation(annotator)
    annotator.study.locales.update(published_country="United States")
    Annotator.objects.update(wave=3)
    reason = refused(annotator.study, tmp_path)
    assert "the published country “United States” is not one of united states" in reason
    assert "the wave “3” is not one of 1, 2" in reason


def test_unknown_schema_and_format_are_refused(study, tmp_path):
    with pytest.raises(UnknownSchema, match="no release schema “broad”"):
        build_release(study=study, schema="broad", formats=["csv"], directory=tmp_path / "out")
    with pytest.raises(UnknownSchema, match="no file format “xlsx”"):
        build_release(study=study, schema="long", formats=["xlsx"], directory=tmp_path / "out")


def test_a_folder_that_holds_something_is_never_overwritten(study, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(FolderNotEmpty):
        build_release(study=study, schema="long", formats=["csv"], directory=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
