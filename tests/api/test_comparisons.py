"""`GET /api/v1/comparisons/`: content, pages, NDJSON, cursors that can be kept."""

import json

import pytest

from apps.annotation.models import Assignment, Change, Comparison
from apps.annotators.models import Annotator, RecruitmentLink
from apps.exports.services import build_release
from tests.exports.build import answer, judge, make_conversation
from tests.factories import AnnotatorFactory

pytestmark = pytest.mark.django_db
URL = "/api/v1/comparisons/"


def walk(get, **params) -> list[dict]:
    """Every entry, page by page, by the cursor that each page gives."""
    entries, cursor = [], ""
    while True:
        page = get(URL, {**params, "cursor": cursor}).json()
        entries += page["results"]
        cursor = page["cursor"]
        if page["next"] is None:
            return entries


def test_a_comparison_comes_whole(get, study):
    Change.objects.all().delete()
    annotator = AnnotatorFactory(study=study)
    answer(annotator, "gender", "woman")
    answer(annotator, "race_ethnicity", "white", "hispanic")
    make_conversation(annotator, prompt=study.prompts.first(), choices=(1,), first_order=[3, 0, 2, 1])
    [entry] = get(URL).json()["results"]
    assert (entry["change"], entry["revision"], entry["is_current"]) == ("ADDED", 1, True)
    assert (entry["purpose"], entry["assignment_state"], entry["turn_number"]) == ("MAIN", "COMPLETED", 1)
    assert (entry["outcome"], entry["chosen_letter"]) == ("PREFERENCE", "B")
    candidates = entry["candidates"]
    assert [(c["letter"], c["position"], c["slot"], c["chosen"], c["rank"]) for c in candidates] == [
        ("A", 0, 3, False, 2), ("B", 1, 0, True, 1), ("C", 2, 2, False, 2), ("D", 3, 1, False, 2),
    ]  # fmt: skip
    assert [c["source"] for c in candidates] == ["default", *["negatively_correlated"] * 3]
    assert entry["chosen_candidate_id"] == candidates[1]["candidate_id"]
    assert candidates[0]["text"].startswith("Answer of slot 3")
    assert entry["shown_at"].endswith("+00:00")
    person = entry["annotator"]
    assert (person["locale"], person["language"], person["country"], person["wave"]) == ("en-US", "en", "united states", 1)
    assert person["answers"] == [
        {"question": "gender", "column": "gender", "published": "female", "options": [{"code": "woman", "published": "female"}]},
        {
            "question": "race_ethnicity", "column": "ethnicity", "published": "Hispanic or Latino",
            "options": [{"code": "white", "published": "White"}, {"code": "hispanic", "published": "Hispanic or Latino"}],
        },
    ]  # fmt: skip


def test_ids_are_those_of_a_release(get, study, tmp_path):
    build_release(study=study, schema="long", formats=["jsonl"], directory=tmp_path / "out")
    rows = [json.loads(line) for line in (tmp_path / "out" / "comparisons.jsonl").read_text().splitlines()]
    released = {
        (r["comparison_id"], r["conversation_id"], r["annotator_id"], r["candidate_set_id"], r["chosen_candidate_id"], r["shown_at"])
        for r in rows
    }
    entries = walk(get)
    assert released == {
        (
            e["comparison_id"], e["conversation_id"], e["annotator"]["annotator_id"], e["candidate_set_id"], e["chosen_candidate_id"],
            e["shown_at"],
        )
        for e in entries
    }  # fmt: skip


def test_pages_hold_everything_once_in_order(get):
    whole = get(URL, {"page_size": 500}).json()
    assert whole["next"] is None
    assert len(whole["results"]) == 18
    assert walk(get, page_size=5) == whole["results"]
    page = get(URL, {"page_size": 5}).json()
    assert get(page["next"]).json()["results"] == whole["results"][5:10]
    assert page["cursor"] == page["results"][-1]["cursor"]


def test_ndjson_streams_the_same_entries(get):
    pages = get(URL, {"page_size": 500}).json()["results"]
    for response in (get(URL, accept="application/x-ndjson"), get(URL, {"format": "ndjson"})):
        assert response["Content-Type"] == "application/x-ndjson; charset=utf-8"
        assert [json.loads(line) for line in b"".join(response.streaming_content).splitlines()] == pages


def test_a_broken_stream_goes_on_from_its_last_line(get):
    response = get(URL, {"format": "ndjson"})
    lines = [json.loads(line) for line in b"".join(response.streaming_content).splitlines()]
    rest = get(URL, {"cursor": lines[6]["cursor"], "page_size": 500}).json()["results"]
    assert rest == lines[7:]


def test_a_kept_cursor_gives_what_came_later(get, study):
    cursor = get(URL, {"page_size": 500}).json()["cursor"]
    empty = get(URL, {"cursor": cursor}).json()
    assert empty == {"next": None, "cursor": cursor, "results": []}
    turn = study.annotators.first().conversations.first().turns.first()
    judge(turn, 3, "On second thought.", revision=2)
    make_conversation(study.annotators.first(), choices=(2,))
    revised, added = get(URL, {"cursor": cursor}).json()["results"]
    assert (revised["change"], revised["revision"], revised["chosen_letter"]) == ("REVISED", 2, "D")
    assert (added["change"], added["chosen_letter"]) == ("ADDED", "C")


def test_an_erased_comparison_is_a_tombstone_everywhere(get):
    comparison = Comparison.objects.first()
    before = get(URL, {"page_size": 500}).json()
    Change.objects.create(comparison=comparison, kind=Change.Kind.ERASED, transaction_id=0)
    [tombstone] = get(URL, {"cursor": before["cursor"]}).json()["results"]
    assert tombstone == {"change": "ERASED", "comparison_id": before["results"][0]["comparison_id"], "cursor": tombstone["cursor"]}
    again = get(URL, {"page_size": 500}).json()["results"]
    assert [entry["change"] for entry in again] == ["ERASED", *["ADDED"] * 17, "ERASED"]
    assert set(again[0]) == {"change", "comparison_id", "cursor"}


def test_unfinished_work_is_told_apart_and_never_lost(get, study):
    """A reader passes an unfinished conversation; had a filter hidden it, its completion would never bring it back."""
    cursor = get(URL, {"page_size": 500}).json()["cursor"]
    annotator = AnnotatorFactory(study=study)
    conversation = make_conversation(annotator, choices=(0,), state=Assignment.State.ACTIVE)
    [entry] = get(URL, {"cursor": cursor}).json()["results"]
    assert entry["assignment_state"] == "ACTIVE"
    Assignment.objects.filter(pk=conversation.assignment_id).update(state=Assignment.State.COMPLETED)
    [entry] = get(URL, {"cursor": cursor}).json()["results"]
    assert entry["assignment_state"] == "COMPLETED"


def test_pilots_the_withdrawn_and_gold_are_left_out(get, study):
    first, second, third = study.annotators.order_by("pk")
    first.state, first.ended_at = Annotator.State.WITHDRAWN, first.joined_at
    first.save()
    pilot = RecruitmentLink.objects.create(study=study, name="pilot", purpose=RecruitmentLink.Purpose.PILOT)
    Annotator.objects.filter(pk=second.pk).update(recruitment_link=pilot)
    Assignment.objects.filter(annotator=third, purpose="OWN").update(purpose="GOLD", prompt=study.prompts.first())
    assert len(walk(get)) == 2


def test_nothing_internal_leaves(get, study):
    text = get(URL, {"page_size": 500}).content.decode()
    for annotator in study.annotators.all():
        assert str(annotator.public_id) not in text
        assert annotator.completion_code not in text
    assert str(Comparison.objects.first().submission_id) not in text


def test_s13_nothing_is_kept_in_caches(get):
    for response in (get(URL), get(URL, {"format": "ndjson"}), get("/api/v1/studies/")):
        assert response["Cache-Control"] == "private, no-store"


def test_queries_do_not_grow_with_the_page(get, django_assert_max_num_queries):
    with django_assert_max_num_queries(9):
        get(URL, {"page_size": 500})


def test_studies_tell_of_the_token_s_study(get, study):
    [found] = get("/api/v1/studies/").json()["results"]
    assert found == {
        "slug": study.slug,
        "title": {"en": "Everyday conversations", "fr": "Conversations de tous les jours"},
        "state": "OPEN",
        "locales": [
            {"locale": "en-US", "name": "English (United States)", "language": "en", "country": "united states"},
            {"locale": "fr-FR", "name": "Français (France)", "language": "fr", "country": "france"},
        ],
        "counts": {"annotators": 3, "conversations": 6, "comparisons": 18},
    }
