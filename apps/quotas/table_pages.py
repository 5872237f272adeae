"""Admin pages that make quotas from population tables: built-in ones to pick from, and a researcher's own from CSV."""

from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse

from apps.quotas.errors import PeopleAdmitted
from apps.quotas.models import Quota
from apps.quotas.population import Table, TableRefused, read_own_table
from apps.quotas.selectors import answers_before_tasks, unknown_strata, usable_tables
from apps.quotas.services import check_nobody_admitted, make_quota, make_quotas
from apps.quotas.services.making import MOST_PEOPLE, SUGGESTED_OUTSIDE_SHARE, quota_key, suggested_kind
from apps.studies.models import Study, StudyLocale
from apps.studies.permissions import limit_to_writable

MAX_BYTES = 1024 * 1024


class CountryForm(forms.Form):
    """Which country of which study, and how many people."""

    country = forms.ChoiceField(label="Study and country")
    total = forms.IntegerField(label="People in all", min_value=1, max_value=MOST_PEOPLE, initial=100)

    def __init__(self, *args: Any, studies: list[Study], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.locales: dict[str, list[StudyLocale]] = {}
        for locale in StudyLocale.objects.filter(study__in=studies).select_related("study").order_by("study__slug", "pk"):
            self.locales.setdefault(f"{locale.study_id}-{locale.country}", []).append(locale)
        self.fields["country"].choices = [  # type: ignore[attr-defined]
            (key, f"{locales[0].study}: {', '.join(locale.tag for locale in locales)}") for key, locales in self.locales.items()
        ]

    def chosen_locales(self) -> list[StudyLocale]:
        return self.locales[self.cleaned_data["country"]]


class OwnTableForm(CountryForm):
    """A table of the researcher's own, pasted or from a file."""

    key = forms.SlugField(label="Key of the quota", max_length=60)
    kind = forms.ChoiceField(label="Kind", choices=Quota.Kind.choices)
    year = forms.CharField(label="Year", max_length=20, required=False)
    source = forms.CharField(label="Source", max_length=500, required=False)
    file = forms.FileField(label="CSV file", required=False)
    text = forms.CharField(
        label="… or its lines",
        required=False,
        widget=forms.Textarea(attrs={"rows": 12, "cols": 80, "placeholder": "stratum,share,gender\nwomen,0.52,female\nmen,0.48,male"}),
    )
    table: Table

    field_order = ["country", "total", "key", "kind", "year", "source", "file", "text"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if self.errors:
            return cleaned
        cleaned["text"] = self._text(cleaned.get("file")) or cleaned["text"]
        locales = self.chosen_locales()
        try:
            self.table = read_own_table(
                cleaned["text"], key=cleaned["key"], country=locales[0].country, year=cleaned["year"], source=cleaned["source"]
            )
        except TableRefused as refused:
            raise ValidationError({"text": refused.extra["problems"]}) from refused
        known = answers_before_tasks(locales)
        unknown = [
            f"{stratum.key}: no question before the tasks offers {', '.join(strata)} in every locale."
            for stratum in self.table.strata
            if (strata := unknown_strata(stratum.strata, known))
        ]
        if unknown:
            raise ValidationError({"text": unknown})
        if locales[0].study.quotas.filter(key=cleaned["key"]).exists():
            raise ValidationError({"key": "The study has a quota with this key."})
        try:
            check_nobody_admitted(locales)
        except PeopleAdmitted as refused:
            raise ValidationError(str(refused)) from refused
        return cleaned

    def save(self) -> Quota:
        """The quota that the form describes; a second press finds it made."""
        locales, kind = self.chosen_locales(), self.cleaned_data["kind"]
        with transaction.atomic():
            study = Study.objects.select_for_update().get(pk=locales[0].study_id)
            made = study.quotas.filter(key=self.cleaned_data["key"]).first()
            return made or make_quota(
                study=study,
                table=self.table,
                key=self.cleaned_data["key"],
                kind=kind,
                total=self.cleaned_data["total"],
                locales=locales,
                outside_share=SUGGESTED_OUTSIDE_SHARE if kind == Quota.Kind.HARD else None,
            )

    def _text(self, file: UploadedFile | None) -> str:
        if file is None:
            return ""
        if (file.size or 0) > MAX_BYTES:
            raise ValidationError({"file": "Expected at most 1 MB."})
        try:
            return file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValidationError({"file": "Expected UTF-8 text."}) from error


class TablePages:
    """Adds the two pages to the admin of quotas. Both show the rounded targets before anything is saved."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view  # type: ignore[attr-defined]
        return [
            path("from-tables/", view(self.from_tables), name="quotas_from_tables"),
            path("own-table/", view(self.own_table), name="quotas_own_table"),
            *super().get_urls(),  # type: ignore[misc]
        ]

    def from_tables(self, request: HttpRequest) -> HttpResponse:
        """Pick built-in tables for a country of a study. What was picked stands in the address until it is saved."""
        form = CountryForm(request.GET or None, studies=self._studies(request))
        offers: list[dict[str, Any]] = []
        refusal = ""
        if form.is_bound and form.is_valid():
            locales, total = form.chosen_locales(), form.cleaned_data["total"]
            taken = set(locales[0].study.quotas.values_list("key", flat=True))
            offers = [
                {"table": table, "kind": suggested_kind(table), "targets": zip(table.strata, table.targets(total), strict=True)}
                for table in usable_tables(locales)
                if quota_key(table) not in taken
            ]
            picked = set(request.POST.getlist("table"))
            try:
                if request.method == "POST" and picked:
                    make_quotas(study=locales[0].study, country=locales[0].country, total=total, tables=picked)
                    return self._made(request, locales[0].study)
                check_nobody_admitted(locales)
            except PeopleAdmitted as refused:
                refusal = str(refused)
        context = {"form": form, "offers": offers, "was_asked": form.is_bound and form.is_valid(), "refusal": refusal}
        return self._page(request, "admin/quotas/from_tables.html", "Quotas from population tables", context)

    def own_table(self, request: HttpRequest) -> HttpResponse:
        """A table from CSV, first shown with its targets, then saved from the same lines."""
        form = OwnTableForm(request.POST or None, request.FILES or None, studies=self._studies(request))
        targets: list[Any] = []
        if form.is_bound and form.is_valid():
            total = form.cleaned_data["total"]
            if "save" in request.POST:
                try:
                    form.save()
                    return self._made(request, form.chosen_locales()[0].study)
                except PeopleAdmitted as refused:  # somebody came in since the form was checked
                    form.add_error(None, str(refused))
            else:
                targets = list(zip(form.table.strata, form.table.targets(total), strict=True))
                form = OwnTableForm(initial=form.cleaned_data | {"file": None}, studies=self._studies(request))
        return self._page(request, "admin/quotas/own_table.html", "Quota from a table of your own", {"form": form, "targets": targets})

    def _studies(self, request: HttpRequest) -> list[Study]:
        studies = list(limit_to_writable(Study.objects.all(), "", request.user))
        if not studies:
            raise PermissionDenied
        return studies

    def _made(self, request: HttpRequest, study: Study) -> HttpResponse:
        self.message_user(request, "The quotas are made. Kinds and targets can be changed here.")  # type: ignore[attr-defined]
        return redirect(f"{reverse('admin:quotas_quota_changelist')}?study__id__exact={study.pk}")

    def _page(self, request: HttpRequest, template: str, title: str, context: dict[str, Any]) -> HttpResponse:
        shared = {**self.admin_site.each_context(request), "title": title, "opts": self.opts}  # type: ignore[attr-defined]
        return TemplateResponse(request, template, shared | context)
