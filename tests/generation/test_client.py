"""Every way in which an endpoint can fail has its code, and no error tells a secret."""

import socket
import ssl
import subprocess
import threading
import time
from contextlib import suppress

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
    assert completion.latency_seconds > 0


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
    error = refusal(base_url=f"http://127.0.0.1:{port}/v1")
    assert (error.code, str(error)) == ("endpoint_unreachable", f"http://127.0.0.1:{port} cannot be reached: connection refused.")


def test_an_error_names_the_address_and_the_cause(offline_endpoint, settings):
    address = offline_endpoint.url.removesuffix("/v1")
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:*", "no-such-host.invalid:*"]
    assert str(refusal(base_url="http://no-such-host.invalid/v1")) == "http://no-such-host.invalid:80 cannot be reached: no such host name."
    assert str(refusal(base_url=offline_endpoint.url.replace("http:", "https:"))).endswith("cannot be reached: no TLS connection.")
    offline_endpoint.set(status=401)
    assert str(refusal()) == f"{address} answered HTTP 401."
    offline_endpoint.set(hang=True)
    assert str(refusal(timeout_seconds=1)) == f"{address} timed out after 1 s."


def test_a_server_that_hangs_up_is_told_from_one_that_is_not_there(settings):
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:*"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=lambda: server.accept()[0].close(), daemon=True)
        thread.start()
        error = refusal(base_url=f"http://127.0.0.1:{port}/v1")
        thread.join(5)
    assert str(error) == f"http://127.0.0.1:{port} cannot be reached: connection closed without an answer."


def test_a_certificate_that_nobody_vouches_for_is_said_so(settings, tmp_path):
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:*"]
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", "-days", "2", *options, *subject], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def greet(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet, args=[server], daemon=True)
        thread.start()
        error = refusal(base_url=f"https://127.0.0.1:{server.getsockname()[1]}/v1")
        thread.join(5)
    assert "cannot be reached: certificate not valid (self" in str(error)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://models.example.org/v1?key=1", "https://models.example.org:443"),
        ("http://vllm:8000/v1", "http://vllm:8000"),
        ("http://name:word@[::1]/v1", "http://[::1]:80"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_the_address_of_an_endpoint_holds_no_secret(url, address):
    assert spec(base_url=url).address == address


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
