"""Quotas from the built-in tables."""

import pytest
from django.core.management import CommandError, call_command

from apps.annotators.models import RecruitmentLink
from apps.desk.study_file import load_study_file
from apps.quotas.errors import NoTables, PeopleAdmitted
from apps.quotas.models import PopulationTable, Quota
from apps.quotas.selectors import usable_tables
from apps.quotas.services import make_quotas
from tests.desk.test_demo_study import DEMO
from tests.factories import AnnotatorFactory, RecruitmentLinkFactory, StudyFactory
from tests.quotas.sampling import NOW

pytestmark = pytest.mark.django_db


def test_the_suggested_quotas_of_a_country_cover_all_its_locales():
    study = load_study_file(DEMO).study
    study.quotas.all().delete()
    made = {quota.key: quota for quota in make_quotas(study=study, country="IN", total=200)}
    assert {key: quota.kind for key, quota in made.items()} == {
        "IN_age_gender": "HARD",
        "IN_age": "MONITOR",
        "IN_gender": "MONITOR",
        "IN_education_isced3": "MONITOR",  # of 2021, three levels of 25 to 64: grade D
        "IN_education_dataset": "MONITOR",
        "IN_region": "MONITOR",
    }
    for quota in made.values():
        assert sorted(locale.tag for locale in quota.locales.all()) == ["en-IN", "hi-IN"]
        assert sum(quota.cells.values_list("target", flat=True)) == quota.total == 200
        assert quota.table.shares.count() == quota.cells.count()
    assert made["IN_age_gender"].outside_share > 0
    assert made["IN_gender"].outside_share is None


def test_education_and_region_steer_where_their_tables_are_good():
    study = load_study_file(DEMO).study
    study.quotas.all().delete()
    kinds = {quota.key: quota.kind for quota in make_quotas(study=study, country="FR", total=100)}
    assert (kinds["FR_age_gender"], kinds["FR_education_isced3"], kinds["FR_region"]) == ("HARD", "SOFT", "SOFT")
    assert "FR_immigrant" not in kinds  # asked after the tasks: for weights only


def test_making_them_again_adds_nothing():
    study = load_study_file(DEMO).study
    before = Quota.objects.count()
    make_quotas(study=study, country="BR", total=100)
    after = Quota.objects.count()
    assert after > before
    assert make_quotas(study=study, country="BR", total=100) == []
    assert Quota.objects.count() == after
    assert PopulationTable.objects.filter(study=study, key="BR/age_gender").count() == 1


def test_a_study_whose_questions_differ_gets_only_what_they_tell():
    study = StudyFactory()
    keys = [table.key for table in usable_tables(list(study.locales.filter(country="US")))]
    assert keys == ["US/age_gender", "US/age", "US/gender"]
    with pytest.raises(NoTables):
        make_quotas(study=study, country="IT", total=100)


def test_the_command_says_what_it_made(capsys):
    study = StudyFactory()
    call_command("make_quotas", study.slug, "US", "100")
    assert capsys.readouterr().out.splitlines() == [
        "US_age_gender: Hard: refuses when full, 8 cells",
        "US_age: Monitor: only counts, 4 cells",
        "US_gender: Monitor: only counts, 2 cells",
    ]
    with pytest.raises(CommandError, match="No population table of IT"):
        call_command("make_quotas", study.slug, "IT", "100")
    with pytest.raises(CommandError, match="no study"):
        call_command("make_quotas", "nowhere", "US", "100")


@pytest.mark.parametrize(
    ("total", "message"), [("99999999999999999999", "less than or equal to 1000000"), ("0", "greater than or equal to 1")]
)
def test_the_command_refuses_a_total_as_the_form_does(total, message):
    study = StudyFactory()
    with pytest.raises(CommandError, match=message):
        call_command("make_quotas", study.slug, "US", total)
    assert not study.quotas.exists()


def test_no_quota_starts_at_0_where_people_are_admitted_already():
    study = StudyFactory()
    AnnotatorFactory(study=study, admitted_at=NOW)
    with pytest.raises(PeopleAdmitted, match="1 in en-US") as refused:
        make_quotas(study=study, country="US", total=100)
    assert refused.value.extra == {"people": {"en-US": 1}}
    with pytest.raises(CommandError, match=r"admitted already .*Edit the targets"):
        call_command("make_quotas", study.slug, "US", "100")
    assert not study.quotas.exists()
    assert not study.population_tables.exists()
    assert make_quotas(study=study, country="FR", total=100)


def test_pilots_and_people_not_admitted_yet_leave_quotas_to_be_made():
    study = StudyFactory()
    AnnotatorFactory(study=study)
    pilot = RecruitmentLinkFactory(study=study, purpose=RecruitmentLink.Purpose.PILOT)
    AnnotatorFactory(study=study, recruitment_link=pilot, admitted_at=NOW)
    assert make_quotas(study=study, country="US", total=100)
