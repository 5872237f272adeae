"""Prompts in every language of their study, with what is missing."""

from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from apps.content.models import Prompt, PromptSet, Topic
from apps.studies.admin import in_each_language
from apps.studies.permissions import OwnStudiesFilter, StudyScopedAdmin


class MissingLanguageFilter(admin.SimpleListFilter):
    """Prompts that lack a text in one language."""

    title = "missing text"
    parameter_name = "missing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(language, f"not in {language}") for language in settings.CONTENT_LANGUAGES]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Prompt]) -> QuerySet[Prompt]:
        if self.value() not in settings.CONTENT_LANGUAGES:
            return queryset
        column = f"text_{self.value()}"
        return queryset.filter(Q(**{f"{column}__isnull": True}) | Q(**{column: ""}))


def missing_languages(row: Any, field: str) -> list[str]:
    """Languages of the row's study in which the translated `field` has no text. Reads prefetched locales."""
    wanted = sorted({locale.language for locale in row.study.locales.all()})
    return [language for language in wanted if not getattr(row, f"{field}_{language}")]


class TranslatedAdmin(StudyScopedAdmin):
    """A row with a translated field, whose missing languages stand in the list."""

    translated_field = ""
    draft_only = True
    list_select_related: ClassVar[tuple[str, ...]] = ("study",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("study__locales")

    @admin.display(description="missing", empty_value="nothing")
    def missing(self, row: Any) -> str | None:
        return ", ".join(missing_languages(row, self.translated_field)) or None


@admin.register(Topic)
class TopicAdmin(TranslatedAdmin):
    translated_field = "title"
    list_display = ("key", "study", "title_en", "missing")
    list_filter = (("study", OwnStudiesFilter),)
    fields = ("study", "key", *in_each_language("title"))


@admin.register(Prompt)
class PromptAdmin(TranslatedAdmin):
    """Freely changed in a draft; a prompt that annotators may have seen gets a new version by `import_prompts` or a study file."""

    translated_field = "text"
    list_display = ("key", "version", "is_current", "is_gold", "study", "topic", "text_en", "missing")
    list_select_related = ("study", "topic")
    list_filter = (("study", OwnStudiesFilter), "is_current", "is_gold", MissingLanguageFilter)
    search_fields = ("key", *in_each_language("text"))
    fields = ("study", "key", "version", "is_current", "is_gold", "topic", *in_each_language("text"))
    readonly_fields = ("version", "is_current")


@admin.register(PromptSet)
class PromptSetAdmin(StudyScopedAdmin):
    list_display = ("key", "study")
    list_select_related = ("study",)
    list_filter = (("study", OwnStudiesFilter),)
    filter_horizontal = ("prompts",)
