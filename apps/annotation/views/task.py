"""The task: start, compare, wait, write on, and the end of it all."""

from dataclasses import replace
from datetime import datetime

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apps.annotation import services
from apps.annotation.caps import day_is_full_until, zone_of
from apps.annotation.devices import device_class
from apps.annotation.errors import (
    DailyLimitReached,
    EmptyMessage,
    ExplanationTooShort,
    MessageTooLong,
    MissingChoice,
    NoWorkAvailable,
    StaleForm,
    TooFewTurns,
)
from apps.annotation.models import Assignment
from apps.annotation.selectors import Position, Step, comparison_page, current_step, current_work, message_page, progress_of
from apps.annotation.services.participation import finish_without_work
from apps.annotation.views.pages import annotator_page, page, parse_number, parse_uuid, proceed, step_url
from apps.annotators.models import Annotator
from apps.annotators.selectors import return_of
from apps.generation.services.rewriting import is_message_refused

LAYOUTS = {"column", "side_by_side"}


@annotator_page(Step.START)
def start(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    """Claiming is a POST: opening a page takes no seat."""
    if request.method == "POST":
        try:
            assignment = services.claim_next_assignment(
                annotator=annotator, submission_id=parse_uuid(request.POST.get("submission_id", "")), now=timezone.now()
            )
        except NoWorkAvailable:
            finish_without_work(annotator=annotator, now=timezone.now())
            if current_step(annotator).step == Step.START:
                return page(request, "start", annotator, 503, progress=progress_of(annotator), no_work=True)
        except DailyLimitReached as limit:
            return _come_back(request, annotator, limit.extra["until"], 429)
        else:
            return proceed(request, Step.MESSAGE if assignment.purpose == Assignment.Purpose.OWN else Step.COMPARE)
        return proceed(request)
    until = day_is_full_until(annotator, timezone.now())
    if until is not None:
        return _come_back(request, annotator, until, 200)
    return page(request, "start", annotator, progress=progress_of(annotator))


def _come_back(request: HttpRequest, annotator: Annotator, until: datetime, status: int) -> HttpResponse:
    """The start page on a day that is full: when to come back, in the person's own time zone."""
    context = {"come_back_at": until, "time_zone": zone_of(annotator)}
    return page(request, "start", annotator, status, progress=progress_of(annotator), **context)


@annotator_page(Step.COMPARE)
def compare(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    if request.method == "POST":
        return _judge(request, annotator)
    if position is None or position.work is None or position.work.turn is None:
        raise StaleForm
    device = device_class(request.headers.get("User-Agent", ""))
    shown = services.show_turn(turn=position.work.turn, device_class=device, now=timezone.now())
    return page(request, "compare", annotator, comparison=comparison_page(annotator, replace(position.work, shown=shown)))


def _judge(request: HttpRequest, annotator: Annotator) -> HttpResponse:
    data = request.POST
    choice = data.get("choice", "")
    try:
        comparison = services.submit_comparison(
            annotator=annotator,
            turn_number=parse_number(data.get("turn", "")) or 0,
            chosen_position=parse_number(choice),
            explanation=data.get("explanation", ""),
            layout=data.get("layout", "") if data.get("layout") in LAYOUTS else "",
            submission_id=parse_uuid(data.get("submission_id", "")),
            now=timezone.now(),
        )
    except (MissingChoice, ExplanationTooShort, MessageTooLong) as error:
        work = current_work(annotator)
        if work is None:
            raise StaleForm from error
        problems = {"choice": "", "explanation": ""}
        if isinstance(error, MissingChoice):
            problems["choice"] = _("Please choose the answer that you prefer.")
        else:
            problems["explanation"] = _explain(error)
        context = {
            "problems": problems,
            "choice": choice,
            "explanation": data.get("explanation", ""),
            "submission_id": data["submission_id"],
        }
        return page(request, "compare", annotator, 422, comparison=comparison_page(annotator, work), **context)
    return proceed(request, Step.START if comparison.turn.conversation.ended_at else Step.MESSAGE)


def _explain(error: ExplanationTooShort | MessageTooLong) -> str:
    if isinstance(error, MessageTooLong):
        text = _("This text is too long: it has %(characters)d characters, and %(maximum)d fit.")
        return text % error.extra
    text = ngettext(
        "Please write a little more: at least %(minimum)d word. You have written %(words)d.",
        "Please write a little more: at least %(minimum)d words. You have written %(words)d.",
        error.extra["minimum"],
    )
    return text % error.extra


@annotator_page(Step.MESSAGE)
def message(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    """The next message, or the end of the conversation once the minimum of turns is reached."""
    if position is not None and position.work is not None:
        return page(request, "message", annotator, message=message_page(annotator, position.work))
    data = request.POST
    turn_number = parse_number(data.get("turn", "")) or 0
    if data.get("action", "send") not in {"send", "end"}:
        raise StaleForm
    try:
        if data.get("action") == "end":
            services.end_conversation(annotator=annotator, turn_number=turn_number, now=timezone.now())
        else:
            services.submit_message(
                annotator=annotator,
                turn_number=turn_number,
                message=data.get("message", ""),
                submission_id=parse_uuid(data.get("submission_id", "")),
                now=timezone.now(),
            )
    except (EmptyMessage, MessageTooLong, TooFewTurns) as error:
        work = current_work(annotator)
        if work is None:
            raise StaleForm from error
        if isinstance(error, EmptyMessage):
            text = _("Please write a message first.")
        elif isinstance(error, TooFewTurns):
            text = _("This conversation needs more messages before it can end.")
        else:
            text = _explain(error)
        context = {"error": text, "typed": data.get("message", ""), "submission_id": data.get("submission_id", "")}
        return page(request, "message", annotator, 422, message=message_page(annotator, work), **context)
    return proceed(request)


@annotator_page(Step.WAIT)
def wait(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    if position is None or position.work is None:
        raise StaleForm
    return page(request, "wait", annotator, message=message_page(annotator, position.work), turn=position.work.turn)


@annotator_page()
def wait_status(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    """For the waiting page's script: whether to go on, and where to."""
    step = current_step(annotator).step
    return JsonResponse({"waiting": step == Step.WAIT, "next": reverse(step_url(step))})


@annotator_page(Step.TROUBLE)
def trouble(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    """The candidates of a turn could not be made: try again or write another message, or close the conversation at no cost."""
    if request.method == "POST":
        action = request.POST.get("action")
        if action == "rewrite":
            return _rewrite(request, annotator)
        if action == "retry":
            services.retry_turn(annotator=annotator)
        else:
            services.give_up_turn(annotator=annotator, now=timezone.now())
        return proceed(request)
    turn = position.work.turn if position is not None and position.work is not None else None
    if turn is not None and is_message_refused(turn.candidate_set):
        return page(request, "message_refused", annotator, turn_number=turn.number, typed=turn.message)
    return page(request, "trouble", annotator)


def _rewrite(request: HttpRequest, annotator: Annotator) -> HttpResponse:
    """Another message in the place of one that moderation refused."""
    data = request.POST
    turn_number = parse_number(data.get("turn", "")) or 0
    try:
        services.rewrite_message(
            annotator=annotator,
            turn_number=turn_number,
            message=data.get("message", ""),
            submission_id=parse_uuid(data.get("submission_id", "")),
            now=timezone.now(),
        )
    except (EmptyMessage, MessageTooLong) as error:
        text = _("Please write a message first.") if isinstance(error, EmptyMessage) else _explain(error)
        context = {"error": text, "typed": data.get("message", ""), "submission_id": data.get("submission_id", "")}
        return page(request, "message_refused", annotator, 422, turn_number=turn_number, **context)
    return proceed(request)


@annotator_page(Step.PAUSED)
def paused(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    return page(request, "paused", annotator)


@annotator_page(Step.DONE)
def done(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    return page(request, "done", annotator, going_back=return_of(annotator))


@annotator_page(Step.ENDED)
def ended(request: HttpRequest, annotator: Annotator, position: Position | None) -> HttpResponse:
    return page(request, "ended", annotator, going_back=return_of(annotator))
