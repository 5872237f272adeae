"""The pages of the board in the admin: the board, its refreshing part, its CSV files, and the edit of a target."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.models import User
from apps.annotators.models import Annotator
from apps.desk.board.alarms import alarms_of
from apps.desk.board.forecast import WINDOW
from apps.desk.board.funnel import LeftAt
from apps.desk.board.reading import read_board
from apps.desk.board.tables import write_cells, write_funnel
from apps.desk.board.work import MOST_WAVES
from apps.quotas.errors import TargetChanged
from apps.quotas.models import QuotaCell
from apps.quotas.services import set_target
from apps.studies.models import Study
from apps.studies.permissions import limit_to_writable

MOST_PEOPLE = 2**31 - 1
ALARMS_KEPT = 60  # seconds; the desk's first page is opened often, and counting a large study takes a second
WRITERS = {"cells": write_cells, "funnel": write_funnel}


@dataclass(frozen=True)
class Edit:
    """A target that could not be saved: what was typed, and why."""

    cell_id: int
    typed: str
    error: str


def board_urls(site: AdminSite) -> list[URLPattern]:
    def page(view: Callable[..., HttpResponse], allowed: Callable[..., Any] = require_safe) -> Any:
        return site.admin_view(allowed(partial(view, site)))

    return [
        path("board/<int:study_id>/", page(board_page), name="board"),
        path("board/<int:study_id>/figures/", page(figures), name="board_figures"),
        path("board/<int:study_id>/target/", page(change_target, require_POST), name="board_target"),
        path("board/<int:study_id>/<slug:table>.csv", page(table_file), name="board_csv"),
    ]


def alarms_for(request: HttpRequest) -> list[dict[str, Any]]:
    """The open studies of the request's researcher in which something starves, for the desk's first page.

    Counted at most `ALARMS_KEPT` seconds ago; the board itself is always counted anew.
    """
    studies = Study.objects.visible_to(request.user).filter(state=Study.State.OPEN).order_by("-pk")
    alarms = {
        study: cache.get_or_set(f"board-alarms-{study.pk}", partial(alarms_of, study, timezone.now()), ALARMS_KEPT) for study in studies
    }
    return [{"study": study, "alarms": found} for study, found in alarms.items() if found]


def board_page(site: AdminSite, request: HttpRequest, study_id: int, edit: Edit | None = None, status: int = 200) -> HttpResponse:
    """The whole page; it works without its script."""
    study = _study(request, study_id)
    context = {**site.each_context(request), **_figures(request, study), "title": f"Board of {study}", "edit": edit}
    return TemplateResponse(request, "admin/board/page.html", context, status=status)


def figures(site: AdminSite, request: HttpRequest, study_id: int) -> HttpResponse:
    """The part of the page that its script fetches again."""
    return TemplateResponse(request, "admin/board/figures.html", _figures(request, _study(request, study_id)))


def table_file(site: AdminSite, request: HttpRequest, study_id: int, table: str) -> HttpResponse:
    """`cells.csv` or `funnel.csv`."""
    study = _study(request, study_id)
    if table not in WRITERS:
        raise Http404("There are cells.csv and funnel.csv.")
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{study.slug}-{table}.csv"'
    WRITERS[table](cast(Any, response), read_board(study, timezone.now()))
    return response


def change_target(site: AdminSite, request: HttpRequest, study_id: int) -> HttpResponse:
    """Set one target from the version that the page showed. A refusal keeps what was typed, beside the version that stands now."""
    study = _study(request, study_id)
    if not _may_edit(request, study):
        raise PermissionDenied
    cell_id, version = (_number(request.POST.get(field, "")) for field in ("cell", "version"))
    cell = QuotaCell.objects.filter(quota__study=study, pk=cell_id or 0).first()
    if cell is None or version is None:
        raise Http404("No such cell in this study.")
    typed = request.POST.get("target", "").strip()
    target = _number(typed)
    if target is None:
        error = "Expected a whole number, 0 or more."
        return board_page(site, request, study_id, edit=Edit(cell.pk, typed, error), status=400)
    try:
        set_target(cell=cell, target=target, version=version, user=cast(User, request.user), now=timezone.now())
    except TargetChanged as changed:
        error = f"{changed} What you typed stands here and is not saved; save again to replace theirs."
        return board_page(site, request, study_id, edit=Edit(cell.pk, typed, error), status=409)
    messages.success(request, f"The target of {cell.key} is {target}.")
    return redirect(f"{reverse('admin:board', args=[study.pk])}#cell-{cell.pk}")


def _figures(request: HttpRequest, study: Study) -> dict[str, Any]:
    board = read_board(study, timezone.now())
    words = dict(Annotator.EndReason.choices) | dict(Annotator.State.choices)
    funnel = [
        {
            "row": row,
            "silent": [(step.value, row.silent[step]) for step in LeftAt if row.silent[step]],
            "ended": [(words[reason], people) for reason, people in row.ended.most_common()],
        }
        for row in board.funnel
    ]
    return {
        "study": study,
        "board": board,
        "funnel": funnel,
        "may_edit": _may_edit(request, study),
        "window_days": WINDOW.days,
        "most_waves": MOST_WAVES,
    }


def _may_edit(request: HttpRequest, study: Study) -> bool:
    return limit_to_writable(Study.objects.filter(pk=study.pk), "", request.user).exists()


def _number(text: str) -> int | None:
    """A whole number from 0 that the database can hold; None for anything else."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        return None
    return int(text) if int(text) <= MOST_PEOPLE else None


def _study(request: HttpRequest, study_id: int) -> Study:
    study = Study.objects.visible_to(request.user).filter(pk=study_id).first()
    if study is None:
        raise Http404("No such study, or you are not a member of it.")
    return study
