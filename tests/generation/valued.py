"""A judge and a set of bank answers for it to score."""

import pytest

from apps.core.text import fingerprint
from apps.generation.models import Candidate, GenerationPolicy, InstructionTemplate, ModelSpec
from apps.generation.services.judging import judge_of
from tests.endpoints import banks
from tests.factories import CandidateSetFactory
from tests.generation.conftest import PHONES_EN

RUBRIC = 'Score the answer: {"traditional_secular": 0.5, "survival_self_expression": 0.5}'


@pytest.fixture
def judge(study):
    model_spec = ModelSpec.objects.create(
        study=study, key="judge", model="judge-1", max_tokens=60, timeout_seconds=5, input_price=1, output_price=2
    )
    InstructionTemplate.objects.create(study=study, key="value_judge", text_en=RUBRIC, text_fr=RUBRIC)
    GenerationPolicy.objects.update_or_create(study=study, defaults={"judge_model": model_spec})
    return judge_of(study)


@pytest.fixture
def bank_set(recipe):
    """A set whose candidates are the bank's: one answer at each pole but one, and the balanced one."""
    candidate_set = CandidateSetFactory(recipe=recipe, text=PHONES_EN)
    system = "[[answer]] 3"
    texts = [*banks().answer(system=system, messages=[PHONES_EN], seed=0), banks().answer(system="", messages=[PHONES_EN], seed=0)]
    for candidate, text in zip(candidate_set.candidates.all(), texts, strict=True):
        Candidate.objects.filter(pk=candidate.pk).update(text=text, text_fingerprint=fingerprint(text))
    return candidate_set
