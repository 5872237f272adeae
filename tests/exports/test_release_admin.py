"""Releases in the admin: members build, watch and download; nobody else sees that they exist."""

import io
import zipfile

import pytest
from django.contrib.auth.models import Permission
from django.core.files.storage import storages
from django.urls import reverse

from apps.exports.models import Release
from apps.exports.services import build_release, build_requested_release
from apps.studies.models import StudyMembership
from tests.factories import StudyFactory, UserFactory

pytestmark = pytest.mark.django_db


def researcher(client, *studies, build: bool = True):
    user = UserFactory(is_staff=True)
    codenames = ["view_release", *(["add_release"] if build else [])]
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    for study in studies:
        StudyMembership.objects.create(study=study, user=user, role=StudyMembership.Role.RESEARCHER)
    client.force_login(user)
    return user


def body(response) -> bytes:
    return b"".join(response.streaming_content)


def test_a_member_builds_watches_and_downloads(client, study):
    user = researcher(client, study)
    build = reverse("admin:exports_release_build")
    assert build.encode() in client.get(reverse("admin:exports_release_changelist")).content
    page = client.get(build).content.decode()
    assert study.slug in page
    assert "<td>18</td>" in page

    response = client.post(build, {"study": study.pk, "schema": "community_alignment", "formats": ["csv", "parquet"]})
    release = Release.objects.get()
    assert response.url == reverse("admin:exports_release_change", args=[release.pk])
    assert (release.built_by, release.state) == (user, Release.State.BUILDING)
    waiting = client.get(response.url)
    assert waiting["Refresh"] == "3"
    assert b"Not built yet." in waiting.content

    build_requested_release(release_id=release.pk)
    ready = client.get(response.url)
    assert "Refresh" not in ready
    link = reverse("admin:exports_release_file", args=[release.pk, "community_alignment.csv"])
    assert link.encode() in ready.content
    assert body(client.get(link)).startswith(b"conversation_id,assigned_lang,")


def test_s6_files_are_inert_attachments(client, study):
    researcher(client, study)
    release = build_release(study=study, schema="long", formats=["csv"])
    for url in (
        reverse("admin:exports_release_file", args=[release.pk, "comparisons.csv"]),
        reverse("admin:exports_release_zip", args=[release.pk]),
    ):
        response = client.get(url)
        body(response)
        assert response["Content-Disposition"].startswith("attachment; filename=")
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert "no-store" in response["Cache-Control"]


def test_the_zip_holds_every_file(client, study):
    researcher(client, study)
    release = build_release(study=study, schema="long", formats=["csv", "parquet"])
    archive = zipfile.ZipFile(io.BytesIO(body(client.get(reverse("admin:exports_release_zip", args=[release.pk])))))
    assert archive.testzip() is None
    stem = f"{study.slug}-release-1/"
    assert {name.removeprefix(stem) for name in archive.namelist()} == set(storages["releases"].listdir(release.folder)[1])
    with storages["releases"].open(f"{release.folder}/manifest.json") as manifest:
        assert archive.read(f"{stem}manifest.json") == manifest.read()


@pytest.mark.parametrize("name", ["..%2F..%2Fsecrets.json", "%2Fetc%2Fpasswd", "comparisons.parquet", "x%00.csv"])
def test_s6_no_other_file_can_be_named(client, study, name):
    researcher(client, study)
    release = build_release(study=study, schema="long", formats=["csv"])
    response = client.get(reverse("admin:exports_release_zip", args=[release.pk]) + name, follow=True)
    assert "Content-Disposition" not in response
    assert "text/html" in response["Content-Type"]


def test_s9_other_studies_releases_do_not_exist(client, study):
    release = build_release(study=study, schema="long", formats=["csv"])
    researcher(client, StudyFactory())
    for name, args in [("zip", [release.pk]), ("file", [release.pk, "comparisons.csv"])]:
        assert client.get(reverse(f"admin:exports_release_{name}", args=args)).status_code == 404
    assert client.get(reverse("admin:exports_release_change", args=[release.pk])).status_code == 302
    assert study.slug.encode() not in client.get(reverse("admin:exports_release_build")).content
    response = client.post(reverse("admin:exports_release_build"), {"study": study.pk, "schema": "long", "formats": ["csv"]})
    assert response.status_code == 400
    assert Release.objects.count() == 1


def test_who_may_not_build_cannot(client, study):
    researcher(client, study, build=False)
    assert client.get(reverse("admin:exports_release_build")).status_code == 403
    assert b"Build release" not in client.get(reverse("admin:exports_release_changelist")).content


def test_visitors_are_sent_to_the_log_in(client, study):
    release = build_release(study=study, schema="long", formats=["csv"])
    for name, args in [("build", []), ("zip", [release.pk]), ("file", [release.pk, "comparisons.csv"])]:
        response = client.get(reverse(f"admin:exports_release_{name}", args=args))
        assert response.status_code == 302
        assert response.url.startswith(reverse("admin:login"))


def test_a_refusal_is_shown_on_the_form(client):
    study = StudyFactory(k=2)
    researcher(client, study)
    response = client.post(reverse("admin:exports_release_build"), {"study": study.pk, "schema": "community_alignment", "formats": ["csv"]})
    assert response.status_code == 400
    assert "shows 2 candidates at turns 1–4" in response.content.decode()
    assert not Release.objects.exists()


def test_the_list_does_not_grow_in_queries(client, study, django_assert_max_num_queries):
    researcher(client, study)
    for _ in range(4):
        build_release(study=study, schema="long", formats=["csv"])
    with django_assert_max_num_queries(12):
        client.get(reverse("admin:exports_release_changelist"))
