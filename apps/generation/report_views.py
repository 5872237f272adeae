"""Report pages of the desk: diversity and value coverage of a study's candidate sets. `ReportUrls` hooks them into an admin class."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.generation.judging import bank_labels
from apps.generation.measures.agreement import CLOSE
from apps.generation.measures.coverage import HIGH_POLE, LOW_POLE, PUBLISHED
from apps.generation.plots import coverage_plot, diversity_plot
from apps.generation.reporting import (
    OFFLINE_WARNING,
    coverage_rows,
    diversity_rows,
    is_offline,
    judge_agreement,
    judge_standing,
    speaks_offline,
    unready_arms,
)
from apps.generation.services.judging import NoJudge, judge_of
from apps.generation.tables import write_diversity_csv
from apps.studies.models import Study

# Sets that a page reads per recipe and language; the command reads all.
MOST_SETS = 300


class ReportUrls:
    """Mixin for the admin of recipes: `admin:generation_diversity` and `admin:generation_coverage`, each with a study's id."""

    admin_site: admin.AdminSite
    opts: Any

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view
        return [
            path("diversity/<int:study_id>/", view(self.diversity_page), name="generation_diversity"),
            path("coverage/<int:study_id>/", view(self.coverage_page), name="generation_coverage"),
            *super().get_urls(),  # type: ignore[misc]
        ]

    @admin.display(description="reports")
    def reports(self, row: Any) -> SafeString:
        """Links for the list of an admin class whose rows have a `study_id`."""
        return format_html(
            '<a href="{}">Diversity of {study}</a>, <a href="{}">coverage of {study}</a>',
            reverse("admin:generation_diversity", args=[row.study_id]),
            reverse("admin:generation_coverage", args=[row.study_id]),
            study=row.study,
        )

    def diversity_page(self, request: HttpRequest, study_id: int) -> HttpResponse:
        """The plot and table; `?format=csv` the table as a file."""
        study = self._study(request, study_id)
        rows = diversity_rows(study, most_sets=MOST_SETS)
        unready = unready_arms(study)
        if request.GET.get("format") == "csv":
            response = HttpResponse(content_type="text/csv; charset=utf-8")
            response["Content-Disposition"] = f'attachment; filename="{study.slug}-diversity.csv"'
            write_diversity_csv(response, rows, unready)
            return response
        context = {
            "rows": rows,
            "unready": unready,
            "plot": diversity_plot(rows),
            "is_sample": any(row.sets < row.ready for row in rows),
            "most_sets": MOST_SETS,
        }
        return self._page(request, study, "diversity", f"Diversity of the candidates of {study}", context)

    def coverage_page(self, request: HttpRequest, study_id: int) -> HttpResponse:
        """Agreement with the labels of the offline banks first; without a labelled text, coverage waits for `?unchecked=1`."""
        study = self._study(request, study_id)
        title = f"Value coverage of the candidates of {study}"
        try:
            judge = judge_of(study)
        except NoJudge as error:
            return self._page(request, study, "coverage", title, {"no_judge": str(error)})
        labels = bank_labels()
        agreement = judge_agreement(study, judge.model_spec, judge.rubric, labels)
        standing = judge_standing(study, judge.model_spec, judge.rubric, labels, agreement)
        scored = standing.scored + standing.unlabelled
        shown = bool(agreement) or (scored > 0 and request.GET.get("unchecked") == "1")
        rows = coverage_rows(study, judge.model_spec, judge.rubric) if shown else []
        context = {
            "judge": judge,
            "agreement": agreement,
            "standing": standing,
            "is_scored": scored > 0,
            "is_circular": is_offline(judge.model_spec),
            "close": CLOSE,
            "is_shown": shown,
            "rows": rows,
            "plot": coverage_plot(rows),
            "low_pole": LOW_POLE,
            "high_pole": HIGH_POLE,
            "published": [(name, f"{low:.0%}", f"{high:.0%}") for name, (low, high) in PUBLISHED.items()],
        }
        return self._page(request, study, "coverage", title, context)

    def _study(self, request: HttpRequest, study_id: int) -> Study:
        if not self.has_view_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        study = Study.objects.visible_to(request.user).filter(pk=study_id).first()
        if study is None:
            raise Http404("No such study, or you are not a member of it.")
        return study

    def _page(self, request: HttpRequest, study: Study, name: str, title: str, context: dict[str, Any]) -> HttpResponse:
        judge = context.get("judge")
        is_offline = speaks_offline(study, judge.model_spec if judge else None)
        everywhere = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "study": study,
            "offline_warning": OFFLINE_WARNING if is_offline else "",
        }
        return TemplateResponse(request, f"admin/generation/reports/{name}.html", {**everywhere, **context})
