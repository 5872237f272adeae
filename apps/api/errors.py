"""Every failure of the API has one shape: `{"code", "message", "extra"}`."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response

from apps.core.errors import DomainError

UNAUTHORIZED = "Send a valid token of your study: “Authorization: Bearer poly_…”. Tokens are made in the admin, expire and can be revoked."


class UnknownParameters(exceptions.APIException):
    """A query parameter that the endpoint does not know; nothing is ever filtered by a name that is not listed."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "unknown_parameters"


class BadParameter(exceptions.APIException):
    """A known query parameter with a value that makes no sense."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "bad_parameter"


class StudyNotFound(exceptions.APIException):
    """No such study, or not the token's: the two look the same."""

    status_code = status.HTTP_404_NOT_FOUND
    default_code = "study_not_found"


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """The response to `error`; None for the unexpected, which propagates."""
    if isinstance(error, DomainError):
        return _response(status.HTTP_400_BAD_REQUEST, error.code, str(error), error.extra)
    if isinstance(error, Http404):
        error = exceptions.NotFound(str(error) or None)
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if not isinstance(error, exceptions.APIException):
        return None
    if isinstance(error, exceptions.AuthenticationFailed | exceptions.NotAuthenticated):
        return _response(status.HTTP_401_UNAUTHORIZED, "unauthorized", UNAUTHORIZED, {}, {"WWW-Authenticate": "Bearer"})
    code = error.get_codes()
    return _response(error.status_code, code if isinstance(code, str) else "invalid", str(error.detail), getattr(error, "extra", {}))


def _response(status_code: int, code: str, message: str, extra: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response({"code": code, "message": message, "extra": extra}, status=status_code, headers=headers)
