"""A deadlock that PostgreSQL ends at the cost of a person's form: the form is stored all the same, at once."""

import threading

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client

from apps.annotation.models import Comparison
from apps.annotation.views import pages
from tests.annotation.fieldwork import REASON, admitted_annotator
from tests.endpoints import wait_until
from tests.faults.test_abandoned_work import browser_of, form_of, one_seat

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


def answer_in_a_deadlock():
    """The answer that fills a seat waits for the seat, whose holder waits for the person; what the person is answered."""
    browser: Client = browser_of(admitted_annotator(one_seat()))
    browser.raise_request_exception = False
    page = browser.post("/task/start/", form_of(browser.get("/task/start/")), follow=True)
    form, answers = form_of(page) | {"choice": "1", "explanation": REASON}, []

    def send() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET deadlock_timeout = '3s'")
        answers.append(browser.post("/task/compare/", form))
        connection.close()

    address = f"{settings.DATABASE_URL.rsplit('/', 1)[0]}/{connection.settings_dict['NAME']}"
    with psycopg.connect(address) as other, psycopg.connect(address, autocommit=True) as watcher:
        other.execute("SET deadlock_timeout = '60s'")  # so that the person is the one who looks for it, and the victim
        other.execute("SELECT 1 FROM annotation_slot FOR UPDATE")
        sender = threading.Thread(target=send)
        sender.start()
        waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        wait_until(lambda: watcher.execute(waiting).fetchone(), 60)
        other.execute("SELECT 1 FROM annotators_annotator FOR UPDATE")
        other.rollback()
        sender.join(60)
    return answers[0]


def test_r3_the_victim_of_a_deadlock_is_served_at_once():
    assert answer_in_a_deadlock().status_code == 303
    assert Comparison.objects.get().explanation == REASON


def test_r3_sabotage_without_a_second_try_they_are_told_to_try_later(monkeypatch):
    """The control, and what everybody reads whom the database could not serve: try again, and here is your text."""
    monkeypatch.setattr(pages, "DEADLOCK", "")
    answer = answer_in_a_deadlock()
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert "no-store" in answer.headers["Cache-Control"]
    assert REASON in answer.content.decode()
    assert not Comparison.objects.exists()
