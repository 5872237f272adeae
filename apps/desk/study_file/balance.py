"""The balance rule of a study file: checked, read from the database and stored as a version."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.utils import timezone

from apps.desk.study_file import schema
from apps.desk.study_file.errors import Problem
from apps.desk.study_file.rules import ANY, find, locale_tags
from apps.desk.study_file.source import KeyPath, Source
from apps.quality.selectors import current_rule
from apps.quality.services import LocaleSet, store_rule
from apps.quotas.population import builtin_tables
from apps.studies.models import Study, StudyLocale

CREATED, UPDATED, UNCHANGED, REMOVED = "created", "updated", "unchanged", "removed"


def broken_balance_rules(source: Source) -> Iterator[Problem]:
    """What is wrong with the part `balance`, as far as its shape allows to tell."""
    tags = locale_tags(source.tree)
    seen: dict[str, str] = {}
    for path, tag in find(source.tree, "balance", "sets", ANY, "locales", ANY):
        if isinstance(tag, str) and tag not in tags:
            yield source.problem(path, f"unknown locale “{tag[:60]}”: expected one of {', '.join(tags)}")
        elif isinstance(tag, str) and seen.setdefault(tag, source.label(path)) != source.label(path):
            yield source.problem(path, f"expected each locale once: {tag} stands at {seen[tag]} already")
    known = [key for _, key in find(source.tree, "population", "builtin", ANY) if isinstance(key, str)]
    known += [path[-1] for path, _ in find(source.tree, "population", "own", ANY) if isinstance(path[-1], str)]
    matched: set[str] = set()
    for path, each in find(source.tree, "balance", "sets", ANY):
        if not isinstance(each, dict):
            continue
        further = each.get("weights")
        tables: list[tuple[KeyPath, Any]] = [((*path, "table"), each.get("table"))]
        tables += [((*path, "weights", place), key) for place, key in enumerate(further if isinstance(further, list) else [])]
        named: set[str] = set()
        for place, key in tables:
            if not isinstance(key, str):
                continue
            if key not in known:
                shown = f"expected one of {', '.join(known[:12])}" if known else "none is defined"
                yield source.problem(place, f"unknown population table “{key[:60]}”: {shown}")
            elif key in named or (place[-1] == "table" and key in matched):
                yield source.problem(place, f"expected each table once: {key} is named already")
            else:
                yield from _untold(source, place, key, each.get("locales"))
            named.add(key)
        matched.update(key for place, key in tables if place[-1] == "table" and isinstance(key, str))


def _untold(source: Source, place: KeyPath, key: str, tags: Any) -> Iterator[Problem]:
    """Strata of a table that a locale of the set cannot tell."""
    strata = _strata_of(source, key)
    if not strata or not all(strata):
        yield source.problem(place, f"expected another table: no question tells the strata of {key} apart")
        return
    for _, locale in find(source.tree, "locales", ANY):
        if not isinstance(locale, dict) or f"{locale.get('language')}-{locale.get('country')}" not in (tags or []):
            continue
        asked = {code for _, code in find(locale, "questionnaires", ANY, "questions", ANY, "code")}
        for question in sorted({question for questions in strata for question in questions} - asked):
            yield source.problem(place, f"expected a table of questions that {locale['language']}-{locale['country']} asks, not {question}")


def _strata_of(source: Source, key: str) -> list[dict[str, Any]]:
    own = [value for _, value in find(source.tree, "population", "own", key, "shares", ANY) if isinstance(value, dict)]
    if own:
        return [strata if isinstance(strata := value.get("strata"), dict) else {} for value in own]
    table = builtin_tables().get(key)
    return [dict(stratum.strata) for stratum in table.strata] if table else []


def balance_part(study: Study) -> schema.BalanceRulePart | None:
    """The rule in force; None where nothing is balanced."""
    rule = current_rule(study)
    margins = sorted(rule.margins.all(), key=lambda margin: margin.pk) if rule else []
    if rule is None or not margins:
        return None
    sets = [
        schema.LocaleSetPart.model_construct(
            table=margin.table.key,
            locales=[locale.tag for locale in sorted(margin.locales.all(), key=lambda locale: locale.pk)],
            weights=[each.table.key for each in sorted(margin.raking_tables.all(), key=lambda each: each.pk)],
        )
        for margin in margins
    ]
    weight = rule.max_weight
    return schema.BalanceRulePart.model_construct(
        seed=None if rule.seed == study.seed else rule.seed,
        min_annotators=rule.min_annotators,
        max_weight=weight.quantize(1) if weight == weight.to_integral() else weight,
        sets=sets,
    )


def store_balance(
    study: Study, part: schema.BalanceRulePart | None, locales: Mapping[str, StudyLocale], add: Callable[[str, str], None]
) -> None:
    """Make `part` the rule in force, as a new version where it differs; None ends balancing. `add` counts what was done."""
    before = current_rule(study)
    had_rule = before is not None and bool(before.margins.all())
    if part is None and not had_rule:
        return
    part = part or schema.BalanceRulePart.model_construct(sets=[])
    tables = {table.key: table for table in study.population_tables.prefetch_related("shares")}
    rule = store_rule(
        study=study,
        sets=[
            LocaleSet([locales[tag] for tag in each.locales], tables[each.table], [tables[key] for key in each.weights])
            for each in part.sets
        ],
        seed=study.seed if part.seed is None else part.seed,
        min_annotators=part.min_annotators,
        max_weight=part.max_weight,
        user=None,
        now=timezone.now(),
    )
    if before is not None and rule.pk == before.pk:
        add("balance rule", UNCHANGED)
    elif not part.sets:
        add("balance rule", REMOVED)
    else:
        add("balance rule", UPDATED if had_rule else CREATED)
