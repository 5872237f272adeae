"""The shipped population tables, and whether the shipped questionnaires can tell their strata."""

from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from django.conf import settings

from apps.quotas.population import builtin_tables

PRESET = Path(settings.BASE_DIR) / "apps/desk/presets/community_alignment.yaml"
COUNTRIES = ["US", "FR", "IT", "BR", "IN"]


@pytest.fixture(scope="module")
def offered():
    """(country, locale tag, question) → its options, each as its code and stratum."""
    preset = yaml.safe_load(PRESET.read_text(encoding="utf-8"))
    return {
        (locale["country"], f"{locale['language']}-{locale['country']}", question["code"]): [
            {option["code"], option.get("stratum", "")} - {""} for option in question["options"]
        ]
        for locale in preset["locales"]
        for questionnaire in locale["questionnaires"].values()
        for question in questionnaire["questions"]
    }


@pytest.mark.parametrize("key", builtin_tables())
def test_the_shares_of_a_table_sum_to_one(key):
    table = builtin_tables()[key]
    assert sum(stratum.share for stratum in table.strata) == 1
    assert len({stratum.key for stratum in table.strata}) == len(table.strata)
    assert table.source
    assert table.year
    assert table.grade in {"A", "B", "C", "D"}


@pytest.mark.parametrize("key", [key for key, table in builtin_tables().items() if any(stratum.strata for stratum in table.strata)])
def test_every_code_of_the_mapping_is_an_option_and_none_falls_in_two_strata(key, offered):
    table = builtin_tables()[key]
    assert table.questions, "a mapped table maps all of its strata"
    for country, tag, question in offered:
        if country != table.country or question not in table.questions:
            continue
        known = set.union(*offered[country, tag, question])
        codes = {code for stratum in table.strata for code in stratum.strata[question]}
        assert codes <= known, tag
        if len(table.questions) > 1:
            continue
        for option in offered[country, tag, question]:
            fits = [stratum.key for stratum in table.strata if option & set(stratum.strata[question])]
            assert len(fits) <= 1, (tag, option, fits)


def test_the_recommended_tables_leave_out_only_those_who_fit_nowhere(offered):
    """Everybody but “prefer not to say”, “other” and genders without a margin falls in a stratum of education and region."""
    outside = {"prefer_not_to_say", "other"}
    for country in COUNTRIES:
        for dimension, question in (("education_isced3", "education"), ("region", "region"), ("age", "birth_year")):
            table = builtin_tables()[f"{country}/{dimension}"]
            mapped = {code for stratum in table.strata for code in stratum.strata[question]}
            for (of, tag, code), options in offered.items():
                if of == country and code == question:
                    assert [option for option in options if not option & (mapped | outside)] == [], tag


def test_italys_macro_regions_are_the_sums_of_their_regions():
    regions = {stratum.key: stratum.share for stratum in builtin_tables()["IT/region"].strata}
    for macro in builtin_tables()["IT/region_macro"].strata:
        assert abs(sum(regions[key] for key in macro.strata["region"]) - macro.share) < Decimal("0.00001")


def test_americas_states_fall_in_the_four_regions_in_the_right_proportion(offered):
    shares = {code: stratum.share for stratum in builtin_tables()["US/region_state"].strata for code in stratum.strata["region"]}
    assert len(shares) == 51
    for region in builtin_tables()["US/region"].strata:
        states = [option for option in offered["US", "en-US", "region"] if option & set(region.strata["region"])]
        total = sum(shares[code] for option in states for code in option & shares.keys())
        assert abs(total - region.share) < Decimal("0.00001")


def test_what_no_question_tells_cannot_make_quotas():
    assert builtin_tables()["US/urban_rural"].questions == ()
    assert builtin_tables()["IN/region_state"].questions == ()
