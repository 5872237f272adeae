"""The shipped demo study: whole in six locales and five languages, and in step with the offline endpoint's banks."""

from pathlib import Path

import pytest
import yaml
from django.conf import settings

from apps.core.text import clean_text
from apps.desk.study_file import dump_study, load_study_file, read_study_file
from apps.studies.models import Study

DEMO = Path(settings.BASE_DIR) / "apps/desk/presets/community_alignment.yaml"
BANKS = Path(settings.BASE_DIR) / "apps/generation/offline_endpoint/banks"
LANGUAGES = ["en", "fr", "it", "pt", "hi"]
TAGS = ["en-US", "en-IN", "hi-IN", "fr-FR", "it-IT", "pt-BR"]

# The literals of the published dataset, by column and country.
AGE = {"18-34", "35-45", "46-54", "55+"}
GENDER = {"male", "female", "other"}
EDUCATION = {
    "(At most) Complete Secondary",
    "Some post-secondary",
    "Post-secondary graduate",
    "Some or complete graduate degree",
    "Other",
}
POLITICAL = [
    "Very left-leaning",
    "Somewhat left-leaning",
    "Middle-of-the-road, centrist",
    "Somewhat right-leaning",
    "Very right-leaning",
    "I don't think of myself in this way",
    "Prefer not to say",
]
ETHNICITY = {
    "US": {"White", "Black or African American", "Hispanic or Latino", "Asian", "Other", "Prefer not to say"},
    "FR": {"Immigrant", "Non immigrant"},
    "IT": {"Italian", "Foreign national"},
    "BR": {"White", "Brown/Mixed", "Black", "Asian", "Indigenous"},
    "IN": {"Indo-Aryan", "Dravidian", "Other"},
}
COUNTRY = {"US": "united states", "FR": "france", "IT": "italy", "BR": "brazil", "IN": "india"}


@pytest.fixture(scope="module")
def demo():
    return read_study_file(DEMO)[1]


def questions(locale):
    """Question code → question, over all stages of a locale."""
    stages = (locale.questionnaires.eligibility, locale.questionnaires.before, locale.questionnaires.after)
    return {question.code: question for stage in stages for question in stage.questions}


def published(question):
    return {option.published for option in question.options if option.published}


@pytest.mark.django_db
def test_the_demo_loads_opens_and_dumps_to_itself():
    study = load_study_file(DEMO).study
    assert study.is_open
    assert [locale.tag for locale in study.locales.all()] == TAGS
    assert sorted(link.name for link in study.recruitment_links.all()) == sorted(TAGS)
    assert [prompt.text_in(language) for prompt in study.prompts.current() for language in LANGUAGES]
    assert study.recipes.get().k == 4
    dump = dump_study(study)
    shipped = DEMO.read_text(encoding="utf-8")
    assert [line for line in dump.splitlines() if line] == [
        line for line in shipped.splitlines() if line and not line.lstrip().startswith("#")
    ]
    again = load_study_file(DEMO)
    assert again.total("created") == again.total("updated") == again.total("removed") == 0
    assert Study.objects.count() == 1


def test_the_design_is_that_of_the_paper(demo):
    (turns,) = demo.task_design.turns
    assert (demo.task_design.min_turns, demo.task_design.max_turns, turns.form, turns.k) == (2, 4, "pick_one", 4)
    assert demo.task_design.explanation.policy == "required"
    (recipe,) = demo.recipes.values()
    assert [(part.method, part.count) for part in recipe.parts] == [("negatively_correlated", 3), ("default", 1)]


def test_each_country_has_quotas_by_its_population(demo):
    totals = {"US": 100, "FR": 100, "IT": 100, "BR": 100, "IN": 200}
    for country, total in totals.items():
        quotas = {key: quota for key, quota in demo.quotas.items() if key.startswith(country)}
        assert set(quotas) == {f"{country}_{dimension}" for dimension in ("age_gender", "education_isced3", "region")}
        for key, quota in quotas.items():
            assert quota.locales == [tag for tag in TAGS if tag.endswith(country)]
            assert sum(cell.target for cell in quota.cells.values()) == total
            is_old = country == "IN" and not key.endswith("age_gender")
            assert quota.kind == ("hard" if key.endswith("age_gender") else "monitor" if is_old else "soft")


def test_twelve_prompts_in_five_languages_are_all_different(demo):
    assert len(demo.prompts) == 12
    for prompt in demo.prompts.values():
        assert sorted(prompt.text) == sorted(LANGUAGES)
        assert prompt.topic in demo.topics
    for language in LANGUAGES:
        assert len({prompt.text[language] for prompt in demo.prompts.values()}) == 12


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_bank_of_the_offline_endpoint_answers_exactly_these_prompts(demo, language):
    bank = yaml.safe_load((BANKS / f"{language}.yaml").read_text(encoding="utf-8"))
    asked = {key: clean_text(answers["prompt"]) for key, answers in bank["answers"].items()}
    assert asked == {key: prompt.text[language] for key, prompt in demo.prompts.items()}


def test_every_locale_has_what_a_person_needs(demo):
    for locale in demo.locales:
        assert locale.consent.sensitive, locale.tag
        for fact in ("{organisation}", "{contact_email}", "{minutes}", "{retention_months}"):
            assert fact in locale.consent.participation.body, locale.tag
        assert len(locale.guideline.practice) == 1, locale.tag
        assert locale.explanation_min_words == (12 if locale.tag == "hi-IN" else 15)
        asked = questions(locale)
        assert list(asked)[:5] == ["adult", "birth_year", "region", "education", "gender"], locale.tag
        assert [option.code for option in asked["adult"].options if option.screens_out] == ["no"]
        for code, question in asked.items():
            assert question.required == (code == "adult")
            if code != "adult":
                assert question.options[-1].code == "prefer_not_to_say", f"{locale.tag} {code}"
        assert locale.questionnaires.after.consent == "sensitive"


def test_the_published_literals_are_those_of_the_dataset(demo):
    for locale in demo.locales:
        asked = questions(locale)
        by_column = {question.column: question for question in asked.values() if question.column}
        assert locale.published_country == COUNTRY[locale.country]
        assert published(by_column["age"]) == AGE
        assert published(by_column["gender"]) == GENDER
        assert published(by_column["education"]) == EDUCATION
        assert [option.published for option in by_column["political"].options] == POLITICAL
        assert published(by_column["ethnicity"]) == ETHNICITY[locale.country]
        assert not published(asked["region"])
        for column in ("age", "gender", "education"):
            assert not by_column[column].options[-1].published, "prefer not to say is missing in the release"


def test_americans_of_several_origins_are_published_by_the_rule_of_the_dataset(demo):
    (american,) = [locale for locale in demo.locales if locale.country == "US"]
    question = questions(american)["race_ethnicity"]
    assert (question.type, question.published_when_several) == ("multiple", "Other")
    assert [option.code for option in question.options if option.prevails] == ["hispanic"]
    assert [option.code for option in question.options if option.exclusive] == ["prefer_not_to_say"]


def test_both_locales_of_india_share_codes_strata_and_literals(demo):
    english, hindi = (questions(locale) for locale in demo.locales if locale.country == "IN")
    assert english.keys() == hindi.keys()
    for code in english:
        meanings = [{option.code: (option.stratum, option.published) for option in asked[code].options} for asked in (english, hindi)]
        assert meanings[0] == meanings[1], code


def test_the_same_code_means_the_same_in_every_country(demo):
    for code in ("adult", "birth_year", "politics", "gender"):
        meanings = {}
        for locale in demo.locales:
            for option in questions(locale)[code].options:
                meaning = (option.stratum, option.published, option.min_age, option.max_age)
                assert meanings.setdefault(option.code, meaning) == meaning, f"{locale.tag} {code} {option.code}"
