"""How many statements the task page and its submission send, with the savepoint that stands for their transaction here.

More of them need a reason; see docs/performance.md.
"""

import uuid

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.annotation.middleware import SESSION_ANNOTATOR
from apps.annotation.selectors import current_work, history_of
from apps.annotation.services import submit_message
from tests.annotation.fieldwork import NOW, REASON, admitted_annotator, claim, judge, make_ready, seated_study

pytestmark = pytest.mark.django_db


@pytest.fixture
def annotator():
    study = seated_study()
    study.task_design.min_turns = study.task_design.max_turns = 1
    study.task_design.save()
    return admitted_annotator(study, active_at=timezone.now())


@pytest.fixture
def browser(client, annotator):
    session = client.session
    session[SESSION_ANNOTATOR] = annotator.pk
    session.save()
    return client


def test_the_task_page_takes_eight_statements_and_four_when_shown_again(browser, annotator, django_assert_num_queries):
    claim(annotator, now=timezone.now())
    with django_assert_num_queries(8):
        assert browser.get(reverse("annotation:compare")).status_code == 200
    with django_assert_num_queries(4):
        assert browser.get(reverse("annotation:compare")).status_code == 200


def test_a_claim_takes_fourteen_statements(browser, annotator, django_assert_num_queries):
    claim(annotator, now=timezone.now())
    browser.get(reverse("annotation:compare"))
    judge(annotator, now=timezone.now())
    with django_assert_num_queries(14):
        response = browser.post(reverse("annotation:start"), {"submission_id": str(uuid.uuid4())})
    assert (response.status_code, response.url) == (303, reverse("annotation:compare"))


def test_a_submission_takes_thirteen_statements(browser, annotator, django_assert_num_queries):
    claim(annotator, now=timezone.now())
    browser.get(reverse("annotation:compare"))
    form = {"turn": "1", "choice": "2", "layout": "column", "explanation": REASON, "submission_id": str(uuid.uuid4())}
    with django_assert_num_queries(13):
        response = browser.post(reverse("annotation:compare"), form)
    assert (response.status_code, response.url) == (303, reverse("annotation:start"))


@pytest.mark.parametrize("turns", [1, 3])
def test_the_history_takes_one_statement_however_long_it_is(turns, django_assert_num_queries):
    annotator = admitted_annotator(seated_study())
    claim(annotator)
    chosen = [judge(annotator).items.get(rank=1).shown_candidate.text]
    for number in range(2, turns + 1):
        form = {"turn_number": number, "message": f"Message {number}", "submission_id": uuid.uuid4(), "now": NOW}
        make_ready(submit_message(annotator=annotator, **form).candidate_set)
        chosen.append(judge(annotator, position=1).items.get(rank=1).shown_candidate.text)
    conversation = current_work(annotator).conversation
    with django_assert_num_queries(1):
        history = history_of(conversation)
    assert [exchange.reply for exchange in history] == chosen
