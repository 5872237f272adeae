"""The admin site, grouped by fieldwork task instead of by app."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest


class DeskAdminSite(admin.AdminSite):
    site_header = "Polyphony"
    site_title = "Polyphony"
    index_title = "Fieldwork"

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        return super().get_app_list(request, app_label)
