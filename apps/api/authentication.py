"""Tokens of programs: `Authorization: Bearer poly_…`. No cookie is read, so cross-site requests carry nothing."""

from typing import Any

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from apps.accounts.models import User
from apps.studies.models import ApiToken


class TokenAuthentication(BaseAuthentication):
    """`request.user` is the member the token acts for, `request.auth` the token. Every failure looks the same."""

    def authenticate(self, request: Request) -> tuple[User, ApiToken] | None:
        header = get_authorization_header(request).split()
        if not header:
            return None
        token = self._find(header)
        if token is None or not token.is_valid(timezone.now()):
            raise AuthenticationFailed
        return token.membership.user, token

    def _find(self, header: list[bytes]) -> ApiToken | None:
        if len(header) != 2 or header[0].lower() != b"bearer":
            return None
        digest = ApiToken.digest_of(header[1].decode("latin-1"))
        return ApiToken.objects.select_related("membership__user", "membership__study").filter(digest=digest).first()

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class TokenScheme(OpenApiAuthenticationExtension):
    """How the OpenAPI schema tells of the tokens."""

    target_class = "apps.api.authentication.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "A token made in the admin (API tokens). It sees one study and ends with the membership it belongs to.",
        }
