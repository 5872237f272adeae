"""Small promises of the pages that no journey walks past."""

import uuid

import pytest
from django.urls import reverse

from apps.annotation.middleware import SESSION_ANNOTATOR
from apps.annotation.models import Turn
from apps.annotation.selectors import current_work
from apps.annotation.services import show_turn
from apps.annotators.models import Annotator
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, judge, seated_study

pytestmark = pytest.mark.django_db
TYPED = "I had written a long and careful reason here."


@pytest.fixture
def annotator():
    annotator = admitted_annotator(seated_study())
    claim(annotator)
    return annotator


@pytest.fixture
def page(client, annotator):
    session = client.session
    session[SESSION_ANNOTATOR] = annotator.pk
    session.save()
    return client


def test_text_sent_without_a_session_is_handed_back(client):
    response = client.post(reverse("annotation:compare"), {"explanation": TYPED, "choice": "0"})
    assert response.status_code == 403
    assert TYPED in response.content.decode()


def test_text_of_an_outdated_form_is_handed_back(page):
    response = page.post(reverse("annotation:message"), {"message": TYPED, "turn": "9", "submission_id": uuid.uuid4()})
    assert response.status_code == 409
    assert TYPED in response.content.decode()


@pytest.mark.parametrize("invisible", ["", " \n ", "\u200b", "\u200e \u200b", "\x00"])
def test_a_message_that_nobody_can_see_is_no_message(page, annotator, invisible):
    judge(annotator)
    response = page.post(
        reverse("annotation:message"), {"message": invisible, "turn": "2", "submission_id": uuid.uuid4(), "action": "send"}
    )
    assert response.status_code == 422
    assert Turn.objects.count() == 1


def test_an_unknown_action_does_nothing(page, annotator):
    judge(annotator)
    response = page.post(reverse("annotation:message"), {"message": "Hello", "turn": "2", "submission_id": uuid.uuid4(), "action": "xxx"})
    assert response.status_code == 409
    assert Turn.objects.count() == 1


@pytest.mark.parametrize("method", ["put", "delete", "patch", "options"])
@pytest.mark.parametrize("name", ["compare", "message", "current", "start"])
def test_other_methods_are_refused_with_those_that_work(page, method, name):
    response = getattr(page, method)(reverse(f"annotation:{name}"))
    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]


def test_a_form_that_is_too_large_is_told_so(page, annotator):
    response = page.post(reverse("annotation:message"), {"message": "x" * 1_100_000, "turn": "2", "action": "send"})
    assert response.status_code == 413


def test_somebody_who_has_ended_is_led_to_their_last_page(page, annotator):
    Annotator.objects.filter(pk=annotator.pk).update(state=Annotator.State.SCREENED_OUT, ended_at=NOW)
    response = page.post(reverse("annotation:start"), {"submission_id": uuid.uuid4()}, follow=True)
    assert response.redirect_chain[-1][0] == reverse("annotation:ended")
    assert reverse("annotation:leave") not in response.content.decode()


def test_the_consent_page_names_its_language(client, annotator):
    link = annotator.recruitment_link
    response = client.get(reverse("annotation:join", args=[link.token]), {"locale": "fr-FR"})
    assert response.headers["Content-Language"] == "fr"


def test_the_task_page_takes_at_most_twelve_queries(page, annotator, django_assert_max_num_queries):
    show_turn(turn=current_work(annotator).turn, device_class="", now=NOW)
    with django_assert_max_num_queries(12):
        assert page.get(reverse("annotation:compare")).status_code == 200


def test_annotator_pages_are_never_stored_by_caches(page):
    assert "no-store" in page.get(reverse("annotation:compare")).headers["Cache-Control"]
