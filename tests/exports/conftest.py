import pytest

from apps.studies.models import Study
from tests.exports.build import small_study


@pytest.fixture
def study(db) -> Study:
    return small_study()


@pytest.fixture(autouse=True)
def releases_storage(settings, tmp_path):
    """Each test its own releases storage."""
    settings.STORAGES = {
        **settings.STORAGES,
        "releases": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path / "storage")}},
    }
