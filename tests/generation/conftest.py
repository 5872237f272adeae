import pytest

from apps.content.models import Prompt
from apps.generation.models import InstructionTemplate
from apps.studies.models import Study
from tests.endpoints import offline_endpoint
from tests.factories import BareStudyFactory, ModelSpecFactory, PromptFactory, RecipeFactory, StudyLocaleFactory

__all__ = ["offline_endpoint"]

PHONES_EN = "My teenagers look at their phones all through dinner. Should I forbid phones at the table?"


@pytest.fixture
def study(db) -> Study:
    """A study in en-US and fr-FR with `3 × negatively_correlated + 1 × default`, a deadline of 5 s and no prompts."""
    study = BareStudyFactory()
    StudyLocaleFactory(study=study)
    StudyLocaleFactory(study=study, country="FR", language="fr", name="Français (France)", published_country="france")
    ModelSpecFactory(study=study, timeout_seconds=5, input_price=2, output_price=10)
    RecipeFactory(study=study)
    InstructionTemplate.objects.filter(study=study, key="default").update(
        text_en="Answer the person's last message in English, in plain paragraphs.",
        text_fr="Répondez en français au dernier message de la personne, en paragraphes simples.",
    )
    return study


@pytest.fixture
def recipe(study):
    return study.recipes.get()


@pytest.fixture
def prompt(study) -> Prompt:
    return PromptFactory(study=study, key="phones_at_dinner", text_en=PHONES_EN, text_fr="Comment passer mon jour libre ?")
