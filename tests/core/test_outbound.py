"""The one way out reaches what it may and nothing else; each test talks to real sockets."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpcore2
import httpx2
import pytest

from apps.core import outbound
from apps.core.outbound import OutboundRedirectRefused, OutboundRefused, OutboundTooLarge, is_public, outbound_client, vetted_addresses


class Canary:
    """A TCP server that counts connections and lets `talk` answer each."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.requests: list[bytes] = []
        self.connections = 0
        self._talk = talk
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                connection.settimeout(5)
                try:
                    self.requests.append(connection.recv(65536))
                    self._talk(connection)
                except OSError:
                    continue

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self._thread.join(6)


@contextmanager
def canary(talk: Callable[[socket.socket], None]) -> Iterator[Canary]:
    server = Canary(talk)
    try:
        yield server
    finally:
        server.close()


def say(response: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(response)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@pytest.fixture(autouse=True)
def allowed(settings):
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:*"]


def get(url: str, *, max_bytes: int = 1000, timeout: float = 5, **options) -> httpx2.Response:
    with outbound_client(max_bytes=max_bytes, timeout=timeout) as client:
        return client.get(url, **options)


def test_an_allow_listed_loopback_port_is_reached():
    with canary(say(OK)) as server:
        assert get(f"http://127.0.0.1:{server.port}/").text == "ok"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "0.0.0.0", "[::ffff:127.0.0.1]", "[::1]"])  # noqa: S104
def test_loopback_in_any_spelling_is_refused_and_not_touched(settings, host):
    settings.OUTBOUND_ALLOWED = []
    with canary(say(OK)) as server:
        # A spelling that this machine's resolver does not know is refused as unreachable, which is as good.
        with pytest.raises((OutboundRefused, httpx2.ConnectError)):
            get(f"http://{host}:{server.port}/")
        assert server.connections == 0


def test_an_allow_list_entry_counts_for_its_own_port_only(settings):
    with canary(say(OK)) as server:
        settings.OUTBOUND_ALLOWED = [f"127.0.0.1:{server.port}"]
        assert get(f"http://127.0.0.1:{server.port}/").text == "ok"
        settings.OUTBOUND_ALLOWED = [f"127.0.0.1:{server.port + 1}"]
        with pytest.raises(OutboundRefused) as refusal:
            get(f"http://127.0.0.1:{server.port}/")
        assert f"OUTBOUND_ALLOWED=127.0.0.1:{server.port}" in str(refusal.value)
        assert server.connections == 1


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "127.0.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1",  # noqa: S104
        "255.255.255.255", "192.0.2.1", "::", "::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
        "fe80::1", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_an_inner_address_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_an_address_of_the_open_internet_is_public(address):
    assert is_public(address)


def test_a_name_with_one_inner_address_among_several_is_refused(monkeypatch):
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answers)
    with pytest.raises(OutboundRefused):
        vetted_addresses("rebound.example", 443)


def test_a_name_that_changes_its_address_after_the_check_is_reached_at_the_checked_one(monkeypatch, settings):
    settings.OUTBOUND_ALLOWED = []
    opened = []

    def resolve(host, port, *args, **kwargs):
        resolved.append(host)
        address = "8.8.8.8" if len(resolved) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    def connect(self, host, port, *args, **kwargs):
        opened.append((host, port))
        raise httpcore2.ConnectError("not in a test")

    resolved = []
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connect)
    with pytest.raises(httpx2.ConnectError):
        get("http://rebinding.example/")
    assert opened == [("8.8.8.8", 80)]
    assert resolved == ["rebinding.example"]


def test_the_host_header_keeps_the_name(monkeypatch, settings):
    with canary(say(OK)) as server:
        settings.OUTBOUND_ALLOWED = [f"model.example:{server.port}"]
        answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: answers)
        get(f"http://model.example:{server.port}/v1")
        assert f"host: model.example:{server.port}".encode() in server.requests[0].lower()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "gopher://127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "http://user@127.0.0.1/",
        "http:///v1",
    ],
)
def test_a_url_that_is_never_called_is_refused_without_repeating_a_secret(url):
    with pytest.raises(OutboundRefused) as refusal:
        outbound.check_url(url)
    assert "secret" not in str(refusal.value)
    with pytest.raises((OutboundRefused, httpx2.UnsupportedProtocol)):
        get(url)


def test_a_redirect_is_not_followed():
    with canary(say(OK)) as inside:
        location = f"http://127.0.0.1:{inside.port}/".encode()
        redirect = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\nLocation: " + location + b"\r\n\r\n"
        with canary(say(redirect)) as server, pytest.raises(OutboundRedirectRefused):
            get(f"http://127.0.0.1:{server.port}/", follow_redirects=True)
        assert inside.connections == 0


def test_a_response_beyond_the_cap_is_cut_off():
    big = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 100_000
    with canary(say(big)) as server, pytest.raises(OutboundTooLarge):
        get(f"http://127.0.0.1:{server.port}/", max_bytes=50_000)


def test_a_compressed_response_is_refused_since_it_could_unpack_to_any_size():
    body = gzip.compress(b"x" * 1_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    with canary(say(head + body)) as server, pytest.raises(OutboundRefused):
        get(f"http://127.0.0.1:{server.port}/", max_bytes=5_000)
    assert b"accept-encoding: identity" in server.requests[0].lower()


def test_a_server_that_never_answers_costs_the_deadline():
    released = threading.Event()
    with canary(lambda connection: released.wait(5)) as server:
        started = time.monotonic()
        with pytest.raises(httpx2.TimeoutException):
            get(f"http://127.0.0.1:{server.port}/", timeout=0.3)
        assert time.monotonic() - started < 1.5
        released.set()


def test_a_server_that_drips_cannot_stretch_the_deadline():
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b"x")
            time.sleep(0.05)

    with canary(drip) as server:
        started = time.monotonic()
        with pytest.raises(httpx2.TimeoutException):
            get(f"http://127.0.0.1:{server.port}/", timeout=0.4)
        assert time.monotonic() - started < 1.5


def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    with canary(say(OK)) as proxy, canary(say(OK)) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        get(f"http://127.0.0.1:{server.port}/")
        assert (proxy.connections, server.connections) == (0, 1)
