"""Reviewing: what a person decides about finished sets, and what stays on record."""

import pytest
from django.utils import timezone

from apps.generation.acceptance import AnswerRefused
from apps.generation.models import Candidate, CandidateSet, GenerationPolicy
from apps.generation.services import generate_set, request_candidate_set
from apps.generation.services.reviewing import (
    CandidatesRefused,
    NotReviewable,
    ReasonMissing,
    RejectedBefore,
    SetIsLive,
    SetNotFinished,
    accept_sets,
    curate_set,
    drafted,
    examine_curated,
    reject_set,
    replace_by_hand,
)
from tests.factories import CandidateSetFactory, UserFactory
from tests.generation.conftest import PHONES_EN

BY_HAND = [
    "Put a basket beside the door and let everybody drop their phone into it before dinner, you included, for a week at first.",
    "Leave the rule to your teenagers: ask them which evenings should be free of screens, write it down, and keep to it yourself.",
    "Dinner is yours to protect. Tell them plainly that the table is for talking, and that whoever wants to type may eat later.",
    "Perhaps the phones are not the trouble. Begin with stories from your own day and see whether they look up after a while.",
]


@pytest.fixture
def reviewer(db):
    return UserFactory()


@pytest.fixture
def made(recipe) -> CandidateSet:
    return CandidateSetFactory(recipe=recipe, text=PHONES_EN)


def reject(candidate_set, reviewer, reason="Two answers say the same."):
    return reject_set(candidate_set=candidate_set, reason=reason, reviewer=reviewer, now=timezone.now())


def test_accepting_notes_who_and_when_and_leaves_unfinished_sets_alone(made, recipe, reviewer):
    waiting = CandidateSetFactory(recipe=recipe, state="PENDING", ready_at=None)
    assert accept_sets(candidate_set_ids=[made.pk, waiting.pk], reviewer=reviewer, now=timezone.now()) == 1
    made.refresh_from_db()
    waiting.refresh_from_db()
    assert (made.reviewed_by, made.state) == (reviewer, "READY")
    assert made.reviewed_at is not None
    assert (waiting.reviewed_by, waiting.state) == (None, "PENDING")


def test_a_rejected_set_stays_and_another_takes_its_place(made, reviewer, django_capture_on_commit_callbacks, monkeypatch):
    sent = []
    monkeypatch.setattr("celery.Celery.send_task", lambda app, name, args, queue: sent.append((args, queue)))
    with django_capture_on_commit_callbacks(execute=True):
        successor = reject(made, reviewer)
    made.refresh_from_db()
    assert (made.state, made.reviewed_by, made.review_note) == ("REJECTED", reviewer, "Two answers say the same.")
    assert made.candidates.count() == 4
    assert (successor.state, successor.k, successor.messages, successor.text_hash) == ("PENDING", 4, made.messages, made.text_hash)
    assert successor.seed != made.seed
    assert sent == [([successor.pk], "bulk")]
    assert request_candidate_set(recipe=made.recipe, language="en", text=PHONES_EN) == successor


def test_a_successor_can_be_rejected_too(made, reviewer):
    second = reject(made, reviewer)
    CandidateSet.objects.filter(pk=second.pk).update(state="FAILED")
    third = reject(second, reviewer)
    assert len({made.seed, second.seed, third.seed}) == 3


@pytest.mark.parametrize("state", ["PENDING", "GENERATING"])
def test_only_finished_sets_are_rejected(recipe, reviewer, state):
    claim = {"claim_token": "0" * 32, "claimed_until": timezone.now()} if state == "GENERATING" else {}
    row = CandidateSetFactory(recipe=recipe, state=state, ready_at=None, **claim)
    with pytest.raises(SetNotFinished, match="Wait until it is ready"):
        reject(row, reviewer)
    assert CandidateSet.objects.count() == 1


def test_a_set_that_was_rejected_before_names_the_one_in_its_place(made, reviewer):
    successor = reject(made, reviewer)
    with pytest.raises(RejectedBefore, match=f"was rejected before. Work on candidate set {successor.pk}") as refused:
        reject(made, reviewer)
    assert refused.value.extra == {"successor": successor.pk}
    assert (refused.value.code, isinstance(refused.value, NotReviewable)) == ("rejected_before", True)


def test_a_live_set_is_never_rejected_by_hand(recipe, reviewer):
    with pytest.raises(SetIsLive):
        reject(CandidateSetFactory(recipe=recipe, is_live=True), reviewer)


@pytest.mark.parametrize("reason", ["", "  \n", "\x00"])
def test_a_rejection_needs_a_reason(made, reviewer, reason):
    with pytest.raises(ReasonMissing):
        reject(made, reviewer, reason)
    made.refresh_from_db()
    assert made.state == "READY"


def test_candidates_written_by_hand_take_the_place_of_the_set(made, reviewer):
    curated = replace_by_hand(candidate_set=made, texts=BY_HAND, reason="Too vague.", reviewer=reviewer, now=timezone.now())
    made.refresh_from_db()
    assert (made.state, curated.state, curated.reviewed_by) == ("REJECTED", "READY", reviewer)
    rows = list(curated.candidates.values_list("slot", "text", "source", "model_spec", "attempt"))
    assert rows == [(slot, text, "curated", None, None) for slot, text in enumerate(BY_HAND)]
    assert len(curated.similarity["matrix"]) == 4
    assert 0 < curated.diversity <= 1
    assert curated.verdicts.filter(passed=True).exists()


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        (BY_HAND[:3], "wrong_count"),
        ([*BY_HAND[:3], BY_HAND[0]], "duplicate_answers"),
        ([*BY_HAND[:3], ""], "empty_answer"),
        ([*BY_HAND[:3], "Too short."], None),
        (
            [
                *BY_HAND[:3],
                "As an AI language model, I cannot say what is right for your family, but I can list what people do.",
            ],
            None,
        ),
    ],
)
def test_candidates_written_by_hand_meet_the_same_rules(made, reviewer, texts, code):
    with pytest.raises(AnswerRefused) as refused:
        replace_by_hand(candidate_set=made, texts=texts, reason="Mine.", reviewer=reviewer, now=timezone.now())
    assert code is None or refused.value.code == code
    made.refresh_from_db()
    assert made.state == "READY"
    assert CandidateSet.objects.count() == 1


def test_every_fault_of_every_candidate_is_told_at_once(recipe):
    texts = [BY_HAND[0], "As an AI language model, I will not say.", "", "Too short."]
    with pytest.raises(CandidatesRefused) as refused:
        examine_curated(texts, recipe=recipe, language="en")
    faults = [(fault.slot, fault.code) for fault in refused.value.faults]
    assert [fault for fault in faults if fault[0] == 2] == [(2, "empty_answer")], "an empty text is not blamed for being short too"
    assert {(1, "self_naming"), (1, "too_short"), (3, "too_short")} <= set(faults)
    assert refused.value.code == faults[0][1]
    assert "Candidate 4: 2 words; at least 10 wanted." in str(refused.value)


def test_faults_of_the_whole_set_are_told_beside_those_of_its_candidates(recipe):
    with pytest.raises(CandidatesRefused) as refused:
        examine_curated([*BY_HAND[:3], "Too short."], recipe=recipe, language="en")
    assert {(fault.slot, fault.code) for fault in refused.value.faults} == {(None, "length_ratio"), (3, "too_short")}


def test_imported_candidates_replace_a_set_once(made, recipe, reviewer):
    arguments = {"recipe": recipe, "language": "en", "text": PHONES_EN, "texts": BY_HAND, "reviewer": reviewer, "now": timezone.now()}
    curated = curate_set(**arguments)
    made.refresh_from_db()
    assert (made.state, curated.state) == ("REJECTED", "READY")
    assert curate_set(**arguments) == curated
    assert CandidateSet.objects.count() == 2


def test_a_set_that_nobody_began_is_filled_instead_of_rejected(recipe, reviewer):
    waiting = request_candidate_set(recipe=recipe, language="en", text=PHONES_EN)
    curated = curate_set(recipe=recipe, language="en", text=PHONES_EN, texts=BY_HAND, reviewer=reviewer, now=timezone.now())
    assert curated == waiting
    assert Candidate.objects.filter(candidate_set=waiting, source="curated").count() == 4
    assert CandidateSet.objects.count() == 1


def test_examining_finds_what_a_reader_would_not_be_shown(recipe):
    assert all(finding.passed for finding in examine_curated(BY_HAND, recipe=recipe, language="en"))
    with pytest.raises(AnswerRefused, match="Candidate 2"):
        examine_curated([BY_HAND[0], "No.", *BY_HAND[2:]], recipe=recipe, language="en")


def test_a_held_set_shows_its_last_try_and_becomes_ready_when_a_reviewer_accepts_it(study, recipe, reviewer, offline_endpoint):
    GenerationPolicy.objects.create(study=study, diversity_floor=1, max_regenerations=0)
    candidate_set = request_candidate_set(recipe=recipe, language="en", text=PHONES_EN)
    generate_set(candidate_set_id=candidate_set.pk, now=timezone.now())
    candidate_set.refresh_from_db()
    assert candidate_set.state == "HELD"
    drafts = [draft.text for draft in drafted(candidate_set)]
    assert len(drafts) == 4
    assert accept_sets(candidate_set_ids=[candidate_set.pk], reviewer=reviewer, now=timezone.now()) == 1
    candidate_set.refresh_from_db()
    assert candidate_set.state == "READY"
    rows = candidate_set.candidates.all()
    assert [row.text for row in rows] == drafts
    assert [row.source for row in rows] == ["negatively_correlated"] * 3 + ["default"]
    assert all(row.attempt.state == "SUCCEEDED" for row in rows)
