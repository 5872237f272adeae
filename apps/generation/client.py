"""One chat completion from an OpenAI-compatible endpoint, or an error with a code."""

import json
import os
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings

from apps.core.errors import DomainError
from apps.core.text import clean_text
from apps.generation.models import ModelSpec

# openai and httpx2 take most of a second to import and no web page needs them, so they are imported where a call is made.
if TYPE_CHECKING:
    from openai import OpenAI

# One client for each endpoint and key, shared by all threads of the process.
_clients: "dict[tuple[str, str], OpenAI]" = {}
_clients_lock = threading.Lock()


@dataclass(frozen=True)
class Completion:
    """What an endpoint answered. `text` is cleaned of what no database holds; tokens are None where it did not say."""

    text: str
    model: str
    finish_reason: str
    input_tokens: int | None
    output_tokens: int | None
    latency_seconds: float


class EndpointError(DomainError):
    """A call that gave nothing usable.

    `code`: endpoint_unreachable, endpoint_timeout, endpoint_error_<status>, malformed_response, truncated, too_large,
    api_key_missing, or that of an outbound refusal. `completion` is set where the endpoint did answer (and charge);
    `retry_after` is the wait in seconds that it asked for. `may_be_charged`: the endpoint may have done the work all the same.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        completion: Completion | None = None,
        retry_after: float | None = None,
        may_be_charged: bool = True,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.completion = completion
        self.retry_after = retry_after
        self.may_be_charged = may_be_charged

    @property
    def is_endpoints_own(self) -> bool:
        """Whether the endpoint is to blame: it was not there, too slow, or failed within."""
        return self.code in ("endpoint_unreachable", "endpoint_timeout") or self.code.startswith("endpoint_error_5")

    @property
    def needs_mending(self) -> bool:
        """Whether every further call would fail like this one until somebody changes a setting."""
        return self.made_no_call or self.code in ("outbound_redirect", "endpoint_error_401", "endpoint_error_403", "endpoint_error_404")

    @property
    def made_no_call(self) -> bool:
        """Whether nothing was sent, so that the error says nothing about the endpoint."""
        return self.code in ("api_key_missing", "outbound_refused")


def complete(
    *,
    model_spec: ModelSpec,
    messages: list[dict[str, str]],
    temperature: float,
    seed: int,
    response_format: dict[str, Any] | None = None,
) -> Completion:
    """Ask for one completion within `model_spec.timeout_seconds`, never retrying. Raises `EndpointError`.

    `response_format` goes to the endpoint as it is; None asks for plain text.
    """
    import httpx2
    import openai

    client = _client(model_spec.base_url or settings.OFFLINE_ENDPOINT_URL, _api_key(model_spec))
    started = time.monotonic()
    try:
        # Not `chat.completions.create`, which takes half of a call's processor time to check each field against its types.
        response = client.post(
            "/chat/completions",
            body={
                "model": model_spec.model,
                "messages": messages,
                "max_tokens": model_spec.max_tokens,
                "temperature": temperature,
                "seed": seed,
                **({"response_format": response_format} if response_format else {}),
            },
            options={"timeout": float(model_spec.timeout_seconds)},
            cast_to=httpx2.Response,
        )
    except openai.APITimeoutError as error:
        message = f"{model_spec.address} timed out after {model_spec.timeout_seconds} s."
        raise EndpointError("endpoint_timeout", message, may_be_charged=_was_connected(error)) from error
    except openai.APIConnectionError as error:
        message = f"{model_spec.address} cannot be reached: {_cause(error)}."
        raise EndpointError("endpoint_unreachable", message, may_be_charged=_was_connected(error)) from error
    except DomainError as error:
        raise EndpointError(error.code, str(error), may_be_charged=not error.code.startswith("outbound_")) from error
    except openai.APIStatusError as error:
        # Not the body: vendors repeat a part of the key in it.
        raise EndpointError(
            f"endpoint_error_{error.status_code}",
            f"{model_spec.address} answered HTTP {error.status_code}.",
            retry_after=_seconds(error.response.headers.get("Retry-After", "")),
            # A gateway may have given up on a model that went on.
            may_be_charged=error.status_code in (502, 504),
        ) from error
    return parse_completion(response.content, latency_seconds=time.monotonic() - started)


def parse_completion(body: bytes, *, latency_seconds: float) -> Completion:
    """The first choice of a chat-completions response. Raises `EndpointError` (malformed_response, truncated)."""
    try:
        data = json.loads(body)
        choice = data["choices"][0]
        content = choice["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise EndpointError("malformed_response", "The endpoint's answer is not a chat completion.") from error
    if not isinstance(content, str):
        raise EndpointError("malformed_response", "The endpoint's answer holds no text.")
    usage = data.get("usage")
    completion = Completion(
        text=clean_text(content),
        model=clean_text(str(data.get("model") or ""))[:120],
        finish_reason=str(choice.get("finish_reason") or ""),
        input_tokens=_tokens(usage, "prompt_tokens"),
        output_tokens=_tokens(usage, "completion_tokens"),
        latency_seconds=latency_seconds,
    )
    if completion.finish_reason == "length":
        raise EndpointError("truncated", "The answer was cut off at max_tokens.", completion=completion)
    return completion


def close_clients() -> None:
    """Close the connections to all endpoints; the next call opens new ones."""
    while _clients:
        _clients.popitem()[1].close()


def _client(base_url: str, api_key: str) -> "OpenAI":
    """The process's client for the endpoint; its connections are reused."""
    key = (base_url, api_key)
    with _clients_lock:
        if key not in _clients:
            import openai

            from apps.core.outbound import OutboundRefused, check_url, outbound_client

            try:
                check_url(base_url)  # openai raises something of its own for a host that is none
            except OutboundRefused as error:
                raise EndpointError(error.code, str(error), may_be_charged=False) from error
            _clients[key] = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0, http_client=outbound_client())
        return _clients[key]


def _was_connected(error: Exception) -> bool:
    """Whether the request may have reached the endpoint before the connection failed."""
    import httpx2

    return not isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)


def _cause(error: Exception) -> str:
    """Why there was no answer, in words, from the exceptions that led to `error`."""
    link: BaseException | None = error
    while link is not None:
        match link:
            case ssl.SSLCertVerificationError():
                return f"certificate not valid ({link.verify_message})"
            case ssl.SSLError():
                return "no TLS connection"
            case socket.gaierror():
                return "no such host name"
            case ConnectionRefusedError():
                return "connection refused"
        link = link.__cause__ or link.__context__
    return "connection closed without an answer" if _was_connected(error) else "no connection"


def _api_key(model_spec: ModelSpec) -> str:
    if not model_spec.api_key_variable:
        return "none"
    key = os.environ.get(model_spec.api_key_variable, "").strip()
    if not key:
        message = f"The environment variable {model_spec.api_key_variable} is not set on this worker."
        raise EndpointError("api_key_missing", message, may_be_charged=False)
    return key


def _tokens(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def _seconds(retry_after: str) -> float | None:
    """Retry-After, which is seconds or a date, as seconds from 0 to ten minutes; None where it is neither."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after), 600.0)
    try:
        left = parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(left, 0.0), 600.0)
