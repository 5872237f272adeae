"""Importing candidates written by hand: all or nothing, every problem by line, and never over what somebody has seen."""

import json

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from apps.annotation.models import Slot
from apps.desk.candidate_file import import_candidate_file
from apps.desk.study_file import FileRefused
from apps.generation.models import Candidate, CandidateSet
from tests.annotation.fieldwork import admitted_annotator, claim, make_ready, seated_study
from tests.desk.study_files import write
from tests.factories import RecipeFactory
from tests.generation.test_reviewing import BY_HAND

pytestmark = pytest.mark.django_db

IN_FRENCH = [
    "Posez un panier près de la porte et demandez à chacun d’y laisser son téléphone avant le repas, vous compris, pendant une semaine.",
    "Laissez la règle à vos adolescents : demandez quels soirs doivent rester sans écran, écrivez leur choix et tenez-vous-y vous-même.",
    "Le dîner vous appartient. Dites clairement que la table sert à parler et que celui qui veut écrire des messages mangera plus tard.",
    "Les téléphones ne sont peut-être pas le problème. Commencez par raconter votre propre journée et voyez s’ils lèvent les yeux.",
]


@pytest.fixture
def study(db):
    """Two prompts in en-US and fr-FR, seated, their sets still waiting."""
    study = seated_study(prompts=2, overlap=2)
    CandidateSet.objects.all().update(state="PENDING", ready_at=None)
    Candidate.objects.all().delete()
    return study


def lines(*rows: dict) -> str:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def row(study, place=0, language="en", candidates=BY_HAND, **changes) -> dict:
    return {"prompt": study.prompts.order_by("pk")[place].key, "language": language, "candidates": candidates} | changes


def load(study, tmp_path, text):
    return import_candidate_file(study=study, path=write(tmp_path, text, "sets.jsonl"), now=timezone.now())


def refused(study, tmp_path, text) -> list[str]:
    before = list(CandidateSet.objects.order_by("pk").values())
    with pytest.raises(FileRefused) as error:
        load(study, tmp_path, text)
    assert list(CandidateSet.objects.order_by("pk").values()) == before, "nothing may be half-imported"
    assert not Candidate.objects.filter(source="curated").exists()
    return [str(problem) for problem in error.value.problems]


def test_candidates_become_ready_sets_of_source_curated(study, tmp_path):
    text = lines(row(study), row(study, language="fr", candidates=IN_FRENCH))
    assert load(study, tmp_path, text) == {"stored": 2}
    made = CandidateSet.objects.filter(state="READY")
    assert made.count() == 2
    assert [candidate.text for candidate in made.get(language="fr").candidates.all()] == IN_FRENCH
    assert set(Candidate.objects.values_list("source", "model_spec", "attempt")) == {("curated", None, None)}
    assert Slot.objects.filter(candidate_set__state="READY").count() == 2 * 2


def test_the_same_file_again_changes_nothing(study, tmp_path):
    text = lines(row(study))
    load(study, tmp_path, text)
    before = list(CandidateSet.objects.order_by("pk").values())
    assert load(study, tmp_path, text) == {"unchanged": 1}
    assert list(CandidateSet.objects.order_by("pk").values()) == before


def test_a_made_set_that_nobody_saw_gives_way_with_its_seats(study, tmp_path):
    prompt = study.prompts.order_by("pk")[0]
    old = Slot.objects.filter(prompt=prompt, study_locale__language="en").first().candidate_set
    make_ready(old)
    load(study, tmp_path, lines(row(study)))
    old.refresh_from_db()
    assert old.state == "REJECTED"
    slots = Slot.objects.filter(prompt=prompt, study_locale__language="en")
    assert {slot.candidate_set.candidates.first().text for slot in slots} == {BY_HAND[0]}


def test_a_set_that_somebody_saw_stays(study, tmp_path):
    for candidate_set in CandidateSet.objects.all():
        make_ready(candidate_set)
    seen = claim(admitted_annotator(study)).slot
    place = list(study.prompts.order_by("pk")).index(seen.prompt)
    other = 1 - place
    [problem] = refused(study, tmp_path, lines(row(study, other), row(study, place)))
    assert problem.startswith(f"line 2: {seen.prompt.key}, en: People have seen these candidates")


def test_every_problem_is_named_with_its_line(study, tmp_path):
    key = study.prompts.order_by("pk")[0].key
    text = "\n".join([
        lines(row(study)),
        "not json",
        "[1]",
        lines({"prompt": key, "language": "en"}),
        lines(row(study, prompt="nobody")),
        lines(row(study, language="hi")),
        lines(row(study, language=3)),
        lines(row(study)),
        lines(row(study, 1, candidates="one")),
        lines(row(study, 1, candidates=BY_HAND[:3])),
        lines(row(study, 1, language="fr", candidates=[*IN_FRENCH[:3], "Trop court."])),
        "",
    ])  # fmt: skip
    problems = refused(study, tmp_path, text)
    assert [problem.split(":")[0] for problem in problems] == [f"line {number}" for number in [*range(2, 12), 11]]
    for problem, words in zip(
        problems,
        [
            "one JSON object", "the keys prompt, language, candidates", "the keys", "found “nobody”", "expected one of en, fr, found “hi”",
            "found no text", "stands on line 1 already", "list of texts", "3 answers instead of 4", "Candidate 4",
            "The set: The answers have",
        ],
        strict=True,
    ):  # fmt: skip
        assert words in problem


def test_all_faults_of_the_candidates_of_a_line_are_named_at_once(study, tmp_path):
    wrong = ["As an AI language model, I will not say.", "", *BY_HAND[:1]]
    problems = refused(study, tmp_path, lines(row(study), row(study, 1, candidates=wrong)))
    assert {problem.split(":")[0] for problem in problems} == {"line 2"}
    told = "\n".join(problems)
    for words in (
        "The set: 3 answers instead of 4. (wrong_count)",
        "Candidate 2: It is empty.",
        "(self_naming)",
        "(too_short)",
    ):
        assert words in told


def test_a_missing_file_is_told_with_a_colon(study, tmp_path):
    with pytest.raises(CommandError, match=r"\n  nowhere\.jsonl: there is no such file$"):
        call_command("import_candidates", study.slug, str(tmp_path / "nowhere.jsonl"))


def test_an_empty_file_says_so(study, tmp_path):
    assert refused(study, tmp_path, "\n\n") == ["line 1: expected at least one candidate set, found none"]


def test_the_set_belongs_to_the_arm_of_the_prompt(study, tmp_path):
    RecipeFactory(study=study, key="plain")
    load(study, tmp_path, lines(row(study, 0), row(study, 1)))
    assert set(CandidateSet.objects.filter(state="READY").values_list("recipe__key", flat=True)) == {"nc3", "plain"}


def test_the_command_says_what_it_did(study, tmp_path, capsys):
    path = write(tmp_path, lines(row(study)), "sets.jsonl")
    call_command("import_candidates", study.slug, str(path))
    assert f"Candidate sets of {study.slug}: 1 stored, 0 unchanged." in capsys.readouterr().out
    with pytest.raises(CommandError, match=r"line 1: language: expected one of en, fr"):
        call_command("import_candidates", study.slug, str(write(tmp_path, lines(row(study, language="it")), "bad.jsonl")))
    with pytest.raises(CommandError, match="There is no study “nope”"):
        call_command("import_candidates", "nope", str(path))
