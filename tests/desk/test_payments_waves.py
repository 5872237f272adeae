"""Pay rules, waves and excluded studies: in the admin, in study files, and recontact."""

import csv
import io
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from apps.annotators.models import IdentityReading, PanelIdentity
from apps.desk.study_file import FileRefused, dump_study, load_study_file
from apps.studies.models import PayRule, StudyMembership
from tests.desk.paid import Role, paid_link, person, reader
from tests.desk.study_files import changed, write
from tests.factories import BareStudyFactory, StudyFactory, UserFactory

pytestmark = pytest.mark.django_db
LOCALE = '    published_country: "united states"\n'
PAY = LOCALE + "    pay: {currency: EUR, completed: 6.5, per_conversation: 0.75}\n"
SEED = "  seed: 7\n"


@pytest.fixture
def load(tmp_path):
    return lambda *changes, owner=None: load_study_file(write(tmp_path, changed(*changes)), owner=owner)


def refusal(load, *changes, owner=None) -> str:
    with pytest.raises(FileRefused) as refused:
        load(*changes, owner=owner)
    return str(refused.value)


# --- Pay rules --------------------------------------------------------------------------------------------------------


def test_pay_rules_are_loaded_dumped_and_loaded_again(load, tmp_path):
    study = load((LOCALE, PAY)).study
    rule = PayRule.objects.get()
    assert (rule.study_locale.tag, rule.currency, rule.completed, rule.per_conversation, rule.screened_out) == (
        "en-US", "EUR", Decimal("6.5"), Decimal("0.75"), Decimal(0),
    )  # fmt: skip
    dump = dump_study(study)
    assert "    pay: {currency: EUR, completed: 6.50, per_conversation: 0.75, screened_out: 0.00}\n" in dump
    assert load_study_file(write(tmp_path, dump, "dump.yaml")).counts["pay rules"] == {"unchanged": 1}


def test_a_pay_rule_changes_and_goes_with_the_file(load):
    load((LOCALE, PAY))
    assert load((LOCALE, PAY), ("completed: 6.5", "completed: 7")).counts["pay rules"] == {"updated": 1}
    assert PayRule.objects.get().completed == 7
    assert load().counts["pay rules"] == {"removed": 1}
    assert not PayRule.objects.exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("EUR", "euro"), "expected three capital letters such as EUR, found “euro”"),
        (("6.5", "-1"), "expected at least 0, found “-1”"),
        (("6.5", "6.555"), "expected at most 2 decimals"),
        (("currency: EUR, ", ""), "pay.currency: expected this key, found none"),
    ],
)
def test_a_wrong_pay_rule_is_refused_with_its_line(load, wrong, message):
    assert message in refusal(load, (LOCALE, PAY), wrong)


def test_researchers_edit_the_pay_rules_of_their_own_studies():
    own, other = StudyFactory(), StudyFactory()
    add = reverse("admin:studies_payrule_add")
    data = {"currency": "EUR", "completed": "5", "per_conversation": "1", "screened_out": "0"}
    researcher = reader(own)
    assert researcher.post(add, data | {"study_locale": other.locales.first().pk}).status_code == 200
    assert researcher.post(add, data | {"study_locale": own.locales.first().pk, "currency": "euro"}).status_code == 200
    assert not PayRule.objects.exists()
    assert researcher.post(add, data | {"study_locale": own.locales.first().pk}).status_code == 302
    change = reverse("admin:studies_payrule_change", args=[PayRule.objects.get().pk])
    assert reader(own, Role.VIEWER).get(change).status_code == 200
    assert reader(own, Role.VIEWER).post(change, data | {"completed": "9"}).status_code == 403
    assert reader(other, Role.OWNER).get(change).status_code == 302
    assert PayRule.objects.get().completed == 5


# --- Excluded studies -------------------------------------------------------------------------------------------------


def test_excluded_studies_are_loaded_dumped_and_loaded_again(load, tmp_path):
    for slug in ("pilot-2", "pilot-1"):
        BareStudyFactory(slug=slug)
    study = load((SEED, "  excluded_studies: [pilot-2, pilot-1]\n" + SEED)).study
    assert set(study.excluded_studies.values_list("slug", flat=True)) == {"pilot-1", "pilot-2"}
    dump = dump_study(study)
    assert "  excluded_studies: [pilot-1, pilot-2]\n" in dump
    assert "excluded studies" not in load_study_file(write(tmp_path, dump, "dump.yaml")).counts
    load()
    assert not study.excluded_studies.exists()


def test_an_unknown_excluded_study_is_refused_with_its_line_and_nothing_is_stored(load):
    said = refusal(load, (SEED, "  excluded_studies:\n    - nowhere\n" + SEED))
    assert "study.excluded_studies[1]: expected the slug of a study, found “nowhere”" in said
    assert "line 12" in said
    assert not StudyMembership.objects.exists()


def test_a_study_does_not_exclude_itself(load):
    load()
    assert "expected another study than this one" in refusal(load, (SEED, "  excluded_studies: [small]\n" + SEED))


def test_an_owner_names_studies_of_their_own_only(load):
    other, owner = BareStudyFactory(slug="other"), UserFactory(username="lea")
    change = (SEED, "  excluded_studies: [other]\n" + SEED)
    assert "expected a study that lea is a member of, found “other”" in refusal(load, change, owner=owner)
    StudyMembership.objects.create(study=other, user=owner, role=Role.VIEWER)
    assert load(change, owner=owner).study.excluded_studies.get() == other


def test_the_admin_offers_ones_own_studies_and_keeps_those_of_co_owners():
    study, own, theirs, foreign = (BareStudyFactory(slug=slug) for slug in ("now", "own", "theirs", "foreign"))
    study.excluded_studies.add(theirs)
    client = reader(study, Role.OWNER, username="lea")
    membership = StudyMembership.objects.get(user__username="lea")
    StudyMembership.objects.create(study=own, user=membership.user, role=Role.VIEWER)
    form = client.get(reverse("admin:studies_study_change", args=[study.pk])).context["adminform"].form
    assert set(form.fields["excluded_studies"].queryset) == {own, theirs}
    assert foreign.slug not in str(form["excluded_studies"])


def test_the_admin_edits_waves_caps_places_and_time_zones():
    study = StudyFactory(state="DRAFT")
    page = reader(study, Role.OWNER).get(reverse("admin:studies_study_change", args=[study.pk])).text
    for field in ("wave", "min_conversations", "max_conversations_per_day", "place_hours", "excluded_studies", "locales-0-time_zone"):
        assert f'name="{field}"' in page


def test_people_are_listed_by_wave():
    link = paid_link()
    person(link, "p1", wave=1)
    second = person(link, "p2", wave=2)
    page = reader(link.study).get(reverse("admin:annotators_annotator_changelist"), {"wave": 2})
    assert list(page.context["cl"].queryset) == [second]


# --- Recontact --------------------------------------------------------------------------------------------------------


@pytest.fixture
def link():
    link = paid_link(name="batch")
    person(link, "p2", state="COMPLETED")
    person(link, "=p1", state="COMPLETED")
    person(link, "left", state="WITHDRAWN")
    person(link, "here")
    person(link, "later", state="COMPLETED", wave=2)
    person(paid_link(study=link.study, purpose="PILOT"), "pilot", state="COMPLETED")
    return link


def recontact(link, user: str, wave: int = 1) -> tuple[list[list[str]], str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("recontact", link.study.slug, "--wave", str(wave), "--user", user, stdout=out, stderr=err)
    return list(csv.reader(io.StringIO(out.getvalue()))), err.getvalue()


def test_who_completed_the_wave_may_be_invited_again_and_the_reading_is_logged(link):
    reader(link.study, Role.VIEWER, username="lea")
    (header, *rows), said = recontact(link, "lea")
    assert header == ["participant", "panel", "link", "locale", "wave", "completed_at"]
    assert [row[:5] for row in rows] == [["'=p1", "PROLIFIC", "batch", "en-US", "1"], ["p2", "PROLIFIC", "batch", "en-US", "1"]]
    assert said == ""
    reading = IdentityReading.objects.get()
    assert (reading.user.username, reading.identities, reading.purpose) == ("lea", 2, "recontact of wave 1")


def test_people_whose_number_is_not_kept_are_counted(link):
    reader(link.study, username="lea")
    PanelIdentity.objects.filter(annotator__wave=1).delete()
    rows, said = recontact(link, "lea")
    assert len(rows) == 1
    assert "2 more completed" in said


@pytest.mark.parametrize(
    ("user", "wave", "message"),
    [("lea", 1, "may not see identities"), ("nobody", 1, "no active user “nobody”"), ("lea", 7, "Nobody joined wave 7 .*Waves: 1, 2")],
)
def test_s9_recontact_needs_a_reader_with_the_right(link, user, wave, message):
    reader(link.study, Role.OWNER, may_see=False, username="lea")
    with pytest.raises(CommandError, match=message):
        recontact(link, user, wave)
    assert not IdentityReading.objects.exists()
