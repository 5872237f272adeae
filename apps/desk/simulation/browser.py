"""A browser without JavaScript: cookies, redirects, forms. Standard library only."""

import re
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from http.cookiejar import CookieJar
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from apps.desk.simulation.pages import Button, Form, Page, parse_page

TIMEOUT_SECONDS = 60
_CRLF = re.compile(r"\r\n|\r|\n")
_REDIRECTS = {301, 302, 303, 307, 308}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class ServerUnreachable(Exception):
    """No HTTP answer came from the server; says which and why."""


class _KeepErrors(urllib.request.HTTPErrorProcessor):
    """Follow redirects, and hand pages with an error status to the caller instead of raising."""

    def http_response(self, request: urllib.request.Request, response: Any) -> Any:
        return super().http_response(request, response) if response.status in _REDIRECTS else response

    https_response = http_response


class Browser:
    """One person's browser: keeps cookies and the address of the page it is on."""

    def __init__(self, *, language: str, user_agent: str = "Mozilla/5.0 (X11; Linux x86_64) PolyphonySimulation/1") -> None:
        self.language, self.user_agent = language, user_agent
        self.cookies = CookieJar()
        self.page: Page | None = None

    def open(self, url: str) -> Page:
        """GET an address, relative to the current page, and follow redirects. Raises `ServerUnreachable`."""
        self.page = self._read(self._request(self._absolute(url)))
        return self.page

    def submit(self, form: Form, values: dict[str, list[str]] | None = None, button: Button | None = None) -> Page:
        """Send `form` of the current page: what stands in it, overwritten by `values`, and the pressed button's name."""
        if self.page is None:
            raise ValueError("open a page before submitting a form")
        data = form.untouched() | (values or {})
        if button is not None and button.name:
            data[button.name] = [button.value]
        return self.post(form.action or self.page.url, data)

    def post(self, url: str, data: dict[str, list[str]]) -> Page:
        """POST `data` to an address and follow redirects. Raises `ServerUnreachable`."""
        request = self._request(self._absolute(url))
        as_browsers_send = {name: [_CRLF.sub("\r\n", value) for value in values] for name, values in data.items()}
        request.data = urlencode(as_browsers_send, doseq=True).encode()
        self.page = self._read(request)
        return self.page

    def get_text(self, url: str) -> tuple[int, str]:
        """Status and body of an address, as a script of the page would fetch it; the page stays open."""
        page = self._read(self._request(self._absolute(url)))
        return page.status, page.body

    def _absolute(self, url: str) -> str:
        absolute = urljoin(self.page.url, url) if self.page is not None else url
        if urlsplit(absolute).scheme not in ("http", "https"):
            raise ServerUnreachable(f"{absolute} is not a web address; it should begin with http:// or https://.")
        return absolute

    def _request(self, url: str) -> urllib.request.Request:
        headers = {"User-Agent": self.user_agent, "Accept-Language": self.language, "Accept": "text/html"}
        if self.page is not None:
            headers["Referer"] = self.page.url
        return urllib.request.Request(url, headers=headers)  # noqa: S310  (the scheme is checked in _absolute)

    def _read(self, request: urllib.request.Request) -> Page:
        handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPCookieProcessor(self.cookies), _KeepErrors()]
        if urlsplit(request.full_url).hostname in _LOOPBACK:
            handlers.append(urllib.request.ProxyHandler({}))
        opener = urllib.request.build_opener(*handlers)
        response: HTTPResponse
        try:
            with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                body = response.read().decode("utf-8", "replace")
                return parse_page(url=response.url, status=response.status, body=body)
        except urllib.error.HTTPError as error:
            with error:
                raise ServerUnreachable(f"{request.full_url} redirects without end (HTTP {error.code}).") from error
        except (urllib.error.URLError, HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            raise ServerUnreachable(f"{request.full_url} does not answer: {reason}.") from error
