import pytest
from django.utils import timezone

from apps.annotators.models import Annotator
from apps.core.statements import CompiledSelect, update_row
from tests.factories import AnnotatorFactory

pytestmark = pytest.mark.django_db
FIELDS = [field.attname for field in Annotator._meta.concrete_fields]


def values(row) -> dict:
    return {name: getattr(row, name) for name in FIELDS}


def test_a_compiled_select_returns_the_rows_of_its_queryset_on_every_call(django_assert_num_queries):
    people = [AnnotatorFactory(), AnnotatorFactory()]
    select = CompiledSelect(lambda pk: Annotator.objects.select_related("study__task_design", "study_locale").filter(pk=pk))
    for person in people:
        with django_assert_num_queries(1):
            found = select.first(person.pk)
            assert found.study_locale.study_id == found.study.task_design.study_id == person.study_id
        assert values(found) == values(Annotator.objects.get(pk=person.pk))
        assert type(found.seed) is type(person.seed)
        assert not found._state.adding
    assert select.first(0) is None


def test_a_compiled_select_sees_what_was_stored_between_two_calls():
    person = AnnotatorFactory()
    select = CompiledSelect(lambda pk: Annotator.objects.filter(pk=pk))
    assert select.first(person.pk).device_class == ""
    Annotator.objects.update(device_class="phone")
    assert select.first(person.pk).device_class == "phone"


def test_updating_a_row_stores_the_values_as_saving_does():
    person, now = AnnotatorFactory(), timezone.now()
    assert update_row(person, active_at=now, device_class="phone", admitted_at=None)
    stored = Annotator.objects.get(pk=person.pk)
    assert (stored.active_at, stored.device_class, stored.admitted_at) == (now, "phone", None)
    assert (person.active_at, person.device_class) == (now, "phone")


@pytest.mark.parametrize(
    ("where", "stored"), [({"device_class": "desktop"}, True), ({"device_class": "tablet"}, False), ({"ended_at": None}, True)]
)
def test_updating_a_row_needs_the_values_that_it_is_to_have(where, stored):
    person = AnnotatorFactory(device_class="desktop")
    other = AnnotatorFactory(device_class="desktop")
    assert update_row(person, where=where, device_class="phone") is stored
    assert person.device_class == ("phone" if stored else "desktop")
    assert Annotator.objects.get(pk=person.pk).device_class == person.device_class
    assert Annotator.objects.get(pk=other.pk).device_class == "desktop"
