"""Pay rules and excluded studies of a study file."""

from collections.abc import Callable, Mapping, Sequence

from apps.accounts.models import User
from apps.desk.study_file import schema
from apps.desk.study_file.errors import FileRefused, Problem
from apps.desk.study_file.source import Source
from apps.studies.models import PayRule, Study, StudyLocale

CREATED, UPDATED, UNCHANGED, REMOVED = "created", "updated", "unchanged", "removed"
_FIELDS = ("currency", "completed", "per_conversation", "screened_out")


def pay_part(locale: StudyLocale) -> schema.PayPart | None:
    rule = PayRule.objects.filter(study_locale=locale).first()
    return schema.PayPart.model_construct(None, **{field: getattr(rule, field) for field in _FIELDS}) if rule else None


def excluded_slugs(study: Study) -> list[str]:
    return list(study.excluded_studies.order_by("slug").values_list("slug", flat=True))


def store_pay(parts: Sequence[schema.LocalePart], locales: Mapping[str, StudyLocale], add: Callable[[str, str], None]) -> None:
    """Bring the pay rule of each locale to the file. `add` counts what was done."""
    for part in parts:
        locale = locales[part.tag]
        rule = PayRule.objects.filter(study_locale=locale).first()
        if part.pay is None:
            if rule is not None:
                rule.delete()
                add("pay rules", REMOVED)
            continue
        values = part.pay.model_dump()
        if rule is None:
            PayRule.objects.create(study_locale=locale, **values)
            add("pay rules", CREATED)
            continue
        changed = [field for field in _FIELDS if getattr(rule, field) != values[field]]
        for field in changed:
            setattr(rule, field, values[field])
        if changed:
            rule.save(update_fields=changed)
        add("pay rules", UPDATED if changed else UNCHANGED)


def store_excluded(study: Study, source: Source, slugs: Sequence[str], owner: User | None, add: Callable[[str, str], None]) -> None:
    """Bring the excluded studies to `slugs`. An `owner` may name studies of which they are a member; without one, the operator any.

    Raises `FileRefused` for a slug that is unknown, not the owner's, or the study's own.
    """
    known = {row.slug: row for row in (Study.objects.visible_to(owner) if owner else Study.objects.all())}
    before = {row.slug: row for row in study.excluded_studies.all()}
    known |= before  # chosen by a co-owner: loading a dump must not be refused
    problems = []
    for place, slug in enumerate(slugs):
        path = ("study", "excluded_studies", place)
        if slug == study.slug:
            problems.append(Problem(source.line(path), source.label(path), "expected another study than this one"))
        elif slug not in known:
            whose = f"a study that {owner} is a member of" if owner else "the slug of a study"
            problems.append(Problem(source.line(path), source.label(path), f"expected {whose}, found “{slug}”"))
    if problems:
        raise FileRefused(source.name, problems)
    if set(before) != set(slugs):
        study.excluded_studies.set([known[slug] for slug in slugs])
        add("excluded studies", UPDATED)
