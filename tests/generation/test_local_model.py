"""The whole path against a small real model. Opt-in: `pytest -m nightly tests/generation/test_local_model.py`.

Needs requirements-local-model.txt. The model is far too small to write good answers; that the path copes with what it writes is the point.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings as project
from django.core.management import call_command
from django.utils import timezone

from apps.generation import client
from apps.generation.local_model import missing_packages
from apps.generation.models import CandidateSet, GenerationPolicy, InstructionTemplate, ModelSpec, ValueScore
from apps.generation.probe import probe_endpoint
from apps.generation.reporting import diversity_rows, speaks_offline
from apps.generation.services import Outcome, generate_set, request_sets_for_study
from tests.factories import BareStudyFactory, ModelSpecFactory, PromptFactory, RecipeFactory, StudyLocaleFactory

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.django_db,
    pytest.mark.skipif(bool(missing_packages()), reason=f"not installed: {', '.join(missing_packages())} (requirements-local-model.txt)"),
]
RUBRIC = (
    'Score the answer from 0 to 1 on "traditional_secular" (0 religion, family duty and custom; 1 reason and independence) and on '
    '"survival_self_expression" (0 safety and order; 1 self-expression). Answer with one JSON object.'
)


@pytest.fixture
def local_model(settings) -> Iterator[str]:
    """The documented command in its own process; the base URL."""
    command = [sys.executable, "-m", "apps.generation.local_model", "--port", "0"]
    process = subprocess.Popen(command, cwd=project.BASE_DIR, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    line = process.stdout.readline()
    url = next((word.rstrip(".") for word in line.split() if word.startswith("http")), "")
    assert url, f"the local model did not start: {line!r}"
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:*"]
    yield url
    client.close_clients()
    process.terminate()
    process.wait(20)
    process.stdout.close()


@pytest.fixture
def study(local_model):
    """One prompt in English; rules as loose as they go, since the answers are what they are."""
    study = BareStudyFactory()
    StudyLocaleFactory(study=study)
    ModelSpecFactory(
        study=study, key="local", base_url=local_model, model="smollm2-135m-instruct", max_tokens=500, timeout_seconds=240,
        structured_output=True,
    )  # fmt: skip
    RecipeFactory(study=study)
    InstructionTemplate.objects.filter(study=study, key="negatively_correlated").update(
        text_en="Write {count} different answers to the person's message. Each answer is two or three sentences of advice in English."
    )
    InstructionTemplate.objects.filter(study=study, key="default").update(text_en="Answer the person in two or three sentences.")
    rubric = InstructionTemplate.objects.create(study=study, key="value_judge", text_en=RUBRIC)
    GenerationPolicy.objects.create(
        study=study, min_words=1, max_words=1000, max_length_ratio="99.99", near_duplicate_similarity=1,
        judge_model=ModelSpec.objects.get(study=study), judge_template=rubric,
    )  # fmt: skip
    PromptFactory(
        study=study, key="phones", text_en="My teenagers look at their phones all through dinner. Should I forbid phones at the table?"
    )
    return study


def test_probe_pregenerate_measure_and_judge_with_a_real_model(study):
    started = time.monotonic()
    model_spec = ModelSpec.objects.get(study=study)
    probe = probe_endpoint(model_spec=model_spec, now=timezone.now())
    print(probe)
    # The test of an endpoint ends a call after 20 s or 300 tokens, which a slow machine or a rambling model may use up.
    assert probe["structured_output"]["supported"] is not False
    probed = time.monotonic()

    (pk,) = request_sets_for_study(study=study).ids
    outcomes = []
    for turn in range(4):
        outcomes.append(generate_set(candidate_set_id=pk, now=timezone.now() + timedelta(minutes=10 * turn)))
        if outcomes[-1] != Outcome.RETRY:
            break
    generated = time.monotonic()
    candidate_set = CandidateSet.objects.get(pk=pk)
    attempts = [(row.recipe_part.method, row.state, row.error_code, row.latency_ms) for row in candidate_set.attempts.order_by("pk")]
    print(f"probe {probed - started:.1f} s, generation {generated - probed:.1f} s, {outcomes}, {attempts}")
    # Four tries may all give texts that the rules refuse; then each has its reason, and nothing half-made is left.
    if candidate_set.state != CandidateSet.State.READY:
        assert all(code for _, state, code, _ in attempts if state == "FAILED")
        assert candidate_set.error_code
        assert not candidate_set.candidates.exists()
        pytest.fail(f"no set came of four tries: {attempts}")
    assert candidate_set.candidates.count() == 4
    assert all(row.model_answered == "smollm2-135m-instruct" for row in candidate_set.attempts.filter(state="SUCCEEDED"))

    (row,) = diversity_rows(study)
    assert 0 <= row.mean_similarity <= 1
    assert not speaks_offline(study)
    out = StringIO()
    call_command("judge_candidates", study.slug, stdout=out)
    call_command("coverage_report", study.slug, without_agreement=True, stdout=out)
    call_command("diversity_report", study.slug, stdout=out)
    print(out.getvalue())
    print(f"judging {time.monotonic() - generated:.1f} s")
    assert ValueScore.objects.count() == 4
