"""The two pages that belong to no study."""

import pytest
from django.conf import settings
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.factories import StudyFactory


@pytest.mark.django_db
@pytest.mark.parametrize(("language", "word"), [("en", "link"), ("fr", "lien"), ("it", "link"), ("pt-br", "link"), ("hi", "लिंक")])
def test_the_first_page_speaks_the_visitors_language_and_names_no_study(client, language, word):
    StudyFactory(slug="secret-study", title_en="Secret title")
    page = client.get("/", headers={"accept-language": language})
    assert page.status_code == 200
    assert word in page.text
    assert "secret" not in page.text.lower()
    assert reverse("admin:index") in page.text
    assert reverse("api:docs") in page.text


@pytest.mark.django_db
def test_the_health_check_asks_the_database_once_and_needs_no_account(client):
    with CaptureQueriesContext(connection) as queries:
        response = client.get("/healthz/")
    assert response.json() == {"status": "ok"}
    assert len(queries) == 1
    assert "no-cache" in response.headers["Cache-Control"]


@pytest.mark.django_db
def test_the_health_check_answers_503_when_the_database_is_away(client, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OperationalError("connection to 10.0.0.1 refused for user polyphony")

    monkeypatch.setattr("django.db.backends.base.base.BaseDatabaseWrapper.cursor", unreachable)
    response = client.get("/healthz/")
    assert response.status_code == 503
    assert response.json() == {"status": "error", "database": "unreachable"}


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/", "/healthz/"])
def test_pages_without_effect_refuse_other_methods(client, path):
    assert client.post(path).status_code == 405


def test_every_interface_language_but_the_source_has_a_catalogue():
    folders = {path.parts[-3] for path in settings.LOCALE_PATHS[0].glob("*/LC_MESSAGES/django.po")}
    assert folders == {"fr", "it", "pt_BR", "hi"}
