"""Recruitment links and who came through them. Demographic answers are not shown here: they leave through releases only."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.annotators.models import Annotator, Consent, RecruitmentLink
from apps.studies.permissions import OwnStudiesFilter, ReadOnlyAdmin, StudyScopedAdmin


class RecruitmentLinkForm(forms.ModelForm):
    class Meta:
        model = RecruitmentLink
        fields = ("study", "name", "locales", "purpose", "is_open", "completion_url", "screen_out_url", "quota_full_url")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        study = cleaned.get("study") or self.instance.study
        if any(locale.study_id != study.pk for locale in cleaned.get("locales", ())):
            raise ValidationError({"locales": f"Choose locales of {study} only."})
        return cleaned


@admin.register(RecruitmentLink)
class RecruitmentLinkAdmin(StudyScopedAdmin):
    form = RecruitmentLinkForm
    list_filter = (("study", OwnStudiesFilter), "is_open", "purpose")
    list_select_related = ("study",)
    filter_horizontal = ("locales",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return (
            super()
            .get_queryset(request)
            .prefetch_related("locales")
            .annotate(
                joined_total=Count("annotators", distinct=True),
                completed_total=Count("annotators", filter=Q(annotators__state=Annotator.State.COMPLETED), distinct=True),
            )
        )

    def get_list_display(self, request: HttpRequest) -> tuple[Any, ...]:
        return ("name", "study", "locale_tags", link_address(request), "purpose", "is_open", "joined", "completed")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[Any, ...]:
        fields = ("study", "name", "locales", "purpose", "is_open", "completion_url", "screen_out_url", "quota_full_url")
        return (link_address(request), *fields) if obj else fields

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[Any, ...]:
        return ("study", link_address(request)) if obj else ()

    @admin.display(description="locales")
    def locale_tags(self, link: RecruitmentLink) -> str:
        return ", ".join(locale.tag for locale in link.locales.all())

    @admin.display(description="joined", ordering="joined_total")
    def joined(self, link: Any) -> int:
        return link.joined_total

    @admin.display(description="completed", ordering="completed_total")
    def completed(self, link: Any) -> int:
        return link.completed_total

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # people came through it: close it instead


def link_address(request: HttpRequest) -> Callable[[Any], SafeString]:
    """A column with the link's whole address on this host; one click selects it. The same function for the whole request."""

    @admin.display(description="address to hand out")
    def address(link: RecruitmentLink) -> SafeString:
        url = request.build_absolute_uri(reverse("annotation:join", args=[link.token]))
        return format_html('<code class="copy">{}</code>', url)

    if not hasattr(request, "link_address"):
        request.link_address = address  # type: ignore[attr-defined]
    column: Callable[[Any], SafeString] = request.link_address  # type: ignore[attr-defined]
    return column


@admin.register(Annotator)
class AnnotatorAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    """Where each person stands. Their resume link, answers and outside identity are not shown."""

    list_display = (
        "__str__",
        "study",
        "locale",
        "state",
        "device_class",
        "recruitment_link",
        "conversation_count",
        "joined_at",
        "ended_at",
    )
    list_filter = (("study", OwnStudiesFilter), "state", ("study_locale", OwnStudiesFilter), "device_class")
    list_select_related = ("study", "study_locale", "recruitment_link")
    date_hierarchy = "joined_at"
    ordering = ("-pk",)
    fields = (
        "study", "study_locale", "recruitment_link", "state", "wave", "device_class", "completion_code",
        "joined_at", "guideline_read_at", "practice_tries", "practice_passed_at", "ended_at",
    )  # fmt: skip
    search_fields = ("completion_code",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).annotate(conversation_total=Count("conversations"))

    @admin.display(description="locale", ordering="study_locale")
    def locale(self, annotator: Annotator) -> str:
        return annotator.study_locale.tag

    @admin.display(description="conversations", ordering="conversation_total")
    def conversation_count(self, annotator: Any) -> int:
        return annotator.conversation_total


@admin.register(Consent)
class ConsentAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    study_path = "annotator__study"
    list_display = ("annotator", "study", "consent_form", "granted", "language", "given_at")
    list_filter = (("annotator__study", OwnStudiesFilter), "granted", "language")
    list_select_related = ("annotator__study", "consent_form__study_locale")
    ordering = ("-pk",)
    fields = ("annotator", "consent_form", "granted", "language", "text_hash", "given_at")

    @admin.display(description="study", ordering="annotator__study__slug")
    def study(self, consent: Consent) -> str:
        return consent.annotator.study.slug
