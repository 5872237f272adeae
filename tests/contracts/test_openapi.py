"""The committed OpenAPI schema is the generated one, and what the API sends agrees with it."""

from pathlib import Path

import jsonschema
import pytest
import yaml
from django.conf import settings
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from apps.annotation.models import Change, Comparison
from apps.studies.models import ApiToken, StudyMembership
from tests.exports.build import small_study
from tests.factories import UserFactory
from tests.quotas.sampling import quota


@pytest.fixture(scope="module")
def committed() -> dict:
    return yaml.safe_load((Path(settings.BASE_DIR) / "docs" / "openapi.yaml").read_text())


def test_the_committed_schema_is_the_generated_one(committed):
    generated = SchemaGenerator().get_schema(request=None, public=True)
    validate_schema(generated)
    assert committed == generated, "run: python manage.py spectacular --file docs/openapi.yaml"


@pytest.mark.django_db
def test_answers_agree_with_the_schema(client, committed):
    study = small_study(people=2)
    quota(study, everybody=(10, {}))
    Change.objects.create(comparison=Comparison.objects.last(), kind=Change.Kind.ERASED, transaction_id=0)
    membership = StudyMembership.objects.create(study=study, user=UserFactory())
    headers = {"Authorization": f"Bearer {ApiToken.issue(membership=membership, name='contract')[1]}"}

    def check(path: str, status: str, **params) -> None:
        response = client.get(path.replace("{slug}", study.slug), params, headers=headers)
        schema = committed["paths"][path]["get"]["responses"][status]["content"]["application/json"]["schema"]
        assert str(response.status_code) == status
        validator = jsonschema.Draft202012Validator({**_nullable(schema), "components": _nullable(committed["components"])})
        errors = [error.message for error in validator.iter_errors(response.json())]
        assert errors == []

    check("/api/v1/comparisons/", "200", page_size=500)
    check("/api/v1/comparisons/", "400", ordering="x")
    check("/api/v1/studies/", "200")
    check("/api/v1/studies/{slug}/quotas/", "200")


def _nullable(node):
    """OpenAPI 3.0 writes `nullable: true` where JSON Schema has a type list; fields not listed are refused."""
    if isinstance(node, list):
        return [_nullable(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: _nullable(value) for key, value in node.items()}
    if node.pop("nullable", False) is True and isinstance(node.get("type"), str):
        node["type"] = [node["type"], "null"]
    if isinstance(node.get("properties"), dict):
        node["additionalProperties"] = False
    return node
