"""Every way in which an endpoint can fail has its code, and no error tells a secret."""

import socket
import time

import pytest

from apps.generation.client import EndpointError, complete, parse_completion
from apps.generation.models import ModelSpec

MESSAGES = [{"role": "user", "content": "How should I spend my free day?"}]


def spec(**fields) -> ModelSpec:
    return ModelSpec(**{"key": "x", "model": "offline", "max_tokens": 500, "timeout_seconds": 2, **fields})


def ask(**fields):
    return complete(model_spec=spec(**fields), messages=MESSAGES, temperature=1.0, seed=3)


def refusal(**fields) -> EndpointError:
    with pytest.raises(EndpointError) as error:
        ask(**fields)
    return error.value


def test_a_completion_tells_text_model_tokens_and_time(offline_endpoint):
    completion = ask()
    assert completion.text
    assert (completion.model, completion.finish_reason) == ("offline", "stop")
    assert completion.input_tokens == 7
    assert completion.output_tokens == len(completion.text.split())
    assert 0 < completion.latency_seconds < 2


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_an_error_status_is_one_call_and_the_code(offline_endpoint, status):
    offline_endpoint.set(status=status)
    error = refusal()
    assert error.code == f"endpoint_error_{status}"
    assert offline_endpoint.calls == 1


def test_the_wait_that_the_endpoint_asks_for_is_kept(offline_endpoint):
    offline_endpoint.set(status=429, retry_after=9)
    assert refusal().retry_after == 9


@pytest.mark.parametrize(("mode", "code"), [("malformed", "malformed_response"), ("html", "malformed_response"), ("huge", "too_large")])
def test_a_bad_body_is_refused(offline_endpoint, mode, code):
    offline_endpoint.set(mode=mode)
    assert refusal().code == code


def test_a_truncated_answer_is_refused_with_what_it_cost(offline_endpoint):
    offline_endpoint.set(mode="truncated")
    error = refusal()
    assert error.code == "truncated"
    assert error.completion.output_tokens > 0


def test_a_hanging_endpoint_costs_the_deadline(offline_endpoint):
    offline_endpoint.set(hang=True)
    started = time.monotonic()
    assert refusal(timeout_seconds=1).code == "endpoint_timeout"
    assert 0.9 < time.monotonic() - started < 2.5


def test_an_endpoint_that_is_down_is_unreachable(settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:*"]
    assert refusal(base_url=f"http://127.0.0.1:{port}/v1").code == "endpoint_unreachable"


def test_an_address_that_is_not_allowed_is_not_called(offline_endpoint, settings):
    settings.OUTBOUND_ALLOWED = []
    assert refusal(base_url=offline_endpoint.url).code == "outbound_refused"
    assert offline_endpoint.calls == 0


def test_a_named_key_that_is_not_set_is_told_by_its_name(offline_endpoint, monkeypatch):
    monkeypatch.delenv("VENDOR_KEY", raising=False)
    error = refusal(api_key_variable="VENDOR_KEY")
    assert (error.code, "VENDOR_KEY" in str(error)) == ("api_key_missing", True)
    monkeypatch.setenv("VENDOR_KEY", "sk-very-secret")
    offline_endpoint.set(status=401)
    assert "sk-very-secret" not in repr(refusal(api_key_variable="VENDOR_KEY"))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{}", b'{"choices": []}', b'{"choices": null}', b'{"choices": [{}]}', b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": null}}]}', b'{"choices": [{"message": {"content": 7}}]}', b'{"choices": ["x"]}', b"\xff\xfe",
        b'{"choices": [{"message": {"content": ["a"]}}]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_completion_is_malformed(body):
    with pytest.raises(EndpointError) as error:
        parse_completion(body, latency_seconds=0)
    assert error.value.code == "malformed_response"


def test_odd_figures_and_characters_do_no_harm():
    usage = rb'{"prompt_tokens": "many", "completion_tokens": -1}'
    body = rb'{"choices": [{"message": {"content": "a\u0000\ud800b"}}], "model": null, "usage": ' + usage + b"}"
    completion = parse_completion(body, latency_seconds=0)
    assert (completion.text, completion.model, completion.input_tokens, completion.output_tokens) == ("ab", "", None, None)
