"""The admin site, grouped by fieldwork task instead of by app."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse

# Section → models in the order of the work. A test holds that every registered model has its place here.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Design": ("Study", "TaskDesign", "ConsentForm", "Guideline", "Questionnaire"),
    "Content": ("Prompt", "Topic", "PromptSet"),
    "Candidates": ("CandidateSet", "Recipe", "RecipePart", "ModelSpec", "InstructionTemplate", "GenerationPolicy"),
    "Recruitment": ("RecruitmentLink", "PayRule", "Annotator", "Consent", "PanelEvent"),
    "Quotas": ("Quota", "Placement"),
    "Fieldwork": ("AssignmentPlan", "Conversation", "Assignment", "Slot"),
    "Releases": ("BalanceRule", "Release"),
    "Access": ("User", "ApiToken"),
}


class DeskAdminSite(admin.AdminSite):
    site_header = "Polyphony"
    site_title = "Polyphony"
    index_title = "Researcher's desk"
    site_url = "/"
    enable_nav_sidebar = False

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """The sections of the desk; for one app's own page, that app."""
        if app_label is not None:
            return super().get_app_list(request, app_label)
        found = {model["object_name"]: model for app in self._build_app_dict(request).values() for model in app["models"]}
        index = reverse("admin:index", current_app=self.name)
        sections = []
        for name, models in SECTIONS.items():
            section = [found.pop(model) for model in models if model in found]
            sections.append(
                {
                    "name": name,
                    "app_label": name.lower(),
                    "app_url": f"{index}#section-{name.lower()}",
                    "has_module_perms": True,
                    "models": section,
                }
            )
        if found:
            sections.append(
                {
                    "name": "Other",
                    "app_label": "other",
                    "app_url": f"{index}#section-other",
                    "has_module_perms": True,
                    "models": [*found.values()],
                }
            )
        return [section for section in sections if section["models"]]

    def get_urls(self) -> list[Any]:
        # Imported here, and below: Django makes the site before the models are loaded.
        from apps.desk.board.pages import board_urls
        from apps.desk.payments.pages import payment_urls

        return [*board_urls(self), *payment_urls(self), *super().get_urls()]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        from apps.desk.board.pages import ALARMS_KEPT, alarms_for
        from apps.desk.selectors import study_overviews

        context = {"studies": study_overviews(request.user), "starving": alarms_for(request), "alarms_kept": ALARMS_KEPT}
        return super().index(request, {**context, **(extra_context or {})})
