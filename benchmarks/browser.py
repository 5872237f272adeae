"""A lean closed-loop HTTP client: asyncio sockets, keep-alive, cookies, redirects.

It shares the cores with the server, so it must cost little.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode


@dataclass
class Answer:
    status: int
    location: str
    body: bytes


@dataclass
class Tally:
    """What all browsers of one round saw."""

    loops: int = 0
    requests: int = 0
    errors: int = 0
    latencies: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Milliseconds per request."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


class Browser:
    """One person's browser: one connection, their cookies."""

    def __init__(self, port: int, tally: Tally, cookies: dict[str, str] | None = None) -> None:
        self.port, self.tally = port, tally
        self.cookies = dict(cookies or {})
        self.page: bytes | None = None  # the one on the screen
        self.people: Iterator[dict[str, str]] | None = None  # cookies of those who sit down at it one after the other
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def get(self, path: str) -> Answer:
        return await self._send("GET", path, b"")

    async def post(self, path: str, form: dict[str, str]) -> Answer:
        return await self._send("POST", path, urlencode(form).encode())

    def forget_connection(self) -> None:
        self._reader = self._writer = None

    async def _send(self, method: str, path: str, body: bytes) -> Answer:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
        head += "Accept-Language: en\r\n"
        if self.cookies:
            head += "Cookie: " + "; ".join(f"{name}={value}" for name, value in self.cookies.items()) + "\r\n"
        if method == "POST":
            head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
        message = head.encode() + b"\r\n" + body
        started = time.perf_counter()
        try:
            answer = await self._exchange(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            self._reader = None  # a server may close an idle connection; browsers then send once more on a new one
            answer = await self._exchange(message)
        self.tally.latencies.append(time.perf_counter() - started)
        self.tally.requests += 1
        self.tally.errors += answer.status >= 500
        return answer

    async def _exchange(self, message: bytes) -> Answer:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writer.write(message)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status, length, location, close = int(head[0].split(" ", 2)[1]), 0, "", False
        for line in head[1:]:
            name, _, value = line.partition(": ")
            match name.lower():
                case "content-length":
                    length = int(value)
                case "location":
                    location = value
                case "set-cookie":
                    cookie, _, content = value.partition(";")[0].partition("=")
                    self.cookies[cookie] = content
                case "connection":
                    close = value.lower() == "close"
        body = await self._reader.readexactly(length) if length else b""
        if close:
            self._writer.close()
            self._reader = None
        return Answer(status, location, body)


def drive(browsers: list[Browser], work: Callable[[Browser], Awaitable[None]], seconds: float) -> float:
    """Let every browser do `work` again and again for `seconds`; returns the seconds it really took."""

    async def one(browser: Browser, until: float) -> None:
        while time.perf_counter() < until:
            await work(browser)
            browser.tally.loops += 1

    async def every() -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(one(browser, until) for browser in browsers))

    started = time.perf_counter()
    asyncio.run(every())
    return time.perf_counter() - started
