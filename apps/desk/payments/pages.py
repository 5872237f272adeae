"""The payments of a recruitment link in the admin. Whatever reads identities is a POST: it leaves a line in the log."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.models import User
from apps.annotators.models import IdentityReading, RecruitmentLink
from apps.annotators.services import settle_payments
from apps.desk.payments.decisions import Decision, Payment, payments_of, sums_of
from apps.desk.payments.files import due, is_bonus, write_approvals, write_bonuses, write_panel, write_people
from apps.desk.payments.identities import Identities, read_identities
from apps.desk.payments.reconciliation import MAX_BYTES, ExportRefused, read_export, reconcile
from apps.studies.permissions import limit_to_visible, limit_to_writable, may_see_identities

PAGE_SIZE = 200
MOST_READINGS = 10


class ExportForm(forms.Form):
    export = forms.FileField(label="The panel's export (CSV)")

    def clean_export(self) -> Any:
        """The people of the file; what stands in it is not kept."""
        file = self.cleaned_data["export"]
        try:
            return read_export(file.read(MAX_BYTES + 1))
        except ExportRefused as refused:
            raise forms.ValidationError(refused.problems) from None


def payment_urls(site: AdminSite) -> list[URLPattern]:
    def page(view: Callable[..., HttpResponse], allowed: Callable[..., Any] = require_POST) -> Any:
        return site.admin_view(allowed(partial(view, site)))

    return [
        path("payments/<int:link_id>/", page(payments_page, require_safe), name="payments"),
        path("payments/<int:link_id>/people.csv", page(people_file, require_safe), name="payments_people"),
        path("payments/<int:link_id>/identities/", page(identities_page), name="payments_identities"),
        path("payments/<int:link_id>/file/", page(panel_file), name="payments_file"),
        path("payments/<int:link_id>/reconciliation/", page(reconciliation_page), name="payments_reconciliation"),
        path("payments/<int:link_id>/settled/", page(settle), name="payments_settled"),
    ]


def payments_page(site: AdminSite, request: HttpRequest, link_id: int) -> HttpResponse:
    """Who is to be approved, paid in part or asked to return, by completion code."""
    link, now = _link(request, link_id), timezone.now()
    return _page(site, request, link, payments_of(link, now), asked=request.GET, now=now)


def identities_page(site: AdminSite, request: HttpRequest, link_id: int) -> HttpResponse:
    """The same page with the panel's numbers of the people on it."""
    link, now = _link(request, link_id), timezone.now()
    payments = payments_of(link, now)
    identities = _identities(request, link, list(_shown(payments, request.POST)), "payments page")
    return _page(site, request, link, payments, asked=request.POST, now=now, identities=identities)


def people_file(site: AdminSite, request: HttpRequest, link_id: int) -> HttpResponse:
    """The list as CSV, without identities."""
    link = _link(request, link_id)
    response = _attachment(link, "people")
    write_people(cast(Any, response), link, payments_of(link, timezone.now()))
    return response


def panel_file(site: AdminSite, request: HttpRequest, link_id: int) -> HttpResponse:
    """A file to hand to the panel: `panel`, and for Prolific `approve`, or `bonus` in one `currency`; as of when the list was made."""
    link, now = _link(request, link_id), timezone.now()
    payments = due(payments_of(link, now), _moment(request.POST.get("listed_at", "")) or now)
    name, currency = request.POST.get("file", ""), request.POST.get("currency", "")
    if name not in _files_of(link) or (name == "bonus" and currency not in _currencies(payments)):
        raise Http404("No such file of this link.")
    people = _identities(request, link, payments, f"{name} file").people
    response = _attachment(link, f"{name}-{currency}" if name == "bonus" else name)
    if name == "approve":
        write_approvals(cast(Any, response), payments, people)
    elif name == "bonus":
        write_bonuses(cast(Any, response), payments, people, currency)
    else:
        write_panel(cast(Any, response), payments, people)
    return response


def reconciliation_page(site: AdminSite, request: HttpRequest, link_id: int) -> HttpResponse:
    """The panel's own export beside our list."""
    link = _link(request, link_id)
    if link.kind == RecruitmentLink.Kind.DIRECT:
        raise Http404("A direct link has no panel.")
    if not may_see_identities(request.user, link.study):
        raise PermissionDenied
    now = timezone.now()
    payments = payments_of(link, now)
    form = ExportForm(request.POST, request.FILES)
    if not form.is_valid():
        return _page(site, request, link, payments, asked={}, now=now, form=form, status=400)
    identities = _identities(request, link, payments, "reconciliation")
    result = reconcile(link=link, payments=payments, people=identities.people, rows=form.cleaned_data["export"])
    context = {
        **site.each_context(request),
        "title": f"Reconciliation of {link.name}",
        "link": link,
        "result": result,
        "counts": [(verdict.label, count) for verdict, count in result.counts.items()],
        "unreadable": identities.unreadable,
    }
    return TemplateResponse(request, "admin/payments/reconciliation.html", context)


def settle(site: AdminSite, request: HttpRequest, link_id: int) -> HttpResponse:
    """Mark what the list showed as paid, as of when it was made: people who ended since then stay due."""
    link = _link(request, link_id)
    if not limit_to_writable(RecruitmentLink.objects.filter(pk=link.pk), "study", request.user).exists():
        raise PermissionDenied
    until = _moment(request.POST.get("listed_at", ""))
    if until is None or until > timezone.now() or (link.settled_at and until < link.settled_at):
        messages.error(request, "The list was renewed meanwhile: look at it again, then mark it as settled.")
    else:
        forgotten = settle_payments(link=link, until=until)
        messages.success(request, f"Settled. The panel's numbers of {forgotten} people who had left are deleted.")
    return redirect("admin:payments", link.pk)


def _page(
    site: AdminSite,
    request: HttpRequest,
    link: RecruitmentLink,
    payments: list[Payment],
    *,
    asked: Any,
    now: datetime,
    identities: Identities | None = None,
    form: ExportForm | None = None,
    status: int = 200,
) -> HttpResponse:
    may_see = may_see_identities(request.user, link.study)
    shown = _shown(payments, asked)
    people = identities.people if identities else {}
    unsettled = [payment for payment in payments if not payment.is_settled]
    context = {
        **site.each_context(request),
        "title": f"Payments of {link.name}",
        "link": link,
        "listed_at": now,
        "sums": sums_of(unsettled),
        "settled": len(payments) - len(unsettled),
        "shown": shown,
        "rows": [{"payment": payment, "person": people.get(payment.annotator_id)} for payment in shown],
        "decision": _decision(asked),
        "with_identities": identities is not None,
        "unreadable": identities.unreadable if identities else 0,
        "without_rule": sorted({payment.locale for payment in payments if not payment.currency}),
        "may_see": may_see and link.kind != RecruitmentLink.Kind.DIRECT,
        "may_settle": limit_to_writable(RecruitmentLink.objects.filter(pk=link.pk), "study", request.user).exists(),
        "files": _files_of(link),
        "currencies": _currencies(payments),
        "form": form or ExportForm(),
        "readings": IdentityReading.objects.filter(study=link.study).select_related("user").order_by("-pk")[:MOST_READINGS],
    }
    return TemplateResponse(request, "admin/payments/page.html", context, status=status)


def _shown(payments: list[Payment], asked: Any) -> Any:
    """The page of payments that `asked` (`decision`, `page`) names."""
    decision = _decision(asked)
    chosen = [payment for payment in payments if payment.decision == decision] if decision else payments
    return Paginator(chosen, PAGE_SIZE).get_page(asked.get("page"))


def _decision(asked: Any) -> str:
    return asked.get("decision", "") if asked.get("decision", "") in Decision.values else ""


def _identities(request: HttpRequest, link: RecruitmentLink, payments: list[Payment], purpose: str) -> Identities:
    return read_identities(
        study=link.study,
        annotators=[payment.annotator_id for payment in payments],
        user=cast(User, request.user),
        purpose=purpose,
        now=timezone.now(),
    )


def _files_of(link: RecruitmentLink) -> list[str]:
    files = {RecruitmentLink.Kind.DIRECT: [], RecruitmentLink.Kind.PROLIFIC: ["approve", "bonus", "panel"]}
    return files.get(RecruitmentLink.Kind(link.kind), ["panel"])


def _currencies(payments: list[Payment]) -> list[str]:
    """Those in which somebody gets a bonus."""
    return sorted({payment.currency for payment in payments if is_bonus(payment) and not payment.is_settled})


def _attachment(link: RecruitmentLink, name: str) -> HttpResponse:
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{link.study.slug}-link{link.pk}-{name}.csv"'
    return response


def _moment(text: str) -> datetime | None:
    """A time with its zone; None for anything else."""
    try:
        moment = parse_datetime(text)
    except ValueError:
        return None
    return moment if moment and timezone.is_aware(moment) else None


def _link(request: HttpRequest, link_id: int) -> RecruitmentLink:
    link = limit_to_visible(RecruitmentLink.objects.select_related("study"), "study", request.user).filter(pk=link_id).first()
    if link is None:
        raise Http404("No such link, or you are not a member of its study.")
    return link
