"""Errors that no view of ours answers."""

import sys
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import translation
from django.utils.cache import add_never_cache_headers
from django.utils.translation import gettext as _

from apps.annotation.views.pages import problem

RETRY_AFTER_SECONDS = 5


@login_not_required
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return _error(
        request,
        403,
        _("Your browser did not send the security cookie"),
        _("Please allow cookies for this site, go back, reload the page and send the form again."),
    )


@login_not_required
def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    if isinstance(exception, RequestDataTooBig | TooManyFieldsSent):
        return _error(request, 413, _("This form is too large"), _("Please go back, shorten your text and send it again."))
    return _error(request, 400, _("We could not read this request"), _("Please go back and try again."))


@login_not_required
def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _error(request, 403, _("This page is not open to you"), _("If you think it should be, ask the people who run the study."))


@login_not_required
def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return _error(
        request,
        404,
        _("We do not know this link"),
        _("Check that the whole link was copied. If it still fails, ask whoever sent it to you for a new one."),
    )


@login_not_required
def server_error(request: HttpRequest) -> HttpResponse:
    if isinstance(sys.exception(), OperationalError | InterfaceError):
        return _unavailable(request)
    return _error(request, 500, _("Something went wrong on our side"), _("What you sent before is kept. Please try again in a minute."))


def _unavailable(request: HttpRequest) -> HttpResponse:
    """The database is away, full, or let us wait too long. The transaction was rolled back; sent again, a form counts once."""
    if request.path.startswith(("/api/", "/admin/")):
        response = _error(request, 503, _("We cannot answer at the moment"), _("Please try again in a few seconds."))
    else:
        # Known unless the session could not be read; then the browser tells.
        language = getattr(request, "LANGUAGE_CODE", None) or translation.get_language_from_request(request)
        with translation.override(language):
            if request.method == "POST":
                text = _("Please reload this page in a few seconds: your browser then sends the form once more, and it counts once.")
            else:
                text = _("Please reload this page in a few seconds. Everything you sent before is kept.")
            response = problem(request, _("We cannot answer at the moment"), text, 503)
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    add_never_cache_headers(response)
    return response


def _error(request: HttpRequest, status: int, title: str, text: str) -> HttpResponse:
    if request.path.startswith("/api/"):
        body: dict[str, Any] = {"code": _CODES[status], "message": title, "extra": {}}
        return JsonResponse(body, status=status)
    if request.path.startswith("/admin/") and status in _DESK:
        title, text = _DESK[status]
        return render(request, "desk/problem.html", {"problem_title": title, "problem_text": text}, status=status)
    return render(request, "annotation/problem.html", {"problem_title": title, "problem_text": text}, status=status)


_CODES = {400: "bad_request", 403: "permission_denied", 404: "not_found", 413: "too_large", 500: "server_error", 503: "unavailable"}

# The desk speaks English, to researchers.
_DESK = {
    403: ("You may not do this", "Your role in this study does not allow it, or you are not a member of the study."),
    404: ("There is no such page in the desk", "It may belong to a study that you are not a member of, or have been removed."),
}
