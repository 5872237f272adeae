import pytest
from django.utils import timezone

from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse
from apps.quotas.errors import QuotaCellFull
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.quotas.selectors import quota_board
from apps.quotas.services import complete_placements, place_annotator, release_placements
from apps.studies.models import Option
from tests.factories import AnnotatorFactory, StudyFactory

pytestmark = pytest.mark.django_db
NOW = timezone.now()


@pytest.fixture
def study():
    return StudyFactory()


def quota(study, key="everybody", kind=Quota.Kind.HARD, **cells):
    row = Quota.objects.create(study=study, key=key, kind=kind)
    row.locales.set(study.locales.all())
    for cell, (target, strata) in cells.items():
        QuotaCell.objects.create(quota=row, key=cell, target=target, strata=strata)
    return row


def woman(study):
    annotator = AnnotatorFactory(study=study)
    option = Option.objects.get(code="woman", question__questionnaire__study_locale=annotator.study_locale)
    response = QuestionnaireResponse.objects.create(
        annotator=annotator, questionnaire=option.question.questionnaire, submission_id=annotator.submission_id, submitted_at=NOW
    )
    DemographicAnswer.objects.create(
        response=response, annotator=annotator, consent=annotator.consents.get(), question=option.question, option=option
    )
    return annotator


def test_a_full_hard_cell_refuses_the_next_person(study):
    quota(study, all=(1, {}))
    place_annotator(annotator=AnnotatorFactory(study=study), now=NOW)
    with pytest.raises(QuotaCellFull):
        place_annotator(annotator=AnnotatorFactory(study=study), now=NOW)
    assert Placement.objects.count() == 1


def test_admission_takes_all_cells_or_none(study):
    quota(study, "everybody", all=(10, {}))
    quota(study, "gender", women=(0, {"gender": "female"}))
    with pytest.raises(QuotaCellFull):
        place_annotator(annotator=woman(study), now=NOW)
    assert not Placement.objects.exists()


def test_only_matching_cells_are_taken(study):
    quota(study, "gender", women=(1, {"gender": "female"}), men=(1, {"gender": "male"}))
    place_annotator(annotator=woman(study), now=NOW)
    assert Placement.objects.get().cell.key == "women"


@pytest.mark.parametrize("kind", [Quota.Kind.SOFT, Quota.Kind.MONITOR])
def test_soft_and_monitor_cells_never_refuse(study, kind):
    quota(study, kind=kind, all=(0, {}))
    place_annotator(annotator=AnnotatorFactory(study=study), now=NOW)
    assert Placement.objects.count() == 1


def test_a_released_place_is_free_again(study):
    quota(study, all=(1, {}))
    first = AnnotatorFactory(study=study)
    place_annotator(annotator=first, now=NOW)
    release_placements(annotator=first, now=NOW)
    place_annotator(annotator=AnnotatorFactory(study=study), now=NOW)
    row = quota_board(study)[0]
    assert (row.target, row.reserved, row.completed, row.released) == (1, 1, 0, 1)


def test_r8_a_late_finisher_is_kept_and_flagged_over(study):
    quota(study, all=(1, {}))
    late = AnnotatorFactory(study=study)
    place_annotator(annotator=late, now=NOW)
    release_placements(annotator=late, now=NOW)
    successor = AnnotatorFactory(study=study)
    place_annotator(annotator=successor, now=NOW)
    complete_placements(annotator=late, now=NOW)
    complete_placements(annotator=successor, now=NOW)
    row = quota_board(study)[0]
    assert (row.completed, row.over) == (2, 1)


def test_a_lowered_target_expels_nobody(study):
    quota(study, all=(2, {}))
    people = [AnnotatorFactory(study=study) for _ in range(2)]
    for person in people:
        place_annotator(annotator=person, now=NOW)
    QuotaCell.objects.update(target=1)
    assert quota_board(study)[0].reserved == 2
    with pytest.raises(QuotaCellFull):
        place_annotator(annotator=AnnotatorFactory(study=study), now=NOW)


def test_placing_twice_changes_nothing(study):
    quota(study, all=(1, {}))
    person = AnnotatorFactory(study=study)
    place_annotator(annotator=person, now=NOW)
    place_annotator(annotator=person, now=NOW)
    assert Placement.objects.count() == 1


def test_the_board_is_one_query_per_table(study, django_assert_max_num_queries):
    for number in range(5):
        quota(study, f"quota-{number}", all=(1, {}))
    with django_assert_max_num_queries(2):
        quota_board(study)
