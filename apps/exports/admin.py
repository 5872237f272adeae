"""Releases in the admin: build, watch, download."""

from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join

from apps.accounts.models import User
from apps.core.errors import DomainError
from apps.exports import downloads
from apps.exports.forms import BuildReleaseForm
from apps.exports.models import Release
from apps.exports.selectors import current_watermark, release_size
from apps.exports.services import request_release
from apps.studies.models import Study
from apps.studies.permissions import ReadOnlyAdmin, StudyScopedAdmin


@admin.register(Release)
class ReleaseAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    """Rows are made by *Build release* and never edited. Members of the study see and download them."""

    study_path = "study"
    list_display = ("__str__", "schema", "state", "comparisons", "built_at", "built_by")
    list_filter = ("state", "schema")
    list_select_related = ("study", "built_by")
    ordering = ("-created_at",)
    fields = ("study", "number", "schema", "formats", "state", "error", "files", "built_at", "built_by", "manifest")
    readonly_fields = fields
    change_list_template = "admin/exports/release/change_list.html"

    def get_urls(self) -> list[URLPattern]:
        return [
            path("build/", self.admin_site.admin_view(self.build_view), name="exports_release_build"),
            path("<path:object_id>/download/", self.admin_site.admin_view(self.zip_view), name="exports_release_zip"),
            path("<path:object_id>/download/<str:name>", self.admin_site.admin_view(self.file_view), name="exports_release_file"),
            *super().get_urls(),
        ]

    def has_build_permission(self, request: HttpRequest) -> bool:
        """Adding is refused by `ReadOnlyAdmin`, so that the only way to a release is the build page."""
        return request.user.has_perm("exports.add_release")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        return super().changelist_view(request, {"may_build": self.has_build_permission(request), **(extra_context or {})})

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        response = super().change_view(request, object_id, form_url, extra_context)
        release = self.get_object(request, unquote(object_id))
        if release is not None and release.state == Release.State.BUILDING:
            response["Refresh"] = "3"
        return response

    def build_view(self, request: HttpRequest) -> HttpResponse:
        """What each study would give, and the form that starts a build."""
        if not self.has_build_permission(request):
            raise PermissionDenied
        form = BuildReleaseForm(request.POST or None, user=request.user)
        if request.method == "POST" and form.is_valid():
            try:
                release = request_release(**form.cleaned_data, built_by=cast(User, request.user))
            except DomainError as error:
                form.add_error("schema", str(error))
            else:
                messages.success(request, f"{release} is being built. This page shows when it is ready.")
                return HttpResponseRedirect(reverse("admin:exports_release_change", args=[release.pk]))
        watermark = current_watermark()
        sizes = [(study, release_size(study, watermark)) for study in Study.objects.visible_to(request.user).order_by("slug")]
        context = {**self.admin_site.each_context(request), "title": "Build release", "opts": self.opts, "form": form, "sizes": sizes}
        return render(request, "admin/exports/release/build.html", context, status=400 if form.errors else 200)

    def zip_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        return downloads.zip_response(self._visible(request, object_id))

    def file_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponseBase:
        return downloads.file_response(self._visible(request, object_id), name)

    def _visible(self, request: HttpRequest, object_id: str) -> Release:
        """A release of one of the user's studies; any other looks as if it did not exist."""
        release = self.get_object(request, unquote(object_id))
        if release is None or not self.has_view_permission(request, release):
            raise Http404("There is no such release in your studies.")
        return release

    @admin.display(description="comparisons")
    def comparisons(self, release: Release) -> Any:
        return release.manifest.get("counts", {}).get("comparisons", "–")

    @admin.display(description="download")
    def files(self, release: Release) -> Any:
        names = downloads.file_names(release)
        if not names:
            return "Written by the command line into a folder of its own." if release.state == Release.State.BUILT else "Not built yet."
        everything = format_html('<a href="{}">Everything (zip)</a>', reverse("admin:exports_release_zip", args=[release.pk]))
        links = format_html_join(
            "", '<br><a href="{}">{}</a>', ((reverse("admin:exports_release_file", args=[release.pk, name]), name) for name in names)
        )
        return everything + links
