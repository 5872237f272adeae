"""Editing a target during fieldwork, guarded against a second researcher who edits it at the same time."""

from datetime import datetime

from django.db import transaction

from apps.accounts.models import User
from apps.quotas.errors import TargetChanged
from apps.quotas.models import Quota, QuotaCell, TargetChange


def set_target(*, cell: QuotaCell, target: int, version: int, user: User | None, now: datetime) -> QuotaCell:
    """Set the target of `cell`, as it stood at `version`, and leave a line in the log. Returns the cell as stored.

    A target below the people who hold places is allowed: it refuses newcomers and expels nobody. The quota is locked
    before the cell, since its targets bound the people outside its cells. Raises `TargetChanged` when somebody else was faster.
    """
    with transaction.atomic():
        Quota.objects.select_for_update(no_key=True).get(pk=cell.quota_id)
        current = QuotaCell.objects.select_for_update(of=("self",), no_key=True).get(pk=cell.pk)
        if current.version != version:
            raise target_changed(current)
        if current.target != target:
            TargetChange.objects.create(cell=current, user=user, before=current.target, after=target, changed_at=now)
            current.target, current.version = target, version + 1
            current.save(update_fields=["target", "version"])
    return current


def target_changed(cell: QuotaCell) -> TargetChanged:
    """Who changed the target of `cell` last, and what it is now."""
    last = cell.target_changes.select_related("user").first()
    who = str(last.user) if last and last.user else "a study file"
    at = f" at {last.changed_at:%Y-%m-%d %H:%M} UTC" if last else ""
    return TargetChanged(
        f"The target of {cell.key} is {cell.target} now: {who} changed it{at}.",
        target=cell.target,
        version=cell.version,
        user=who,
        changed_at=last.changed_at.isoformat() if last else None,
    )
