"""S3: a model endpoint cannot reach inside, neither when it is saved nor when it is called. Canaries on loopback must get no byte."""

import socket
from collections.abc import Iterator

import httpcore2
import httpx2
import pytest
from django.core.exceptions import ValidationError

from apps.core import outbound
from apps.core.outbound import OutboundRefused, check_saved_url
from apps.generation import client
from apps.generation.client import EndpointError, complete
from apps.generation.models import ModelSpec
from tests.core.test_outbound import Canary, canary, say

COMPLETION = b'{"choices": [{"message": {"content": "Talk to them."}, "finish_reason": "stop"}], "model": "m"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
    len(COMPLETION),
    COMPLETION,
)
PUBLIC = "93.184.215.14"
LOOPBACK_SPELLINGS = [
    "127.0.0.1", "127.1", "127.0.1", "0x7f.1", "0x7f.0.0.1", "0x7f000001", "0X7F000001", "2130706433", "017700000001", "0177.0.0.1",
    "0177.1", "127.0.0.1.", "127.1.", "127.255.255.254", "0.0.0.0", "0",  # noqa: S104  (an address that is refused, not bound to)
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]", "[64:ff9b::127.0.0.1]", "localhost", "LOCALHOST", "localhost.", "a.localhost",
    "１２７.0.0.1", "127。0。0。1", "①②⑦.0.0.1",
]  # fmt: skip
INNER_SPELLINGS = [
    "169.254.169.254", "169.254.169.254.", "0xa9fea9fe", "2852039166", "[::ffff:169.254.169.254]", "10.0.0.1", "10.1", "172.16.0.1",
    "192.168.1.1", "192.168.257", "100.64.0.1", "[fe80::1]", "[fc00::1]", "[fec0::1]", "224.0.0.1", "255.255.255.255", "[2002:7f00:1::]",
]  # fmt: skip
OTHER_URLS = [
    "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:70/", "unix:///run/docker.sock", "//127.0.0.1/v1", "javascript:alert(1)",
    "http://user@models.example/v1", "http://user:secret@models.example/v1", "http://models.example@127.0.0.1/v1", "http:///v1", "http://",
    "http://[::1", "not a URL",
]  # fmt: skip


def spec(url: str) -> ModelSpec:
    return ModelSpec(key="m", base_url=url, model="m", max_tokens=10, timeout_seconds=3)


def save(url: str) -> None:
    """What a form does before it saves. Raises `ValidationError`."""
    spec(url).full_clean(exclude=["study"], validate_unique=False, validate_constraints=False)


def call(url: str) -> str:
    """The text that comes back, or the code of the error."""
    try:
        return complete(model_spec=spec(url), messages=[{"role": "user", "content": "Hello"}], temperature=1, seed=1).text
    except EndpointError as error:
        return error.code


def untouched(*canaries: Canary) -> bool:
    """Whether nobody connected to any of them."""
    return all((server.connections, server.requests) == (0, []) for server in canaries)


@pytest.fixture(autouse=True)
def nothing_allowed(settings) -> Iterator[None]:
    settings.OUTBOUND_ALLOWED = []
    client.close_clients()
    yield
    client.close_clients()


@pytest.fixture
def inside() -> Iterator[Canary]:
    """Something that listens behind the firewall."""
    with canary(say(ANSWER)) as server:
        yield server


@pytest.fixture
def resolver(monkeypatch):
    """A name server of ours: `resolver[name]` is what each next look-up of the name answers, the last for ever; others are real."""
    zone: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **options):
        if host not in zone:
            return real(host, port, *args, **options)
        address = zone[host].pop(0) if len(zone[host]) > 1 else zone[host][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return zone


@pytest.fixture
def careless(monkeypatch):
    """Sabotage: the client that we would have without the one way out."""

    def plain_client(**options):
        return httpx2.Client(transport=httpx2.HTTPTransport(), follow_redirects=True, trust_env=False)

    monkeypatch.setattr(outbound, "outbound_client", plain_client)


# --- At save --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://vllm:8000/v1", "https://gpu-box/v1"])
def test_the_name_of_a_neighbouring_service_is_saved_and_vetted_at_the_call(url, resolver):
    """A compose service has a name without a dot. What it stands for is looked at when it is called."""
    save(url)
    resolver[url.split("/")[2].partition(":")[0]] = ["10.0.0.7"]
    assert call(url) == "outbound_refused"


@pytest.mark.parametrize("url", ["vllm:8000", "http://", "http:///v1", "ftp://vllm/v1", "http://a b/v1", "http://vllm:port/v1"])
def test_what_is_no_address_is_not_saved(url):
    with pytest.raises(ValidationError) as refusal:
        save(url)
    assert list(refusal.value.message_dict) == ["base_url"]


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS + INNER_SPELLINGS)
def test_an_inner_address_in_any_spelling_is_not_saved(host):
    for url in (f"http://{host}:8000/v1", f"https://{host}/v1"):
        with pytest.raises(OutboundRefused):
            check_saved_url(url)
        with pytest.raises(ValidationError) as refusal:
            save(url)
        assert list(refusal.value.message_dict) == ["base_url"]


@pytest.mark.parametrize("url", OTHER_URLS)
def test_a_url_that_is_never_called_is_not_saved_and_its_secret_not_repeated(url):
    with pytest.raises(ValidationError) as refusal:
        save(url)
    assert "secret" not in str(refusal.value)
    with pytest.raises(OutboundRefused):
        check_saved_url(url)


@pytest.mark.parametrize("url", ["", "https://api.models.example/v1", "http://8.8.8.8:8000/v1", "https://models.example:8443/v1"])
def test_an_address_of_the_open_internet_is_saved_without_asking_a_name_server(monkeypatch, url):
    def no_resolving(*args, **options):
        raise AssertionError("a form must not wait for a name server")

    monkeypatch.setattr(socket, "getaddrinfo", no_resolving)
    save(url)


def test_an_entry_of_the_allow_list_lets_a_deliberate_loopback_be_saved(settings):
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:8000", "localhost:*"]
    save("http://127.0.0.1:8000/v1")
    save("http://localhost:11434/v1")
    with pytest.raises(ValidationError, match=r"OUTBOUND_ALLOWED=127\.0\.0\.1:8001"):
        save("http://127.0.0.1:8001/v1")


def test_without_the_check_at_save_the_addresses_would_be_saved(monkeypatch):
    monkeypatch.setattr(outbound, "check_saved_url", lambda url: None)
    save("http://127.0.0.1:8000/v1")
    save("http://user:secret@models.example/v1")


# --- At use ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", LOOPBACK_SPELLINGS)
def test_a_loopback_address_is_not_called_in_any_spelling(inside, host):
    # A spelling that the resolver does not know is as good as refused.
    assert call(f"http://{host}:{inside.port}/v1") in ("outbound_refused", "endpoint_unreachable")
    assert untouched(inside)


def test_without_the_one_way_out_the_canary_sings(inside, careless):
    sung = [
        host
        for host in ("127.0.0.1", "127.1", "0x7f.1", "2130706433", "localhost")
        if call(f"http://{host}:{inside.port}/v1") == "Talk to them."
    ]
    assert "127.0.0.1" in sung
    assert len(sung) > 2
    assert not untouched(inside)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1:{port}/", "gopher://127.0.0.1:{port}/", "http://a:b@127.0.0.1:{port}/v1"]
)
def test_another_scheme_or_a_user_name_is_not_called(settings, inside, url):
    settings.OUTBOUND_ALLOWED = ["127.0.0.1:*"]
    assert call(url.format(port=inside.port)) in ("outbound_refused", "endpoint_unreachable")
    assert untouched(inside)


def test_a_name_that_moves_inside_between_save_and_use_is_not_called(inside, resolver):
    resolver["models.example"] = [PUBLIC]
    save(f"http://models.example:{inside.port}/v1")
    resolver["models.example"] = ["127.0.0.1"]
    assert call(f"http://models.example:{inside.port}/v1") == "outbound_refused"
    assert untouched(inside)


def test_a_name_that_moves_inside_between_vetting_and_connecting_is_called_at_the_vetted_address(inside, resolver, monkeypatch):
    opened = record_connections(monkeypatch)
    resolver["models.example"] = [PUBLIC, "127.0.0.1"]
    assert call(f"http://models.example:{inside.port}/v1") == "endpoint_unreachable"
    assert opened == [PUBLIC]
    assert untouched(inside)


def test_a_client_that_vets_and_then_connects_by_name_is_caught(inside, resolver, monkeypatch):
    opened = record_connections(monkeypatch)
    resolver["models.example"] = [PUBLIC, "127.0.0.1"]

    def vet_and_connect_by_name(self, host, port, timeout=None, local_address=None, socket_options=None):
        outbound.vetted_addresses(host, port)
        return self._open(host, port, timeout, local_address, socket_options)

    monkeypatch.setattr(outbound._VettingBackend, "connect_tcp", vet_and_connect_by_name)
    assert call(f"http://models.example:{inside.port}/v1") == "Talk to them."
    assert opened == ["models.example"]
    assert not untouched(inside)


def test_every_connection_is_vetted_anew(resolver, settings):
    """A kept connection stays where it was; a new one after the name moved inside is refused."""
    with canary(say(ANSWER)) as outside:
        settings.OUTBOUND_ALLOWED = [f"models.example:{outside.port}"]
        resolver["models.example"] = ["127.0.0.1"]
        assert call(f"http://models.example:{outside.port}/v1") == "Talk to them."
        settings.OUTBOUND_ALLOWED = []
        assert call(f"http://models.example:{outside.port}/v1") == "outbound_refused"
        assert outside.connections == 1


@pytest.mark.parametrize(
    "status", ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
)
def test_a_redirect_inside_is_not_followed(inside, settings, status):
    with canary(say(redirect_to(inside, status))) as endpoint:
        settings.OUTBOUND_ALLOWED = [f"127.0.0.1:{endpoint.port}"]
        assert call(f"http://127.0.0.1:{endpoint.port}/v1") == "outbound_redirect"
        assert endpoint.connections == 1
    assert untouched(inside)


def test_without_the_one_way_out_the_redirect_is_followed(inside, careless):
    with canary(say(redirect_to(inside, "307 Temporary Redirect"))) as endpoint:
        assert call(f"http://127.0.0.1:{endpoint.port}/v1") == "Talk to them."
    assert not untouched(inside)


def test_an_entry_of_the_allow_list_lets_a_deliberate_loopback_be_called_on_its_port_alone(inside, settings):
    with canary(say(ANSWER)) as other:
        settings.OUTBOUND_ALLOWED = [f"127.0.0.1:{inside.port}"]
        assert call(f"http://127.0.0.1:{inside.port}/v1") == "Talk to them."
        assert call(f"http://127.0.0.1:{other.port}/v1") == "outbound_refused"
        assert untouched(other)


def redirect_to(server: Canary, status: str) -> bytes:
    location = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\nLocation: {location}\r\n\r\n".encode()


def record_connections(monkeypatch) -> list[str]:
    """The hosts that sockets are opened to, in order; the public address fails at once instead of leaving the machine."""
    opened: list[str] = []
    real = httpcore2.SyncBackend.connect_tcp

    def connect_tcp(self, host, port, *args, **options):
        opened.append(host)
        if host == PUBLIC:
            raise httpcore2.ConnectError("no test leaves the machine")
        return real(self, host, port, *args, **options)

    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connect_tcp)
    return opened
