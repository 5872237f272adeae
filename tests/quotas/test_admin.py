"""The admin pages of quotas: tables with previews, own tables, and guarded targets."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from apps.quotas.models import Quota, QuotaCell, TargetChange
from apps.quotas.services import make_quotas, place_annotator, set_target
from apps.studies.models import StudyMembership
from tests.desk.test_admin import member
from tests.factories import AnnotatorFactory, StudyFactory, UserFactory
from tests.quotas.sampling import MEN, NOW, WOMEN, quota

pytestmark = pytest.mark.django_db
TABLES, OWN = "admin:quotas_from_tables", "admin:quotas_own_table"
CSV = "stratum,share,gender\nwomen,0.6,female\nmen,0.4,male\n"


@pytest.fixture
def study():
    return StudyFactory()


@pytest.fixture
def owner(study):
    return member(study, StudyMembership.Role.OWNER)


def test_tables_are_shown_with_source_year_grade_and_targets_before_anything_is_saved(study, owner):
    page = owner.get(reverse(TABLES), {"country": f"{study.pk}-US", "total": 101})
    assert [offer["table"].key for offer in page.context["offers"]] == ["US/age_gender", "US/age", "US/gender"]
    assert "2024, grade A" in page.text
    assert "US Census Bureau" in page.text
    assert '<th scope="row">55+|female</th>' in page.text
    assert not Quota.objects.exists()


def test_the_chosen_tables_become_quotas(study, owner):
    url = f"{reverse(TABLES)}?country={study.pk}-US&total=101"
    answer = owner.post(url, {"table": ["US/age_gender", "US/gender"]})
    assert answer.status_code == 302
    assert dict(study.quotas.values_list("key", "kind")) == {"US_age_gender": "HARD", "US_gender": "MONITOR"}
    assert sum(QuotaCell.objects.filter(quota__key="US_age_gender").values_list("target", flat=True)) == 101
    assert [offer["table"].key for offer in owner.get(url).context["offers"]] == ["US/age"]
    page = owner.get(reverse("admin:quotas_quota_change", args=[study.quotas.get(key="US_gender").pk])).text
    assert "US/gender of 101 people, 2024; A: use as it is" in page


def test_a_table_of_ones_own_is_previewed_and_then_made(study, owner):
    form = {"country": f"{study.pk}-US", "total": 5, "key": "mine", "kind": "SOFT", "year": "2025", "source": "A survey", "text": CSV}
    page = owner.post(reverse(OWN), form)
    assert [(stratum.key, target) for stratum, target in page.context["targets"]] == [("women", 3), ("men", 2)]
    assert not Quota.objects.exists()
    assert owner.post(reverse(OWN), form | {"save": "1"}).status_code == 302
    made = Quota.objects.get()
    assert (made.key, made.kind, made.table.source) == ("mine", "SOFT", "A survey")
    assert list(made.cells.values_list("key", "target", "strata")) == [("women", 3, WOMEN), ("men", 2, MEN)]


def test_a_file_is_read_like_pasted_lines(study, owner):
    file = SimpleUploadedFile("table.csv", b"\xef\xbb\xbf" + CSV.encode())
    page = owner.post(reverse(OWN), {"country": f"{study.pk}-US", "total": 5, "key": "mine", "kind": "HARD", "file": file})
    assert [target for _, target in page.context["targets"]] == [3, 2]
    assert "women,0.6,female" in page.text  # the lines stand in the form, to be saved from there


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CSV.replace("0.4", "0.5"), "expected a sum of 1"),
        (CSV.replace("0.4", "four"), "line 3, share"),
        (CSV.replace("female", "cat"), "no question before the tasks offers gender=cat"),
        (CSV.replace("gender", "politics"), "offers politics"),
    ],
)
def test_a_mistake_in_a_table_is_shown_with_its_line(study, owner, text, message):
    page = owner.post(reverse(OWN), {"country": f"{study.pk}-US", "total": 5, "key": "mine", "kind": "SOFT", "text": text, "save": "1"})
    assert page.status_code == 200
    assert message in page.text
    assert not Quota.objects.exists()


def test_bytes_that_are_no_text_are_refused_and_so_is_a_key_in_use(study, owner):
    quota(study, "mine", all=(1, {}))
    form = {"country": f"{study.pk}-US", "total": 5, "key": "mine", "kind": "SOFT"}
    assert "Expected UTF-8 text" in owner.post(reverse(OWN), form | {"file": SimpleUploadedFile("t.csv", b"\xff\xfe")}).text
    assert "has a quota with this key" in owner.post(reverse(OWN), form | {"text": CSV}).text


def test_both_pages_and_the_form_refuse_quotas_where_people_are_admitted_before_saving(study, owner):
    empty = quota(study, "french", locales=study.locales.filter(language="fr"), all=(1, {}))
    AnnotatorFactory(study=study, admitted_at=NOW)
    url = f"{reverse(TABLES)}?country={study.pk}-US&total=101"
    for page in (owner.get(url), owner.post(url, {"table": ["US/gender"]})):
        assert "admitted already (1 in en-US)" in page.text
        assert "Make the chosen quotas" not in page.text
    form = {"country": f"{study.pk}-US", "total": 5, "key": "mine", "kind": "SOFT", "text": CSV}
    for data in (form, form | {"save": "1"}):
        assert "admitted already (1 in en-US)" in owner.post(reverse(OWN), data).text
    wider = posted(page_of(owner, empty), locales=[locale.pk for locale in study.locales.all()])
    answer = owner.post(reverse("admin:quotas_quota_change", args=[empty.pk]), wider)
    assert "admitted already (1 in en-US)" in answer.text
    assert Quota.objects.count() == 1


def test_somebody_admitted_between_the_look_and_the_saving_is_told_of_too(study, owner, monkeypatch):
    monkeypatch.setattr("apps.quotas.table_pages.check_nobody_admitted", lambda locales: None)  # when the form looked, nobody was in
    AnnotatorFactory(study=study, admitted_at=NOW)
    form = {"country": f"{study.pk}-US", "total": 5, "key": "mine", "kind": "SOFT", "text": CSV, "save": "1"}
    answer = owner.post(reverse(OWN), form)
    assert answer.status_code == 200
    assert "admitted already (1 in en-US)" in answer.text
    assert not Quota.objects.exists()


def test_only_writers_make_quotas_and_only_for_their_studies(study):
    viewer = member(study, StudyMembership.Role.VIEWER)
    stranger = member(StudyFactory(), StudyMembership.Role.OWNER)
    for url in (reverse(TABLES), reverse(OWN)):
        assert viewer.get(url).status_code == 403
        page = stranger.get(url, {"country": f"{study.pk}-US", "total": 5})
        assert study.slug not in page.text
    stranger.post(f"{reverse(TABLES)}?country={study.pk}-US&total=5", {"table": ["US/gender"]})
    assert not Quota.objects.exists()


# --- Targets ---


def page_of(client, row):
    return client.get(reverse("admin:quotas_quota_change", args=[row.pk]))


def posted(page, **changes):
    """What the browser sends back from `page`, with `changes`."""
    data = {}
    for form in [page.context["adminform"].form, *(form for inline in page.context["inline_admin_formsets"] for form in inline.formset)]:
        for name in form.fields:
            value = form[name].value()
            if value is not None and value is not False:
                data[form.add_prefix(name)] = value
    for inline in page.context["inline_admin_formsets"]:
        data |= {inline.formset.management_form.add_prefix(key): value for key, value in inline.formset.management_form.initial.items()}
    return data | changes


def test_an_edited_target_is_logged_with_its_editor(study, owner):
    row = quota(study, women=(5, WOMEN), men=(5, MEN))
    answer = owner.post(reverse("admin:quotas_quota_change", args=[row.pk]), posted(page_of(owner, row), **{"cells-0-target": 3}))
    assert answer.status_code == 302, answer.context["errors"]
    line = TargetChange.objects.get()
    assert (line.cell.key, line.before, line.after, line.user_id) == ("women", 5, 3, int(owner.session["_auth_user_id"]))
    assert list(row.cells.order_by("pk").values_list("target", "version")) == [(3, 2), (5, 1)]


def test_r23_an_edit_from_an_old_page_is_refused_and_says_who_was_faster(study, owner):
    row = quota(study, women=(5, WOMEN))
    data = posted(page_of(owner, row), **{"cells-0-target": 3})
    set_target(cell=row.cells.get(), target=8, version=1, user=UserFactory(username="ada"), now=NOW)
    answer = owner.post(reverse("admin:quotas_quota_change", args=[row.pk]), data)
    assert answer.status_code == 200
    assert "The target of women is 8 now: ada changed it" in answer.text
    assert row.cells.get().target == 8
    assert TargetChange.objects.count() == 1


def test_cells_keep_their_strata_once_people_hold_places(study, owner):
    row = quota(study, all=(5, {}))
    assert 'name="cells-0-strata"' in page_of(owner, row).text
    place_annotator(annotator=AnnotatorFactory(study=study), now=NOW)
    page = page_of(owner, row)
    assert 'name="cells-0-strata"' not in page.text
    assert 'name="cells-0-target"' in page.text
    assert owner.post(reverse("admin:quotas_quota_change", args=[row.pk]), posted(page, **{"cells-0-target": 4})).status_code == 302
    assert row.cells.get().target == 4


def test_the_list_of_quotas_leads_to_the_pages_and_asks_few_queries(study, owner, django_assert_max_num_queries):
    make_quotas(study=study, country="US", total=10)
    with django_assert_max_num_queries(14):
        page = owner.get(reverse("admin:quotas_quota_changelist"))
    assert reverse(TABLES) in page.text
    assert reverse(OWN) in page.text
