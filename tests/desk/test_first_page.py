"""The figures of the desk's first page."""

import pytest

from apps.annotation.models import Assignment, Slot
from apps.annotators.models import Annotator, RecruitmentLink
from apps.desk.selectors import study_overviews
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, seated_study
from tests.factories import RecruitmentLinkFactory, UserFactory

pytestmark = pytest.mark.django_db


def test_only_people_of_fieldwork_and_their_conversations_are_counted():
    study = seated_study()
    for purpose in RecruitmentLink.Purpose:
        link = RecruitmentLinkFactory(study=study, purpose=purpose)
        admitted_annotator(study, recruitment_link=link)
        done = admitted_annotator(study, recruitment_link=link)
        work = claim(done)
        Assignment.objects.filter(pk=work.pk).update(state="COMPLETED", ended_at=NOW)
        Slot.objects.filter(pk=work.slot_id).update(state="FILLED", lease_expires_at=None)
        Annotator.objects.filter(pk=done.pk).update(state="COMPLETED", ended_at=NOW)
    (line,) = study_overviews(UserFactory(is_superuser=True))
    assert (line.taking_part, line.completed, line.conversations) == (1, 1, 1)
