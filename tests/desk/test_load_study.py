"""Loading a study file: whole or not at all, idempotent, and careful with what people have already used."""

from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.content.models import Prompt
from apps.desk.study_file import FileRefused, dump_study, load_study_file
from apps.generation.models import GenerationPolicy, Recipe
from apps.studies.models import ConsentForm, Questionnaire, Study, StudyMembership
from tests.desk.study_files import ARMS, SMALL, changed, line_of, write
from tests.factories import AnnotatorFactory, CandidateSetFactory, UserFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def load(tmp_path):
    def load_text(*replacements, text=None, **kwargs):
        return load_study_file(write(tmp_path, text or changed(*replacements)), **kwargs)

    return load_text


def join(study, tag="en-US"):
    """Somebody joins the study."""
    locale = next(locale for locale in study.locales.all() if locale.tag == tag)
    return AnnotatorFactory(study=study, study_locale=locale, recruitment_link=study.recruitment_links.get())


def outcomes(report):
    return {outcome: report.total(outcome) for outcome in ("created", "updated", "unchanged", "removed") if report.total(outcome)}


def test_a_file_becomes_a_whole_study(load):
    study = load().study
    study.refresh_from_db()
    assert (study.title_en, study.title_fr, study.title_it) == ("Small talk", "Petites conversations", None)
    assert study.state == Study.State.DRAFT
    assert (study.overlap, study.session_minutes, study.seed) == (3, 20, 7)
    design = study.task_design
    assert (design.min_turns, design.max_turns, design.explanation_policy, design.explanation_min_words) == (2, 4, "REQUIRED", 15)
    assert design.turn_design(4).k == 4
    american, french = study.locales.all()
    assert (american.tag, american.explanation_min_words, french.tag, french.explanation_min_words) == ("en-US", None, "fr-FR", 12)
    assert french.consent_forms.get().body == "Étude de {organisation}.\n\n- Durée\u00a0: {minutes} minutes"
    assert american.guidelines.get().practice_tasks.get().better == "Ten minutes in boiling water."
    stages = {q.stage: q for q in american.questionnaires.all()}
    assert stages["ELIGIBILITY"].questions.get().options.get(code="no").screens_out
    assert stages["AFTER"].consent == ConsentForm.Purpose.SENSITIVE
    bands = stages["BEFORE"].questions.get(code="birth_year").options.all()
    assert [(band.code, band.min_age, band.max_age, band.published) for band in bands] == [
        ("18_34", 18, 34, "18-34"),
        ("35_plus", 35, None, "35+"),
        ("prefer_not_to_say", None, None, ""),
    ]
    recipe = study.recipes.get()
    assert recipe.k == 4
    assert [(part.method, part.count, part.template.key, float(part.temperature)) for part in recipe.parts.all()] == [
        ("negatively_correlated", 3, "diverse", 0.7),
        ("default", 1, "plain", 1.0),
    ]
    prompt = study.prompts.get(key="phones_at_dinner")
    assert (prompt.topic.title_fr, prompt.text_in("fr")) == ("Famille", "Dois-je interdire les portables à table\u00a0?")
    with pytest.raises(LookupError):
        prompt.text_in("it")
    quota = study.quotas.get()
    assert {cell.key: (cell.target, cell.strata) for cell in quota.cells.all()} == {
        "women": (50, {"gender": ["female"]}),
        "men": (50, {"gender": ["male"]}),
    }
    link = study.recruitment_links.get()
    assert len(link.token) >= 20
    assert link.locales.count() == 2


def test_the_same_file_again_changes_nothing(load):
    first = load()
    token = first.study.recruitment_links.get().token
    before = dump_study(first.study)
    second = load()
    assert outcomes(second) == {"unchanged": first.total("created")}
    assert dump_study(second.study) == before
    assert second.study.recruitment_links.get().token == token


def test_the_same_file_again_writes_nothing(load):
    load()
    with CaptureQueriesContext(connection) as queries:
        load()
    writes = [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE", "DELETE"))]
    assert writes == []


def test_nothing_is_half_loaded(load, monkeypatch):
    monkeypatch.setattr("apps.desk.study_file.loading.store_sample", None)
    with pytest.raises(TypeError):
        load()
    assert not Study.objects.exists()


def test_a_refused_file_leaves_the_study_as_it_was(load):
    before = dump_study(load().study)
    with pytest.raises(FileRefused):
        load(("  overlap: 3\n", "  overlap: 5\n"), ("template: plain", "template: fancy"))
    assert dump_study(Study.objects.get()) == before


def test_an_owner_becomes_a_member(load):
    user = UserFactory()
    study = load(owner=user).study
    load(owner=user)
    assert StudyMembership.objects.get(study=study, user=user).role == StudyMembership.Role.OWNER
    assert list(Study.objects.visible_to(user)) == [study]


def test_the_file_may_open_the_study_and_silence_leaves_the_state(load):
    study = load(("  seed: 7\n", "  seed: 7\n  state: open\n")).study
    assert study.is_open
    assert study.opened_at is not None
    opened_at = study.opened_at
    study = load().study
    assert (study.state, study.opened_at) == (Study.State.OPEN, opened_at)
    assert load(("  seed: 7\n", "  seed: 7\n  state: paused\n")).study.state == Study.State.PAUSED


# --- A draft is corrected in place, an opened study gets versions ---


def test_texts_of_a_draft_are_corrected_in_place(load):
    load()
    report = load(
        ("I agree to take part.", "Yes, I agree."),
        ("Should I forbid phones", "Shall I forbid phones"),
        ("Answer the message.", "Answer it."),
        ("What year were you born?", "Year of birth?"),
    )
    study = report.study
    assert report.counts["consent forms"]["updated"] == 1
    form = ConsentForm.objects.get(study_locale__country="US", purpose="PARTICIPATION")
    assert (form.version, form.statement) == (1, "Yes, I agree.")
    prompt = study.prompts.get(key="phones_at_dinner")
    assert (prompt.version, prompt.text_en) == (1, "Shall I forbid phones at the table?")
    assert study.instruction_templates.get(key="plain").text_en == "Answer it."
    assert study.recipes.get().version == 1
    assert Questionnaire.objects.get(study_locale__country="US", stage="BEFORE").questions.get(code="birth_year").text == "Year of birth?"


def test_what_left_the_file_leaves_a_draft(load):
    load()
    start, end = SMALL.index("  unpaid_loan:"), SMALL.index("recruitment_links:")
    report = load(text=SMALL[:start] + SMALL[end:].replace("panel", "other panel", 1))
    assert report.counts["prompts"]["removed"] == 1
    assert list(report.study.prompts.values_list("key", flat=True)) == ["phones_at_dinner"]
    assert list(report.study.recruitment_links.values_list("name", flat=True)) == ["other panel"]


def test_another_candidate_count_in_a_draft_changes_the_recipe_in_place(load):
    load()
    study = load(("k: 4", "k: 3"), ("count: 3", "count: 2")).study
    assert study.recipes.get().k == 3


def test_a_recipe_that_made_candidates_gets_a_new_version(load):
    study = load().study
    made = CandidateSetFactory(recipe=study.recipes.get())
    study = load(("Answer the message.", "Answer it.")).study
    old, new = study.recipes.order_by("version")
    assert made.recipe == old
    assert (old.is_current, new.is_current, new.version) == (False, True, 2)
    assert [part.template.text_en for part in old.parts.all()][1] == "Answer the message."
    assert [part.template.text_en for part in new.parts.all()][1] == "Answer it."


def test_another_model_behind_a_recipe_that_made_candidates_gives_a_new_version(load):
    study = load().study
    CandidateSetFactory(recipe=study.recipes.get())
    study = load(("model: polyphony-offline", "model: another-model")).study
    assert Recipe.objects.get(study=study, is_current=True).version == 2
    assert study.model_specs.get().model == "another-model"


# --- People have joined ---


def test_wording_prompts_targets_and_links_may_change_during_fieldwork(load):
    study = load(("  seed: 7\n", "  seed: 7\n  state: open\n")).study
    annotator = join(study)
    study = load(
        ("  overlap: 3\n", "  overlap: 5\n"),
        ("I agree to take part.", "Yes, I agree."),
        ("Should I forbid phones", "Shall I forbid phones"),
        ("What year were you born?", "Year of birth?"),
        ("men: {target: 50, strata: {gender: male}", "men: {target: 70, strata: {gender: male}"),
        ("  - name: panel\n", "  - name: second panel\n"),
    ).study
    forms = ConsentForm.objects.filter(study_locale__country="US", purpose="PARTICIPATION").order_by("version")
    assert [(form.version, form.statement) for form in forms] == [(1, "I agree to take part."), (2, "Yes, I agree.")]
    assert annotator.consents.get().consent_form == forms[0]
    prompts = study.prompts.filter(key="phones_at_dinner").order_by("version")
    assert [(p.version, p.is_current, p.text_en[:5]) for p in prompts] == [(1, False, "Shoul"), (2, True, "Shall")]
    before = Questionnaire.objects.filter(study_locale__country="US", stage="BEFORE").order_by("version")
    assert [(q.version, q.questions.get(code="birth_year").text) for q in before] == [
        (1, "What year were you born?"),
        (2, "Year of birth?"),
    ]
    assert study.quotas.get().cells.get(key="men").target == 70
    assert {link.name: link.is_open for link in study.recruitment_links.all()} == {"panel": False, "second panel": True}


def test_a_removed_prompt_stays_for_those_who_judged_it(load):
    study = load(("  seed: 7\n", "  seed: 7\n  state: open\n")).study
    join(study)
    start, end = SMALL.index("  unpaid_loan:"), SMALL.index("recruitment_links:")
    load(text=SMALL[:start] + SMALL[end:])
    assert Prompt.objects.get(study=study, key="unpaid_loan").is_current is False
    load()
    versions = Prompt.objects.filter(study=study, key="unpaid_loan").order_by("version")
    assert [(prompt.version, prompt.is_current) for prompt in versions] == [(1, False), (2, True)]


FORBIDDEN = [
    (("  seed: 7\n", "  seed: 8\n"), "seed: 8", "study.seed", "expected 7 as before, found 8"),
    (("Test University", "Other University"), "Other University", "study.organisation", "they agreed to it"),
    (("min_turns: 2", "min_turns: 1"), "task_design:", "task_design", "the task design as before"),
    (("published_country: france", "published_country: gaul"), "gaul", "locales[fr-FR].published_country", "france as before"),
    (("model: polyphony-offline", "model: another"), "  offline:", "models.offline", "the model polyphony-offline"),
    (("temperature: 0.7", "temperature: 0.2"), "  nc3_default1:", "recipes.nc3_default1", "the recipes as before"),
    (("Answer the message.", "Answer it."), "  plain:", "templates.plain", "the instruction as before"),
    (("strata: {gender: male}", "strata: {}"), "    cells:", "quotas.women_and_men.cells", "strata as before"),
    (("  seed: 7\n", "  seed: 7\n  state: draft\n"), "state: draft", "study.state", "expected open, paused or closed"),
    (
        ("  - name: panel\n", "  - name: panel\n    kind: panel\n"),
        "kind: panel",
        "recruitment_links[panel].kind",
        "make another link instead",
    ),
]


@pytest.mark.parametrize(("change", "place", "key", "message"), FORBIDDEN, ids=[key for _, _, key, _ in FORBIDDEN])
def test_what_shapes_the_data_may_not_change_during_fieldwork(load, change, place, key, message):
    study = load(("  seed: 7\n", "  seed: 7\n  state: open\n")).study
    join(study)
    before = dump_study(study)
    with pytest.raises(FileRefused) as refused:
        load(change)
    (problem,) = refused.value.problems
    assert (problem.line, problem.key) == (line_of(changed(change), place), key)
    assert "people have joined this study" in problem.message
    assert message in problem.message
    assert dump_study(Study.objects.get()) == before


def test_all_forbidden_changes_come_at_once(load):
    study = load(("  seed: 7\n", "  seed: 7\n  state: open\n")).study
    join(study)
    with pytest.raises(FileRefused) as refused:
        load(("  seed: 7\n", "  seed: 8\n"), ("min_turns: 2", "min_turns: 1"), ("strata: {gender: male}", "strata: {}"))
    assert [problem.key for problem in refused.value.problems] == ["study.seed", "task_design", "quotas.women_and_men.cells"]


def test_a_locale_may_join_but_not_leave_during_fieldwork(load):
    study = load(("  seed: 7\n", "  seed: 7\n  state: open\n")).study
    join(study)
    start, end = SMALL.index("  - country: FR"), SMALL.index("quotas:")
    without_french = SMALL[:start] + SMALL[end:].replace("[en-US, fr-FR]", "[en-US]")
    with pytest.raises(FileRefused, match="expected the locale fr-FR as before"):
        load(text=without_french)
    british = SMALL[SMALL.index("  - country: US") : start].replace("country: US", "country: GB").replace("united states", "united kingdom")
    load(text=SMALL[:end] + british + SMALL[end:])
    assert [locale.tag for locale in study.locales.all()] == ["en-US", "fr-FR", "en-GB"]


# --- The command ---


def test_the_command_says_what_it_did(tmp_path, capsys):
    UserFactory(username="ada")
    call_command("load_study", str(write(tmp_path, SMALL)), "--owner", "ada")
    output = capsys.readouterr().out
    assert "prompts: 2 created" in output
    assert "Study small is loaded (draft)." in output
    assert StudyMembership.objects.get().user.username == "ada"


def test_the_command_lists_every_problem_with_file_line_and_key(tmp_path):
    text = changed(("  overlap: 3\n", "  overlap: three\n"), ("template: plain", "template: fancy"))
    with pytest.raises(CommandError) as error:
        call_command("load_study", str(write(tmp_path, text)))
    lines = str(error.value).splitlines()
    assert lines[0] == "study.yaml: 2 problems; nothing was loaded."
    assert lines[1] == f"  study.yaml, line {line_of(text, 'three')}: study.overlap: expected a whole number, found “three”"
    assert lines[2].startswith(
        f"  study.yaml, line {line_of(text, 'fancy')}: recipes.nc3_default1.parts[2].template: unknown template “fancy”"
    )
    assert not Study.objects.exists()


def test_the_command_wants_a_known_owner(tmp_path):
    with pytest.raises(CommandError, match="There is no user “nobody”"):
        call_command("load_study", str(write(tmp_path, SMALL)), "--owner", "nobody")


def test_arms_variants_limits_and_the_policy_become_rows(load):
    study = load(*ARMS).study
    offline, spare = study.model_specs.get(key="offline"), study.model_specs.get(key="spare")
    assert offline.replacement == spare
    assert (spare.structured_output, spare.concurrency, spare.requests_per_minute, spare.tokens_per_minute) == (True, 3, 60, 9000)
    assert spare.budget == Decimal("12.5")
    models, personas = study.recipes.get(key="two_voices").parts.all()
    assert [variant.model_spec for variant in models.variants.all()] == [offline, spare]
    assert [(variant.template.key, variant.model_spec) for variant in personas.variants.all()] == [("plain", None), ("plain", offline)]
    policy = study.generation_policy
    assert (policy.budget, policy.diversity_floor, policy.min_words) == (100, Decimal("0.25"), 10)
    assert (policy.moderation_model, policy.judge_model, policy.judge_template.key) == (spare, spare, "plain")


def test_what_was_spent_stays_when_the_policy_changes_or_leaves_the_file(load):
    study = load(*ARMS).study
    GenerationPolicy.objects.filter(study=study).update(committed=Decimal("3.5"), is_paused=True)
    assert load(*ARMS).counts["generation policy"] == {"unchanged": 1}
    assert load().counts["generation policy"] == {"updated": 1}
    policy = GenerationPolicy.objects.get(study=study)
    assert (policy.budget, policy.diversity_floor, policy.judge_model) == (None, 0, None)
    assert (policy.committed, policy.is_paused) == (Decimal("3.5"), True)
    assert study.model_specs.filter(key="spare").count() == 0


def test_another_variant_of_a_recipe_that_made_candidates_gives_a_new_version(load):
    study = load(*ARMS).study
    CandidateSetFactory(recipe=study.recipes.get(key="two_voices"))
    load(text=changed(*ARMS).replace("[{model: offline}, {model: spare}]", "[{model: spare}, {model: offline}]"))
    assert sorted(study.recipes.filter(key="two_voices").values_list("version", "is_current")) == [(1, False), (2, True)]
    assert study.recipes.get(key="nc3_default1").version == 1


def test_another_model_of_a_variant_gives_a_new_version(load):
    study = load(*ARMS).study
    CandidateSetFactory(recipe=study.recipes.get(key="two_voices"))
    load(text=changed(*ARMS).replace("model: m-2", "model: m-3"))
    assert study.recipes.get(key="two_voices", is_current=True).version == 2


def test_an_arm_may_not_join_or_leave_during_fieldwork_while_limits_may_change(load):
    study = load(*ARMS).study
    join(study)
    text = changed(*ARMS)
    load(text=text.replace("diversity_floor: 0.25", "diversity_floor: 0.3").replace("budget: 12.5", "budget: 20"))
    assert GenerationPolicy.objects.get(study=study).diversity_floor == Decimal("0.3")
    for forbidden in (text.replace("two_voices", "three_voices"), text.replace("structured_output: true", "structured_output: false")):
        with pytest.raises(FileRefused, match="people have joined this study"):
            load(text=forbidden)
