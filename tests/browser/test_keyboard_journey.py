"""The whole French journey by keyboard alone: what was chosen on the screen is what is stored and what is exported."""

import csv

from apps.annotation.models import Comparison, ComparisonItem, Turn
from apps.annotators.models import Annotator
from apps.exports.services import build_release
from tests.browser.journey import KeyboardWalker
from tests.browser.stage import demo_study, link_to

PLACES = [2, 1]


def test_what_was_chosen_by_keyboard_is_what_is_exported(page, live_server, worker, complaints, tmp_path) -> None:
    study = demo_study("fr")
    walker = KeyboardWalker(page=page, language="fr", turns=2, pick=lambda made: PLACES[made])

    walker.walk(link_to(live_server.url, "fr-FR"))

    assert set(walker.seen) >= {"join", "questions", "guideline", "practice", "start", "compare", "message", "wait", "consent", "done"}
    assert page.locator("html").get_attribute("lang") == "fr-FR"
    assert complaints.found == []
    person = Annotator.objects.get()
    assert person.state == Annotator.State.COMPLETED
    assert page.locator("#completion-code").inner_text() == person.completion_code

    turns = list(Turn.objects.order_by("number").prefetch_related("shown_candidates"))
    assert [turn.state for turn in turns] == [Turn.State.ANSWERED] * 2
    for turn, choice, place in zip(turns, walker.choices, PLACES, strict=True):
        assert turn.message == choice.message
        assert tuple(shown.text for shown in turn.shown_candidates.all()) == choice.texts
        comparison = Comparison.objects.get(turn=turn)
        assert comparison.explanation == choice.explanation
        ranks = {item.shown_candidate.position: item.rank for item in ComparisonItem.objects.filter(comparison=comparison)}
        assert ranks == {position: 1 if position == place else 2 for position in range(4)}
        assert (turn.layout, turn.device_class) == ("column", "desktop")
    assert turns[1].message == walker.messages[0]

    build_release(study=study, schema="community_alignment", formats=["csv"], directory=tmp_path / "release")
    (table,) = [path for path in (tmp_path / "release").rglob("*.csv") if "codebook" not in path.name]
    with table.open(encoding="utf-8", newline="") as lines:
        (row,) = csv.DictReader(lines)
    for turn_name, choice in zip(["first", "second"], walker.choices, strict=True):
        assert row[f"{turn_name}_turn_prompt"] == choice.message
        assert tuple(row[f"{turn_name}_turn_response_{letter}"] for letter in "abcd") == choice.texts
        assert row[f"{turn_name}_turn_preferred_response"] == f"response_{'abcd'[choice.chosen]}"
        assert row[f"{turn_name}_turn_feedback"] == choice.explanation
    assert row["third_turn_prompt"] == ""
    assert (row["assigned_lang"], row["annotator_country"]) == ("fr", "france")
