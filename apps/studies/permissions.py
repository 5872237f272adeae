"""Admin classes that show a researcher the rows of their own studies and nothing else.

Rights come from `StudyMembership`, never from Django's per-model permissions: every member sees the rows of the study,
owners and researchers change them. A superuser is an owner everywhere.
"""

from typing import Any

from django.contrib import admin
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Field, ForeignKey, ManyToManyField, Model, QuerySet
from django.http import HttpRequest
from django.utils.text import capfirst

from apps.studies.models import Study, StudyMembership

Role = StudyMembership.Role
WRITERS = frozenset({Role.OWNER.value, Role.RESEARCHER.value})


def study_lookup(model: type[Model]) -> str | None:
    """The lookup from a registered model to its study, as its `StudyScopedAdmin` states it ("" for Study itself)."""
    if model is Study:
        return ""
    model_admin = admin.site._registry.get(model)
    if isinstance(model_admin, StudyScopedAdmin):
        return model_admin.study_path
    try:
        model._meta.get_field("study")
    except FieldDoesNotExist:
        return None
    return "study"


def limit_to_visible(queryset: QuerySet[Any], path: str, user: Any) -> QuerySet[Any]:
    """Rows of `queryset` whose study (`path`; "" when they are studies) `user` is a member of."""
    lookup = f"{path}__in" if path else "pk__in"
    return queryset.filter(**{lookup: Study.objects.visible_to(user).values("pk")})


def limit_to_writable(queryset: QuerySet[Any], path: str, user: Any) -> QuerySet[Any]:
    """Rows of `queryset` in whose study (`path`; "" when they are studies) `user` is an owner or researcher."""
    studies = Study.objects.all() if user.is_superuser else Study.objects.filter(memberships__user=user, memberships__role__in=WRITERS)
    return queryset.filter(**{f"{path}__in" if path else "pk__in": studies.values("pk")})


def may_see_identities(user: Any, study: Study) -> bool:
    """Whether `user` may read who the people of `study` are on their panel."""
    return bool(user.is_superuser or study.memberships.filter(user=user.pk, may_see_identities=True).exists())


def user_id(request: HttpRequest) -> int:
    """The key of the researcher who asks; 0, which nobody has, on the log-in page."""
    return request.user.pk or 0


def roles_of(request: HttpRequest) -> dict[int, str]:
    """Study id → role of the request's user; asked once per request."""
    if not hasattr(request, "study_roles"):
        rows = StudyMembership.objects.filter(user_id=user_id(request)).values_list("study_id", "role")
        request.study_roles = dict(rows)  # type: ignore[attr-defined]
    return request.study_roles  # type: ignore[attr-defined]


def study_of(row: Any, path: str) -> Study:
    """The study of `row`, walking the lookup `path` ("" when the row is a study)."""
    for name in path.split("__") if path else []:
        row = getattr(row, name)
    return row


class StudyRights:
    """Rights by membership, for admins and inlines. `draft_only`: existing rows are changed only while the study is a draft."""

    writers = WRITERS
    draft_only = False

    def study_path_of(self, row: Any) -> str:
        path = study_lookup(type(row))
        if path is None:
            raise TypeError(f"{type(row).__name__} has no way to its study: register it with a StudyScopedAdmin")
        return path

    def may_write(self, request: HttpRequest, row: Any = None) -> bool:
        if request.user.is_superuser:
            return True
        if row is None or row.pk is None:
            return any(role in self.writers for role in roles_of(request).values())
        return roles_of(request).get(study_of(row, self.study_path_of(row)).pk) in self.writers

    def is_locked(self, row: Any) -> bool:
        """Whether the row belongs to a study that has left the draft state and must not change any more."""
        if not self.draft_only or row is None or row.pk is None:
            return False
        return study_of(row, self.study_path_of(row)).state != Study.State.DRAFT

    def has_module_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser or roles_of(request))

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if request.user.is_superuser:
            return True
        if obj is None or obj.pk is None:
            return bool(roles_of(request))
        return study_of(obj, self.study_path_of(obj)).pk in roles_of(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may_write(request, obj) and not self.is_locked(obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may_write(request, obj) and not self.is_locked(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.may_write(request, obj) and not self.is_locked(obj)


class StudyScopedForms:
    """Form fields that refer to other rows offer rows of the studies that the user may write to."""

    def formfield_for_foreignkey(self, db_field: "ForeignKey[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_foreignkey(db_field, request, **limited(db_field, request, kwargs))  # type: ignore[misc]

    def formfield_for_manytomany(self, db_field: "ManyToManyField[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_manytomany(db_field, request, **limited(db_field, request, kwargs))  # type: ignore[misc]


class StudyScopedAdmin(StudyScopedForms, StudyRights, admin.ModelAdmin):
    """Lists and edits rows of the studies that the user may see; references offer rows of these studies only.

    `study_path` is the lookup from the model to its study, for example "recipe__study". Inlines of such an admin are
    `StudyScopedInline` or `StudyScopedStackedInline`.
    """

    study_path = "study"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return limit_to_visible(super().get_queryset(request), self.study_path, request.user)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list under its real name ("Recruitment links"), not "Select recruitment link to change"."""
        return super().changelist_view(request, {"title": capfirst(self.opts.verbose_name_plural), **(extra_context or {})})


class StudyScopedInline(StudyScopedForms, StudyRights, admin.TabularInline):
    """A tabular inline with the rights of its parent's study."""

    extra = 0


class StudyScopedStackedInline(StudyScopedForms, StudyRights, admin.StackedInline):
    """A stacked inline with the rights of its parent's study."""

    extra = 0


class OwnStudiesFilter(admin.RelatedFieldListFilter):
    """A list filter by a related row that offers rows of the user's own studies only: `("study", OwnStudiesFilter)`."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[Any]:
        model = field.remote_field.model
        path = study_lookup(model)
        rows = model._default_manager.order_by("pk")
        if path is not None:
            rows = limit_to_visible(rows, path, request.user)
        return [(row.pk, str(row)) for row in rows]


def limited(db_field: "Field[Any, Any]", request: HttpRequest, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Form field arguments for `db_field` with the queryset cut to the studies the user may write to, where the target has one."""
    if db_field.remote_field is None:
        return kwargs
    target = db_field.remote_field.model
    path = study_lookup(target)
    if path is None or "queryset" in kwargs:
        return kwargs
    return {**kwargs, "queryset": limit_to_writable(target._default_manager.all(), path, request.user)}


class ReadOnlyAdmin:
    """Mixin for admins and inlines of rows that nobody edits by hand: they can be looked at, not added, changed or deleted."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
