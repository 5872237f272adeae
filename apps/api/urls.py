"""Mounted at `api/v1/`. Every view authenticates by token alone, so Django's log-in requirement does not apply."""

from django.urls import path, re_path

from apps.api import views

app_name = "api"

urlpatterns = [
    path("comparisons/", views.ComparisonsView.as_view(), name="comparisons"),
    path("studies/", views.StudiesView.as_view(), name="studies"),
    path("studies/<str:slug>/quotas/", views.QuotasView.as_view(), name="quotas"),
    path("schema/", views.SchemaView.as_view(), name="schema"),
    path("docs/", views.DocsView.as_view(), name="docs"),
    # Not an endpoint that only lacks its trailing slash: Django redirects that one.
    re_path(r"^(?!(?:comparisons|studies|schema|docs)$).*$", views.NotFoundView.as_view(), name="not-found"),
]
