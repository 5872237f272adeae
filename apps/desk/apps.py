from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class DeskConfig(AppConfig):
    name = "apps.desk"
    verbose_name = "Researcher's desk"


class DeskAdminConfig(AdminConfig):
    """Django's admin with our site: sections by fieldwork task."""

    default_site = "apps.desk.site.DeskAdminSite"
