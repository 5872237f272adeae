from datetime import UTC, datetime, timedelta

import pytest

from apps.annotators.identities import encrypt
from apps.annotators.models import Annotator, PanelIdentity, RecruitmentLink
from apps.annotators.services import delete_old_identities, settle_payments
from apps.annotators.tasks import delete_old_identities as task
from tests.factories import AnnotatorFactory, StudyFactory

pytestmark = pytest.mark.django_db
ENDED = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def known(study, state="COMPLETED", **fields) -> Annotator:
    ended = {} if state == "ACTIVE" else {"ended_at": ENDED}
    annotator = AnnotatorFactory(study=study, state=state, **(ended | fields))
    PanelIdentity.objects.create(annotator=annotator, participant=encrypt("p1"), received_at=ENDED)
    return annotator


def test_whoever_withdrew_is_known_until_they_are_paid_so_that_nobody_stands_in_a_list_twice():
    left = known(StudyFactory(), state="WITHDRAWN", external_id_hash="a" * 64)
    stayed = known(StudyFactory(), external_id_hash="b" * 64)
    settle_payments(link=left.recruitment_link, until=ENDED - timedelta(hours=1))
    left.refresh_from_db()
    assert left.external_id_hash
    for person in (left, stayed):
        settle_payments(link=person.recruitment_link, until=ENDED)
        person.refresh_from_db()
    assert (left.external_id_hash, stayed.external_id_hash) == (None, "b" * 64)


def test_an_identity_is_deleted_once_the_retention_of_its_study_is_over():
    short, long = known(StudyFactory(retention_months=1)), known(StudyFactory(retention_months=12))
    delete_old_identities(now=ENDED + timedelta(days=28))
    assert PanelIdentity.objects.count() == 2
    assert delete_old_identities(now=ENDED + timedelta(days=32)) == 1
    assert PanelIdentity.objects.get().annotator == long
    assert Annotator.objects.filter(pk=short.pk).exists(), "the person's research data stay"
    delete_old_identities(now=ENDED.replace(year=2027) - timedelta(seconds=1))
    assert PanelIdentity.objects.exists()
    delete_old_identities(now=ENDED.replace(year=2027) + timedelta(seconds=1))
    assert not PanelIdentity.objects.exists()


def test_somebody_who_never_came_to_an_end_is_forgotten_as_long_after_they_were_last_seen():
    known(StudyFactory(retention_months=1), state="ACTIVE", active_at=ENDED)
    assert delete_old_identities(now=ENDED + timedelta(days=28)) == 0
    assert delete_old_identities(now=ENDED + timedelta(days=32)) == 1


def test_the_daily_task_does_it():
    known(StudyFactory(retention_months=1))
    task()
    assert not PanelIdentity.objects.exists()


def test_once_payments_are_settled_only_those_who_left_are_forgotten():
    study = StudyFactory()
    stayed, _ = known(study), known(study, state="WITHDRAWN")
    later = known(study, state="WITHDRAWN", ended_at=ENDED + timedelta(hours=2))
    assert settle_payments(link=stayed.recruitment_link, until=ENDED + timedelta(hours=1)) == 1
    assert {identity.annotator for identity in PanelIdentity.objects.all()} == {stayed, later}
    assert RecruitmentLink.objects.get().settled_at == ENDED + timedelta(hours=1)
