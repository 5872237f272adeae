"""The assignment plan: in study files, in the desk, with the overlap that can change and the gold items."""

import pytest
from django.db import connection
from django.urls import reverse

from apps.annotation.models import AssignmentPlan, Slot
from apps.annotation.services import seat_study
from apps.desk.study_file import FileRefused, dump_study, import_prompt_file, load_study_file
from apps.studies.models import Study, StudyMembership
from tests.annotation.fieldwork import admitted_annotator, seated_study
from tests.desk.study_files import SMALL
from tests.desk.test_admin import member
from tests.factories import AnnotatorFactory, UserFactory

pytestmark = pytest.mark.django_db

BALANCED = """
assignment:
  policy: balanced_strata
  balance: {quota: balance, max_share: 0.4}
  repeat: {share: 0.1, after_tasks: 5}
  gold: {share: 0.07}
"""
SETS = """
assignment:
  policy: fixed_set
  set_size: 4
"""


@pytest.fixture
def load(tmp_path):
    def load(text: str) -> Study:
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return load_study_file(path).study

    return load


def quota_key() -> str:
    return SMALL.split("\nquotas:\n")[1].split(":")[0].strip()


def with_plan(plan: str) -> str:
    return SMALL + plan.replace("quota: balance", f"quota: {quota_key()}")


def problems(load, text: str) -> str:
    with pytest.raises(FileRefused) as refused:
        load(text)
    return str(refused.value)


def test_a_file_without_a_plan_makes_none_and_dumps_none(load):
    study = load(SMALL)
    assert not AssignmentPlan.objects.exists()
    assert "assignment:" not in dump_study(study)


def test_a_plan_is_loaded_and_dumped_to_the_same_file(load):
    study = load(with_plan(BALANCED))
    plan = study.assignment_plan
    assert (plan.policy, plan.balance_quota.key, str(plan.max_stratum_share)) == ("balanced_strata", quota_key(), "0.4")
    assert (str(plan.repeat_share), plan.repeat_after_tasks, plan.repeat_after_hours, str(plan.gold_share)) == ("0.1", 5, 24, "0.07")
    text = dump_study(study)
    load(text)
    assert dump_study(Study.objects.get()) == text


def test_a_plan_that_leaves_the_file_falls_back_to_the_defaults(load):
    load(with_plan(BALANCED))
    study = load(SMALL)
    assert AssignmentPlan.objects.get().policy == "fill_to_overlap"
    assert AssignmentPlan.objects.get().balance_quota is None
    assert "assignment:" not in dump_study(study)


def test_a_quota_may_leave_together_with_the_balance_over_it(load):
    load(with_plan(BALANCED))
    before, after = SMALL.split("\nquotas:\n")
    renamed = after.replace(quota_key(), "another", 1)
    load(f"{before}\nquotas:\n{renamed}{SETS}")
    assert AssignmentPlan.objects.get().policy == "fixed_set"


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ("assignment: {policy: at_random}", "unknown policy “at_random”: expected one of balanced_strata, fill_to_overlap, fixed_set"),
        ("assignment: {policy: fixed_set}", "expected `set_size`, which the policy fixed_set needs"),
        ("assignment: {policy: balanced_strata}", "expected `balance`, which the policy balanced_strata needs"),
        ("assignment: {balance: {quota: nowhere}}", "unknown quota “nowhere”"),
        ("assignment: {policy: fixed_set, set_size: 9}", "expected at most conversations_per_annotator (8), found 9"),
        ("assignment: {repeat: {share: 0.4}, gold: {share: 0.2}}", "at most 0.5 together, found 0.6"),
    ],
)
def test_what_is_wrong_with_a_plan_is_told(load, plan, told):
    assert told in problems(load, f"{SMALL}\n{plan}\n")


def test_the_caps_of_a_study_are_loaded_and_dumped(load):
    study = load(
        SMALL.replace("  overlap: 3\n", "  overlap: 3\n  min_conversations: 2\n  max_conversations_per_day: 4\n  place_hours: 12\n")
    )
    assert (study.min_conversations, study.max_conversations_per_day, study.place_hours) == (2, 4, 12)
    assert "max_conversations_per_day: 4" in dump_study(study)


def test_a_time_zone_of_a_locale_is_checked(load):
    text = SMALL.replace('    published_country: "united states"\n', '    published_country: "united states"\n    time_zone: "Moon/Base"\n')
    assert "expected a time zone of the IANA database" in problems(load, text)
    study = load(text.replace("Moon/Base", "America/New_York"))
    assert study.locales.get(country="US").time_zone == "America/New_York"


def test_a_file_may_lower_and_raise_the_overlap_during_fieldwork(load):
    study = load(SMALL)
    seat_study(study=study)
    AnnotatorFactory(study=study)
    prompts = Slot.objects.count() // 3
    load(SMALL.replace("overlap: 3", "overlap: 1"))
    assert Slot.objects.live().count() == prompts
    load(SMALL.replace("overlap: 3", "overlap: 4"))
    assert Slot.objects.live().count() == prompts * 4


def test_gold_prompts_come_from_files_and_stay_what_they_are(load, tmp_path):
    study = load(SMALL)
    key = study.prompts.first().key
    gold = SMALL.replace(f"\n  {key}:\n", f"\n  {key}:\n    is_gold: true\n")
    assert gold != SMALL
    study = load(gold)
    assert study.prompts.get(key=key).is_gold
    assert "is_gold: true" in dump_study(study)
    AnnotatorFactory(study=study)
    assert "expected true as before" in problems(load, SMALL)


def test_imported_prompts_may_be_gold(tmp_path):
    study = seated_study(prompts=1)
    path = tmp_path / "prompts.csv"
    path.write_text("key,en,fr,is_gold\nsum,What is 2 + 2?,Combien font 2 + 2 ?,true\nchat,How are you?,Comment vas-tu ?,\n")
    assert import_prompt_file(study=study, path=path)["created"] == 2
    assert dict(study.prompts.filter(key__in=["sum", "chat"]).values_list("key", "is_gold")) == {"sum": True, "chat": False}
    path.write_text("key,en,fr\nsum,What is 2 + 2?,Combien font 2 + 2 ?\n")
    assert import_prompt_file(study=study, path=path)["unchanged"] == 1
    path.write_text("key,en,fr,is_gold\nsum,What is 2 + 2?,Combien font 2 + 2 ?,perhaps\n")
    with pytest.raises(FileRefused, match="line 2: is_gold: expected true, false or nothing"):
        import_prompt_file(study=study, path=path)
    admitted_annotator(study)
    path.write_text("key,en,fr,is_gold\nsum,What is 2 + 2?,Combien font 2 + 2 ?,false\n")
    with pytest.raises(FileRefused, match="line 2: is_gold: expected true as before"):
        import_prompt_file(study=study, path=path)


# --- In the desk ------------------------------------------------------------------------------------------------------


def overlap_page() -> str:
    return reverse("admin:annotation_assignmentplan_overlap")


def test_the_overlap_is_changed_after_a_look_at_what_will_happen():
    study = seated_study(prompts=2, overlap=3)
    researcher = member(study, StudyMembership.Role.RESEARCHER)
    page = researcher.get(overlap_page(), {"study": study.pk})
    assert 'value="3"' in page.text
    data = {"study": study.pk, "overlap": 1}
    looked = researcher.post(overlap_page(), data | {"step": "preview"})
    assert (looked.context["preview"].retired, Slot.objects.filter(state="RETIRED").count()) == (8, 0)
    done = researcher.post(overlap_page(), data | {"step": "change"}, follow=True)
    assert f"The overlap of {study} is 1: 0 seats added, 0 brought back, 8 taken away, 0 in excess." in done.text
    assert Slot.objects.live().count() == 4


def test_s9_the_overlap_of_others_studies_and_of_viewers_cannot_be_changed():
    study = seated_study(prompts=1, overlap=3)
    stranger, viewer = member(seated_study(prompts=1), StudyMembership.Role.OWNER), member(study, StudyMembership.Role.VIEWER)
    for client in (stranger, viewer):
        answer = client.post(overlap_page(), {"study": study.pk, "overlap": 1, "step": "change"})
        assert "study" in answer.context["form"].errors
    assert Study.objects.get(pk=study.pk).overlap == 3


def test_a_plan_in_the_desk_says_what_its_policy_needs():
    study = seated_study(prompts=1)
    owner = member(study, StudyMembership.Role.OWNER)
    url = reverse("admin:annotation_assignmentplan_add")
    data = {
        "study": study.pk, "policy": "fixed_set", "max_stratum_share": "0.5", "repeat_share": "0", "repeat_after_tasks": "10",
        "repeat_after_hours": "24", "gold_share": "0",
    }  # fmt: skip
    assert owner.post(url, data).context["adminform"].form.errors == {"set_size": ["This policy needs it."]}
    assert owner.post(url, data | {"set_size": "9"}).context["adminform"].form.errors["set_size"]
    assert owner.post(url, data | {"set_size": "2"}).status_code == 302
    plan = AssignmentPlan.objects.get()
    assert owner.get(reverse("admin:annotation_assignmentplan_change", args=[plan.pk])).status_code == 200
    assert owner.get(reverse("admin:annotation_assignmentplan_changelist")).status_code == 200


def test_a_visitor_is_asked_to_log_in(client):
    assert client.get(overlap_page()).status_code == 302
    client.force_login(UserFactory())
    assert client.get(overlap_page()).status_code == 302


@pytest.mark.postgresql
def test_the_tables_of_the_claim_are_vacuumed_early():
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname, reloptions FROM pg_class WHERE relname IN ('annotation_slot', 'annotation_assignment')")
        options = dict(cursor.fetchall())
    assert len(options) == 2
    assert all({"autovacuum_vacuum_scale_factor=0", "autovacuum_vacuum_threshold=1000"} <= set(values) for values in options.values())
