"""Studies, their locales, design, texts, members and tokens."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from apps.studies.models import (
    ApiToken,
    ConsentForm,
    Guideline,
    Option,
    PayRule,
    PracticeTask,
    Question,
    Questionnaire,
    Study,
    StudyLocale,
    StudyMembership,
    TaskDesign,
    TurnDesign,
)
from apps.studies.permissions import (
    OwnStudiesFilter,
    StudyScopedAdmin,
    StudyScopedInline,
    StudyScopedStackedInline,
    roles_of,
    user_id,
)


def in_each_language(field: str) -> tuple[str, ...]:
    """The columns of a translated field, for example ("title_en", "title_fr", …)."""
    return tuple(f"{field}_{language}" for language in settings.CONTENT_LANGUAGES)


class StudyLocaleInline(StudyScopedInline):
    model = StudyLocale
    draft_only = True
    fields = ("country", "language", "name", "published_country", "time_zone", "explanation_min_words")


class TaskDesignInline(StudyScopedInline):
    model = TaskDesign
    draft_only = True
    fields = ("min_turns", "max_turns", "explanation_policy", "explanation_min_words")
    show_change_link = True


class MembershipInline(StudyScopedInline):
    """Only owners (and superusers) say who is a member: anybody else could make himself one."""

    model = StudyMembership
    fields = ("user", "role", "may_see_identities")
    writers = frozenset({StudyMembership.Role.OWNER.value})


def pk_in_address(request: HttpRequest) -> int:
    """The key of the row whose page is asked for; 0, which none has, elsewhere."""
    text = request.resolver_match.kwargs.get("object_id", "") if request.resolver_match else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else 0


@admin.register(Study)
class StudyAdmin(StudyScopedAdmin):
    study_path = ""
    list_display = ("slug", "state", "organisation", "locale_count", "member_count", "opened_at")
    list_filter = ("state",)
    search_fields = ("slug",)
    filter_horizontal = ("excluded_studies",)
    inlines = (StudyLocaleInline, TaskDesignInline, MembershipInline)
    fieldsets = (
        (None, {"fields": ("slug", "state", "opened_at", "organisation", "contact_email")}),
        ("Title, as annotators read it", {"fields": in_each_language("title")}),
        ("Invitation to write an own first message", {"fields": in_each_language("invitation"), "classes": ("collapse",)}),
        (
            "Session",
            {
                "fields": (
                    "session_minutes",
                    "retention_months",
                    "conversations_per_annotator",
                    "min_conversations",
                    "max_conversations_per_day",
                    "own_prompt_share",
                    "lease_minutes",
                    "place_hours",
                )
            },
        ),
        ("Sample", {"fields": ("overlap", "prompts_per_wave", "seed", "wave", "excluded_studies")}),
    )
    # Named in consents already given, in queue orders already drawn or in releases: fixed once the study has left the draft.
    fixed_when_open = (
        "slug",
        "organisation",
        "contact_email",
        "session_minutes",
        "retention_months",
        "overlap",
        "prompts_per_wave",
        "seed",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return (
            super()
            .get_queryset(request)
            .annotate(locale_total=Count("locales", distinct=True), member_total=Count("memberships", distinct=True))
        )

    @admin.display(description="locales", ordering="locale_total")
    def locale_count(self, study: Any) -> int:
        return study.locale_total

    @admin.display(description="members", ordering="member_total")
    def member_count(self, study: Any) -> int:
        return study.member_total

    def get_readonly_fields(self, request: HttpRequest, obj: Study | None = None) -> tuple[str, ...]:
        fixed = self.fixed_when_open if obj is not None and obj.state != Study.State.DRAFT else ()
        return ("opened_at", *fixed)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Excluded studies: one's own, and those that a co-owner has chosen, which saving must not drop."""
        study = Study.objects.filter(pk=pk_in_address(request)).first()
        chosen = study.excluded_studies.all() if study else Study.objects.none()
        offered = Study.objects.filter(Q(pk__in=Study.objects.visible_to(request.user)) | Q(pk__in=chosen))
        offered = offered.exclude(pk=study.pk if study else 0).order_by("slug")
        return super().formfield_for_manytomany(db_field, request, **{**kwargs, "queryset": offered})

    def has_module_permission(self, request: HttpRequest) -> bool:
        return True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None or super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True  # whoever may log in here may start a study, and owns it

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is None or request.user.is_superuser:
            return super().has_delete_permission(request, obj) and (obj is None or obj.state == Study.State.DRAFT)
        return roles_of(request).get(obj.pk) == StudyMembership.Role.OWNER and obj.state == Study.State.DRAFT

    def save_model(self, request: HttpRequest, obj: Study, form: forms.ModelForm, change: bool) -> None:
        if obj.state == Study.State.OPEN and obj.opened_at is None:
            obj.opened_at = timezone.now()
        super().save_model(request, obj, form, change)
        if not change:
            StudyMembership.objects.get_or_create(study=obj, user_id=user_id(request), defaults={"role": StudyMembership.Role.OWNER})


class TurnDesignInline(StudyScopedInline):
    model = TurnDesign
    draft_only = True
    fields = ("first_turn", "last_turn", "form", "k", "next_turn_source")


@admin.register(TaskDesign)
class TaskDesignAdmin(StudyScopedAdmin):
    draft_only = True
    list_display = ("study", "min_turns", "max_turns", "explanation_policy", "explanation_min_words")
    list_select_related = ("study",)
    inlines = (TurnDesignInline,)


class LocaleTextAdmin(StudyScopedAdmin):
    """A text that belongs to a locale: changed freely in a draft; later a changed text is a new version."""

    study_path = "study_locale__study"
    draft_only = True
    list_select_related = ("study_locale__study",)
    list_filter = (("study_locale__study", OwnStudiesFilter), ("study_locale", OwnStudiesFilter))
    ordering = ("study_locale", "version")

    @admin.display(description="study", ordering="study_locale__study__slug")
    def study(self, row: Any) -> Study:
        return row.study_locale.study

    @admin.display(description="locale", ordering="study_locale")
    def locale(self, row: Any) -> str:
        return row.study_locale.tag


@admin.register(ConsentForm)
class ConsentFormAdmin(LocaleTextAdmin):
    list_display = ("title", "study", "locale", "purpose", "version")


@admin.register(PayRule)
class PayRuleAdmin(StudyScopedAdmin):
    study_path = "study_locale__study"
    list_display = ("study", "locale", "currency", "completed", "per_conversation", "screened_out")
    list_display_links = ("study", "locale")
    list_filter = (("study_locale__study", OwnStudiesFilter),)
    list_select_related = ("study_locale__study",)

    @admin.display(description="study", ordering="study_locale__study__slug")
    def study(self, rule: PayRule) -> Study:
        return rule.study_locale.study

    @admin.display(description="locale", ordering="study_locale")
    def locale(self, rule: PayRule) -> str:
        return rule.study_locale.tag

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("study_locale",) if obj else ()


class PracticeTaskInline(StudyScopedStackedInline):
    model = PracticeTask
    draft_only = True


@admin.register(Guideline)
class GuidelineAdmin(LocaleTextAdmin):
    list_display = ("title", "study", "locale", "version", "practice_count")
    inlines = (PracticeTaskInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).annotate(practice_total=Count("practice_tasks"))

    @admin.display(description="practice tasks", ordering="practice_total")
    def practice_count(self, guideline: Any) -> int:
        return guideline.practice_total


class QuestionInline(StudyScopedInline):
    model = Question
    draft_only = True
    fields = ("order", "code", "type", "text", "required", "column")
    show_change_link = True


@admin.register(Questionnaire)
class QuestionnaireAdmin(LocaleTextAdmin):
    list_display = ("title", "study", "locale", "stage", "consent", "version", "question_count")
    inlines = (QuestionInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).annotate(question_total=Count("questions"))

    @admin.display(description="questions", ordering="question_total")
    def question_count(self, questionnaire: Any) -> int:
        return questionnaire.question_total


class OptionInline(StudyScopedInline):
    model = Option
    draft_only = True


@admin.register(Question)
class QuestionAdmin(StudyScopedAdmin):
    """One question with its options; reached through its questionnaire."""

    study_path = "questionnaire__study_locale__study"
    draft_only = True
    list_display = ("code", "questionnaire", "type", "column")
    list_select_related = ("questionnaire__study_locale",)
    inlines = (OptionInline,)

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        return {}  # not a line of its own on the first page


class ApiTokenForm(forms.ModelForm):
    days = forms.IntegerField(
        label="Valid for (days)", initial=90, validators=[MinValueValidator(1), MaxValueValidator(366)], help_text="At most a year."
    )

    class Meta:
        model = ApiToken
        fields = ("membership", "name")


@admin.register(ApiToken)
class ApiTokenAdmin(StudyScopedAdmin):
    """Tokens are made for one's own membership, shown once, and revoked, never edited."""

    study_path = "membership__study"
    list_display = ("name", "prefix", "study", "member", "created_at", "expires_at", "revoked_at")
    list_select_related = ("membership__study", "membership__user")
    list_filter = (("membership__study", OwnStudiesFilter),)
    actions = ("revoke",)

    @admin.display(description="study")
    def study(self, token: ApiToken) -> Study:
        return token.membership.study

    @admin.display(description="member")
    def member(self, token: ApiToken) -> str:
        return token.membership.user.get_username()

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **({} if obj else {"form": ApiTokenForm}), **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("membership", "name", "prefix", "created_at", "expires_at", "revoked_at") if obj else ("membership", "name", "days")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("prefix", "created_at", "expires_at", "revoked_at") if obj else ()

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        # A token acts as its membership, so nobody makes one for somebody else's: that would lend rights one does not have.
        memberships = StudyMembership.objects.select_related("study", "user").filter(user_id=user_id(request))
        return super().formfield_for_foreignkey(db_field, request, **{**kwargs, "queryset": memberships})

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(roles_of(request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: ApiToken, form: forms.ModelForm, change: bool) -> None:
        row, token = ApiToken.issue(membership=obj.membership, name=obj.name, days=form.cleaned_data["days"])
        obj.pk, obj.digest, obj.prefix, obj.created_at, obj.expires_at = row.pk, row.digest, row.prefix, row.created_at, row.expires_at
        request.issued_token = token  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiToken, post_url_continue: str | None = None) -> HttpResponse:
        """The page that shows the token, instead of a redirect: a message would pass it through a cookie."""
        context = {
            **self.admin_site.each_context(request),
            "title": "API token made",
            "opts": self.opts,
            "row": obj,
            "token": request.issued_token,  # type: ignore[attr-defined]
        }
        response = TemplateResponse(request, "admin/studies/apitoken/issued.html", context)
        response.headers["Cache-Control"] = "no-store"
        return response

    @admin.action(description="Revoke selected tokens", permissions=["add"])
    def revoke(self, request: HttpRequest, tokens: QuerySet[ApiToken]) -> None:
        """One's own tokens, and as owner those of the whole study."""
        owned = [study for study, role in roles_of(request).items() if role == StudyMembership.Role.OWNER]
        allowed = (
            tokens
            if request.user.is_superuser
            else tokens.filter(membership__user_id=user_id(request)) | tokens.filter(membership__study__in=owned)
        )
        # Not through `allowed.update`: the list's own query may carry joins and an order that an update refuses.
        ids = list(allowed.values_list("pk", flat=True))
        count = ApiToken.objects.filter(pk__in=ids, revoked_at__isnull=True).update(revoked_at=timezone.now())
        self.message_user(request, f"{count} tokens revoked; programs that use them are refused from now on.", messages.SUCCESS)
