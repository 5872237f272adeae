"""What must fit together in a study file, beyond the shape of each part.

The rules read the untyped tree, so that they also speak when another part of the file has a wrong type: everything that
is wrong is listed at once. A value whose shape is wrong is skipped here, since the schema names it.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from django.conf import settings

from apps.annotation.policies import DEFAULT, POLICIES
from apps.core.text import text_hash
from apps.desk.study_file.errors import Problem
from apps.desk.study_file.source import Key, KeyPath, Source
from apps.generation.completeness import VARIED, PlannedPart, missing_markers, recipe_gaps
from apps.quotas.population import builtin_tables, overlaps

ANY = None
CONSENT_FACTS = ("organisation", "contact_email", "minutes", "retention_months")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def broken_rules(source: Source) -> list[Problem]:
    """Every rule that the file breaks, in no particular order."""
    problems: list[Problem] = []
    for rule in (
        _languages,
        _translations,
        _turn_ranges,
        _recipes,
        _generation,
        _references,
        _consent_texts,
        _questionnaires,
        _unique_names,
        _unique_prompts,
        _strata,
        _tables,
        _assignment,
    ):
        problems += rule(source)
    return problems


def find(tree: Any, *pattern: Key | None) -> Iterator[tuple[KeyPath, Any]]:
    """Each (path, value) in `tree` that fits `pattern`; `ANY` stands for every key of a mapping or item of a list."""
    if not pattern:
        yield (), tree
        return
    head, *rest = pattern
    if isinstance(tree, dict):
        keys: list[Any] = list(tree) if head is ANY else [head] if head in tree else []
    elif isinstance(tree, list):
        keys = list(range(len(tree))) if head is ANY else []
    else:
        return
    for key in keys:
        for path, value in find(tree[key], *rest):
            yield (key, *path), value


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value) else None


def _code(value: Any) -> str:
    return value.lower() if isinstance(value, str) else ""


def _is_true(value: Any) -> bool:
    return _code(value) in {"true", "yes", "on", "1", "y", "t"}


def _among(names: list[str]) -> str:
    if not names:
        return "none is defined"
    shown = ", ".join(names[:12])
    return f"expected one of {shown}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def study_languages(tree: Any) -> list[str]:
    """Languages of the file's locales, in order, each once."""
    return list(dict.fromkeys(value for _, value in find(tree, "locales", ANY, "language") if isinstance(value, str)))


def locale_tags(tree: Any) -> list[str]:
    locales = [value for _, value in find(tree, "locales", ANY) if isinstance(value, dict)]
    return [f"{locale.get('language')}-{locale.get('country')}" for locale in locales]


def _languages(source: Source) -> Iterator[Problem]:
    for path, language in find(source.tree, "locales", ANY, "language"):
        if isinstance(language, str) and re.fullmatch("[a-z]{2,3}", language) and language not in settings.CONTENT_LANGUAGES:
            yield source.problem(path, f"{_among(list(settings.CONTENT_LANGUAGES))}, found “{language}”")


def _translations(source: Source) -> Iterator[Problem]:
    needed = [language for language in study_languages(source.tree) if language in settings.CONTENT_LANGUAGES]
    for pattern in (
        ("study", "title"),
        ("study", "invitation"),
        ("topics", ANY),
        ("templates", ANY, "text"),
        ("prompts", ANY, "text"),
    ):
        for path, texts in find(source.tree, *pattern):
            if not isinstance(texts, dict):
                continue
            for language in texts:
                if language not in settings.CONTENT_LANGUAGES:
                    yield source.problem((*path, language), f"{_among(list(settings.CONTENT_LANGUAGES))} as language")
            missing = [language for language in needed if language not in texts]
            if missing:
                yield source.problem(path, f"expected a text in each language of the locales, missing: {', '.join(missing)}")
    share = next((value for _, value in find(source.tree, "study", "own_prompt_share")), None)
    if (
        isinstance(share, str)
        and re.fullmatch(r"[\d.]+", share)
        and share.strip("0.")
        and not list(find(source.tree, "study", "invitation"))
    ):
        yield source.problem(("study", "own_prompt_share"), "expected `invitation`, since people write first messages of their own")


def _turn_ranges(source: Source) -> Iterator[Problem]:
    design = ("task_design",)
    values = source.tree.get("task_design")
    if not isinstance(values, dict):
        return
    low, high = _number(values.get("min_turns")), _number(values.get("max_turns"))
    if low and high and low > high:
        yield source.problem((*design, "min_turns"), f"expected at most max_turns ({high}), found {low}")
    expected = 1
    ranges = [
        (path, _number(turns.get("first")), _number(turns.get("last"))) for path, turns in _mappings(source, "task_design", "turns", ANY)
    ]
    for path, first, last in ranges:
        if first is None or last is None:
            return
        if first != expected:
            what = "a hole" if first > expected else "an overlap"
            yield source.problem((*path, "first"), f"expected {expected}, the turn after the range before it: {first} leaves {what}")
        if last < first:
            yield source.problem((*path, "last"), f"expected at least {first}, found {last}")
        expected = last + 1
    if ranges and high and expected - 1 != high:
        what = "some turns have no range" if expected - 1 < high else "the range goes beyond it"
        yield source.problem((*ranges[-1][0], "last"), f"expected max_turns ({high}), found {expected - 1}: {what}")


def _recipes(source: Source) -> Iterator[Problem]:
    shown = {k for _, value in find(source.tree, "task_design", "turns", ANY, "k") if (k := _number(value))}
    for path, recipe in _mappings(source, "recipes", ANY):
        written = list(_mappings_of(recipe.get("parts")))
        for gap in recipe_gaps([_planned(part) for _, part in written], shown=shown if written else ()):
            if gap.part is None:
                yield source.problem((*path, "parts"), gap.message)
                continue
            place, part = written[gap.part]
            here: KeyPath = (*path, "parts", place, *(("variants",) if "variants" in part else ()))
            yield source.problem(here if gap.variant is None else (*here, gap.variant), gap.message)
    for _, part in _mappings(source, "recipes", ANY, "parts", ANY):
        structured = any(_is_true(value) for _, value in find(source.tree, "models", str(part.get("model")), "structured_output"))
        for path, text in find(source.tree, "templates", str(part.get("template")), "text", ANY):
            if isinstance(text, str):
                for marker in missing_markers(str(part.get("method")), text, structured_output=structured):
                    yield source.problem(path, f"expected {marker} in the instruction of a negatively correlated part")


def _planned(part: dict[str, Any]) -> PlannedPart:
    variants = part.get("variants")
    named = [
        {key for key in VARIED.values() if variant.get(key)} if isinstance(variant, dict) else VARIED.values()
        for variant in (variants if isinstance(variants, list) else [])
    ]
    return PlannedPart(_code(part.get("method")), _number(part.get("count")), named)


def _mappings_of(values: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    return ((place, value) for place, value in enumerate(values if isinstance(values, list) else []) if isinstance(value, dict))


def _generation(source: Source) -> Iterator[Problem]:
    for path, model in _mappings(source, "models", ANY):
        if model.get("replacement") == path[-1]:
            yield source.problem((*path, "replacement"), "expected another model than this one")
        if str(model.get("base_url", "")).startswith(("http://", "https://")):
            # What reads URLs as the calls do takes half a second to import; the demo's file needs none of it.
            from apps.core.outbound import OutboundRefused, check_saved_url

            try:
                check_saved_url(model["base_url"])
            except OutboundRefused as error:
                yield source.problem((*path, "base_url"), f"expected an address that may be called: {error}")
    for path, policy in _mappings(source, "generation"):
        low, high = _number(policy.get("min_words")), _number(policy.get("max_words"))
        if low is not None and high is not None and low > high:
            yield source.problem((*path, "min_words"), f"expected at most max_words ({high}), found {low}")
        if bool(policy.get("judge_model")) != bool(policy.get("judge_template")):
            yield source.problem(path, "expected `judge_model` and `judge_template` together")


def _references(source: Source) -> Iterator[Problem]:
    tags = locale_tags(source.tree)
    named: list[tuple[tuple[Key | None, ...], list[str], str]] = [
        (("prompts", ANY, "topic"), _keys(source, "topics"), "topic"),
        (("recipes", ANY, "parts", ANY, "model"), _keys(source, "models"), "model"),
        (("recipes", ANY, "parts", ANY, "template"), _keys(source, "templates"), "template"),
        (("recipes", ANY, "parts", ANY, "variants", ANY, "model"), _keys(source, "models"), "model"),
        (("recipes", ANY, "parts", ANY, "variants", ANY, "template"), _keys(source, "templates"), "template"),
        (("models", ANY, "replacement"), _keys(source, "models"), "model"),
        (("generation", "moderation_model"), _keys(source, "models"), "model"),
        (("generation", "judge_model"), _keys(source, "models"), "model"),
        (("generation", "judge_template"), _keys(source, "templates"), "template"),
        (("quotas", ANY, "locales", ANY), tags, "locale"),
        (("assignment", "policy"), list(POLICIES), "policy"),
        (("assignment", "balance", "quota"), _keys(source, "quotas"), "quota"),
        (("recruitment_links", ANY, "locales", ANY), tags, "locale"),
    ]
    for pattern, names, what in named:
        known = set(names)
        for path, value in find(source.tree, *pattern):
            if isinstance(value, str) and value not in known:
                yield source.problem(path, f"unknown {what} “{value[:60]}”: {_among(names)}")
    for pattern in (("quotas", ANY, "locales"), ("recruitment_links", ANY, "locales")):
        for path, value in find(source.tree, *pattern):
            yield from _repeats(source, [((*path, place), tag) for place, tag in enumerate(value)] if isinstance(value, list) else [])


def _consent_texts(source: Source) -> Iterator[Problem]:
    for path, body in find(source.tree, "locales", ANY, "consent", ANY, "body"):
        for name in _PLACEHOLDER.findall(body if isinstance(body, str) else ""):
            if name not in CONSENT_FACTS:
                facts = ", ".join(f"{{{fact}}}" for fact in CONSENT_FACTS)
                yield source.problem(path, f"unknown {{{name}}}: expected one of {facts}")


def _questionnaires(source: Source) -> Iterator[Problem]:
    for path, locale in _mappings(source, "locales", ANY):
        consents = locale.get("consent")
        questionnaires = locale.get("questionnaires")
        if not isinstance(questionnaires, dict):
            continue
        codes: list[tuple[KeyPath, Any]] = []
        columns: list[tuple[KeyPath, Any]] = []
        for stage, questionnaire in questionnaires.items():
            if not isinstance(questionnaire, dict):
                continue
            here = (*path, "questionnaires", stage)
            if _code(questionnaire.get("consent")) == "sensitive" and isinstance(consents, dict) and not consents.get("sensitive"):
                yield source.problem((*here, "consent"), "expected a consent form `sensitive` in this locale")
            for number, question in enumerate(questionnaire.get("questions") or []):
                if not isinstance(question, dict):
                    continue
                place = (*here, "questions", number)
                codes.append(((*place, "code"), question.get("code")))
                columns.append(((*place, "column"), question.get("column")))
                if _is_true(question.get("required")) and stage != "eligibility":
                    yield source.problem((*place, "required"), "expected only questions of the eligibility stage to be required")
                yield from _options(source, place, question)
        yield from _repeats(source, codes)
        yield from _repeats(source, columns)


def _options(source: Source, path: KeyPath, question: dict[str, Any]) -> Iterator[Problem]:
    options = question.get("options")
    if not isinstance(options, list):
        return
    kind = _code(question.get("type"))
    placed = [((*path, "options", number), option) for number, option in enumerate(options) if isinstance(option, dict)]
    yield from _repeats(source, [((*place, "code"), option.get("code")) for place, option in placed])
    if kind != "multiple":
        if question.get("published_when_several"):
            yield source.problem((*path, "published_when_several"), "expected only where `type` is multiple")
        for place, option in placed:
            for flag in ("prevails", "exclusive"):
                if _is_true(option.get(flag)):
                    yield source.problem((*place, flag), "expected only where the question's `type` is multiple")
    if kind == "birth_year":
        yield from _age_bands(source, path, placed)
    else:
        for place, option in placed:
            for key in ("min_age", "max_age"):
                if option.get(key) is not None:
                    yield source.problem((*place, key), "expected only where the question's `type` is birth_year")


def _age_bands(source: Source, path: KeyPath, placed: list[tuple[KeyPath, dict[str, Any]]]) -> Iterator[Problem]:
    bands = [(place, option) for place, option in placed if option.get("min_age") is not None or option.get("max_age") is not None]
    if not bands:
        yield source.problem((*path, "options"), "expected age bands: options with `min_age` and, but for the last, `max_age`")
        return
    expected: int | None = None
    for index, (place, option) in enumerate(bands):
        low, high = _number(option.get("min_age")), _number(option.get("max_age"))
        if low is None:
            if option.get("min_age") is None:
                yield source.problem(place, "expected `min_age` in an age band")
            return
        if expected is None and low > 18:
            yield source.problem((*place, "min_age"), f"expected 18 or less, found {low}: younger adults would have no band")
        elif expected is not None and low != expected:
            what = "a hole" if low > expected else "an overlap"
            yield source.problem((*place, "min_age"), f"expected {expected}, the year after the band before it: {low} leaves {what}")
        last = index == len(bands) - 1
        if last and option.get("max_age") is not None:
            yield source.problem((*place, "max_age"), "expected no `max_age` in the last band, so that older people have one")
        if not last:
            if high is None:
                if option.get("max_age") is None:
                    yield source.problem(place, "expected `max_age` in every band but the last")
                return
            if high < low:
                yield source.problem((*place, "max_age"), f"expected at least {low}, found {high}")
            expected = high + 1


def _unique_names(source: Source) -> Iterator[Problem]:
    tags = [((*path, "country"), f"{locale.get('language')}-{locale.get('country')}") for path, locale in _mappings(source, "locales", ANY)]
    yield from _repeats(source, tags)
    yield from _repeats(source, list(find(source.tree, "recruitment_links", ANY, "name")))


def _unique_prompts(source: Source) -> Iterator[Problem]:
    seen: dict[tuple[Key, str], KeyPath] = {}
    for path, text in find(source.tree, "prompts", ANY, "text", ANY):
        if not isinstance(text, str):
            continue
        earlier = seen.setdefault((path[-1], text_hash(text)), path)
        if earlier != path:
            yield source.problem(path, f"expected a text of its own: the prompt {earlier[1]} has the same, and people would see it twice")


def _strata(source: Source) -> Iterator[Problem]:
    asked: dict[str, dict[str, set[str]]] = {}
    for path, option in find(source.tree, "locales", ANY, "questionnaires", ANY, "questions", ANY, "options", ANY):
        locale = source.tree["locales"][path[1]]
        question = source.tree["locales"][path[1]]["questionnaires"][path[3]]["questions"][path[5]]
        if isinstance(option, dict) and path[3] != "after" and isinstance(question.get("code"), str):
            tag = f"{locale.get('language')}-{locale.get('country')}"
            known = asked.setdefault(tag, {}).setdefault(question["code"], set())
            known.update(value for value in (option.get("stratum"), option.get("code")) if isinstance(value, str))
    for path, quota in _mappings(source, "quotas", ANY):
        tags = [tag for _, tag in find(quota, "locales", ANY) if isinstance(tag, str) and tag in asked]
        for place, code, stratum in _quota_strata(source, path, quota):
            for tag in tags:
                if code not in asked[tag]:
                    yield source.problem(place, f"expected a question that {tag} asks before the tasks: {_among(sorted(asked[tag]))}")
                elif stratum not in asked[tag][code]:
                    yield source.problem(place, f"unknown stratum “{stratum[:60]}” in {tag}: {_among(sorted(asked[tag][code]))}")


def _quota_strata(source: Source, path: KeyPath, quota: dict[str, Any]) -> Iterator[tuple[KeyPath, str, str]]:
    """(path, question, stratum) for each stratum of the quota's cells, or of its table where it has no cells."""
    if not quota.get("cells"):
        for strata in _table_strata(source, quota.get("table")):
            for code, values in strata.items():
                yield from (((*path, "table"), code, stratum) for stratum in values)
        return
    for place, strata in _mappings(quota, "cells", ANY, "strata"):
        for code, values in strata.items():
            here = (*path, *place, code)
            if isinstance(values, str):
                yield here, code, values
            elif isinstance(values, list):
                yield from ((here, code, stratum) for stratum in values if isinstance(stratum, str))


def _table_strata(source: Source, key: Any) -> list[dict[str, list[str]]]:
    """What each stratum of a table asks for; nothing where the table is unknown."""
    own = [share.get("strata") for _, share in _mappings(source, "population", "own", key, "shares", ANY)] if isinstance(key, str) else []
    if own:
        return [_lists(strata) for strata in own]
    table = builtin_tables().get(key) if key in _builtin_keys(source) else None
    return [stratum.strata for stratum in table.strata] if table else []


def _lists(strata: Any) -> dict[str, list[str]]:
    """Strata as the schema will read them, as far as they have its shape."""
    if not isinstance(strata, dict):
        return {}
    listed = {code: [value] if isinstance(value, str) else value for code, value in strata.items()}
    return {
        code: [value for value in values if isinstance(value, str)] if isinstance(values, list) else [] for code, values in listed.items()
    }


def _overlaps(source: Source, strata: list[tuple[KeyPath, Any]]) -> Iterator[Problem]:
    for first, second in overlaps([_lists(value) for _, value in strata]):
        other = source.line(strata[first][0])
        yield source.problem(strata[second][0], f"expected strata that share nobody; this one overlaps with line {other}")


def _builtin_keys(source: Source) -> list[str]:
    return [key for _, key in find(source.tree, "population", "builtin", ANY) if isinstance(key, str)]


def _tables(source: Source) -> Iterator[Problem]:
    own = source.tree.get("population", {}).get("own") if isinstance(source.tree.get("population"), dict) else None
    own = own if isinstance(own, dict) else {}
    for path, key in find(source.tree, "population", "builtin", ANY):
        if isinstance(key, str) and key not in builtin_tables():
            yield source.problem(path, f"unknown built-in table “{key[:60]}”: {_among(list(builtin_tables()))}")
        elif isinstance(key, str) and key in own:
            yield source.problem(path, f"expected a key of its own: {key} stands below `own` too")
    for path, shares in _mappings(source, "population", "own", ANY, "shares"):
        values = [_share(value) for _, value in find(shares, ANY, "share")]
        if len(values) == len(shares) and None not in values:
            total = sum((value for value in values if value is not None), Decimal(0))
            if abs(total - 1) > Decimal("0.001"):
                yield source.problem(path, f"expected shares that sum to 1 (± 0.001), found {total}")
        strata = [((*path, name), share.get("strata")) for name, share in shares.items() if isinstance(share, dict)]
        yield from _overlaps(source, strata)
    known = [*own, *_builtin_keys(source)]
    for path, quota in _mappings(source, "quotas", ANY):
        key = quota.get("table")
        if isinstance(key, str) and key not in known:
            yield source.problem((*path, "table"), f"unknown population table “{key[:60]}”: {_among(known)}")
        if quota.get("cells"):
            if key is not None:
                yield from _overlaps(source, [((*path, *place[:2]), strata) for place, strata in find(quota, "cells", ANY, "strata")])
            continue
        if key is None:
            yield source.problem(path, "expected `cells`, or `table` and `total`")
        elif quota.get("total") is None:
            yield source.problem(path, "expected `total`, the people to whom the shares of the table apply, or `cells`")
        elif key in known and not all(strata and all(strata.values()) for strata in _table_strata(source, key) or [{}]):
            yield source.problem((*path, "table"), f"expected `cells`: no question tells the strata of {key} apart")


def _share(value: Any) -> Decimal | None:
    return Decimal(value) if isinstance(value, str) and re.fullmatch(r"\d{1,3}(\.\d{1,12})?", value) else None


_NEEDED_BY_POLICY = {"balance_quota": "balance", "set_size": "set_size"}
_MOST_MIXED_IN = Decimal("0.5")


def _assignment(source: Source) -> Iterator[Problem]:
    for path, plan in _mappings(source, "assignment"):
        policy = POLICIES.get(plan.get("policy", DEFAULT)) if isinstance(plan.get("policy", DEFAULT), str) else None
        for field in policy.needs if policy else ():
            key = _NEEDED_BY_POLICY[field]
            if not plan.get(key):
                yield source.problem(path, f"expected `{key}`, which the policy {policy.key if policy else ''} needs")
        size = _number(plan.get("set_size"))
        session = next((_number(value) for _, value in find(source.tree, "study", "conversations_per_annotator")), 8)
        if size and session and size > session:
            yield source.problem((*path, "set_size"), f"expected at most conversations_per_annotator ({session}), found {size}")
        shares = [_share(value) for kind in ("repeat", "gold") for _, value in find(plan, kind, "share")]
        mixed_in = sum((share for share in shares if share), Decimal(0))
        if mixed_in > _MOST_MIXED_IN:
            yield source.problem(path, f"expected repeat and gold shares of at most {_MOST_MIXED_IN} together, found {mixed_in}")


def _repeats(source: Source, values: list[tuple[KeyPath, Any]]) -> Iterator[Problem]:
    seen: dict[str, KeyPath] = {}
    for path, value in values:
        if isinstance(value, str) and seen.setdefault(value, path) != path:
            yield source.problem(path, f"expected a value of its own: “{value[:60]}” stands on line {source.line(seen[value])} already")


def _mappings(source: Source | dict[str, Any], *pattern: Key | None) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    tree = source.tree if isinstance(source, Source) else source
    return ((path, value) for path, value in find(tree, *pattern) if isinstance(value, dict))


def _keys(source: Source, section: str) -> list[str]:
    value = source.tree.get(section)
    return list(value) if isinstance(value, dict) else []
