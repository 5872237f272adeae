"""The researcher's desk: who sees and changes what, counts that are true, and pages that ask a bounded number of questions."""

import re

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.annotators.models import Annotator, RecruitmentLink
from apps.content.models import Prompt
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.studies.models import ApiToken, ConsentForm, Study, StudyMembership
from apps.studies.permissions import StudyScopedAdmin
from tests.annotation.fieldwork import NOW, admitted_annotator, claim, judge, seated_study
from tests.factories import PromptFactory, RecruitmentLinkFactory, StudyFactory, UserFactory

pytestmark = pytest.mark.django_db
Role = StudyMembership.Role

SCOPED = sorted((model._meta.label_lower for model, owner in admin.site._registry.items() if isinstance(owner, StudyScopedAdmin)))


def changelist(label: str) -> str:
    return reverse(f"admin:{label.replace('.', '_')}_changelist")


def change(label: str, pk: int) -> str:
    return reverse(f"admin:{label.replace('.', '_')}_change", args=[pk])


def log_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def member(study: Study, role: Role) -> Client:
    user = UserFactory(is_staff=True)
    StudyMembership.objects.create(study=study, user=user, role=role)
    return log_in(user)


def worked_study(people: int = 1) -> Study:
    """A study in which `people` have joined by a link, hold a quota place and have judged one turn."""
    study = seated_study(prompts=2)
    quota = Quota.objects.create(study=study, key="country")
    quota.locales.set(study.locales.all())
    cell = QuotaCell.objects.create(quota=quota, key="everybody", target=10)
    for _ in range(people):
        annotator = admitted_annotator(study)
        Placement.objects.create(annotator=annotator, quota=quota, cell=cell, reserved_at=NOW)
        claim(annotator)
        judge(annotator, position=1)
    return study


@pytest.fixture
def superuser() -> Client:
    return log_in(UserFactory(is_staff=True, is_superuser=True))


# --- Pages open, in few queries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", SCOPED)
def test_every_list_and_page_opens_for_an_owner(label):
    owner = member(worked_study(), Role.OWNER)
    page = owner.get(changelist(label))
    assert page.status_code == 200
    for row in page.context["cl"].queryset[:1]:
        assert owner.get(change(label, row.pk)).status_code == 200


@pytest.mark.parametrize("label", SCOPED)
def test_a_list_asks_as_many_queries_for_many_rows_as_for_few(label):
    study = worked_study()
    owner = member(study, Role.OWNER)
    owner.get(changelist(label))
    with CaptureQueriesContext(
        connection,
    ) as few:
        owner.get(changelist(label))
    for _ in range(3):
        annotator = admitted_annotator(study)
        cell = QuotaCell.objects.get(quota__study=study)
        Placement.objects.create(annotator=annotator, quota=cell.quota, cell=cell, reserved_at=NOW)
        claim(annotator)
        judge(annotator)
        RecruitmentLinkFactory(study=study)
        PromptFactory(study=study)
    for locale in study.locales.all():
        for version in (2, 3, 4):
            ConsentForm.objects.create(study_locale=locale, purpose="PARTICIPATION", version=version, title="v", body="b", statement="s")
    with CaptureQueriesContext(connection) as many:
        owner.get(changelist(label))
    assert len(many) <= len(few) + 1, "\n".join(query["sql"] for query in many)
    assert len(many) <= 20


def test_the_first_page_groups_by_fieldwork_task_and_counts(django_assert_max_num_queries):
    study = worked_study(people=2)
    Annotator.objects.filter(study=study).update(state="COMPLETED", ended_at=NOW)
    owner = member(study, Role.OWNER)
    seated_study(slug="not-mine")
    with django_assert_max_num_queries(23):  # six, and seventeen for what starves in an open study
        page = owner.get(reverse("admin:index"))
    names = [section["name"] for section in page.context["app_list"]]
    assert names == ["Design", "Content", "Candidates", "Recruitment", "Quotas", "Fieldwork", "Releases", "Access"]
    (overview,) = page.context["studies"]
    assert (overview.slug, overview.locales, overview.completed, overview.taking_part) == (study.slug, 2, 2, 0)
    assert overview.seats == 2 * 2 * study.overlap
    assert overview.sets_ready == study.recipes.get().candidate_sets.filter(is_live=False, state="READY").count()
    assert "not-mine" not in page.text


@pytest.mark.parametrize("path", ["admin:index", "admin:studies_study_add", "admin:annotation_conversation_changelist", "admin:login"])
def test_pages_carry_no_inline_script_or_style(superuser, path):
    page = superuser.get(reverse(path), follow=True)
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")", page.text)
    assert "<style" not in page.text
    assert not re.search(r"<[^>]+\s(style|on\w+)=", page.text)


def test_the_log_in_page_opens_for_a_visitor_and_names_no_study(client):
    StudyFactory(slug="secret-study")
    page = client.get(reverse("admin:login"))
    assert page.status_code == 200
    assert "secret-study" not in page.text


# --- Who sees and changes what ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", SCOPED)
def test_s9_rows_of_other_studies_cannot_be_seen_or_opened(label):
    owner = member(worked_study(), Role.OWNER)
    mine = {row.pk for row in owner.get(changelist(label)).context["cl"].queryset}
    worked_study()
    page = owner.get(changelist(label))
    assert {row.pk for row in page.context["cl"].queryset} == mine
    foreign = page.context["cl"].model.objects.exclude(pk__in=mine).first()
    if foreign is not None:
        answer = owner.get(change(label, foreign.pk))
        assert (answer.status_code, answer.url) == (302, reverse("admin:index"))


def test_s9_sabotage_an_admin_that_is_not_scoped_shows_the_other_study(monkeypatch):
    owner = member(worked_study(), Role.OWNER)
    worked_study()
    monkeypatch.setattr(StudyScopedAdmin, "get_queryset", admin.ModelAdmin.get_queryset)
    shown = owner.get(changelist("annotators.consent")).context["cl"].queryset
    assert len({row.annotator.study_id for row in shown}) == 2


@pytest.mark.parametrize("role", [Role.VIEWER, Role.REVIEWER, Role.TRANSLATOR])
def test_only_owners_and_researchers_change_a_study(role):
    study = StudyFactory()
    url = change("studies.study", study.pk)
    page = member(study, role).get(url)
    assert page.status_code == 200
    assert 'name="_save"' not in page.text
    assert member(study, role).post(url, {"state": "CLOSED"}).status_code == 403
    study.refresh_from_db()
    assert study.state == Study.State.OPEN
    assert 'name="_save"' in member(study, Role.RESEARCHER).get(url).text


def test_a_researcher_cannot_make_anybody_a_member():
    study = StudyFactory()
    url = change("studies.study", study.pk)
    assert 'name="memberships-0-role"' not in member(study, Role.RESEARCHER).get(url).text
    assert 'name="memberships-0-role"' in member(study, Role.OWNER).get(url).text


def test_somebody_without_a_study_sees_none_and_may_start_one():
    StudyFactory(slug="not-mine")
    newcomer = log_in(UserFactory(is_staff=True))
    page = newcomer.get(reverse("admin:index"))
    assert page.status_code == 200
    assert "not-mine" not in page.text
    assert newcomer.get(reverse("admin:studies_study_add")).status_code == 200
    assert newcomer.get(changelist("annotators.annotator")).status_code == 403


def test_accounts_are_for_superusers_only(superuser):
    assert superuser.get(changelist("accounts.user")).status_code == 200
    assert superuser.get(reverse("admin:accounts_user_add")).status_code == 200
    assert member(StudyFactory(), Role.OWNER).get(changelist("accounts.user")).status_code == 403


def test_references_offer_only_studies_that_one_may_write_to():
    study, other = StudyFactory(slug="mine"), StudyFactory(slug="only-looked-at")
    owner = member(study, Role.OWNER)
    StudyMembership.objects.create(study=other, user_id=owner.session["_auth_user_id"], role=Role.VIEWER)
    page = owner.get(reverse("admin:quotas_quota_add"))
    assert [row.slug for row in page.context["adminform"].form.fields["study"].queryset] == ["mine"]
    assert {row.study.slug for row in page.context["adminform"].form.fields["locales"].queryset} == {"mine"}


# --- Read-only where editing would corrupt ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "label",
    [
        "annotators.annotator",
        "annotators.consent",
        "annotation.slot",
        "annotation.assignment",
        "annotation.conversation",
        "quotas.placement",
    ],
)
def test_records_of_fieldwork_cannot_be_added_changed_or_deleted(label, superuser):
    worked_study()
    row = superuser.get(changelist(label)).context["cl"].queryset.first()
    page = superuser.get(change(label, row.pk))
    assert page.status_code == 200
    assert 'name="_save"' not in page.text
    assert superuser.post(change(label, row.pk), {}).status_code == 403
    for action in ("add", "delete"):
        url = reverse(f"admin:{label.replace('.', '_')}_{action}", args=[row.pk] if action == "delete" else [])
        assert superuser.post(url, {"post": "yes"}).status_code == 403


def test_texts_and_prompts_are_fixed_once_a_study_has_left_the_draft(superuser):
    study = StudyFactory()
    prompt = PromptFactory(study=study)
    form = ConsentForm.objects.filter(study_locale__study=study).first()
    for label, row in (("content.prompt", prompt), ("studies.consentform", form)):
        assert 'name="_save"' not in superuser.get(change(label, row.pk)).text
    Study.objects.filter(pk=study.pk).update(state=Study.State.DRAFT)
    for label, row in (("content.prompt", prompt), ("studies.consentform", form)):
        assert 'name="_save"' in superuser.get(change(label, row.pk)).text
    assert 'name="seed"' in superuser.get(change("studies.study", study.pk)).text
    Study.objects.filter(pk=study.pk).update(state=Study.State.PAUSED)
    page = superuser.get(change("studies.study", study.pk)).text
    assert 'name="seed"' not in page
    assert 'name="state"' in page


# --- What each page tells ---------------------------------------------------------------------------------------------


def test_a_conversation_is_replayed_with_letters_choice_and_source(superuser):
    study = worked_study()
    conversation = Annotator.objects.get(study=study).conversations.get()
    page = superuser.get(change("annotation.conversation", conversation.pk)).text
    shown = conversation.turns.get(number=1).shown_candidates.order_by("position")
    places = [page.index(f">{candidate.letter}</strong>") for candidate in shown]
    assert places == sorted(places)
    chosen = page.index("· chosen")
    assert places[1] < chosen < places[2]
    assert all(candidate.text in page for candidate in shown)
    assert "negatively_correlated" in page
    assert page.count('<li class="chosen">') == 1


def test_a_list_has_its_real_name(superuser):
    assert "<h1>Recruitment links</h1>" in superuser.get(changelist("annotators.recruitmentlink")).text


def test_foreign_text_cannot_act_in_the_replay(superuser):
    study = worked_study()
    conversation = Annotator.objects.get(study=study).conversations.get()
    conversation.turns.update(message="<script>alert(1)</script><img src=x onerror=alert(1)>")
    page = superuser.get(change("annotation.conversation", conversation.pk)).text
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_recruitment_link_shows_its_whole_address(superuser):
    link = RecruitmentLinkFactory()
    address = f"http://testserver{reverse('annotation:join', args=[link.token])}"
    assert address in superuser.get(changelist("annotators.recruitmentlink")).text
    assert address in superuser.get(change("annotators.recruitmentlink", link.pk)).text


def test_a_recruitment_link_takes_locales_of_its_own_study_only(superuser):
    study, other = StudyFactory(), StudyFactory()
    data = {"study": study.pk, "name": "panel", "kind": "DIRECT", "purpose": "LIVE", "is_open": "on", "locales": [other.locales.first().pk]}
    answer = superuser.post(reverse("admin:annotators_recruitmentlink_add"), data)
    assert answer.status_code == 200
    assert f"Choose locales of {study} only." in answer.text
    assert not RecruitmentLink.objects.exists()
    data["locales"] = [study.locales.first().pk]
    assert superuser.post(reverse("admin:annotators_recruitmentlink_add"), data).status_code == 302
    assert RecruitmentLink.objects.get().study == study


def test_missing_translations_of_prompts_are_shown_and_found(superuser):
    study = StudyFactory()
    whole, part = PromptFactory(study=study), PromptFactory(study=study, text_fr=None)
    page = superuser.get(changelist("content.prompt"))
    missing = page.context["cl"].model_admin.missing
    by_key = {row.key: missing(row) for row in page.context["cl"].result_list}
    assert by_key == {whole.key: None, part.key: "fr"}
    found = superuser.get(changelist("content.prompt"), {"missing": "fr"}).context["cl"].queryset
    assert [row.key for row in found] == [part.key]
    assert Prompt.objects.count() == 2


# --- API tokens -------------------------------------------------------------------------------------------------------


def issue_token(client: Client, membership: StudyMembership, **fields):
    return client.post(reverse("admin:studies_apitoken_add"), {"membership": membership.pk, "name": "nightly", "days": 30, **fields})


def test_s10_a_token_is_shown_once_and_only_its_hash_is_kept():
    study = StudyFactory()
    owner = member(study, Role.OWNER)
    answer = issue_token(owner, StudyMembership.objects.get())
    row = ApiToken.objects.get()
    (token,) = set(re.findall(r"poly_[\w-]{43}", answer.text))
    assert row.digest == ApiToken.digest_of(token)
    assert (row.expires_at - row.created_at).days in (29, 30)
    assert "no-store" in answer.headers["Cache-Control"]
    assert token not in str(answer.cookies)
    for url in (changelist("studies.apitoken"), change("studies.apitoken", row.pk)):
        assert token not in owner.get(url).text


def test_s9_nobody_makes_a_token_for_somebody_elses_membership():
    study = StudyFactory()
    member(study, Role.OWNER)
    researcher = member(study, Role.RESEARCHER)
    answer = issue_token(researcher, StudyMembership.objects.get(role=Role.OWNER))
    assert answer.status_code == 200
    assert not ApiToken.objects.exists()


def test_s10_a_revoked_token_is_dead_and_others_tokens_are_left_alone():
    study = StudyFactory()
    owner, researcher = member(study, Role.OWNER), member(study, Role.RESEARCHER)
    rows = {m.role: ApiToken.issue(membership=m, name=m.role)[0] for m in StudyMembership.objects.all()}

    def revoke(client: Client, *roles: Role) -> None:
        data = {"action": "revoke", "_selected_action": [rows[role].pk for role in roles]}
        assert client.post(changelist("studies.apitoken"), data).status_code == 302

    revoke(researcher, Role.OWNER)
    rows[Role.OWNER].refresh_from_db()
    assert rows[Role.OWNER].is_valid(rows[Role.OWNER].created_at)
    revoke(owner, Role.OWNER, Role.RESEARCHER)
    for row in rows.values():
        row.refresh_from_db()
        assert not row.is_valid(row.created_at)
