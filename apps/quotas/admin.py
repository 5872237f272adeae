"""Quotas, their cells and the board that counts them."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.quotas.models import Placement, Quota, QuotaCell
from apps.quotas.selectors import quota_board
from apps.studies.models import Study
from apps.studies.permissions import OwnStudiesFilter, ReadOnlyAdmin, StudyScopedAdmin, StudyScopedInline


class QuotaCellInline(StudyScopedInline):
    model = QuotaCell
    fields = ("key", "strata", "target")


class QuotaForm(forms.ModelForm):
    class Meta:
        model = Quota
        fields = ("study", "key", "kind", "locales")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        study = cleaned.get("study") or self.instance.study
        if any(locale.study_id != study.pk for locale in cleaned.get("locales", ())):
            raise ValidationError({"locales": f"Choose locales of {study} only."})
        return cleaned


@admin.register(Quota)
class QuotaAdmin(StudyScopedAdmin):
    form = QuotaForm
    list_display = ("key", "study", "kind", "locale_tags", "cell_count", "target_sum", "board_link")
    list_filter = (("study", OwnStudiesFilter), "kind")
    list_select_related = ("study",)
    filter_horizontal = ("locales",)
    inlines = (QuotaCellInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return (
            super().get_queryset(request).prefetch_related("locales").annotate(cell_total=Count("cells"), target_total=Sum("cells__target"))
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("study",) if obj else ()

    @admin.display(description="locales")
    def locale_tags(self, quota: Quota) -> str:
        return ", ".join(locale.tag for locale in quota.locales.all())

    @admin.display(description="cells", ordering="cell_total")
    def cell_count(self, quota: Any) -> int:
        return quota.cell_total

    @admin.display(description="target", ordering="target_total")
    def target_sum(self, quota: Any) -> int:
        return quota.target_total or 0

    @admin.display(description="board")
    def board_link(self, quota: Quota) -> SafeString:
        return format_html('<a href="{}">Open the board of {}</a>', reverse("admin:quotas_board", args=[quota.study_id]), quota.study)

    def get_urls(self) -> list[Any]:
        return [path("board/<int:study_id>/", self.admin_site.admin_view(self.board), name="quotas_board"), *super().get_urls()]

    def board(self, request: HttpRequest, study_id: int) -> HttpResponse:
        """Target, reserved, completed, released and over per cell, counted now."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        study = Study.objects.visible_to(request.user).filter(pk=study_id).first()
        if study is None:
            raise Http404("No such study, or you are not a member of it.")
        context = {
            **self.admin_site.each_context(request),
            "title": f"Quota board of {study}",
            "opts": self.opts,
            "study": study,
            "cells": quota_board(study),
            "counted_at": timezone.now(),
        }
        return TemplateResponse(request, "admin/quotas/board.html", context)


@admin.register(Placement)
class PlacementAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    study_path = "cell__quota__study"
    list_display = ("annotator", "study", "cell", "state", "is_over", "reserved_at", "ended_at")
    list_filter = (("cell__quota__study", OwnStudiesFilter), "state", "is_over")
    list_select_related = ("annotator", "cell__quota__study")
    ordering = ("-pk",)
    fields = ("annotator", "cell", "state", "is_over", "reserved_at", "ended_at")

    @admin.display(description="study", ordering="cell__quota__study__slug")
    def study(self, placement: Placement) -> str:
        return placement.cell.quota.study.slug
