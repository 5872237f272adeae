"""Diversity and coverage are reported per recipe and language, in the terminal and on pages that a strict policy lets draw."""

import csv
import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db.models import CharField, Value
from django.db.models.functions import Concat
from django.urls import reverse

from apps.generation.models import Candidate, CandidateSet, ModelSpec
from apps.generation.reporting import diversity_rows, speaks_offline, unready_arms
from apps.studies.models import StudyMembership
from tests.factories import CandidateSetFactory, RecipeFactory, UserFactory
from tests.generation.valued import bank_set, judge

__all__ = ["bank_set", "judge"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(client, study):
    user = UserFactory(is_staff=True)
    StudyMembership.objects.create(study=study, user=user, role=StudyMembership.Role.VIEWER)
    client.force_login(user)
    return client


def stored(recipe, *, value: float, **fields) -> CandidateSet:
    matrix = [[1.0 if row == column else value for column in range(4)] for row in range(4)]
    return CandidateSetFactory(recipe=recipe, similarity={"measure": "sentence_encoder", "matrix": matrix}, **fields)


def test_a_row_has_the_stored_similarities_and_counts_only_pregenerated_ready_sets(study, recipe):
    stored(recipe, value=0.2)
    stored(recipe, value=0.4)
    stored(recipe, value=0.9, language="fr")
    stored(recipe, value=0.9, is_live=True)
    CandidateSetFactory(recipe=recipe, state="FAILED", ready_at=None)
    english, french = diversity_rows(study)
    assert (english.recipe, english.language, english.locales, english.sets) == ("nc3 v1", "en", ("en-US",), 2)
    assert (english.measure, english.mean_similarity) == ("sentence_encoder", pytest.approx(0.3))
    assert english.deviation == pytest.approx(0.141421, abs=1e-5)
    assert english.similarities == pytest.approx((0.2, 0.25, 0.3, 0.35, 0.4))
    assert (french.language, french.sets, french.mean_similarity) == ("fr", 1, pytest.approx(0.9))


def test_lengths_and_distinct_words_come_from_the_texts(study, recipe):
    made = stored(recipe, value=0.2)
    for candidate, text in zip(made.candidates.all(), ["a b c d", "a b", "e f g", "h i j"], strict=True):
        Candidate.objects.filter(pk=candidate.pk).update(text=text)
    (row,) = diversity_rows(study)
    assert (row.distinct_1, row.distinct_2) == (pytest.approx(10 / 12), pytest.approx(7 / 8))
    assert (row.length_deviation, row.length_ratio) == (pytest.approx(0.8165, abs=1e-4), 2.0)


def test_a_set_without_a_stored_matrix_is_measured_from_its_texts_and_stays_as_it_is(study, recipe):
    made = CandidateSetFactory(recipe=recipe, language="hi")
    (row,) = diversity_rows(study)
    assert row.measure == "character_ngrams"
    assert 0 < row.mean_similarity < 1
    made.refresh_from_db()
    assert made.similarity is None


def test_a_page_may_read_a_part_of_the_sets_and_says_how_many(study, recipe):
    for number in range(7):
        stored(recipe, value=number / 10)
    (row,) = diversity_rows(study, most_sets=3)
    assert (row.sets, row.ready) == (3, 7)


def test_the_command_prints_a_table_and_writes_the_same_figures(study, recipe, tmp_path):
    stored(recipe, value=0.25)
    out, path = StringIO(), tmp_path / "diversity.csv"
    call_command("diversity_report", study.slug, csv=path, stdout=out)
    row, french = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    assert (row["recipe"], row["language"], row["sets"], row["mean_similarity"]) == ("nc3 v1", "en", "1", "0.250")
    assert (french["recipe"], french["language"], french["sets"], french["mean_similarity"]) == ("nc3 v1", "fr", "0", "–")
    assert re.search(r"nc3 v1 +en +en-US +1 +sentence_encoder +0\.250", out.getvalue())
    with pytest.raises(CommandError, match="cannot be written"):
        call_command("diversity_report", study.slug, csv=tmp_path / "no" / "such.csv", stdout=out)


def test_an_arm_without_a_ready_set_has_a_row_of_none_and_its_reason(desk, study, recipe, tmp_path):
    stored(recipe, value=0.25)
    for number in range(2):
        CandidateSetFactory(recipe=recipe, language="fr", text=str(number), state="FAILED", error_code="duplicate_answers", ready_at=None)
    CandidateSetFactory(recipe=recipe, language="fr", text="2", state="PENDING", ready_at=None)
    RecipeFactory(study=study, key="drawn")
    arms = [(arm.recipe, arm.language, arm.why) for arm in unready_arms(study)]
    assert arms == [
        ("drawn v1", "en", "no set asked for yet"),
        ("drawn v1", "fr", "no set asked for yet"),
        ("nc3 v1", "fr", "2 failed (2 × duplicate_answers); 1 waiting or being made"),
    ]
    out, path = StringIO(), tmp_path / "diversity.csv"
    call_command("diversity_report", study.slug, csv=path, stdout=out)
    rows = [(row["recipe"], row["language"], row["sets"]) for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]
    assert rows == [("nc3 v1", "en", "1"), ("drawn v1", "en", "0"), ("drawn v1", "fr", "0"), ("nc3 v1", "fr", "0")]
    assert "nc3 v1, fr: 0 ready sets: 2 failed (2 × duplicate_answers); 1 waiting or being made." in out.getvalue()
    page = desk.get(reverse("admin:generation_diversity", args=[study.pk]))
    assert "nc3 v1, fr: 2 failed (2 × duplicate_answers)" in page.text


def test_the_command_names_what_is_missing(study):
    with pytest.raises(CommandError, match="no ready candidate set"):
        call_command("diversity_report", study.slug)
    with pytest.raises(CommandError, match=f"There is no study 'nothing'. Studies: {study.slug}"):
        call_command("diversity_report", "nothing")


def test_only_figures_of_the_offline_endpoint_are_called_plumbing(study, recipe):
    made = stored(recipe, value=0.2)
    assert not speaks_offline(study)
    Candidate.objects.filter(candidate_set=made).update(model_spec=ModelSpec.objects.get(study=study))
    assert speaks_offline(study)
    out = StringIO()
    call_command("diversity_report", study.slug, stdout=out)
    assert "no finding" in out.getvalue()
    ModelSpec.objects.filter(study=study).update(base_url="https://models.example.org/v1")
    assert not speaks_offline(study)


def test_the_pages_plot_without_inline_style_or_script(desk, study, recipe):
    made = stored(recipe, value=0.25)
    Candidate.objects.filter(candidate_set=made).update(model_spec=ModelSpec.objects.get(study=study))
    page = desk.get(reverse("admin:generation_diversity", args=[study.pk]))
    assert page.status_code == 200
    _, _, plot = page.text.partition('<svg role="img"')
    plot = plot.partition("</svg>")[0]
    assert "style=" not in plot
    assert "<script" not in plot
    # The scale runs over 440 units from 260: a median of 0.25 stands at 370.
    assert '<circle cx="370.0"' in plot
    assert "no finding" in page.text
    table = desk.get(reverse("admin:generation_diversity", args=[study.pk]), {"format": "csv"})
    assert "attachment" in table.headers["Content-Disposition"]
    assert "nc3 v1,en,en-US,1,sentence_encoder,0.250" in table.text


def test_the_pages_say_what_to_do_where_there_is_nothing(desk, study):
    assert "pregenerate" in desk.get(reverse("admin:generation_diversity", args=[study.pk])).text
    assert "names no judge" in desk.get(reverse("admin:generation_coverage", args=[study.pk])).text


def test_other_studies_and_strangers_find_no_report(desk, client):
    other = RecipeFactory(study__slug="not-mine")
    for name in ("diversity", "coverage"):
        url = reverse(f"admin:generation_{name}", args=[other.study_id])
        assert desk.get(url).status_code == 404
    client.logout()
    assert client.get(url).status_code == 302


def test_the_list_of_recipes_leads_to_the_reports(desk, study, recipe):
    page = desk.get(reverse("admin:generation_recipe_changelist"))
    assert reverse("admin:generation_diversity", args=[study.pk]) in page.text
    assert reverse("admin:generation_coverage", args=[study.pk]) in page.text


@pytest.mark.usefixtures("offline_endpoint")
def test_the_coverage_page_shows_shares_only_with_agreement_or_on_request(desk, study, bank_set, judge):
    url = reverse("admin:generation_coverage", args=[study.pk])
    page = desk.get(url)
    assert "0 of 4 candidates have a score of judge" in page.text
    assert "<circle" not in desk.get(url, {"unchecked": "1"}).text
    call_command("judge_candidates", study.slug, stdout=StringIO())
    fingerprints = dict(bank_set.candidates.values_list("pk", "text_fingerprint"))
    Candidate.objects.filter(pk__in=fingerprints).update(text_fingerprint=Concat(Value("x"), "slot", output_field=CharField()))
    page = desk.get(url)
    assert "0 of 240 hand labels match one of the 4 texts that judge scored" in page.text
    assert "<circle" not in page.text
    assert "<circle" in desk.get(url, {"unchecked": "1"}).text
    for pk, key in fingerprints.items():
        Candidate.objects.filter(pk=pk).update(text_fingerprint=key)
    page = desk.get(url)
    assert "4 of 240 match a scored text" in page.text
    assert "Mean absolute error" in page.text
    assert "traditional: 15%" in page.text
    assert page.text.count("<circle") == 4
