"""“Test this endpoint” finds out by trying, and says in words what went wrong."""

import json
import socket
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from apps.generation.models import GenerationPolicy, ModelSpec
from apps.generation.probe import probe_endpoint
from tests.endpoints import Endpoint
from tests.generation.hostile import ScriptedBanks, good_answers

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.fixture
def spec(study) -> ModelSpec:
    return study.model_specs.get()


def test_a_working_endpoint_gives_a_sample_in_each_language_of_the_study(offline_endpoint, spec):
    result = probe_endpoint(model_spec=spec, now=NOW)
    assert (result["ok"], result["errors"]) == (True, [])
    assert list(result["samples"]) == ["en", "fr"]
    assert all(sample["text"] and sample["language"] == "right" for sample in result["samples"].values())
    assert result["latency_ms"] >= 0
    assert result["model_answered"] == spec.model
    assert float(result["cost"]) > 0
    assert result["structured_output"]["supported"] is True
    assert offline_endpoint.calls == 3
    stored = ModelSpec.objects.get(pk=spec.pk)
    assert (stored.probe, stored.probed_at) == (result, NOW)
    json.dumps(stored.probe)


@pytest.mark.parametrize(
    ("text", "supported"),
    [
        (json.dumps({"answers": ["one", "two"]}), True),
        (json.dumps({"answers": ["one", "two", "three"]}), False),
        (json.dumps({"answers": [1, 2]}), False),
        (json.dumps(["one", "two"]), False),
        ('{"answers": ["one", "tw', False),
        ("One. Two.", False),
    ],
)
def test_support_of_a_schema_is_what_comes_back(offline_endpoint: Endpoint, spec, text, supported):
    offline_endpoint.server.banks = ScriptedBanks(text)
    structured = probe_endpoint(model_spec=spec, now=NOW)["structured_output"]
    assert (structured["supported"], bool(structured["detail"])) == (supported, True)


def test_an_endpoint_that_refuses_the_schema_still_gives_samples(offline_endpoint: Endpoint, spec, monkeypatch):
    from apps.generation.services import side_calls

    real = side_calls.complete

    def complete(**arguments):
        if arguments["response_format"] is not None:
            offline_endpoint.set(status=400, times=1)
        return real(**arguments)

    monkeypatch.setattr(side_calls, "complete", complete)
    result = probe_endpoint(model_spec=spec, now=NOW)
    assert result["ok"]
    assert result["structured_output"]["supported"] is False
    assert "HTTP 400" in result["structured_output"]["detail"]


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"status": 401}, "HTTP 401"),
        ({"status": 503}, "HTTP 503"),
        ({"mode": "html"}, "not a chat completion"),
        ({"mode": "empty"}, "empty"),
    ],
)
def test_what_went_wrong_is_said_in_words(offline_endpoint, spec, switches, words):
    offline_endpoint.set(**switches)
    result = probe_endpoint(model_spec=spec, now=NOW)
    assert not result["ok"]
    assert words in " ".join(result["errors"])
    assert ModelSpec.objects.get(pk=spec.pk).probe == result


def test_a_hanging_endpoint_is_asked_once(offline_endpoint, spec):
    offline_endpoint.set(hang=True)
    result = probe_endpoint(model_spec=spec, now=NOW)
    assert (result["ok"], result["samples"], result["latency_ms"]) == (False, {}, None)
    assert result["structured_output"]["supported"] is None
    assert result["errors"] == [f"Sample in en: {spec.address} timed out after 5 s."]
    assert offline_endpoint.calls == 1


def test_a_test_goes_through_a_resting_breaker_and_an_answer_closes_it(offline_endpoint, spec):
    ModelSpec.objects.filter(pk=spec.pk).update(paused_until=timezone.now() + timedelta(minutes=5), failures_in_row=6)
    assert probe_endpoint(model_spec=spec, now=NOW)["ok"]
    spec.refresh_from_db()
    assert (spec.failures_in_row, spec.paused_until) == (0, None)


def test_a_test_that_fails_says_where_and_why_and_leaves_the_breaker_as_it_is(settings, spec):
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:*"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        spec.base_url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
    until = timezone.now() + timedelta(minutes=5)
    ModelSpec.objects.filter(pk=spec.pk).update(paused_until=until, failures_in_row=6)
    result = probe_endpoint(model_spec=spec, now=NOW)
    assert result["errors"] == [f"Sample in en: {spec.address} cannot be reached: connection refused."]
    spec.refresh_from_db()
    assert (spec.failures_in_row, spec.paused_until) == (6, until)


def test_no_answer_to_the_schema_in_the_endpoints_own_time_is_not_a_no(offline_endpoint: Endpoint, spec, monkeypatch):
    from apps.generation.services import side_calls

    real, seconds = side_calls.complete, []

    def complete(**arguments):
        seconds.append(arguments["model_spec"].timeout_seconds)
        if arguments["response_format"] is not None:
            arguments["model_spec"].timeout_seconds = 1
            offline_endpoint.set(hang=True, times=1)
        return real(**arguments)

    monkeypatch.setattr(side_calls, "complete", complete)
    spec.timeout_seconds = 45
    result = probe_endpoint(model_spec=spec, now=NOW)
    assert seconds == [20, 20, 45]
    assert result["ok"]
    assert result["structured_output"] == {"supported": None, "detail": "no answer in 45 s, the endpoint's own deadline"}


def test_a_schema_that_was_kept_to_until_the_tokens_ran_out_is_supported(offline_endpoint: Endpoint, spec):
    offline_endpoint.server.banks = ScriptedBanks('{ "answers": ["one ' + "and on " * 40)
    offline_endpoint.set(mode="truncated")
    assert probe_endpoint(model_spec=spec, now=NOW)["structured_output"]["supported"] is True
    offline_endpoint.server.banks = ScriptedBanks("[[answer]] one " + "and on " * 40)
    assert probe_endpoint(model_spec=spec, now=NOW)["structured_output"]["supported"] is None


def test_a_sample_that_is_cut_off_is_a_sample(offline_endpoint, spec):
    offline_endpoint.set(mode="truncated")
    result = probe_endpoint(model_spec=spec, now=NOW)
    assert result["ok"]
    assert all(sample["text"] for sample in result["samples"].values())


def test_a_test_is_paid_from_the_budget_and_never_beyond(offline_endpoint, spec):
    probe_endpoint(model_spec=spec, now=NOW)
    spent = ModelSpec.objects.get(pk=spec.pk).committed
    assert spent > 0
    GenerationPolicy.objects.update_or_create(study=spec.study, defaults={"budget": "0.000001"})
    calls = offline_endpoint.calls
    result = probe_endpoint(model_spec=ModelSpec.objects.get(pk=spec.pk), now=NOW)
    assert (result["ok"], bool(result["errors"])) == (False, True)
    assert offline_endpoint.calls == calls


def test_an_answer_in_another_language_is_noted(offline_endpoint: Endpoint, spec):
    offline_endpoint.server.banks = ScriptedBanks(good_answers("it")[0])
    samples = probe_endpoint(model_spec=spec, now=NOW)["samples"]
    assert {sample["language"] for sample in samples.values()} == {"wrong"}


def test_an_endpoint_behind_our_firewall_is_not_called(offline_endpoint, spec, settings):
    settings.OUTBOUND_ALLOWED = []
    result = probe_endpoint(model_spec=spec, now=NOW)
    assert "OUTBOUND_ALLOWED" in result["errors"][0]
    assert offline_endpoint.calls == 0
