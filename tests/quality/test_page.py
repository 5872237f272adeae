"""The page that puts the sample beside the population, and its command."""

import csv
import io

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from apps.studies.models import StudyMembership
from tests.factories import StudyFactory, UserFactory
from tests.quality.sampling import balance_rule, completed, population_table, with_work

pytestmark = pytest.mark.django_db


@pytest.fixture
def study():
    study = StudyFactory()
    table = population_table(study, "=gender")
    table.key = "gender"
    table.save()
    table.shares.filter(key="women").update(key="=women")
    balance_rule(study)
    for gender in ("woman", "woman", "man"):
        with_work(completed(study, gender))
    return study


@pytest.fixture
def member(client, study):
    user = UserFactory(is_staff=True)
    StudyMembership.objects.create(study=study, user=user, role=StudyMembership.Role.RESEARCHER)
    client.force_login(user)
    return client


def test_the_page_shows_tables_charts_and_the_rule(member, study):
    page = member.get(reverse("admin:quality_representativeness", args=[study.pk]))
    text = page.content.decode()
    assert page.status_code == 200
    for shown in ("A census.", "A: use as it is", "Balance rule version 1, seed 7", "<svg", "66.7", "16.7", "fewer than 10 people"):
        assert shown in text
    assert "style=" not in text.split('id="content-main"')[1].split("</svg>")[0]


def test_only_members_see_it(client, study):
    client.force_login(UserFactory(is_staff=True))
    assert client.get(reverse("admin:quality_representativeness", args=[study.pk])).status_code in {403, 404}


def test_the_file_has_every_stratum_and_no_formula(member, study):
    answer = member.get(reverse("admin:quality_representativeness", args=[study.pk]), {"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert [(row["stratum"], row["completed"], row["balanced"]) for row in rows] == [
        ("'=women", "2", "2"),
        ("men", "1", "1"),
        ("(not known)", "0", ""),
    ]
    assert rows[0]["completed_share"] == "0.6667"
    assert rows[0]["weighted_share"] == "0.5000"


def test_the_list_leads_to_the_page_and_the_rule_is_not_edited(member, study):
    page = member.get(reverse("admin:quality_balancerule_changelist"))
    assert reverse("admin:quality_representativeness", args=[study.pk]) in page.content.decode()
    rule = study.balance_rules.get()
    page = member.get(reverse("admin:quality_balancerule_change", args=[rule.pk]))
    assert page.status_code == 200
    assert 'name="_save"' not in page.content.decode()


def test_the_command_prints_and_writes(study, tmp_path, capsys):
    call_command("representativeness", study.slug)
    out = capsys.readouterr().out
    assert "en-US: 3 admitted, 3 completed, 3 in the balanced subset" in out
    assert "=women" in out
    call_command("representativeness", study.slug, csv=tmp_path / "sample.csv")
    assert (tmp_path / "sample.csv").read_text().count("\n") == 4
    with pytest.raises(CommandError, match="no study"):
        call_command("representativeness", "nowhere")
