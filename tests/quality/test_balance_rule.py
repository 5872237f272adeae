"""Versions of the rule, and who is in the subset of a study."""

from decimal import Decimal

import pytest

from apps.annotators.models import Annotator, Consent, RecruitmentLink
from apps.quality.errors import BalanceRefused
from apps.quality.models import BalanceRule
from apps.quality.selectors import balance_of, counted_conversations, representativeness
from apps.quality.services import LocaleSet, store_rule
from apps.quotas.models import PopulationShare
from tests.factories import PromptFactory, RecruitmentLinkFactory, StudyFactory
from tests.quality.sampling import AGE, NOW, balance_rule, completed, population_table, with_work

pytestmark = pytest.mark.django_db


@pytest.fixture
def study():
    return StudyFactory()


def balance(study):
    return balance_of(study, counted_conversations(study))


def counts(study):
    [each] = balance(study).sets
    return {row.key: (row.available, row.taken) for row in each.strata}


def test_the_same_rule_is_no_new_version(study):
    assert balance_rule(study).pk == balance_rule(study).pk
    assert balance_rule(study, seed=8).version == 2
    assert balance_rule(study).version == 3


def test_a_changed_share_is_a_new_version(study):
    balance_rule(study)
    PopulationShare.objects.filter(key="women").update(share=Decimal("0.6"))
    PopulationShare.objects.filter(key="men").update(share=Decimal("0.4"))
    assert balance_rule(study).version == 2


def test_a_rule_without_sets_ends_balancing(study):
    balance_rule(study)
    with_work(completed(study))
    rule = store_rule(study=study, sets=[], seed=7, user=None, now=NOW)
    assert rule.version == 2
    assert (balance(study).rule, balance(study).sets) == (None, ())


def test_a_rule_that_cannot_be_applied_is_refused(study):
    american, french = study.locales.all()
    table, age = population_table(study, "gender"), population_table(study, "age", AGE)
    untold = population_table(study, "region", {"north": ("1", {})})
    elsewhere = population_table(StudyFactory(), "gender")
    for sets in (
        [LocaleSet([], table)],
        [LocaleSet([american], table), LocaleSet([american], age)],
        [LocaleSet([american], table), LocaleSet([french], table)],
        [LocaleSet([american], table, [table])],
        [LocaleSet([american], table, [untold])],
        [LocaleSet([american], elsewhere)],
    ):
        with pytest.raises(BalanceRefused):
            store_rule(study=study, sets=sets, seed=7, user=None, now=NOW)
    assert not BalanceRule.objects.exists()


def test_the_subset_matches_the_table(study):
    balance_rule(study)
    for gender in ["woman"] * 5 + ["man"] * 3 + ["prefer_not_to_say"]:
        with_work(completed(study, gender))
    assert counts(study) == {"women": (5, 4), "men": (3, 3)}


def test_only_completed_people_of_live_links_with_counted_work_are_candidates(study):
    balance_rule(study)
    RecruitmentLinkFactory(study=study)
    pilot = RecruitmentLinkFactory(study=study, purpose=RecruitmentLink.Purpose.PILOT)
    completed(study)  # nothing done
    with_work(completed(study), state="SURPLUS")
    with_work(completed(study, recruitment_link=pilot))
    for state in (Annotator.State.ACTIVE, Annotator.State.RETURNED, Annotator.State.WITHDRAWN):
        with_work(completed(study, state=state))
    with_work(completed(study, study_locale=study.locales.all()[1]))
    assert counts(study) == {"women": (0, 0), "men": (0, 0)}
    with_work(completed(study))
    assert counts(study) == {"women": (1, 1), "men": (0, 0)}


def test_answers_without_consent_do_not_count(study):
    balance_rule(study)
    person = with_work(completed(study))
    Consent.objects.filter(annotator=person).update(granted=False)
    assert counts(study)["women"] == (0, 0)


def test_a_prompt_needs_enough_people_of_the_subset(study):
    balance_rule(study, min_annotators=2)
    much, little = PromptFactory(study=study), PromptFactory(study=study)
    people = [with_work(completed(study, gender), prompt=much) for gender in ("woman", "man")]
    with_work(people[0], prompt=little)
    outside = with_work(completed(study, "prefer_not_to_say"), prompt=little)
    with_work(people[0], own=True)
    found = balance(study)
    [each] = found.sets
    assert each.prompts == {much.pk}
    name = sorted(each.people)[0]
    assert found.holds_prompt(name, much.pk)
    assert not found.holds_prompt(name, little.pk)
    assert not found.holds_prompt(name, None)
    assert not found.holds_prompt("a_nobody", much.pk)
    assert len(each.weights.by_person) == 3
    assert outside.state == "COMPLETED"


def test_a_locale_set_may_span_languages(study):
    balance_rule(study, tags=("en-US", "fr-FR"))
    for number, gender in enumerate(("woman", "man")):
        with_work(completed(study, gender, study_locale=study.locales.all()[number]))
    assert counts(study) == {"women": (1, 1), "men": (1, 1)}


def test_weights_reach_every_table_of_the_set(study):
    balance_rule(study, raking_tables=[population_table(study, "age", AGE)])
    for gender, age, people in (("woman", "18_34", 4), ("woman", "55_plus", 2), ("man", "18_34", 3), ("man", "46_54", 3)):
        for _ in range(people):
            with_work(completed(study, gender, age))
    compared = {table.table.key: table for each in representativeness(study) for table in each.tables}
    assert [row.weighted_share for row in compared["age"].rows] == pytest.approx([0.25, 0.75], abs=1e-5)
    assert [row.weighted_share for row in compared["gender"].rows] == pytest.approx([0.5, 0.5], abs=1e-5)
    assert compared["age"].rows[0].completed_share == pytest.approx(7 / 12)
    assert compared["age"].rows[0].difference == pytest.approx(100 * 7 / 12 - 25)
    assert compared["age"].has_small_cells


def test_the_comparison_needs_no_rule(study):
    population_table(study, "gender")
    with_work(completed(study))
    completed(study, "man", state=Annotator.State.ACTIVE)
    completed(study, "prefer_not_to_say", state=Annotator.State.ACTIVE)
    american, french = representativeness(study)
    [table] = american.tables
    assert [(row.all, row.completed, row.balanced, row.weighted_share) for row in table.rows] == [(1, 1, None, None), (1, 0, None, None)]
    assert (table.unknown_all, table.unknown_completed) == (1, 0)
    assert (french.locales, french.tables) == (("fr-FR",), ())
