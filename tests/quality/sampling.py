"""A study with a balance rule and people who have completed, for the tests of the sample's quality."""

from datetime import UTC, datetime
from decimal import Decimal

from apps.annotators.models import Annotator
from apps.quality.models import BalanceRule
from apps.quality.services import LocaleSet, store_rule
from apps.quotas.models import PopulationTable
from apps.quotas.population import Stratum, Table
from apps.quotas.services import copy_table
from apps.studies.models import Study
from tests.exports.build import answer, make_conversation
from tests.factories import AnnotatorFactory

NOW = datetime(2026, 5, 1, tzinfo=UTC)
GENDER = {"women": ("0.5", {"gender": ["female"]}), "men": ("0.5", {"gender": ["male"]})}
AGE = {"young": ("0.25", {"birth_year": ["18_34"]}), "old": ("0.75", {"birth_year": ["35_45", "46_54", "55_plus"]})}


def population_table(study: Study, key: str, strata: dict = GENDER, country: str = "US") -> PopulationTable:
    rows = tuple(Stratum(name, Decimal(share), questions) for name, (share, questions) in strata.items())
    return copy_table(study=study, table=Table(key, country, key, "2024", "A", "A census.", "", rows))


def balance_rule(study: Study, *, min_annotators: int = 2, seed: int = 7, raking_tables=(), tags=("en-US",)) -> BalanceRule:
    """Half women and half men over the locales `tags`."""
    table = study.population_tables.filter(key="gender").first() or population_table(study, "gender")
    locales = [locale for locale in study.locales.all() if locale.tag in tags]
    sets = [LocaleSet(locales, table, raking_tables)]
    return store_rule(study=study, sets=sets, seed=seed, min_annotators=min_annotators, user=None, now=NOW)


def completed(study: Study, gender: str = "woman", age: str = "18_34", state: str = Annotator.State.COMPLETED, **fields) -> Annotator:
    """Somebody who ended in `state`, has told gender and age, and has no conversation yet."""
    ended = None if state == Annotator.State.ACTIVE else NOW
    annotator = AnnotatorFactory(study=study, state=state, ended_at=ended, admitted_at=NOW, **fields)
    answer(annotator, "gender", gender)
    answer(annotator, "birth_year", age)
    return annotator


def with_work(annotator: Annotator, **conversation) -> Annotator:
    make_conversation(annotator, choices=(0,), **conversation)
    return annotator
