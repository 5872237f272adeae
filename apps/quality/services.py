"""Storing balance rules: a rule that differs in anything becomes the next version."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from apps.accounts.models import User
from apps.quality.errors import BalanceRefused
from apps.quality.models import BalanceMargin, BalanceRule, RakingTable
from apps.quality.selectors import current_rule
from apps.quotas.models import PopulationTable
from apps.studies.models import Study, StudyLocale


@dataclass(frozen=True)
class LocaleSet:
    """Locales that are balanced together: the table that the subset matches, and further ones that the weights are raked to."""

    locales: Sequence[StudyLocale]
    table: PopulationTable
    raking_tables: Sequence[PopulationTable] = ()


def store_rule(
    *,
    study: Study,
    sets: Sequence[LocaleSet],
    seed: int,
    min_annotators: int = 10,
    max_weight: Decimal = Decimal(5),
    user: User | None,
    now: datetime,
) -> BalanceRule:
    """Make this the study's balance rule: a new version, or the one in force where nothing differs. Without `sets` nothing is balanced.

    A rule differs too where the shares of one of its tables have changed. Raises `BalanceRefused`.
    """
    _check(study, sets)
    fingerprint = _fingerprint(sets, seed, min_annotators, max_weight)
    with transaction.atomic():
        Study.objects.select_for_update(no_key=True).get(pk=study.pk)
        last = current_rule(study)
        if last is not None and last.fingerprint == fingerprint:
            return last
        rule = BalanceRule.objects.create(
            study=study,
            version=last.version + 1 if last else 1,
            seed=seed,
            min_annotators=min_annotators,
            max_weight=max_weight,
            fingerprint=fingerprint,
            created_by=user,
            created_at=now,
        )
        for each in sets:
            margin = BalanceMargin.objects.create(rule=rule, table=each.table)
            margin.locales.set(each.locales)
            RakingTable.objects.bulk_create(RakingTable(margin=margin, table=table) for table in each.raking_tables)
    return rule


def _check(study: Study, sets: Sequence[LocaleSet]) -> None:
    locales = [locale for each in sets for locale in each.locales]
    if not all(each.locales for each in sets):
        raise BalanceRefused("Expected at least one locale in each set.")
    if len({locale.pk for locale in locales}) < len(locales):
        raise BalanceRefused("Expected each locale in one set only.")
    if len({each.table.pk for each in sets}) < len(sets):
        raise BalanceRefused("Expected a table of its own for each set; locales that share one belong together.")
    for each in sets:
        tables = [each.table, *each.raking_tables]
        if len({table.pk for table in tables}) < len(tables):
            raise BalanceRefused(f"Expected each table once in the set of {each.table}.")
        for table in tables:
            if table.study_id != study.pk or any(locale.study_id != study.pk for locale in each.locales):
                raise BalanceRefused("Expected tables and locales of the study itself.")
            shares = list(table.shares.all())
            if not all(share.strata for share in shares) or not sum(share.share for share in shares):
                raise BalanceRefused(f"No question tells the strata of {table} apart.")


def _fingerprint(sets: Sequence[LocaleSet], seed: int, min_annotators: int, max_weight: Decimal) -> str:
    """SHA-256 of all that the outcome depends on, whatever the order of sets, locales and further tables."""
    described = sorted(
        [sorted(locale.tag for locale in each.locales), _shares(each.table), sorted(map(_shares, each.raking_tables))] for each in sets
    )
    text = json.dumps([seed, min_annotators, f"{max_weight:.1f}", described], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _shares(table: PopulationTable) -> list[object]:
    return [table.key, [[share.key, f"{share.share:.8f}", share.strata] for share in table.shares.all()]]
