"""Small real rows for tests. `StudyFactory` gives a study that is open and whole in en-US and fr-FR."""

import uuid

import factory
from django.utils import timezone
from factory.django import DjangoModelFactory

from apps.accounts.models import User
from apps.annotators.models import Annotator, Consent, RecruitmentLink
from apps.content.models import Prompt
from apps.core.text import fingerprint, text_hash
from apps.generation.models import Candidate, CandidateSet, InstructionTemplate, ModelSpec, Recipe, RecipePart
from apps.studies.models import (
    ConsentForm,
    Guideline,
    Option,
    PracticeTask,
    Question,
    Questionnaire,
    Study,
    StudyLocale,
    TaskDesign,
    TurnDesign,
)


class UserFactory(DjangoModelFactory):
    class Meta:
        model = User

    username = factory.Sequence("researcher{}".format)


class BareStudyFactory(DjangoModelFactory):
    """A study row and nothing else."""

    class Meta:
        model = Study

    slug = factory.Sequence("study-{}".format)
    title_en = "Everyday conversations"
    title_fr = "Conversations de tous les jours"
    invitation_en = "Write about something that matters to you."
    invitation_fr = "Écrivez sur quelque chose qui compte pour vous."
    state = Study.State.OPEN
    organisation = "Test University"
    contact_email = "study@example.org"
    overlap = 3
    conversations_per_annotator = 2
    seed = 7


class StudyLocaleFactory(DjangoModelFactory):
    class Meta:
        model = StudyLocale

    study = factory.SubFactory(BareStudyFactory)
    country = "US"
    language = "en"
    name = "English (United States)"
    published_country = "united states"


class ModelSpecFactory(DjangoModelFactory):
    class Meta:
        model = ModelSpec

    study = factory.SubFactory(BareStudyFactory)
    key = "offline"
    model = "polyphony-offline"
    max_tokens = 1200
    timeout_seconds = 5


TEMPLATES = {
    "negatively_correlated": {
        "text_en": "You answer in English. Write {count} answers, each after a line [[answer]].",
        "text_fr": "Vous répondez en français. Écrivez {count} réponses, chacune après une ligne [[answer]].",
    },
    "default": {
        "text_en": "You answer in English, in plain paragraphs.",
        "text_fr": "Vous répondez en français, en paragraphes simples.",
    },
}


class RecipeFactory(DjangoModelFactory):
    """`3 × negatively_correlated + 1 × default`; `RecipeFactory(study=…, nc_count=1)` gives k = 2."""

    class Meta:
        model = Recipe
        skip_postgeneration_save = True

    study = factory.SubFactory(BareStudyFactory)
    key = "nc3"

    @factory.post_generation
    def nc_count(recipe, create, extracted, **kwargs):
        model_spec = ModelSpec.objects.filter(study=recipe.study).first() or ModelSpecFactory(study=recipe.study)
        for order, (method, count) in enumerate([("negatively_correlated", extracted or 3), ("default", 1)]):
            template, _ = InstructionTemplate.objects.get_or_create(study=recipe.study, key=method, version=1, defaults=TEMPLATES[method])
            RecipePart.objects.create(recipe=recipe, order=order, method=method, count=count, model_spec=model_spec, template=template)


class PromptFactory(DjangoModelFactory):
    class Meta:
        model = Prompt

    study = factory.SubFactory(BareStudyFactory)
    key = factory.Sequence("prompt-{}".format)
    text_en = factory.Sequence("How should I spend free day number {}?".format)
    text_fr = factory.Sequence("Comment passer mon jour libre numéro {} ?".format)


class CandidateSetFactory(DjangoModelFactory):
    """A READY set with `k` candidates for `text`."""

    class Meta:
        model = CandidateSet
        skip_postgeneration_save = True
        exclude = ["text"]

    text = factory.Sequence("A message number {}".format)
    recipe = factory.SubFactory(RecipeFactory)
    language = "en"
    k = 4
    messages = factory.LazyAttribute(lambda o: [{"role": "user", "content": o.text}])
    text_hash = factory.LazyAttribute(lambda o: text_hash(o.text))
    state = CandidateSet.State.READY
    ready_at = factory.LazyFunction(timezone.now)
    seed = 1

    @factory.post_generation
    def candidates(candidate_set, create, extracted, **kwargs):
        if candidate_set.state != CandidateSet.State.READY:
            return
        for slot in range(candidate_set.k):
            text = f"Answer of slot {slot} to set {candidate_set.pk}."
            source = "default" if slot == candidate_set.k - 1 else "negatively_correlated"
            Candidate.objects.create(candidate_set=candidate_set, slot=slot, text=text, text_fingerprint=fingerprint(text), source=source)


def add_question(questionnaire: Questionnaire, order: int, code: str, type: str, options: list[dict], **fields) -> Question:
    question = Question.objects.create(questionnaire=questionnaire, order=order, code=code, type=type, text=f"{code}?", **fields)
    for place, option in enumerate(options):
        Option.objects.create(question=question, order=place, **{"label": option["code"], **option})
    return question


def fill_locale(locale: StudyLocale) -> None:
    """Consent forms, guideline with one practice task, and three short questionnaires."""
    for purpose in ConsentForm.Purpose:
        ConsentForm.objects.create(
            study_locale=locale, purpose=purpose, title=f"Consent {purpose}", body="Asked by {organisation}.", statement="I agree."
        )
    guideline = Guideline.objects.create(study_locale=locale, title="Guideline", body="Read **all** answers.")
    PracticeTask.objects.create(
        guideline=guideline, order=1, prompt="How do I boil an egg?", better="Ten minutes.", worse="Eggs are white.",
        feedback_right="Right.", feedback_wrong="Look again.",
    )  # fmt: skip
    stages = Questionnaire.Stage
    eligibility = Questionnaire.objects.create(study_locale=locale, stage=stages.ELIGIBILITY, title="Before we start")
    add_question(eligibility, 1, "adult", "SINGLE", [{"code": "yes"}, {"code": "no", "screens_out": True}], required=True)
    before = Questionnaire.objects.create(study_locale=locale, stage=stages.BEFORE, title="About you")
    bands = [
        {"code": "18_34", "min_age": 18, "max_age": 34, "published": "18-34"},
        {"code": "35_45", "min_age": 35, "max_age": 45, "published": "35-45"},
        {"code": "46_54", "min_age": 46, "max_age": 54, "published": "46-54"},
        {"code": "55_plus", "min_age": 55, "published": "55+"},
        {"code": "prefer_not_to_say"},
    ]
    add_question(before, 1, "birth_year", "BIRTH_YEAR", bands, column="age")
    genders = [
        {"code": "woman", "stratum": "female", "published": "female"},
        {"code": "man", "stratum": "male", "published": "male"},
        {"code": "prefer_not_to_say"},
    ]
    add_question(before, 2, "gender", "SINGLE", genders, column="gender")
    after = Questionnaire.objects.create(study_locale=locale, stage=stages.AFTER, consent=ConsentForm.Purpose.SENSITIVE, title="Views")
    politics = [{"code": "left", "published": "Somewhat left-leaning"}, {"code": "prefer_not_to_say", "published": "Prefer not to say"}]
    add_question(after, 1, "politics", "SINGLE", politics, column="political")
    origins = [
        {"code": "white", "published": "White"},
        {"code": "black", "published": "Black or African American"},
        {"code": "hispanic", "published": "Hispanic or Latino", "prevails": True},
        {"code": "prefer_not_to_say", "published": "Prefer not to say", "exclusive": True},
    ]
    add_question(after, 2, "race_ethnicity", "MULTIPLE", origins, column="ethnicity", published_when_several="Other")


class StudyFactory(BareStudyFactory):
    """An open study with en-US and fr-FR, a 4-way design of 2 to 4 turns, and a recipe. `k=2` gives a pairwise one."""

    class Meta:
        model = Study
        skip_postgeneration_save = True

    @factory.post_generation
    def k(study, create, extracted, **kwargs):
        k = extracted or 4
        for country, language, name, published in [
            ("US", "en", "English (United States)", "united states"),
            ("FR", "fr", "Français (France)", "france"),
        ]:
            fill_locale(StudyLocaleFactory(study=study, country=country, language=language, name=name, published_country=published))
        design = TaskDesign.objects.create(study=study, min_turns=2, max_turns=4, explanation_min_words=3)
        TurnDesign.objects.create(task_design=design, first_turn=1, last_turn=4, k=k)
        RecipeFactory(study=study, nc_count=k - 1)


class RecruitmentLinkFactory(DjangoModelFactory):
    class Meta:
        model = RecruitmentLink
        skip_postgeneration_save = True

    study = factory.SubFactory(StudyFactory)
    name = factory.Sequence("link {}".format)

    @factory.post_generation
    def locales(link, create, extracted, **kwargs):
        link.locales.set(extracted or link.study.locales.all())


class AnnotatorFactory(DjangoModelFactory):
    """A person who has just consented, in the study's first locale unless told otherwise."""

    class Meta:
        model = Annotator
        skip_postgeneration_save = True

    study = factory.SubFactory(StudyFactory)
    study_locale = factory.LazyAttribute(lambda o: o.study.locales.first())
    recruitment_link = factory.LazyAttribute(lambda o: o.study.recruitment_links.first() or RecruitmentLinkFactory(study=o.study))
    submission_id = factory.LazyFunction(uuid.uuid4)
    seed = factory.Sequence(int)
    joined_at = factory.LazyFunction(timezone.now)
    active_at = factory.LazyFunction(timezone.now)

    @factory.post_generation
    def consent(annotator, create, extracted, **kwargs):
        form = ConsentForm.objects.get(study_locale=annotator.study_locale, purpose=ConsentForm.Purpose.PARTICIPATION)
        Consent.objects.create(
            annotator=annotator, consent_form=form, granted=True, text_hash=form.hash_as_shown(),
            language=annotator.study_locale.language, given_at=annotator.joined_at,
        )  # fmt: skip
