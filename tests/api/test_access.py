"""Who reaches the API, and the one shape of every failure."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.studies.models import ApiToken, StudyMembership
from tests.factories import StudyFactory, UserFactory

pytestmark = pytest.mark.django_db
URL = "/api/v1/comparisons/"


def assert_error(response, status: int, code: str) -> str:
    assert response.status_code == status
    body = response.json()
    assert set(body) == {"code", "message", "extra"}
    assert body["code"] == code
    return body["message"]


def test_s10_every_bad_token_gets_the_same_answer(client, token, membership):
    _, text = token
    answers = set()

    def ask(header: str | None) -> None:
        response = client.get(URL, headers={"Authorization": header} if header is not None else {})
        assert_error(response, 401, "unauthorized")
        assert response["WWW-Authenticate"] == "Bearer"
        answers.add(response.content)

    for header in (
        None,
        "",
        "Bearer",
        f"Basic {text}",
        text,
        f"Bearer {text} x",
        "Bearer poly_unknown",
        f"Bearer {text[:-1]}",
        "Bearer \xff",
    ):
        ask(header)
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    ask(f"Bearer {text}")
    ApiToken.objects.update(expires_at=timezone.now() + timedelta(days=1), revoked_at=timezone.now())
    ask(f"Bearer {text}")
    ApiToken.objects.update(revoked_at=None)
    membership.user.is_active = False
    membership.user.save()
    ask(f"Bearer {text}")
    membership.user.is_active = True
    membership.user.save()
    assert client.get(URL, headers={"Authorization": f"Bearer {text}"}).status_code == 200
    membership.delete()
    ask(f"Bearer {text}")
    assert len(answers) == 1


def test_s10_only_the_hash_of_a_token_is_stored(token):
    row, text = token
    assert text not in str(ApiToken.objects.values().get())
    assert row.digest == ApiToken.digest_of(text)


def test_s8_a_session_alone_opens_nothing(client, study):
    client.force_login(UserFactory(is_staff=True, is_superuser=True))
    assert_error(client.get(URL), 401, "unauthorized")


def test_s9_another_study_does_not_exist(get, study):
    other = StudyFactory()
    one = get(URL, {"study": other.slug})
    assert_error(one, 404, "study_not_found")
    assert get(URL, {"study": "no-such-study"}).content == one.content
    assert get(URL, {"study": study.slug}).status_code == 200


def test_s9_a_second_membership_does_not_widen_a_token(get, membership):
    other = StudyFactory()
    StudyMembership.objects.create(study=other, user=membership.user)
    assert_error(get(URL, {"study": other.slug}), 404, "study_not_found")
    assert [found["slug"] for found in get("/api/v1/studies/").json()["results"]] == [membership.study.slug]


@pytest.mark.parametrize("name", ["ordering", "search", "annotator__state", "user__password__regex", "_connector", "limit"])
@pytest.mark.parametrize("path", [URL, "/api/v1/studies/"])
def test_s2_unknown_parameters_are_named(get, path, name):
    message = assert_error(get(path, {name: "x"}), 400, "unknown_parameters")
    assert f"Unknown query parameter: {name}." in message


@pytest.mark.parametrize("cursor", ["x", "!!!", "MS4x", "MS4xLjI=", "é", "MS45OTk5OTk5OTk5OTk5OTk5OTk5OTkuMQ", "Mi4wLjE", "MS4tNS4x"])
def test_s15_a_made_up_cursor_is_refused(get, cursor):
    assert_error(get(URL, {"cursor": cursor}), 400, "bad_parameter")


@pytest.mark.parametrize("size", ["0", "-1", "501", "x", "", "1.5", "٣", "9" * 5000])
def test_s15_a_page_size_out_of_range_is_refused(get, size):
    assert_error(get(URL, {"page_size": size}), 400, "bad_parameter")


def test_s15_null_characters_are_no_server_error(get):
    assert_error(get(URL, {"study": "\x00"}), 404, "study_not_found")
    assert_error(get(URL, {"cursor": "\x00"}), 400, "bad_parameter")


def test_other_failures_have_the_same_shape(get, client, token):
    headers = {"Authorization": f"Bearer {token[1]}"}
    assert_error(get("/api/v1/nowhere/"), 404, "not_found")
    assert_error(get("/api/v1/comparisons/7/"), 404, "not_found")
    assert_error(client.post("/api/v1/nowhere/"), 404, "not_found")
    for method in (client.post, client.put, client.patch, client.delete):
        assert_error(method(URL, {}, content_type="application/json", headers=headers), 405, "method_not_allowed")
    assert_error(get(URL, accept="application/xml"), 406, "not_acceptable")
    assert "choose from json, ndjson" in assert_error(get(URL, {"format": "xml"}), 406, "not_acceptable")
    assert_error(client.post("/api/v1/docs/"), 405, "method_not_allowed")
    assert_error(client.post("/api/v1/schema/"), 405, "method_not_allowed")


@pytest.mark.parametrize("name", ["comparisons", "studies", "schema", "docs"])
def test_an_address_without_its_trailing_slash_leads_to_the_one_with_it(client, db, name):
    response = client.get(f"/api/v1/{name}?page_size=2")
    assert (response.status_code, response.headers["Location"]) == (301, f"/api/v1/{name}/?page_size=2")
    assert_error(client.get(f"/api/v1/{name}x"), 404, "not_found")


def test_an_unknown_format_of_the_schema_is_told_in_json(client, db):
    for path in ("/api/v1/schema/", "/api/v1/docs/"):
        assert_error(client.get(path, {"format": "zzz"}), 404, "not_found")


def test_schema_and_page_are_public_and_set_no_cookie(client, db):
    for path in ("/api/v1/schema/", "/api/v1/docs/", "/api/v1/docs/?script="):
        response = client.get(path)
        assert response.status_code == 200
        assert not response.cookies


def test_the_page_needs_nothing_inline(client, db):
    """Strict CSP: markup without scripts or styles of its own, its script a request of its own."""
    response = client.get("/api/v1/docs/")
    html = response.content.decode()
    assert "script-src 'self'" in response["Content-Security-Policy"]
    assert "unsafe" not in response["Content-Security-Policy"]
    assert "<style" not in html
    assert "style=" not in html
    assert html.count("<script") == html.count('<script src="/') == 2
    script = client.get("/api/v1/docs/?script=")
    assert script["Content-Type"].startswith("application/javascript")
    assert 'url: "/api/v1/schema/"' in script.content.decode().replace("\\u002D", "-")
