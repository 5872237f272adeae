"""The board is equal to a recount at any time."""

import random
from decimal import Decimal

import pytest

from apps.core.errors import DomainError
from apps.quotas.models import Placement, Quota
from apps.quotas.selectors import quota_board
from apps.quotas.services import complete_placements, place_annotator, release_placements
from tests.factories import StudyFactory
from tests.quotas.sampling import MEN, NOW, WOMEN, person, quota

pytestmark = pytest.mark.django_db


def recount(study):
    """The figures of the board, counted one placement at a time."""
    figures = {}
    for row in Placement.objects.filter(quota__study=study).select_related("quota", "cell"):
        figure = figures.setdefault((row.quota.key, row.cell.key if row.cell else ""), [0, 0, 0, 0])
        figure[["RESERVED", "COMPLETED", "RELEASED"].index(row.state)] += 1
        figure[3] += row.is_over
    return {key: tuple(figure) for key, figure in figures.items()}


def test_the_board_equals_a_recount_through_a_whole_fieldwork():
    study, rng = StudyFactory(), random.Random(4)
    quota(study, "gender", outside_share=Decimal("0.5"), women=(3, WOMEN), men=(3, MEN))
    quota(study, "all", kind=Quota.Kind.MONITOR, all=(5, {}))
    people = [person(study, *rng.choice([["woman"], ["man"], []])) for _ in range(16)]
    for someone in people:
        try:
            place_annotator(annotator=someone, now=NOW)
        except DomainError:
            continue
        if rng.random() < 0.4:
            reason = rng.choice([Placement.ReleaseReason.TIMEOUT, Placement.ReleaseReason.WITHDRAWAL])
            release_placements(annotator=someone, reason=reason, now=NOW)
        elif rng.random() < 0.5:
            complete_placements(annotator=rng.choice(people), now=NOW)
        shown = {(row.quota, row.cell): (row.reserved, row.completed, row.released, row.over) for row in quota_board(study)}
        assert {key: figures for key, figures in shown.items() if any(figures)} == recount(study)
        assert all(row.taken <= row.target for row in quota_board(study) if row.kind == "HARD" and row.target is not None)


def test_each_quota_ends_with_those_outside_its_cells():
    study = StudyFactory()
    quota(study, "gender", outside_share=Decimal("0.1"), women=(10, WOMEN), men=(9, MEN))
    quota(study, "soft", kind=Quota.Kind.SOFT, women=(10, WOMEN))
    place_annotator(annotator=person(study), now=NOW)
    rows = [(row.quota, row.cell, row.is_outside, row.target, row.reserved, row.locales) for row in quota_board(study)]
    locales = ("en-US", "fr-FR")
    assert rows == [
        ("gender", "women", False, 10, 0, locales),
        ("gender", "men", False, 9, 0, locales),
        ("gender", "", True, 1, 1, locales),
        ("soft", "women", False, 10, 0, locales),
        ("soft", "", True, None, 1, locales),
    ]


def test_the_board_asks_as_many_queries_for_many_quotas_as_for_few(django_assert_num_queries):
    study = StudyFactory()
    for number in range(5):
        quota(study, f"quota-{number}", all=(1, {}))
    with django_assert_num_queries(4):
        quota_board(study)
