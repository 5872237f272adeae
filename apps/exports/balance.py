"""The balance rule of a release, as its manifest names it."""

from typing import Any

from apps.quality.balance import RULE
from apps.quality.raking import WEIGHT_RULE
from apps.quality.selectors import Balance, BalancedSet
from apps.quotas.models import PopulationTable


def describe_balance(balance: Balance) -> dict[str, Any] | None:
    """Rule, seed, tables with their sources, and what came of them; None where the study has no rule."""
    rule = balance.rule
    if rule is None:
        return None
    return {
        "rule_version": rule.version,
        "rule_sha256": rule.fingerprint,
        "seed": rule.seed,
        "min_annotators": rule.min_annotators,
        "max_weight": float(rule.max_weight),
        "rule": RULE,
        "weights": WEIGHT_RULE,
        "sets": [_set(each) for each in balance.sets],
    }


def _set(each: BalancedSet) -> dict[str, Any]:
    weights = each.weights
    return {
        "locales": list(each.locales),
        "table": _table(each.table),
        "strata": [
            {"stratum": row.key, "share": float(row.share), "available": row.available, "taken": row.taken, "questions": row.questions}
            for row in each.strata
        ],
        "annotators": len(each.people),
        "prompts_with_enough_annotators": len(each.prompts),
        "raking": {
            "tables": [_table(table) for table in (each.table, *each.raking_tables)],
            "annotators": len(weights.by_person),
            "effective_size": round(weights.effective_size, 3),
            "design_effect": round(weights.design_effect, 4),
            "rounds": weights.rounds,
            "converged": weights.converged,
            "largest_gap": round(weights.largest_gap, 6),
        },
    }


def _table(table: PopulationTable) -> dict[str, str]:
    return {name: getattr(table, name) for name in ("key", "country", "dimension", "year", "grade", "source", "note")}
