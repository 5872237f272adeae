"""Opening a link, consenting, coming back, leaving."""

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from apps.annotation.devices import device_class
from apps.annotation.errors import StaleForm
from apps.annotation.middleware import SESSION_ANNOTATOR, SESSION_LANGUAGE, annotator_of
from apps.annotation.selectors import Position
from apps.annotation.services import withdraw
from apps.annotation.views.pages import annotator_page, link_closed, page, parse_uuid, problem, proceed
from apps.annotators.errors import ConsentMissing, LinkClosed, SubmissionConflict, UnknownLocale
from apps.annotators.models import Annotator, RecruitmentLink
from apps.annotators.selectors import annotator_by_resume_token, current_consent_form
from apps.annotators.services import join_study
from apps.core.rendering import render_markdown
from apps.studies.models import ConsentForm, StudyLocale


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    """Information and consent. GET writes nothing, since link previews open links too; POST creates the annotator."""
    link = RecruitmentLink.objects.select_related("study").filter(token=token).first()
    if link is None:
        raise Http404
    known = annotator_of(request)
    if known is not None and known.study_id == link.study_id:
        return proceed(request)  # also a form opened in a second tab before joining in the first: one browser, one person
    if not link.is_open or not link.study.is_open:
        return link_closed(request, LinkClosed())
    locales = list(link.locales.select_related("study"))
    asked = request.POST.get("locale") or request.GET.get("locale", "")
    chosen = next((locale for locale in locales if locale.tag == asked), None)
    if chosen is None and not asked and len(locales) == 1:
        chosen = locales[0]
    if chosen is None:
        return _choose_locale(request, link, locales, asked)
    with translation.override(chosen.interface_language):
        if request.method == "POST":
            return _join(request, link, chosen)
        return _information(request, link, chosen, several=len(locales) > 1)


def _choose_locale(request: HttpRequest, link: RecruitmentLink, locales: list[StudyLocale], asked: str) -> HttpResponse:
    status = 404 if asked else 200
    return page(request, "choose_locale", None, status, link=link, locales=locales, unknown=asked)


def _information(
    request: HttpRequest, link: RecruitmentLink, study_locale: StudyLocale, several: bool = False, status: int = 200, **context: Any
) -> HttpResponse:
    form = current_consent_form(study_locale, ConsentForm.Purpose.PARTICIPATION)
    if form is None:
        return link_closed(request, LinkClosed())
    context |= {
        "link": link,
        "study": link.study,
        "study_locale": study_locale,
        "form": form,
        "body": render_markdown(form.body_as_shown()),
        "several_locales": several,
    }
    return page(request, "consent", None, status, **context)


def _join(request: HttpRequest, link: RecruitmentLink, study_locale: StudyLocale) -> HttpResponse:
    submission_id = request.POST.get("submission_id", "")
    try:
        annotator = join_study(
            link=link,
            study_locale=study_locale,
            agreed=request.POST.get("agreed") == "yes",
            submission_id=parse_uuid(submission_id),
            device_class=device_class(request.headers.get("User-Agent", "")),
            now=timezone.now(),
        )
    except ConsentMissing:
        error = _("Please tick the box if you agree. If you do not, you can simply close this page.")
        return _information(request, link, study_locale, status=422, error=error, submission_id=submission_id)
    except (LinkClosed, UnknownLocale):
        return link_closed(request, LinkClosed())
    except (StaleForm, SubmissionConflict):
        return problem(request, _("This page is out of date"), _("Please open the link again."), 409)
    _remember(request, annotator)
    return proceed(request)


def _remember(request: HttpRequest, annotator: Annotator) -> None:
    request.session.cycle_key()
    request.session[SESSION_ANNOTATOR] = annotator.pk
    request.session[SESSION_LANGUAGE] = annotator.study_locale.interface_language


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def resume(request: HttpRequest, token: str) -> HttpResponse:
    """A person's own link, on any device. GET only offers; POST opens the session."""
    try:
        annotator = annotator_by_resume_token(token)
    except Annotator.DoesNotExist:
        raise Http404 from None
    with translation.override(annotator.study_locale.interface_language):
        if request.method == "POST":
            _remember(request, annotator)
            return proceed(request)
        if annotator.state in (Annotator.State.SCREENED_OUT, Annotator.State.QUOTA_FULL, Annotator.State.WITHDRAWN):
            return page(request, "ended", annotator, return_url="")
        context: dict[str, Any] = {"study": annotator.study, "study_locale": annotator.study_locale, "token": token}
        return page(request, "resume", None, **context)


@annotator_page()
def leave(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    """Withdraw in one step from any page."""
    if request.method == "POST":
        withdraw(annotator=annotator, now=timezone.now())
        return proceed(request)
    return page(request, "leave", annotator)
