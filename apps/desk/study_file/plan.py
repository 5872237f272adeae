"""The assignment plan of a study file: read from the database and stored."""

from decimal import Decimal
from typing import Any

from apps.annotation.models import AssignmentPlan
from apps.annotation.services import change_overlap
from apps.desk.study_file import schema
from apps.studies.models import Study

CREATED, UPDATED, UNCHANGED = "created", "updated", "unchanged"


def plan_part(study: Study) -> schema.AssignmentPart | None:
    """The study's plan; None where every setting is the default, whether or not there is a row."""
    plan = AssignmentPlan.objects.filter(study=study).select_related("balance_quota").first()
    if plan is None:
        return None
    balance = plan.balance_quota and schema.BalancePart.model_construct(
        quota=plan.balance_quota.key, max_share=_short(plan.max_stratum_share)
    )
    repeat = schema.RepeatPart.model_construct(
        share=_short(plan.repeat_share), after_tasks=plan.repeat_after_tasks, after_hours=plan.repeat_after_hours
    )
    part = schema.AssignmentPart.model_construct(
        policy=plan.policy,
        balance=balance,
        set_size=plan.set_size,
        repeat=None if repeat == schema.RepeatPart(share=Decimal(0)) else repeat,
        gold=schema.GoldPart.model_construct(share=_short(plan.gold_share)) if plan.gold_share else None,
    )
    return None if part == schema.AssignmentPart() else part


def let_go_of_quota(study: Study, part: schema.AssignmentPart | None) -> None:
    """Part the plan from a quota that the file no longer names there, so that the quota may go."""
    plans = AssignmentPlan.objects.filter(study=study, balance_quota__isnull=False)
    for plan in plans.exclude(balance_quota__key=part.balance.quota if part and part.balance else ""):
        plan.balance_quota = None
        plan.save(update_fields=["balance_quota"])


def store_plan(study: Study, part: schema.AssignmentPart | None) -> str | None:
    """Bring the plan to `part`. Returns what was done; None where the study has no plan and the file none."""
    plan = AssignmentPlan.objects.filter(study=study).first()
    if plan is None and part is None:
        return None
    part = part or schema.AssignmentPart()
    defaults = AssignmentPlan()
    repeat = part.repeat or schema.RepeatPart(share=Decimal(0))
    values: dict[str, Any] = {
        "policy": part.policy,
        "balance_quota": study.quotas.get(key=part.balance.quota) if part.balance else None,
        "max_stratum_share": part.balance.max_share if part.balance else defaults.max_stratum_share,
        "set_size": part.set_size,
        "repeat_share": repeat.share,
        "repeat_after_tasks": repeat.after_tasks,
        "repeat_after_hours": repeat.after_hours,
        "gold_share": part.gold.share if part.gold else Decimal(0),
    }
    if plan is None:
        AssignmentPlan.objects.create(study=study, **values)
        return CREATED
    changed = [name for name, value in values.items() if getattr(plan, name) != value]
    for name in changed:
        setattr(plan, name, values[name])
    if changed:
        plan.save(update_fields=changed)
    return UPDATED if changed else UNCHANGED


def bring_seats_to_overlap(study: Study, before: schema.StudyFile | None) -> None:
    """Change the seats of a study whose overlap the file has changed; the seats of a new one are made by `seat_study`."""
    if before is not None and before.study.overlap != study.overlap:
        change_overlap(study=study, overlap=study.overlap)


def _short(value: Decimal) -> Decimal:
    """Without trailing zeros: the database hands back 0.70 for 0.7."""
    return value.quantize(Decimal(1)) if value == value.to_integral() else value.normalize()
