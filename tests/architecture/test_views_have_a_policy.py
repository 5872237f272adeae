"""Private by default: every view needs a log-in unless it stands in this list with its reason."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.urls import URLPattern, URLResolver, get_resolver, path

from apps.desk.site import SECTIONS

# View name → why a visitor without a researcher's account may call it.
OPEN_VIEWS = {
    "desk:home": "says what runs here and names no study",
    "desk:healthz": "asked by load balancers; tells nothing but ok",
    "api:*": "the API has its own policy: a token, checked by Django REST framework",
    "annotation:*": "annotators have no account: an unguessable link, then the session, checked by the annotator middleware",
    "admin:login": "the log-in itself",
}


def views(resolver: URLResolver, namespace: str = "", prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """(qualified name, route, callback) of every view below `resolver`."""
    for entry in resolver.url_patterns:
        if isinstance(entry, URLResolver):
            inner = ":".join(part for part in (namespace, entry.namespace) if part)
            yield from views(entry, inner, prefix + str(entry.pattern))
        elif isinstance(entry, URLPattern):
            yield f"{namespace}:{entry.name}" if namespace else str(entry.name), prefix + str(entry.pattern), entry.callback


def needs_login(callback: Any) -> bool:
    view = getattr(callback, "view_class", None) or getattr(callback, "cls", None) or callback
    return getattr(callback, "login_required", True) and getattr(view, "login_required", True)


def undeclared(resolver: URLResolver) -> list[str]:
    allowed = {name for name in OPEN_VIEWS if not name.endswith(":*")}
    namespaces = {name.removesuffix(":*") for name in OPEN_VIEWS if name.endswith(":*")}
    return [
        f"{name} ({route})"
        for name, route, callback in views(resolver)
        if not needs_login(callback) and name not in allowed and name.split(":")[0] not in namespaces
    ]


def test_every_open_view_is_listed_with_its_reason():
    assert undeclared(get_resolver()) == []


def test_sabotage_an_undeclared_open_view_is_found():
    def leak(request: Any) -> None: ...

    leak.login_required = False  # what @login_not_required sets
    resolver = URLResolver(get_resolver().pattern, [path("leak/", leak, name="leak")])
    assert [line.split()[0] for line in undeclared(resolver)] == ["leak"]


def test_the_list_names_only_views_that_exist():
    names = {name for name, _, _ in views(get_resolver())}
    namespaces = {name.split(":")[0] for name in names}
    for name in OPEN_VIEWS:
        assert name.removesuffix(":*") in namespaces if name.endswith(":*") else name in names, name


def test_every_view_has_a_name_so_that_the_policy_can_speak_of_it():
    # Django's admin keeps two catch-alls without a name; both are behind its own log-in.
    unnamed = [route for name, route, _ in views(get_resolver()) if name.endswith("None") and not route.startswith("admin/")]
    assert unnamed == []


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["admin:index", "admin:studies_study_changelist", "admin:quotas_quota_changelist"])
def test_a_visitor_is_sent_to_the_login_of_the_desk(client, name):
    from django.urls import reverse

    response = client.get(reverse(name))
    assert response.status_code == 302
    assert response.url.startswith(reverse("admin:login"))


def test_every_listed_model_of_the_admin_has_a_section():
    listed = {model for section in SECTIONS.values() for model in section}
    # Questions are reached through their questionnaire.
    registered = {model.__name__ for model in admin.site._registry} - {"Question"}
    assert registered <= listed, f"no section for {registered - listed}"
    assert listed <= registered, f"sections name models that are not registered: {listed - registered}"


def test_demographic_answers_are_not_in_the_admin():
    from apps.annotators.models.demographics import DemographicAnswer, QuestionnaireResponse

    assert DemographicAnswer not in admin.site._registry
    assert QuestionnaireResponse not in admin.site._registry
