"""Reads about the sample: who is in the balanced subset, with which weight, and how the sample compares with the population."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import QuerySet

from apps.annotation.models import Assignment, Conversation
from apps.annotators.models import Annotator, RecruitmentLink
from apps.annotators.selectors import strata_of_many
from apps.quality.balance import balanced_sample, stratum_of
from apps.quality.models import BalanceMargin, BalanceRule
from apps.quality.raking import Margin, Weights, rake
from apps.quotas.models import PopulationTable
from apps.studies.models import Study, StudyLocale
from apps.studies.pseudonyms import Kind, Pseudonyms

# Below this many people a stratum's share, and the weights of its people, say little.
SMALL_CELL = 10


def current_rule(study: Study) -> BalanceRule | None:
    """The newest version; its margins are empty where balancing was given up."""
    rules = study.balance_rules.order_by("-version")
    return rules.prefetch_related("margins__table__shares", "margins__locales", "margins__raking_tables__table__shares").first()


@dataclass(frozen=True)
class StratumCount:
    """One stratum of a set's table: `questions` maps question codes to the options or strata that fall in it."""

    key: str
    questions: dict[str, list[str]]
    share: Decimal
    available: int
    taken: int


@dataclass(frozen=True)
class BalancedSet:
    """What the rule gives for one set of locales. `people` are those taken, by pseudonym; `prompts` the keys of those that enough
    of them have judged.
    """

    locales: tuple[str, ...]
    table: PopulationTable
    raking_tables: tuple[PopulationTable, ...]
    strata: tuple[StratumCount, ...]
    people: frozenset[str]
    prompts: frozenset[int]
    weights: Weights


class Balance:
    """The outcome of a rule, asked by the pseudonyms of people."""

    def __init__(self, rule: BalanceRule | None, sets: Sequence[BalancedSet]) -> None:
        self.rule = rule
        self.sets = tuple(sets)
        self._set_of = {name: each for each in sets for name in each.people}
        self._weights = {name: weight for each in sets for name, weight in each.weights.by_person.items()}

    def holds(self, name: str) -> bool:
        """Whether this person is in the balanced subset."""
        return name in self._set_of

    def holds_prompt(self, name: str, prompt_pk: int | None) -> bool:
        """Whether this person's conversation on a prompt is in the part of the subset with enough people per prompt."""
        return name in self._set_of and prompt_pk in self._set_of[name].prompts

    def weight_of(self, name: str) -> float | None:
        return self._weights.get(name)


def balance_of(study: Study, conversations: QuerySet[Conversation]) -> Balance:
    """Apply the study's rule to the people of `conversations`, which are those that count."""
    rule = current_rule(study)
    margins = sorted(rule.margins.all(), key=lambda margin: margin.pk) if rule else []
    if not margins:
        return Balance(None, [])
    rows = Annotator.objects.filter(pk__in=conversations.values("annotator"), state=Annotator.State.COMPLETED)
    locale_of = dict(rows.values_list("pk", "study_locale_id"))
    answers = strata_of_many(locale_of)
    judged = conversations.filter(assignment__purpose=Assignment.Purpose.MAIN, annotator__state=Annotator.State.COMPLETED)
    pairs = set(judged.order_by().values_list("assignment__prompt_id", "annotator_id"))
    names = _names(study, locale_of)
    return Balance(rule, [_balanced_set(rule, margin, locale_of, answers, names, pairs) for margin in margins if rule])


def _balanced_set(
    rule: BalanceRule,
    margin: BalanceMargin,
    locale_of: Mapping[int, int],
    answers: Mapping[int, Mapping[str, Collection[str]]],
    names: Mapping[int, str],
    pairs: Collection[tuple[int, int]],
) -> BalancedSet:
    locales = sorted(margin.locales.all(), key=lambda locale: locale.pk)
    inside = {locale.pk for locale in locales}
    people = [pk for pk, locale_pk in locale_of.items() if locale_pk in inside]
    found = {names[pk]: answers[pk] for pk in people}
    strata = _strata(margin.table, found)
    shares = {share.key: share.share for share in margin.table.shares.all()}
    taken = balanced_sample(strata, shares, rule.seed)
    subset = frozenset(name for drawn in taken.values() for name in drawn)
    per_prompt = Counter(prompt for prompt, pk in pairs if names.get(pk) in subset)
    raking_tables = tuple(each.table for each in sorted(margin.raking_tables.all(), key=lambda each: each.pk))
    available = Counter(strata.values())
    return BalancedSet(
        locales=tuple(locale.tag for locale in locales),
        table=margin.table,
        raking_tables=raking_tables,
        strata=tuple(
            StratumCount(share.key, share.strata, share.share, available[share.key], len(taken[share.key]))
            for share in margin.table.shares.all()
        ),
        people=subset,
        prompts=frozenset(prompt for prompt, count in per_prompt.items() if count >= rule.min_annotators),
        weights=rake(
            list(found), [_raking_margin(table, found) for table in (margin.table, *raking_tables)], max_weight=float(rule.max_weight)
        ),
    )


def _names(study: Study, annotator_pks: Collection[int]) -> dict[int, str]:
    """The pseudonyms of releases, so that whoever holds one can repeat the draw."""
    pseudonyms = Pseudonyms(study.pk)
    return {pk: pseudonyms.of(Kind.ANNOTATOR, pk) for pk in annotator_pks}


def _strata(table: PopulationTable, answers: Mapping[str, Mapping[str, Collection[str]]]) -> dict[str, str | None]:
    """Each person's stratum of `table`."""
    strata = {share.key: share.strata for share in table.shares.all()}
    return {name: stratum_of(strata, given) for name, given in answers.items()}


def _raking_margin(table: PopulationTable, answers: Mapping[str, Mapping[str, Collection[str]]]) -> Margin:
    known = {name: stratum for name, stratum in _strata(table, answers).items() if stratum is not None}
    return Margin({share.key: float(share.share) for share in table.shares.all()}, known)


# --- The sample beside the population ---


@dataclass(frozen=True)
class Compared:
    """One stratum: people and their share among those whose stratum is known, in three circles, and the weighted share of the second.

    `all`: everybody who was admitted through a fieldwork link and has not withdrawn. `completed`: who can be in the subset.
    Shares are None where the circle is empty, and figures of the subset and the weights without a rule.
    """

    stratum: str
    target: float
    all: int
    all_share: float | None
    completed: int
    completed_share: float | None
    balanced: int | None
    balanced_share: float | None
    weighted_share: float | None

    @property
    def difference(self) -> float | None:
        """Completed less target, in points."""
        return None if self.completed_share is None else 100 * (self.completed_share - self.target)

    @property
    def percent(self) -> dict[str, float | None]:
        """The shares for people to read."""
        shares = {
            "target": self.target,
            "all": self.all_share,
            "completed": self.completed_share,
            "balanced": self.balanced_share,
            "weighted": self.weighted_share,
        }
        return {name: None if share is None else 100 * share for name, share in shares.items()}

    @property
    def is_small(self) -> bool:
        return self.completed < SMALL_CELL


@dataclass(frozen=True)
class TableComparison:
    """One population table over one set of locales. `unknown_*` count people whose stratum is not known."""

    locales: tuple[str, ...]
    table: PopulationTable
    is_matched: bool
    rows: tuple[Compared, ...]
    unknown_all: int
    unknown_completed: int

    @property
    def has_small_cells(self) -> bool:
        return any(row.is_small for row in self.rows)


@dataclass(frozen=True)
class SetComparison:
    """All tables of one set of locales. `balanced` and `weights` are None without a rule for the set."""

    locales: tuple[str, ...]
    people: int
    completed: int
    balanced: int | None
    weights: Weights | None
    tables: tuple[TableComparison, ...]


def representativeness(study: Study) -> list[SetComparison]:
    """Sample against target for each set of locales: the rule's sets, or without one the locales of each country.

    A set is compared with its rule's tables and then with every other table of the study for its country whose strata can be told.
    """
    tables = list(study.population_tables.order_by("pk").prefetch_related("shares"))
    balance = balance_of(study, counted_conversations(study))
    locales = {locale.tag: locale for locale in study.locales.order_by("pk")}
    found: list[tuple[list[StudyLocale], BalancedSet | None]] = [([locales[tag] for tag in each.locales], each) for each in balance.sets]
    covered = {locale.pk for members, _ in found for locale in members}
    by_country: dict[str, list[StudyLocale]] = defaultdict(list)
    for locale in locales.values():
        if locale.pk not in covered:
            by_country[locale.country].append(locale)
    found += [(members, None) for members in by_country.values()]
    return [_set_comparison(study, members, each, tables) for members, each in found]


def counted_conversations(study: Study) -> QuerySet[Conversation]:
    """What a release built now would count: finished MAIN and OWN work of people of fieldwork links who have not withdrawn."""
    return Conversation.objects.filter(
        assignment__in=Assignment.objects.counted(),
        annotator__study=study,
        annotator__recruitment_link__purpose=RecruitmentLink.Purpose.LIVE,
    ).exclude(annotator__state=Annotator.State.WITHDRAWN)


def _set_comparison(
    study: Study, members: Sequence[StudyLocale], balanced: BalancedSet | None, tables: Sequence[PopulationTable]
) -> SetComparison:
    live = study.annotators.filter(
        study_locale__in=members, admitted_at__isnull=False, recruitment_link__purpose=RecruitmentLink.Purpose.LIVE
    ).exclude(state=Annotator.State.WITHDRAWN)
    admitted = set(live.values_list("pk", flat=True))
    counted = counted_conversations(study).filter(annotator__study_locale__in=members, annotator__state=Annotator.State.COMPLETED)
    finished = set(counted.values_list("annotator_id", flat=True))
    names = _names(study, admitted | finished)
    answers = {names[pk]: given for pk, given in strata_of_many(names).items()}
    everybody, completed = {names[pk] for pk in admitted | finished}, {names[pk] for pk in finished}
    matched = (balanced.table, *balanced.raking_tables) if balanced else ()
    known = {table.pk for table in matched}
    countries = {locale.country for locale in members}
    others = [
        table
        for table in tables
        if {table.country} == countries and table.pk not in known and all(share.strata for share in table.shares.all())
    ]
    tags = tuple(locale.tag for locale in members)
    return SetComparison(
        locales=tags,
        people=len(everybody),
        completed=len(completed),
        balanced=len(balanced.people) if balanced else None,
        weights=balanced.weights if balanced else None,
        tables=tuple(_table_comparison(tags, table, answers, everybody, completed, balanced) for table in [*matched, *others]),
    )


def _table_comparison(
    tags: tuple[str, ...],
    table: PopulationTable,
    answers: Mapping[str, Mapping[str, Collection[str]]],
    everybody: Collection[str],
    completed: Collection[str],
    balanced: BalancedSet | None,
) -> TableComparison:
    strata = _strata(table, answers)
    shares = {share.key: share.share for share in table.shares.all()}
    whole = sum(shares.values()) or Decimal(1)
    every, done = Counter(strata[name] for name in everybody), Counter(strata[name] for name in completed)
    inside: Counter[str | None] = Counter()
    weighted: dict[str | None, float] = defaultdict(float)
    if balanced:
        inside.update(strata[name] for name in balanced.people)
        for name, weight in sorted(balanced.weights.by_person.items()):
            weighted[strata[name]] += weight
    sizes = [sum(counts[key] for key in shares) for counts in (every, done, inside)]
    weight = sum(weighted[key] for key in shares)
    return TableComparison(
        locales=tags,
        table=table,
        is_matched=balanced is not None and table.pk == balanced.table.pk,
        rows=tuple(
            Compared(
                stratum=key,
                target=float(share / whole),
                all=every[key],
                all_share=_share(every[key], sizes[0]),
                completed=done[key],
                completed_share=_share(done[key], sizes[1]),
                balanced=inside[key] if balanced else None,
                balanced_share=_share(inside[key], sizes[2]),
                weighted_share=_share(weighted[key], weight),
            )
            for key, share in shares.items()
        ),
        unknown_all=every[None],
        unknown_completed=done[None],
    )


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
