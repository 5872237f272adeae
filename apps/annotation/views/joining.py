"""Opening a link, consenting, coming back, leaving."""

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from apps.annotation.devices import device_class
from apps.annotation.errors import StaleForm
from apps.annotation.middleware import SESSION_ANNOTATOR, SESSION_LANGUAGE, annotator_of
from apps.annotation.selectors import Position, Step
from apps.annotation.services import withdraw
from apps.annotation.services.admission import AdmissionRefused
from apps.annotation.services.participation import switch_locale
from apps.annotation.views.pages import annotator_page, link_closed, page, parse_uuid, problem, proceed
from apps.annotators.errors import (
    AnswersDiffer,
    ConsentMissing,
    IdentityMissing,
    LinkClosed,
    SignatureRefused,
    SubmissionConflict,
    UnknownLocale,
)
from apps.annotators.identities import OutsideIdentity, identity_in_address
from apps.annotators.models import Annotator, RecruitmentLink
from apps.annotators.selectors import annotator_by_identity, annotator_by_resume_token, current_consent_form, other_locales, return_of
from apps.annotators.services import join_study, note_opening
from apps.core.rendering import render_markdown
from apps.quotas.errors import NoCellFits, OutsideCellsFull, QuotaCellFull
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
        # Also a form opened in a second tab before joining in the first, or an edited identity: one browser, one person.
        return proceed(request)
    try:
        address = {name: values[0] if len(values) == 1 else "" for name, values in request.GET.lists()}  # given twice is not given
        identity = identity_in_address(link=link, address=address, now=timezone.now())
    except IdentityMissing:
        text = _("This link works only from your panel's own page, which tells us that you came from there. Please open the study there.")
        return problem(request, _("Please open the study from your panel"), text, 422)
    except SignatureRefused:
        text = _("The address was changed on the way, or it is too old. Please open the study once more from your panel.")
        return problem(request, _("This link is no longer valid"), text, 403)
    known = annotator_by_identity(study=link.study, identity=identity) if identity is not None else None
    if known is not None:
        return _come_back(request, known, "welcome_back")
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
            return _join(request, link, chosen, identity)
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


def _join(request: HttpRequest, link: RecruitmentLink, study_locale: StudyLocale, identity: OutsideIdentity | None) -> HttpResponse:
    """The identity comes with the address that the form was sent to, never from a field of it: a signature then covers it."""
    submission_id = request.POST.get("submission_id", "")
    try:
        annotator = join_study(
            link=link,
            study_locale=study_locale,
            agreed=request.POST.get("agreed") == "yes",
            submission_id=parse_uuid(submission_id),
            device_class=device_class(request.headers.get("User-Agent", "")),
            identity=identity,
            time_zone=request.POST.get("time_zone", ""),
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
    return _come_back(request, annotator, "resume", token=token)


def _come_back(request: HttpRequest, annotator: Annotator, template: str, **context: Any) -> HttpResponse:
    """Somebody who has joined before, in a browser that does not know them yet. GET only offers; POST opens the session."""
    with translation.override(annotator.study_locale.interface_language):
        if request.method == "POST":
            _remember(request, annotator)
            return proceed(request)
        if annotator.state not in (Annotator.State.ACTIVE, Annotator.State.COMPLETED):
            return page(request, "ended", annotator, going_back=return_of(annotator))
        return page(request, template, None, study=annotator.study, study_locale=annotator.study_locale, **context)


@login_not_required
@never_cache
@require_POST
def opened(request: HttpRequest, token: str) -> HttpResponse:
    """The consent page's script tells that it was shown, under the id that its form will be sent with."""
    link = RecruitmentLink.objects.filter(token=token).first()
    study_locale = next((locale for locale in link.locales.all() if locale.tag == request.POST.get("locale")), None) if link else None
    if link is None or study_locale is None:
        raise Http404
    try:
        submission_id = parse_uuid(request.POST.get("submission_id", ""))
    except StaleForm:
        return HttpResponse(status=400)
    note_opening(link=link, study_locale=study_locale, submission_id=submission_id, now=timezone.now())
    return HttpResponse(status=204)


@annotator_page(Step.QUESTIONS, Step.GUIDELINE, Step.PRACTICE)
def locale(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    """Before the first task: read on in another locale of the link, after agreeing to its own information."""
    chosen = next((locale for locale in other_locales(annotator) if locale.tag == request.GET.get("to")), None)
    if chosen is None:
        raise Http404
    with translation.override(chosen.interface_language):
        error, status = "", 200
        if request.method == "POST":
            error, status = _switch(request, annotator, chosen)
            if not error:
                request.session[SESSION_LANGUAGE] = chosen.interface_language
                return proceed(request)
        form = current_consent_form(chosen, ConsentForm.Purpose.PARTICIPATION)
        if form is None:
            raise Http404
        context = {"form": form, "body": render_markdown(form.body_as_shown()), "study": annotator.study, "study_locale": chosen}
        return page(request, "switch_locale", None, status, error=error, **context)


def _switch(request: HttpRequest, annotator: Annotator, study_locale: StudyLocale) -> tuple[str, int]:
    """Move the person; what is wrong and the status, or an empty text. Raises `StaleForm` once they have had a task."""
    if request.POST.get("agreed") != "yes":
        return _("Please tick the box if you agree. If you do not, you can go on in the language you had."), 422
    try:
        switch_locale(annotator=annotator, study_locale=study_locale, now=timezone.now())
    except AnswersDiffer:
        return _("The questions in this language differ from those you have answered. Please go on in the language you had."), 409
    except (QuotaCellFull, OutsideCellsFull, NoCellFits, AdmissionRefused):
        return _("In this language there is no place for you any more. Nothing has changed: please go on in the language you had."), 409
    return "", 200


@annotator_page()
def leave(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    """Withdraw in one step from any page."""
    if request.method == "POST":
        withdraw(annotator=annotator, now=timezone.now())
        return proceed(request)
    keeps_identity = annotator.recruitment_link.kind != RecruitmentLink.Kind.DIRECT
    return page(request, "leave", annotator, keeps_identity=keeps_identity)
