"""The quota board over the API: the figures of the page, for the token's own study."""

import pytest

from apps.quotas.selectors import quota_board
from apps.quotas.services import place_annotator
from tests.api.test_access import assert_error
from tests.factories import StudyFactory
from tests.quotas.sampling import MEN, NOW, WOMEN, person, quota

pytestmark = pytest.mark.django_db


@pytest.fixture
def url(study) -> str:
    quota(study, "gender", women=(10, WOMEN), men=(9, MEN))
    place_annotator(annotator=person(study, "woman"), now=NOW)
    place_annotator(annotator=person(study), now=NOW)
    return f"/api/v1/studies/{study.slug}/quotas/"


def test_the_figures_are_those_of_the_board(get, url, study):
    body = get(url).json()
    assert body["study"] == study.slug
    rows = quota_board(study)
    assert [row["cell"] for row in body["cells"]] == [None if row.is_outside else row.cell for row in rows]
    for name in ("quota", "kind", "target", "reserved", "completed", "released", "over", "taken"):
        assert [row[name] for row in body["cells"]] == [getattr(row, name) for row in rows]
    women = next(row for row in body["cells"] if row["cell"] == "women")
    assert (women["target"], women["reserved"], women["locales"]) == (10, 1, ["en-US", "fr-FR"])


def test_s9_another_study_looks_as_if_it_did_not_exist(get, url):
    other = StudyFactory()
    one = get(f"/api/v1/studies/{other.slug}/quotas/")
    assert_error(one, 404, "study_not_found")
    assert get("/api/v1/studies/no-such-study/quotas/").content == one.content


def test_s10_without_a_token_nothing_is_told(client, url):
    assert_error(client.get(url), 401, "unauthorized")


def test_s2_unknown_parameters_are_refused(get, url):
    assert_error(get(url, {"ordering": "x"}), 400, "unknown_parameters")


def test_it_only_reads(client, token, url):
    headers = {"Authorization": f"Bearer {token[1]}"}
    assert_error(client.post(url, {}, content_type="application/json", headers=headers), 405, "method_not_allowed")
