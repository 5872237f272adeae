"""Targets are edited once each, by whoever saw the present one."""

import pytest

from apps.quotas.errors import TargetChanged
from apps.quotas.models import QuotaCell, TargetChange
from apps.quotas.services import set_target
from tests.factories import StudyFactory, UserFactory
from tests.quotas.sampling import NOW, quota

pytestmark = pytest.mark.django_db


@pytest.fixture
def cell():
    return quota(StudyFactory(), all=(5, {})).cells.get()


def change(cell, target, version, user=None):
    return set_target(cell=cell, target=target, version=version, user=user, now=NOW)


def test_an_edit_leaves_a_line_in_the_log(cell):
    user = UserFactory()
    assert change(cell, 3, 1, user).version == 2
    line = TargetChange.objects.get()
    assert (line.cell, line.user, line.before, line.after, line.changed_at) == (cell, user, 5, 3, NOW)


def test_r23_the_second_of_two_edits_is_refused_and_told_who_was_faster(cell):
    first = UserFactory(username="ada")
    change(cell, 3, 1, first)
    with pytest.raises(TargetChanged, match="is 3 now: ada") as refused:
        change(cell, 9, 1, UserFactory())
    assert refused.value.extra["version"] == 2
    assert QuotaCell.objects.get().target == 3
    assert TargetChange.objects.count() == 1


def test_r23_sabotage_without_the_version_the_first_edit_is_lost(cell):
    change(cell, 3, 1)
    cell.target = 9
    cell.save(update_fields=["target"])
    assert QuotaCell.objects.get().target == 9
    assert TargetChange.objects.latest("pk").after == 3


def test_the_same_target_again_is_no_edit(cell):
    assert change(cell, 5, 1).version == 1
    assert not TargetChange.objects.exists()
