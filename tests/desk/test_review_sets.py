"""Rejecting and editing candidate sets in the admin, with the seats that wait for them."""

import pytest
from django.urls import reverse

from apps.annotation.errors import NoWorkAvailable
from apps.annotation.models import Slot
from apps.annotation.services import seat_study
from apps.generation.models import CandidateSet
from apps.studies.models import StudyMembership
from tests.annotation.fieldwork import admitted_annotator, claim, make_ready, seated_study
from tests.factories import UserFactory
from tests.generation.test_reviewing import BY_HAND

pytestmark = pytest.mark.django_db


@pytest.fixture
def study():
    """Two prompts in en-US and fr-FR with two seats each, every set ready."""
    return seated_study(prompts=2, overlap=2)


@pytest.fixture
def desk(client, study):
    user = UserFactory(is_staff=True)
    StudyMembership.objects.create(study=study, user=user, role=StudyMembership.Role.RESEARCHER)
    client.force_login(user)
    return client


def reject(desk, *rows, reason="Two say the same."):
    url = reverse("admin:generation_candidateset_changelist")
    return desk.post(url, {"action": "reject", "_selected_action": [row.pk for row in rows], "reason": reason}, follow=True).text


def in_english() -> CandidateSet:
    return CandidateSet.objects.filter(language="en", state="READY").first()


def test_the_seats_of_a_rejected_set_wait_for_its_successor(desk):
    row = in_english()
    slots = list(Slot.objects.filter(candidate_set=row).values_list("pk", flat=True))
    assert "Rejected: 1 candidate set." in reject(desk, row)
    row.refresh_from_db()
    assert (row.state, row.review_note) == ("REJECTED", "Two say the same.")
    successors = {slot.candidate_set for slot in Slot.objects.filter(pk__in=slots)}
    assert len(slots) == 2
    assert {(successor.state, successor.text_hash) for successor in successors} == {("PENDING", row.text_hash)}


def test_nobody_is_given_a_prompt_while_its_set_is_made_again(desk, study):
    reject(desk, *CandidateSet.objects.filter(language="en"))
    annotator = admitted_annotator(study)
    with pytest.raises(NoWorkAvailable):
        claim(annotator)
    for successor in CandidateSet.objects.filter(state="PENDING"):
        make_ready(successor)
    assert claim(annotator).slot.candidate_set.state == "READY"


def test_a_set_that_somebody_has_seen_cannot_be_rejected_or_edited(desk, study):
    seen = claim(admitted_annotator(study)).slot.candidate_set
    assert "People have seen these candidates, so they stay." in reject(desk, seen)
    page = edit(desk, seen, BY_HAND)
    assert "People have seen these candidates, so they stay." in page.text
    seen.refresh_from_db()
    assert seen.state == "READY"
    assert not CandidateSet.objects.exclude(state="READY").exists()


def test_a_rejection_without_a_reason_changes_nothing(desk):
    row = in_english()
    assert "Say why the set is rejected" in reject(desk, row, reason=" ")
    row.refresh_from_db()
    assert row.state == "READY"


def test_only_sets_of_own_studies_are_rejected(desk):
    foreign = CandidateSet.objects.filter(recipe__study=seated_study(prompts=1, slug="other")).first()
    reject(desk, foreign)
    foreign.refresh_from_db()
    assert foreign.state == "READY"
    assert desk.get(reverse("admin:generation_candidateset_edit", args=[foreign.pk])).status_code == 404


def edit(desk, row, texts, reason="Too vague."):
    data = {"reason": reason} | {f"text_{slot}": text for slot, text in enumerate(texts)}
    return desk.post(reverse("admin:generation_candidateset_edit", args=[row.pk]), data, follow=True)


def test_editing_by_hand_puts_a_curated_set_in_the_place_of_the_old_one(desk):
    row = in_english()
    page = desk.get(reverse("admin:generation_candidateset_edit", args=[row.pk])).text
    assert row.candidates.first().text in page
    slots = list(Slot.objects.filter(candidate_set=row).values_list("pk", flat=True))
    assert "stands in its place" in edit(desk, row, BY_HAND).text
    row.refresh_from_db()
    assert row.state == "REJECTED"
    curated = Slot.objects.get(pk=slots[0]).candidate_set
    assert [(candidate.text, candidate.source) for candidate in curated.candidates.all()] == [(text, "curated") for text in BY_HAND]


@pytest.mark.parametrize("texts", [BY_HAND[:3], [*BY_HAND[:3], "Too short."], [*BY_HAND[:3], BY_HAND[0]]])
def test_what_acceptance_refuses_is_not_stored_by_hand_either(desk, texts):
    row = in_english()
    assert 'class="errorlist' in edit(desk, row, texts).text
    row.refresh_from_db()
    assert row.state == "READY"
    assert not CandidateSet.objects.exclude(state="READY").exists()


def test_every_fault_stands_beside_its_candidate(desk):
    row = in_english()
    page = edit(desk, row, [BY_HAND[0], "As an AI language model, I will not say.", BY_HAND[2], "Too short."])
    errors = page.context["form"].errors
    assert errors["text_3"] == ["2 words; at least 10 wanted."]
    assert len(errors["text_1"]) == 2
    assert "text_0" not in errors


def pages_of(desk, row):
    page = desk.get(reverse("admin:generation_candidateset_change", args=[row.pk])).text
    form = desk.get(reverse("admin:generation_candidateset_edit", args=[row.pk]), follow=True).text
    return page, form


def test_a_rejected_set_offers_no_form_and_leads_to_the_one_in_its_place(desk):
    row = in_english()
    assert "Edit by hand" in pages_of(desk, row)[0]
    reject(desk, row)
    successor = CandidateSet.objects.get(state="PENDING")
    for page in pages_of(desk, row):
        assert "Edit by hand" not in page
        assert 'name="text_0"' not in page
        assert f"was rejected before. Work on candidate set {successor.pk}, which took its place." in page
        assert reverse("admin:generation_candidateset_change", args=[successor.pk]) in page
    assert "was rejected before" in reject(desk, row)
    assert "was rejected before" in edit(desk, row, BY_HAND).text
    assert CandidateSet.objects.exclude(state__in=["READY", "REJECTED"]).count() == 1


def test_sets_that_are_seen_or_not_made_yet_say_why_they_cannot_be_edited(desk, study):
    seen = claim(admitted_annotator(study)).slot.candidate_set
    waiting = CandidateSet.objects.filter(language="fr").first()
    CandidateSet.objects.filter(pk=waiting.pk).update(state="PENDING", ready_at=None)
    for row, why in ((seen, "People have seen these candidates"), (waiting, "is not made yet. Wait until it is ready")):
        for page in pages_of(desk, row):
            assert why in page
            assert "Edit by hand" not in page
            assert 'name="text_0"' not in page


def test_an_auditor_may_not_edit(client, study):
    auditor = UserFactory(is_staff=True)
    role = next(role for role in StudyMembership.Role if role not in ("OWNER", "RESEARCHER"))
    StudyMembership.objects.create(study=study, user=auditor, role=role)
    client.force_login(auditor)
    row = in_english()
    assert edit(client, row, BY_HAND).status_code == 403
    reject(client, row)
    row.refresh_from_db()
    assert row.state == "READY"


def test_seating_mends_slots_that_wait_for_a_rejected_set(study):
    """For sets rejected without their slots, for example by a script."""
    row = in_english()
    slots = list(Slot.objects.filter(candidate_set=row).values_list("pk", flat=True))
    CandidateSet.objects.filter(pk=row.pk).update(state="REJECTED")
    seat_study(study=study)
    assert {slot.candidate_set.state for slot in Slot.objects.filter(pk__in=slots)} == {"PENDING"}
