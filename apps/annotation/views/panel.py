"""The webhook by which panels tell what became of their people."""

import json
from http import HTTPStatus
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from apps.annotation.errors import EventConflict
from apps.annotation.services.panel import apply_panel_status
from apps.annotators.errors import SignatureRefused
from apps.annotators.identities import check_message, is_identity
from apps.annotators.models import PanelEvent, RecruitmentLink

MAX_BYTES = 4096
FIELDS = {"event_id", "participant", "status"}
STATUSES = {status.value.lower(): status for status in PanelEvent.Status}


@csrf_exempt  # the signature says who sends; a browser's cookies are not looked at
@login_not_required
@require_POST
def status(request: HttpRequest, token: str) -> JsonResponse:
    """Take in `{"event_id", "participant", "status"}`, signed in `X-Polyphony-Signature` (see docs/sample.md)."""
    link = RecruitmentLink.objects.exclude(kind=RecruitmentLink.Kind.DIRECT).filter(token=token).first()
    if link is None:
        return _problem(HTTPStatus.NOT_FOUND, "not_found", "There is no panel link with this token.")
    if int(request.headers.get("Content-Length") or 0) > MAX_BYTES:
        return _problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", f"Expected at most {MAX_BYTES} bytes.")
    now = timezone.now()
    try:
        check_message(link=link, header=request.headers.get("X-Polyphony-Signature", ""), body=request.body, now=now)
    except SignatureRefused as error:
        text = "Expected X-Polyphony-Signature: t=<Unix time>,v1=<HMAC-SHA256 of “t.body” in hex>, at most five minutes old."
        return _problem(HTTPStatus.FORBIDDEN, error.code, text)
    message = _message(request.body)
    if message is None:
        text = "Expected a JSON object with exactly event_id, participant and status (returned, timed_out or rejected), all of them text."
        return _problem(HTTPStatus.BAD_REQUEST, "bad_request", text)
    try:
        event = apply_panel_status(
            link=link,
            event_id=message["event_id"],
            participant=message["participant"],
            status=STATUSES[message["status"]],
            now=now,
        )
    except EventConflict as error:
        return _problem(HTTPStatus.CONFLICT, error.code, "This event_id came before with other contents.")
    return JsonResponse({"event_id": event.event_id, "had_effect": event.had_effect})


def _message(body: bytes) -> dict[str, str] | None:
    """The fields of a message; None for anything else."""
    try:
        message: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or set(message) != FIELDS or not all(isinstance(value, str) for value in message.values()):
        return None
    if not (is_identity(message["event_id"]) and is_identity(message["participant"]) and message["status"] in STATUSES):
        return None
    return message


def _problem(status: HTTPStatus, code: str, text: str) -> JsonResponse:
    return JsonResponse({"code": code, "message": text, "extra": {}}, status=status)
