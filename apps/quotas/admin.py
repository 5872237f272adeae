"""Quotas, their cells and the places in them."""

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, QuerySet, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.accounts.models import User
from apps.quotas.errors import PeopleAdmitted, TargetChanged
from apps.quotas.models import Placement, Quota, QuotaCell
from apps.quotas.services import check_nobody_admitted, set_target
from apps.quotas.services.targets import target_changed
from apps.quotas.table_pages import TablePages
from apps.studies.permissions import OwnStudiesFilter, ReadOnlyAdmin, StudyScopedAdmin, StudyScopedInline


class QuotaCellForm(forms.ModelForm):
    """A cell whose target is changed only from the value that the page showed."""

    seen_version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = QuotaCell
        fields = ("key", "strata", "target")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["seen_version"].initial = self.instance.version

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        current = QuotaCell.objects.filter(pk=self.instance.pk).first()
        if current is not None and "target" in self.changed_data and cleaned.get("seen_version") != current.version:
            raise ValidationError({"target": str(target_changed(current))})
        return cleaned


class QuotaCellInline(StudyScopedInline):
    """Cells. Once people hold places, only targets change, as in study files."""

    model = QuotaCell
    form = QuotaCellForm
    fields = ("key", "strata", "target", "seen_version")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("key", "strata") if self._is_in_use(obj) else ()

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_add_permission(request, obj) and not self._is_in_use(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not self._is_in_use(obj)

    @staticmethod
    def _is_in_use(quota: Any) -> bool:
        return isinstance(quota, Quota) and quota.pk is not None and quota.placements.exists()


class QuotaForm(forms.ModelForm):
    class Meta:
        model = Quota
        fields = ("study", "key", "kind", "locales", "no_cell", "outside_share")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        study = cleaned.get("study") or self.instance.study
        if any(locale.study_id != study.pk for locale in cleaned.get("locales", ())):
            raise ValidationError({"locales": f"Choose locales of {study} only."})
        covered = set(self.instance.locales.all()) if self.instance.pk else set()
        try:
            check_nobody_admitted(set(cleaned.get("locales", ())) - covered)
        except PeopleAdmitted as refused:
            raise ValidationError({"locales": str(refused)}) from refused
        return cleaned


@admin.register(Quota)
class QuotaAdmin(TablePages, StudyScopedAdmin):
    form = QuotaForm
    change_list_template = "admin/quotas/quota/change_list.html"
    fields = ("study", "key", "kind", "locales", "no_cell", "outside_share", "table_facts")
    list_display = ("key", "study", "kind", "locale_tags", "cell_count", "target_sum", "table", "board_link")
    list_filter = (("study", OwnStudiesFilter), "kind")
    list_select_related = ("study", "table")
    filter_horizontal = ("locales",)
    inlines = (QuotaCellInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return (
            super().get_queryset(request).prefetch_related("locales").annotate(cell_total=Count("cells"), target_total=Sum("cells__target"))
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("study", "table_facts") if obj else ("table_facts",)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Edited targets go through the service, which guards and logs them; everything else is saved as it stands."""
        edited = [
            (cell_form.instance.pk, cell_form.cleaned_data["target"], cell_form.cleaned_data["seen_version"])
            for cell_form in formset.initial_forms
            if "target" in cell_form.changed_data and not cell_form.cleaned_data.get("DELETE")
        ]
        stored = {cell.pk: cell for cell in QuotaCell.objects.filter(pk__in=[pk for pk, _, _ in edited])}
        for cell_form in formset.initial_forms:
            if cell_form.instance.pk in stored:
                cell_form.instance.target = stored[cell_form.instance.pk].target
                cell_form.instance.version = stored[cell_form.instance.pk].version
        super().save_formset(request, form, formset, change)
        for pk, target, version in edited:
            try:
                set_target(cell=stored[pk], target=target, version=version, user=cast(User, request.user), now=timezone.now())
            except TargetChanged as changed:
                self.message_user(request, str(changed), messages.ERROR)

    @admin.display(description="population table")
    def table_facts(self, quota: Quota) -> SafeString:
        """Where the targets come from."""
        table = quota.table
        if table is None:
            return format_html("{}", "none: the targets were set by hand")
        grade = table.get_grade_display() or "no grade"
        return format_html(
            "{} of {} people, {}; {}<br>{}<br>{}", table.key, quota.total or "?", table.year or "no year", grade, table.source, table.note
        )

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
        return format_html('<a href="{}">Open the board of {}</a>', reverse("admin:board", args=[quota.study_id]), quota.study)


@admin.register(Placement)
class PlacementAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    study_path = "quota__study"
    list_display = ("annotator", "study", "quota", "place", "state", "release_reason", "is_over", "reserved_at", "ended_at")
    list_filter = (("quota__study", OwnStudiesFilter), "state", "release_reason", "is_over")
    list_select_related = ("annotator", "cell", "quota__study")
    ordering = ("-pk",)
    fields = ("annotator", "quota", "cell", "state", "release_reason", "is_over", "reserved_at", "ended_at")

    @admin.display(description="study", ordering="quota__study__slug")
    def study(self, placement: Placement) -> str:
        return placement.quota.study.slug

    @admin.display(description="cell")
    def place(self, placement: Placement) -> str:
        return placement.cell.key if placement.cell else "outside the cells"
