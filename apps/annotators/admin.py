"""Recruitment links and who came through them. Demographic answers are not shown here: they leave through releases only."""

import json
import shlex
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.annotators.identities import participant_parameter, sign_address, sign_message, signing_secret
from apps.annotators.models import Annotator, Consent, PanelEvent, RecruitmentLink
from apps.studies.permissions import OwnStudiesFilter, ReadOnlyAdmin, StudyScopedAdmin

Column = Callable[[Any], SafeString]
PLACEHOLDERS = ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID")  # what Prolific fills in
EXAMPLE = "example-1"
LINK_FIELDS = (
    "study", "name", "kind", "participant_parameter", "locales", "purpose", "is_open",
    "completion_code", "completion_url", "screen_out_code", "screen_out_url", "quota_full_code", "quota_full_url",
)  # fmt: skip


class RecruitmentLinkForm(forms.ModelForm):
    class Meta:
        model = RecruitmentLink
        fields = LINK_FIELDS

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        study = cleaned.get("study") or self.instance.study
        if any(locale.study_id != study.pk for locale in cleaned.get("locales", ())):
            raise ValidationError({"locales": f"Choose locales of {study} only."})
        for outcome in ("screen_out", "quota_full"):
            if "{code}" in cleaned.get(f"{outcome}_url", "") and not cleaned.get(f"{outcome}_code"):
                raise ValidationError({f"{outcome}_code": "Expected the panel's code, since the address below has a place for it."})
        return cleaned


def once_per_request(make: Callable[[HttpRequest], Column]) -> Callable[[HttpRequest], Column]:
    """Make the column that needs the request's host once, since the admin knows a column by the function itself."""

    def column(request: HttpRequest) -> Column:
        made: dict[str, Column] = request.__dict__.setdefault("link_columns", {})
        if make.__name__ not in made:
            made[make.__name__] = make(request)
        return made[make.__name__]

    return column


def to_copy(text: str) -> SafeString:
    """One click selects it."""
    return format_html('<code class="copy">{}</code>', text)


@once_per_request
def link_address(request: HttpRequest) -> Column:
    @admin.display(description="address to hand out")
    def address(link: RecruitmentLink) -> SafeString:
        url = request.build_absolute_uri(reverse("annotation:join", args=[link.token]))
        if link.kind == RecruitmentLink.Kind.PROLIFIC:
            names = (participant_parameter(link), "STUDY_ID", "SESSION_ID")
            url += "?" + "&".join(f"{name}={{{{%{place}%}}}}" for name, place in zip(names, PLACEHOLDERS, strict=True))
        return to_copy(url)

    return address


@once_per_request
def example_address(request: HttpRequest) -> Column:
    @admin.display(description="example of a signed address, for a day")
    def address(link: RecruitmentLink) -> SafeString:
        stamp = str(int(timezone.now().timestamp()))
        signature = sign_address(link=link, participant=EXAMPLE, session="s1", stamp=stamp)
        query = urlencode({participant_parameter(link): EXAMPLE, "session": "s1", "ts": stamp, "sig": signature})
        return to_copy(f"{request.build_absolute_uri(reverse('annotation:join', args=[link.token]))}?{query}")

    return address


@once_per_request
def example_message(request: HttpRequest) -> Column:
    @admin.display(description="example of a status message, for five minutes")
    def message(link: RecruitmentLink) -> SafeString:
        body = json.dumps({"event_id": "event-1", "participant": EXAMPLE, "status": "returned"})
        signature = sign_message(link=link, body=body.encode(), stamp=int(timezone.now().timestamp()))
        url = request.build_absolute_uri(reverse("annotation:panel_status", args=[link.token]))
        headers = ["Content-Type: application/json", f"X-Polyphony-Signature: {signature}"]
        return to_copy(shlex.join(["curl", url, *(part for header in headers for part in ("-H", header)), "-d", body]))

    return message


@admin.register(RecruitmentLink)
class RecruitmentLinkAdmin(StudyScopedAdmin):
    form = RecruitmentLinkForm
    list_filter = (("study", OwnStudiesFilter), "is_open", "kind", "purpose")
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
        return ("name", "study", "locale_tags", link_address(request), "kind", "purpose", "is_open", "joined", "completed", "payments_link")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[Any, ...]:
        """What the kind of link needs; a new one shows everything until it has a kind."""
        if obj is None:
            return LINK_FIELDS
        is_direct = obj.kind == RecruitmentLink.Kind.DIRECT
        fields = tuple(field for field in LINK_FIELDS if not (is_direct and field == "participant_parameter"))
        return (link_address(request), *fields, *self._secrets(request, obj))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[Any, ...]:
        if obj is None:
            return ()
        fixed = ("study", "kind", "participant_parameter") if obj.annotators.exists() else ("study",)
        return (*fixed, link_address(request), *self._secrets(request, obj))

    def _secrets(self, request: HttpRequest, link: RecruitmentLink) -> tuple[Any, ...]:
        """What the panel needs to sign, for those who may change the link."""
        if link.kind == RecruitmentLink.Kind.DIRECT or not self.has_change_permission(request, link):
            return ()
        address = (example_address(request),) if link.kind == RecruitmentLink.Kind.PANEL else ()
        return ("secret", *address, example_message(request))

    @admin.display(description="signing secret")
    def secret(self, link: RecruitmentLink) -> SafeString:
        return to_copy(signing_secret(link))

    @admin.display(description="payments")
    def payments_link(self, link: RecruitmentLink) -> SafeString:
        return format_html('<a href="{}">Payments</a>', reverse("admin:payments", args=[link.pk]))

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


@admin.register(Annotator)
class AnnotatorAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    """Where each person stands. Their resume link, answers and outside identity are not shown."""

    list_display = (
        "__str__",
        "study",
        "locale",
        "state",
        "end_reason",
        "wave",
        "device_class",
        "recruitment_link",
        "link_kind",
        "conversation_count",
        "joined_at",
        "ended_at",
    )
    list_filter = (
        ("study", OwnStudiesFilter),
        "state",
        "end_reason",
        "wave",
        ("study_locale", OwnStudiesFilter),
        "recruitment_link__kind",
        "device_class",
    )
    list_select_related = ("study", "study_locale", "recruitment_link")
    date_hierarchy = "joined_at"
    ordering = ("-pk",)
    fields = (
        "study", "study_locale", "recruitment_link", "link_kind", "state", "end_reason", "wave", "device_class", "time_zone",
        "completion_code",
        "joined_at", "admitted_at", "active_at", "guideline_read_at", "practice_tries", "practice_passed_at", "ended_at",
    )  # fmt: skip
    search_fields = ("completion_code",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).annotate(conversation_total=Count("conversations"))

    @admin.display(description="locale", ordering="study_locale")
    def locale(self, annotator: Annotator) -> str:
        return annotator.study_locale.tag

    @admin.display(description="kind of link", ordering="recruitment_link__kind")
    def link_kind(self, annotator: Annotator) -> str:
        return annotator.recruitment_link.get_kind_display()

    @admin.display(description="conversations", ordering="conversation_total")
    def conversation_count(self, annotator: Any) -> int:
        return annotator.conversation_total


@admin.register(PanelEvent)
class PanelEventAdmin(ReadOnlyAdmin, StudyScopedAdmin):
    """What panels have told. Whom by their own number, only the panel knows."""

    study_path = "link__study"
    list_display = ("event_id", "study", "link", "status", "annotator", "had_effect", "received_at")
    list_filter = (("link__study", OwnStudiesFilter), "status", "had_effect")
    list_select_related = ("link__study", "annotator")
    date_hierarchy = "received_at"
    ordering = ("-pk",)
    fields = ("event_id", "link", "status", "annotator", "had_effect", "received_at")

    @admin.display(description="study", ordering="link__study__slug")
    def study(self, event: PanelEvent) -> str:
        return event.link.study.slug


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
