"""The HTTP side: chat completions, and switches that make the endpoint misbehave for tests.

`POST /control` (from this machine only) takes a JSON object and replaces all switches: `mode` (see MODES), `status` (answer with this
HTTP status), `retry_after`, `delay_seconds`, `hang` (never answer), `times` (for so many calls, then normal again) and `reset`
(set the counters to zero). `GET /control` returns the switches, `calls` and `in_flight`.
"""

import ipaddress
import json
import threading
import time
from dataclasses import asdict, dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from apps.generation.offline_endpoint.banks import MARKER, MODEL, Banks

MODES = ("ok", "truncated", "malformed", "html", "empty", "duplicate", "collision", "wrong_count", "huge")
MAX_BODY_BYTES = 1024 * 1024
MAX_HANG_SECONDS = 300.0


@dataclass(frozen=True)
class Switches:
    """How the next calls are answered."""

    mode: str = "ok"
    status: int = 200
    retry_after: int | None = None
    delay_seconds: float = 0.0
    hang: bool = False
    times: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}")
        if not 200 <= self.status <= 599:
            raise ValueError("status must be an HTTP status from 200 to 599")


class OfflineServer(ThreadingHTTPServer):
    """Answers from `banks`. `set_switches`, `calls` and `in_flight` serve tests in the same process."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], banks: Banks) -> None:
        self.banks = banks
        self._lock = threading.Lock()
        self._switches = Switches()
        self._released = threading.Event()
        self.calls = 0
        self.in_flight = 0
        self.most_in_flight = 0
        super().__init__(address, _Handler)

    @property
    def base_url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}/v1"

    def set_switches(self, switches: Switches) -> None:
        """Replace all switches; calls that hang go on."""
        with self._lock:
            self._switches = switches
            self._released.set()
            self._released = threading.Event()

    def reset_counters(self) -> None:
        with self._lock:
            self.calls = 0
            self.most_in_flight = self.in_flight

    def state(self) -> dict[str, Any]:
        with self._lock:
            counters = {"calls": self.calls, "in_flight": self.in_flight, "most_in_flight": self.most_in_flight}
            return {**counters, "switches": asdict(self._switches)}

    def begin_call(self) -> tuple[Switches, threading.Event]:
        """Count a call; the switches for it, and the event that ends a hang."""
        with self._lock:
            self.calls += 1
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            switches = self._switches
            if switches.times is not None:
                left = switches.times - 1
                self._switches = Switches(**{**asdict(switches), "times": left}) if left > 0 else Switches()
            return switches, self._released

    def end_call(self) -> None:
        with self._lock:
            self.in_flight -= 1

    def server_close(self) -> None:
        self._released.set()
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OfflineServer
    # One write per response; otherwise the kernel holds the body back until the head is acknowledged.
    wbufsize = 65536
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path == "/healthz":
            self._send({"status": "ok"})
        elif self.path == "/v1/models":
            self._send({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "polyphony"}]})
        elif self.path == "/control" and self._is_local():
            self._send(self.server.state())
        else:
            self._fail(404, "There is nothing at this address.")

    def do_POST(self) -> None:
        body = self._json_body()
        if body is None:
            return
        if self.path == "/v1/chat/completions":
            self._complete(body)
        elif self.path == "/control" and self._is_local():
            self._control(body)
        else:
            self._fail(404, "There is nothing at this address.")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a pre-generation would fill the terminal."""

    def _control(self, body: dict[str, Any]) -> None:
        known = {field.name for field in fields(Switches)}
        unknown = body.keys() - known - {"reset"}
        if unknown:
            self._fail(400, f"Unknown switches: {', '.join(sorted(unknown))}.")
            return
        try:
            switches = Switches(**{key: value for key, value in body.items() if key in known})
        except (TypeError, ValueError) as error:
            self._fail(400, str(error))
            return
        self.server.set_switches(switches)
        if body.get("reset"):
            self.server.reset_counters()
        self._send(self.server.state())

    def _complete(self, body: dict[str, Any]) -> None:
        messages = body.get("messages")
        if not isinstance(messages, list) or not all(
            isinstance(message, dict) and isinstance(message.get("content"), str) for message in messages
        ):
            self._fail(400, "messages must be a list of objects with a text in content.")
            return
        switches, released = self.server.begin_call()
        try:
            if switches.hang:
                released.wait(MAX_HANG_SECONDS)
                self.close_connection = True
                return
            if switches.delay_seconds:
                time.sleep(switches.delay_seconds)
            self._answer(body, messages, switches)
        finally:
            self.server.end_call()

    def _answer(self, body: dict[str, Any], messages: list[dict[str, str]], switches: Switches) -> None:
        if switches.status != 200:
            headers = {} if switches.retry_after is None else {"Retry-After": str(switches.retry_after)}
            self._fail(switches.status, "The endpoint was told to fail.", headers)
            return
        if switches.mode == "html":
            self._write(200, "text/html; charset=utf-8", b"<!doctype html><title>Sign in</title><p>Please sign in.</p>")
            return
        if switches.mode == "malformed":
            self._write(200, "application/json", b'{"id": "offline", "choices": [{"message": {"role": "assist')
            return
        system = "\n".join(message["content"] for message in messages if message.get("role") == "system")
        asked = [message["content"] for message in messages if message.get("role") == "user"]
        # Without a seed, or at temperature 0, a request always gets the same answer.
        seed = body.get("seed") if body.get("temperature") != 0 else 0
        judged = self.server.banks.judge(system=system, messages=asked)
        model = str(body.get("model") or MODEL) if judged is None else judged[1]
        answer = judged[0] if judged else self.server.banks.answer(system=system, messages=asked, seed=seed if isinstance(seed, int) else 0)
        if judged is None and switches.mode == "collision" and isinstance(answer, str):
            # The balanced answer is then one of those that the other part of the recipe got.
            answer = self.server.banks.answer(system=f"{MARKER} 1", messages=asked, seed=0)[0]
        if isinstance(answer, list) and switches.mode == "ok" and _wants_json(body):
            answer = json.dumps({"answers": answer}, ensure_ascii=False)
        text = _spoilt(answer, switches.mode)
        finish_reason = "stop"
        if switches.mode == "truncated":
            text, finish_reason = text[: len(text) // 2], "length"
        tokens_in = sum(len(message["content"].split()) for message in messages)
        tokens_out = len(text.split())
        self._send(
            {
                "id": "chatcmpl-offline",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": model,
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
                "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
            }
        )

    def _is_local(self) -> bool:
        return ipaddress.ip_address(self.client_address[0]).is_loopback

    def _json_body(self) -> dict[str, Any] | None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            self._fail(413 if length.isdigit() else 411, f"A body of at most {MAX_BODY_BYTES} bytes with its length is needed.")
            return None
        data = self.rfile.read(int(length))
        # A web page in a browser can post plain text anywhere; it cannot post JSON without being asked first.
        if self.headers.get_content_type() != "application/json":
            self._fail(415, "Content-Type must be application/json.")
            return None
        try:
            body = json.loads(data)
        except ValueError:
            self._fail(400, "The body is not JSON.")
            return None
        if not isinstance(body, dict):
            self._fail(400, "The body must be a JSON object.")
            return None
        return body

    def _fail(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._send({"error": {"message": message, "type": "offline_endpoint", "code": str(status)}}, status, headers)

    def _send(self, value: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._write(status, "application/json", json.dumps(value, ensure_ascii=False).encode(), headers)

    def _write(self, status: int, content_type: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def _wants_json(body: dict[str, Any]) -> bool:
    """Whether the request asks for a JSON object with `answers` by its response format."""
    wanted = body.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") in ("json_schema", "json_object")


def _spoilt(answer: list[str] | str, mode: str) -> str:
    """The output text; in a bad mode, what a bad model would write."""
    if mode == "empty":
        return ""
    if mode == "huge":
        return "word " * 2_000_000
    if mode == "duplicate":
        return _marked([answer[0]] * len(answer)) if isinstance(answer, list) else answer
    if mode == "wrong_count":
        return _marked(answer[:-1]) if isinstance(answer, list) else ""
    return _marked(answer) if isinstance(answer, list) else answer


def _marked(answers: list[str]) -> str:
    return "\n\n".join(f"{MARKER}\n{answer}" for answer in answers)
