"""Balance rules, which study files make, and the page that puts the sample beside the population."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.quality.balance import RULE
from apps.quality.models import BalanceRule
from apps.quality.raking import WEIGHT_RULE
from apps.quality.selectors import SMALL_CELL, current_rule, representativeness
from apps.quality.tables import chart_of, write_comparison_csv
from apps.studies.models import Study
from apps.studies.permissions import OwnStudiesFilter, ReadOnlyAdmin, StudyScopedAdmin


@admin.register(BalanceRule)
class BalanceRuleAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    """Every version, to be looked at: the newest is in force, and a study file makes the next."""

    list_display = ("study", "version", "locale_sets", "seed", "min_annotators", "created_at", "page_link")
    list_display_links = ("version",)
    list_filter = (("study", OwnStudiesFilter),)
    list_select_related = ("study",)
    ordering = ("study__slug", "-version")
    fields = ("study", "version", "locale_sets", "seed", "min_annotators", "max_weight", "fingerprint", "created_by", "created_at")
    change_list_template = "admin/quality/balancerule/change_list.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        related = ("margins__table", "margins__locales", "margins__raking_tables__table")
        return super().get_queryset(request).prefetch_related(*related)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.fields

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.representativeness)
        return [path("representativeness/<int:study_id>/", view, name="quality_representativeness"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        studies = Study.objects.visible_to(request.user).order_by("slug")
        return super().changelist_view(request, {"studies": studies, **(extra_context or {})})

    @admin.display(description="sets of locales")
    def locale_sets(self, rule: BalanceRule) -> SafeString | str:
        lines = [
            (
                ", ".join(sorted(locale.tag for locale in margin.locales.all())),
                ", ".join([margin.table.key, *(each.table.key for each in margin.raking_tables.all())]),
            )
            for margin in rule.margins.all()
        ]
        return format_html_join("; ", "{}: {}", lines) or "none: nothing is balanced"

    @admin.display(description="sample")
    def page_link(self, rule: BalanceRule) -> SafeString:
        return format_html('<a href="{}">Representativeness</a>', reverse("admin:quality_representativeness", args=[rule.study_id]))

    def representativeness(self, request: HttpRequest, study_id: int) -> HttpResponse:
        """Sample against target, counted now; `?format=csv` the figures as a file."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        study = Study.objects.visible_to(request.user).filter(pk=study_id).first()
        if study is None:
            raise Http404("No such study, or you are not a member of it.")
        sets = representativeness(study)
        if request.GET.get("format") == "csv":
            response = HttpResponse(content_type="text/csv; charset=utf-8")
            response["Content-Disposition"] = f'attachment; filename="{study.slug}-representativeness.csv"'
            write_comparison_csv(response, sets)
            return response
        rule = current_rule(study)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Representativeness of {study}",
            "opts": self.opts,
            "study": study,
            "rule": rule if rule and rule.margins.all() else None,
            "rule_text": RULE,
            "weight_text": WEIGHT_RULE,
            "sets": [(each, [(compared, chart_of(compared)) for compared in each.tables]) for each in sets],
            "small_cell": SMALL_CELL,
        }
        return TemplateResponse(request, "admin/quality/representativeness.html", context)
