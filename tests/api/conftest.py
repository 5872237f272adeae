import pytest

from apps.studies.models import ApiToken, Study, StudyMembership
from tests.exports.build import small_study
from tests.factories import UserFactory


@pytest.fixture
def study(db) -> Study:
    return small_study()


@pytest.fixture
def membership(study) -> StudyMembership:
    return StudyMembership.objects.create(study=study, user=UserFactory(), role=StudyMembership.Role.RESEARCHER)


@pytest.fixture
def token(membership) -> tuple[ApiToken, str]:
    """The row and the token itself."""
    return ApiToken.issue(membership=membership, name="analysis")


@pytest.fixture
def get(client, token):
    """GET with the token's header: `get("/api/v1/…", **params)`, `accept=` for the Accept header."""

    def request(path: str, params=None, accept: str = "*/*"):
        return client.get(path, params or {}, headers={"Authorization": f"Bearer {token[1]}", "Accept": accept})

    return request
