"""The one way out: HTTP to hosts that an operator or a researcher named, without reaching what stands behind our firewall.

`OutboundTransport` is an httpx2 transport. It vets the URL (http or https, no user name in it), resolves the host once,
vets every address, and connects to an address it vetted while SNI and Host keep the name; so a name that
changes its address between check and use gains nothing. It follows no redirect and caps the size and the whole time of an exchange.
"""

import ipaddress
import socket
import ssl
import time
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore2
import httpx2
from django.conf import settings

from apps.core.errors import DomainError

DEFAULT_SECONDS = 60.0
MAX_BYTES = 4 * 1024 * 1024
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class OutboundRefused(DomainError):
    """The URL or the address behind it is not one we call."""

    code = "outbound_refused"


class OutboundRedirectRefused(OutboundRefused):
    """The endpoint answered with a redirect."""

    code = "outbound_redirect"


class OutboundTooLarge(DomainError):
    """The response is longer than the cap."""

    code = "too_large"


class Deadline:
    """A moment until which all steps of one exchange have to be done; stands in for httpcore's seconds per step."""

    def __init__(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, never zero (a socket with timeout 0 does not block). Raises httpcore's timeout once it is over."""
        left = self.ends - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout("the total deadline of the exchange is over")
        return left


def _seconds(timeout: Any) -> Any:
    return timeout.remaining() if isinstance(timeout, Deadline) else timeout


def check_url(url: httpx2.URL | str) -> None:
    """Refuse a URL that we would never call, whatever its host resolves to. Raises `OutboundRefused`."""
    try:
        url = httpx2.URL(url) if isinstance(url, str) else url
    except (httpx2.InvalidURL, ValueError) as error:
        raise OutboundRefused("This is not a URL that can be called.") from error
    if url.scheme not in ("http", "https"):
        raise OutboundRefused(f"Only http and https are called, not {url.scheme or 'a URL without a scheme'!r}.")
    if url.userinfo:
        raise OutboundRefused("A URL with a user name or password in it is not called; name the key's environment variable instead.")
    if not url.host:
        raise OutboundRefused("The URL names no host.")


def check_saved_url(url: str) -> None:
    """Refuse to keep a URL that could never be called, without resolving a name. Raises `OutboundRefused`.

    Beyond `check_url`: an inner address in any spelling that a resolver takes (127.1, 0x7f.1, 2130706433, full-width digits,
    mapped IPv6) and names of this machine, unless the operator allowed them. Other names are vetted whenever they are called.
    """
    check_url(url)
    parsed = httpx2.URL(url)
    host = unicodedata.normalize("NFKC", parsed.host).lower().strip("[]").rstrip(".")
    port = parsed.port or (443 if parsed.scheme == "https" else 80)
    address = _literal_address(host)
    inner = not is_public(address) if address else host == "localhost" or host.endswith(".localhost")
    if inner and not is_allowed(host, port):
        raise OutboundRefused(
            f"{host}:{port} is not an address of the open Internet. An operator can allow it: OUTBOUND_ALLOWED={host}:{port}.",
            host=host,
            port=port,
        )


def _literal_address(host: str) -> str:
    """The IP address that `host` spells, or "" for a name."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        try:
            return socket.inet_ntoa(socket.inet_aton(host))  # the short, hexadecimal, octal and decimal forms
        except (OSError, UnicodeError, ValueError):
            return ""


def is_allowed(host: str, port: int) -> bool:
    """Whether settings.OUTBOUND_ALLOWED lists `host:port` or `host:*` (an IPv6 address in brackets)."""
    name = f"[{host}]" if ":" in host else host
    return not {f"{name}:{port}", f"{name}:*"}.isdisjoint(entry.strip().lower() for entry in settings.OUTBOUND_ALLOWED)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open Internet, also where it wraps an IPv4 address (mapped, 6to4, Teredo, NAT64)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def vetted_addresses(host: str, port: int) -> list[str]:
    """Resolve `host` once; all its addresses. Raises `OutboundRefused` if one is not public and the host is not allow-listed."""
    host = host.lower().strip("[]").rstrip(".")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(f"{host} cannot be resolved") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not is_allowed(host, port) and not all(is_public(address) for address in addresses):
        raise OutboundRefused(
            f"{host}:{port} is not an address of the open Internet. An operator can allow it: OUTBOUND_ALLOWED={host}:{port}.",
            host=host,
            port=port,
        )
    return addresses


class _DeadlineStream(httpcore2.NetworkStream):
    """A stream whose every step ends when the exchange's deadline does."""

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        return self._stream.read(max_bytes, _seconds(timeout))

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        self._stream.write(buffer, _seconds(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: Any = None) -> httpcore2.NetworkStream:
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, _seconds(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _VettingBackend(httpcore2.NetworkBackend):
    """Opens connections to vetted addresses only."""

    def __init__(self) -> None:
        self._backend = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Any = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        addresses = vetted_addresses(host, port)
        for address in addresses[:-1]:
            try:
                return self._open(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return self._open(addresses[-1], port, timeout, local_address, socket_options)

    def _open(
        self, address: str, port: int, timeout: Any, local_address: str | None, socket_options: Iterable[Any] | None
    ) -> httpcore2.NetworkStream:
        return _DeadlineStream(self._backend.connect_tcp(address, port, _seconds(timeout), local_address, socket_options))


class _CappedStream(httpx2.SyncByteStream):
    def __init__(self, stream: Any, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._stream:
            size += len(chunk)
            if size > self._max_bytes:
                raise OutboundTooLarge(f"The response is longer than {self._max_bytes} bytes.", max_bytes=self._max_bytes)
            yield chunk

    def close(self) -> None:
        self._stream.close()


class OutboundTransport(httpx2.HTTPTransport):
    """The transport of every outbound call. The request's timeout counts for the whole exchange, not for each step of it."""

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        ssl_context = httpx2.create_ssl_context(trust_env=False)
        super().__init__(verify=ssl_context, trust_env=False)
        self._max_bytes = max_bytes
        self._pool.close()
        # httpx2 offers no argument for the backend; the pool is its one field, and requirements.txt pins the version.
        self._pool = httpcore2.ConnectionPool(
            ssl_context=ssl_context,
            max_connections=100,
            max_keepalive_connections=100,
            keepalive_expiry=5,
            network_backend=_VettingBackend(),
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send `request`. Raises `OutboundRefused`, `OutboundTooLarge` and httpx2's transport errors."""
        check_url(request.url)
        steps = [step for step in request.extensions.get("timeout", {}).values() if step is not None]
        seconds = max(steps, default=DEFAULT_SECONDS)
        deadline = Deadline(seconds)
        request.extensions["timeout"] = {"connect": deadline, "read": deadline, "write": deadline, "pool": seconds}
        # A compressed response could unpack to any size behind the cap.
        request.headers["Accept-Encoding"] = "identity"
        response = super().handle_request(request)
        if response.has_redirect_location:
            response.close()
            raise OutboundRedirectRefused(f"{request.url.host} answered with a redirect (HTTP {response.status_code}); none is followed.")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise OutboundRefused(f"{request.url.host} sent a compressed response, which was not asked for.")
        response.stream = _CappedStream(response.stream, self._max_bytes)
        return response


def outbound_client(*, max_bytes: int = MAX_BYTES, timeout: float = DEFAULT_SECONDS) -> httpx2.Client:
    """An HTTP client over `OutboundTransport`: no redirects, no proxy and no credentials from the environment."""
    return httpx2.Client(transport=OutboundTransport(max_bytes=max_bytes), follow_redirects=False, trust_env=False, timeout=timeout)
