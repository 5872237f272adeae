"""What every annotator page shares: who may open it, how it is rendered, how errors speak."""

import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import translation
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from apps.annotation.errors import StaleForm
from apps.annotation.middleware import annotator_of
from apps.annotation.selectors import Position, Step, current_step
from apps.annotators.errors import LinkClosed, SubmissionConflict
from apps.annotators.models import Annotator
from apps.annotators.selectors import resume_token
from apps.core.text import is_blank

View = Callable[..., HttpResponse]
DEADLOCK = "40P01"  # PostgreSQL's deadlock_detected


def annotator_page(*steps: Step) -> Callable[[View], View]:
    """A page for somebody who joined. GET at another step than `steps` leads to the current one; no steps: any step.

    The view receives the annotator and, on GET, their position. A form of a step that is over answers 409 with a way on.
    """

    def decorate(view: View) -> View:
        @login_not_required
        @never_cache
        @require_http_methods(["GET", "HEAD", "POST"])
        @wraps(view)
        def wrapped(request: HttpRequest) -> HttpResponse:
            annotator = annotator_of(request)
            if annotator is None:
                return link_needed(request)
            # The person's own language, also in a session that began before they changed it on another device.
            with translation.override(annotator.study_locale.interface_language):
                return answer(request, annotator)

        def answer(request: HttpRequest, annotator: Annotator) -> HttpResponse:
            try:
                if request.method == "POST":
                    return _store(view, request, annotator)
                position = current_step(annotator)
                if steps and position.step not in steps:
                    return redirect(step_url(position.step))
                return view(request, annotator, position)
            except StaleForm:
                annotator.refresh_from_db(fields=["state"])
                if annotator.state != Annotator.State.ACTIVE:
                    return proceed(request)
                return problem(
                    request, _("This page is out of date"), _("You have already moved on, perhaps in another tab. Nothing is lost."), 409
                )
            except SubmissionConflict:
                return problem(
                    request,
                    _("This was sent before with other contents"),
                    _("We kept the first version that arrived. Please go on from your current page."),
                    409,
                )

        return wrapped

    return decorate


def _store(view: View, request: HttpRequest, annotator: Annotator) -> HttpResponse:
    """Run the view of a form; once more where PostgreSQL ended a deadlock by rolling this transaction back, for each form counts once."""
    try:
        return view(request, annotator, None)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) != DEADLOCK:
            raise
    return view(request, annotator, None)


def step_url(step: Step) -> str:
    return f"annotation:{step.value}"


def proceed(request: HttpRequest, step: Step | None = None) -> HttpResponse:
    """After a stored form: on to the person's current step. Where the caller knows it, a hop is saved; a wrong guess costs one."""
    response = redirect(step_url(step) if step else "annotation:current")
    response.status_code = 303
    return response


def speaking(response: HttpResponse) -> HttpResponse:
    """Name the language of the page, which a link may set before a session does."""
    response.headers["Content-Language"] = get_language() or "en"
    return response


def page(request: HttpRequest, template: str, annotator: Annotator | None, status: int = 200, **context: Any) -> HttpResponse:
    """Render an annotator page; forms find a fresh `submission_id` unless the context brings the one being corrected."""
    context.setdefault("submission_id", uuid.uuid4())
    if annotator is not None:
        context |= {"annotator": annotator, "study": annotator.study, "study_locale": annotator.study_locale}
        context["resume_path"] = resume_token(annotator)
    return speaking(render(request, f"annotation/{template}.html", context, status=status))


def problem(request: HttpRequest, title: str, text: str, status: int) -> HttpResponse:
    """An error with a way on. Text that came with the refused form is handed back, so that it can be copied."""
    typed = [request.POST.get(name, "") for name in ("explanation", "message")] if request.method == "POST" else []
    context = {"problem_title": title, "problem_text": text, "unsent": [text for text in typed if not is_blank(text)]}
    return speaking(render(request, "annotation/problem.html", context, status=status))


def link_needed(request: HttpRequest) -> HttpResponse:
    return problem(
        request,
        _("Please open your personal link again"),
        _(
            "We could not see who you are, perhaps because your session ended. "
            "Everything you sent before is kept: open the link you joined with to go on."
        ),
        403,
    )


def link_closed(request: HttpRequest, error: LinkClosed) -> HttpResponse:
    return problem(
        request,
        _("This study takes nobody new at the moment"),
        _("The link is closed or the study has ended. You can close this page; whoever sent you the link can tell you more."),
        410,
    )


def parse_uuid(value: str) -> uuid.UUID:
    """Raises `StaleForm` for a form without a usable submission id."""
    try:
        return uuid.UUID(value)
    except ValueError as error:
        raise StaleForm from error


def parse_number(value: str) -> int | None:
    """A whole number of at most nine digits, or None: a form field may hold anything."""
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= 9 else None


@login_not_required
@never_cache
@require_safe
def current(request: HttpRequest) -> HttpResponse:
    """The address that always leads to where the person is."""
    annotator = annotator_of(request)
    if annotator is None:
        return link_needed(request)
    return redirect(step_url(current_step(annotator).step))


__all__ = [
    "Position",
    "annotator_page",
    "current",
    "link_closed",
    "link_needed",
    "page",
    "parse_number",
    "parse_uuid",
    "problem",
    "proceed",
    "step_url",
]
