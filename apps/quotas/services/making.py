"""Quotas from population tables."""

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal

from django.db import transaction
from django.db.models import Count

from apps.annotators.models import Annotator, RecruitmentLink
from apps.quotas.errors import NoTables, PeopleAdmitted
from apps.quotas.models import PopulationShare, PopulationTable, Quota, QuotaCell
from apps.quotas.population import Table
from apps.quotas.selectors import usable_tables
from apps.studies.models import Study, StudyLocale

SUGGESTED_OUTSIDE_SHARE = Decimal("0.1")
MOST_PEOPLE = 1_000_000
_KINDS = {"age_gender": Quota.Kind.HARD, "education_isced3": Quota.Kind.SOFT, "region": Quota.Kind.SOFT}


def suggested_kind(table: Table) -> Quota.Kind:
    """Age by gender is hard, three-level education and region are soft; the rest, and what is old or coarse, is only counted."""
    if table.grade == PopulationTable.Grade.D:
        return Quota.Kind.MONITOR
    return _KINDS.get(table.dimension, Quota.Kind.MONITOR)


def copy_table(*, study: Study, table: Table) -> PopulationTable:
    """The study's own copy of `table`; an earlier copy under the same key is brought to it."""
    fields = ("country", "dimension", "year", "grade", "source", "note")
    with transaction.atomic():
        copy, _ = PopulationTable.objects.update_or_create(
            study=study, key=table.key, defaults={field: getattr(table, field) for field in fields}
        )
        copy.shares.all().delete()
        PopulationShare.objects.bulk_create(
            PopulationShare(table=copy, order=order, key=stratum.key, strata=stratum.strata, share=stratum.share)
            for order, stratum in enumerate(table.strata, start=1)
        )
    return copy


def check_nobody_admitted(locales: Iterable[StudyLocale]) -> None:
    """Raises `PeopleAdmitted` where a quota made now over `locales` would miss people who are in already."""
    admitted = Annotator.objects.filter(
        study_locale__in=list(locales), admitted_at__isnull=False, recruitment_link__purpose=RecruitmentLink.Purpose.LIVE
    )
    groups = admitted.order_by().values("study_locale").annotate(people=Count("pk")).values_list("study_locale", "people")
    tags = {locale.pk: locale.tag for locale in StudyLocale.objects.filter(pk__in=[pk for pk, _ in groups])}
    people = {tags[pk]: number for pk, number in sorted(groups)}
    if people:
        shown = ", ".join(f"{number} in {tag}" for tag, number in people.items())
        raise PeopleAdmitted(
            f"People are admitted already ({shown}), and a quota made now would not count them. "
            "Edit the targets of the quotas that the study has, or make this quota in a new study for the next wave.",
            people=people,
        )


def make_quota(
    *, study: Study, table: Table, key: str, kind: str, total: int, locales: Sequence[StudyLocale], outside_share: Decimal | None = None
) -> Quota:
    """A quota with one cell per stratum of `table`: its share of `total` people, rounded by largest remainder.

    Raises `PeopleAdmitted` where people are admitted in one of `locales`.
    """
    check_nobody_admitted(locales)
    with transaction.atomic():
        quota = Quota.objects.create(
            study=study, key=key, kind=kind, table=copy_table(study=study, table=table), total=total, outside_share=outside_share
        )
        quota.locales.set(locales)
        QuotaCell.objects.bulk_create(
            QuotaCell(quota=quota, key=stratum.key, strata=stratum.strata, target=target)
            for stratum, target in zip(table.strata, table.targets(total), strict=True)
        )
    return quota


def quota_key(table: Table) -> str:
    return table.key.replace("/", "_")


def make_quotas(*, study: Study, country: str, total: int, tables: Collection[str] | None = None) -> list[Quota]:
    """The suggested quotas of a country over all its locales, `total` people each; with `tables`, only those of these keys.

    Tables that have a quota already are left alone. Raises `NoTables` where none fits the study, `PeopleAdmitted` as `make_quota` does.
    """
    locales = list(study.locales.filter(country=country))
    usable = usable_tables(locales)
    if not usable:
        raise NoTables(country=country)
    with transaction.atomic():
        Study.objects.select_for_update().get(pk=study.pk)  # two presses come one after the other
        taken = set(study.quotas.values_list("key", flat=True))
        return [
            make_quota(
                study=study,
                table=table,
                key=quota_key(table),
                kind=suggested_kind(table),
                total=total,
                locales=locales,
                outside_share=SUGGESTED_OUTSIDE_SHARE if suggested_kind(table) == Quota.Kind.HARD else None,
            )
            for table in usable
            if quota_key(table) not in taken and (tables is None or table.key in tables)
        ]
