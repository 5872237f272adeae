"""Importing prompt files: thousands at once, all or nothing, every problem by line."""

import json

import pytest
from django.core.management import CommandError, call_command

from apps.desk.study_file import FileRefused, import_prompt_file, load_study_file
from tests.desk.study_files import SMALL, write
from tests.factories import AnnotatorFactory

pytestmark = pytest.mark.django_db

CSV = """\
key,topic,en,fr
late_bus,family,"My bus is always late, what can I do?",Mon bus est toujours en retard. Que faire\u00a0?
old_dog,,"My dog is old.
What now?",Mon chien est vieux.
"""


@pytest.fixture
def study(tmp_path):
    return load_study_file(write(tmp_path, SMALL)).study


def refused(study, tmp_path, content, name="prompts.csv"):
    with pytest.raises(FileRefused) as error:
        import_prompt_file(study=study, path=write(tmp_path, content, name))
    assert study.prompts.count() == 2, "nothing may be half-imported"
    return [str(problem) for problem in error.value.problems]


def test_a_csv_file_adds_its_prompts(study, tmp_path):
    counts = import_prompt_file(study=study, path=write(tmp_path, CSV, "prompts.csv"))
    assert counts == {"created": 2}
    assert study.prompts.current().count() == 4
    bus, dog = study.prompts.get(key="late_bus"), study.prompts.get(key="old_dog")
    assert (bus.topic.key, bus.text_in("fr")) == ("family", "Mon bus est toujours en retard. Que faire\u00a0?")
    assert (dog.topic, dog.text_in("en")) == (None, "My dog is old.\nWhat now?")


def test_a_jsonl_file_adds_its_prompts(study, tmp_path):
    lines = [
        {"key": "late_bus", "topic": "family", "en": "Bus?", "fr": "Bus\u00a0?"},
        {"key": "old_dog", "en": "Dog", "fr": "Chien", "hi": "कुत्ता"},
    ]
    content = "\n".join(json.dumps(line) for line in lines) + "\n\n"
    assert import_prompt_file(study=study, path=write(tmp_path, content, "prompts.jsonl")) == {"created": 2}
    assert study.prompts.get(key="old_dog").text_in("hi") == "कुत्ता"


def test_the_same_file_again_changes_nothing(study, tmp_path):
    path = write(tmp_path, CSV, "prompts.csv")
    import_prompt_file(study=study, path=path)
    before = list(study.prompts.order_by("pk").values_list("pk", "version", "text_en"))
    assert import_prompt_file(study=study, path=path) == {"unchanged": 2}
    assert list(study.prompts.order_by("pk").values_list("pk", "version", "text_en")) == before


def test_another_text_is_a_new_version_once_people_have_joined(study, tmp_path):
    import_prompt_file(study=study, path=write(tmp_path, CSV, "prompts.csv"))
    AnnotatorFactory(study=study, recruitment_link=study.recruitment_links.get())
    counts = import_prompt_file(study=study, path=write(tmp_path, CSV.replace("always late", "often late"), "prompts.csv"))
    assert counts == {"updated": 1, "unchanged": 1}
    versions = study.prompts.filter(key="late_bus").order_by("version")
    assert [(prompt.version, prompt.is_current, prompt.text_en[:12]) for prompt in versions] == [
        (1, False, "My bus is al"),
        (2, True, "My bus is of"),
    ]


def test_another_topic_alone_is_no_new_version(study, tmp_path):
    import_prompt_file(study=study, path=write(tmp_path, CSV, "prompts.csv"))
    assert import_prompt_file(study=study, path=write(tmp_path, CSV.replace("old_dog,,", "old_dog,family,"), "prompts.csv")) == {
        "updated": 1,
        "unchanged": 1,
    }
    assert study.prompts.get(key="old_dog").topic.key == "family"


def test_five_thousand_prompts_are_quick(study, tmp_path, django_assert_max_num_queries):
    rows = "".join(f"p{n},family,Question number {n}?,Question numéro {n}\u00a0?\n" for n in range(5000))
    path = write(tmp_path, "key,topic,en,fr\n" + rows, "prompts.csv")
    with django_assert_max_num_queries(120):
        assert import_prompt_file(study=study, path=path) == {"created": 5000}
    with django_assert_max_num_queries(20):
        assert import_prompt_file(study=study, path=path) == {"unchanged": 5000}


def test_every_problem_is_named_with_its_line(study, tmp_path):
    content = (
        "key,topic,en,fr\n"
        "late bus,family,A,B\n"  # a space in the key
        'fine,family,"C\nC",D\n'  # fine, but of two lines
        "late_bus,fun,E,F\n"  # unknown topic
        "late_bus,family,G,H\n"  # the key again
        "old_dog,family,,I\n"  # a missing translation
        "cat,family,J\n"  # a missing cell
        "twin,family,K,D\n"  # the text of line 3
        "nul,family,L\x00,M\n"  # a control character
    )
    assert refused(study, tmp_path, content) == [
        "line 2: key: expected 1 to 80 letters a–z, digits, “_” or “-”",
        "line 5: topic: expected a topic of the study (family) or nothing",
        "line 6: key: expected each prompt once: late_bus stands on line 5 already",
        "line 7: old_dog, en: expected a text, found none",
        "line 8: expected 4 cells, found 3",
        "line 9: twin, fr: expected a text of its own: fine on line 3 has the same",
        "line 10: nul, en: expected printable text, found the control character U+0000",
    ]


def test_a_text_of_another_prompt_of_the_study_is_refused(study, tmp_path):
    content = "key,en,fr\nloan_again,A friend has not paid me back. How can I ask?,Autre\n"
    assert refused(study, tmp_path, content) == [
        "line 2: loan_again, en: expected a text of its own: the study's prompt unpaid_loan has the same"
    ]


HOSTILE_CSV = {
    "no header": ("late_bus,family,A,B\n", "line 1: key: expected the columns key, topic, en, fr; this one is missing"),
    "missing language": ("key,topic,en\na,family,A\n", "line 1: fr: expected the columns key, topic, en, fr; this one is missing"),
    "unknown column": ("key,topic,en,fr,de\na,family,A,B,C\n", "line 1: de: unknown column; expected the columns key, topic, en, fr"),
    "column twice": ("key,en,en,fr\na,A,A,B\n", "line 1: en: expected each column once"),
    "semicolons": ("key;topic;en;fr\na;family;A;B\n", "line 1: expected the columns key, topic, en, fr, separated by commas"),
    "empty": ("", "line 1: expected at least one prompt, found none"),
    "header only": ("key,topic,en,fr\n", "line 1: expected at least one prompt, found none"),
    "unclosed quote": ('key,en,fr\na,"A,B\n', "line 2: expected valid CSV: unexpected end of data"),
    "huge cell": ("key,en,fr\na," + "x" * 140_000 + ",B\n", "line 2: expected valid CSV: field larger than field limit (131072)"),
    "long text": ("key,en,fr\na," + "x" * 30_000 + ",B\n", "line 2: a, en: expected at most 20000 characters, found 30000"),
    "not UTF-8": ("key,en,fr\na,été,B\n".encode("cp1252"), "line 2: expected UTF-8 text, found the byte 0xe9"),
    "spreadsheet": (b"PK\x03\x04\xff\xfe", "line 1: expected UTF-8 text, found the byte 0xff"),
    "only spaces": ("key,en,fr\na,   ,B\n", "line 2: a, en: expected a text, found only spaces"),
}


@pytest.mark.parametrize(("content", "problem"), HOSTILE_CSV.values(), ids=HOSTILE_CSV)
def test_a_hostile_csv_file_is_refused(study, tmp_path, content, problem):
    assert problem in refused(study, tmp_path, content)


HOSTILE_JSONL = {
    "broken": ('{"key": "a"', "line 1: expected one JSON object: Expecting ',' delimiter: line 1 column 12 (char 11)"),
    "list": ('["a"]', "line 1: expected one JSON object with the keys key, topic, en, fr"),
    "unknown key": ('{"key": "a", "en": "A", "fr": "B", "de": "C"}', "line 1: de: unknown key; expected key, topic, en, fr"),
    "key twice": ('{"key": "a", "key": "b", "en": "A", "fr": "B"}', "line 1: expected one JSON object: a key stands twice"),
    "number as text": ('{"key": "a", "en": 3, "fr": "B"}', "line 1: a, en: expected a text"),
    "number as key": ('\n{"key": 1, "en": "A", "fr": "B"}', "line 2: key: expected 1 to 80 letters a–z, digits, “_” or “-”"),
    "list as topic": (
        '{"key": "a", "topic": ["x"], "en": "A", "fr": "B"}',
        "line 1: topic: expected a topic of the study (family) or nothing",
    ),
    "lone surrogate": (
        '{"key": "a", "en": "\\ud800", "fr": "B"}',
        "line 1: a, en: expected printable text, found the control character U+D800",
    ),
    "deep": ("[" * 100_000, "line 1: expected a flat JSON object"),
    "not a number": ("NaN", "line 1: expected one JSON object with the keys key, topic, en, fr"),
}


@pytest.mark.parametrize(("content", "problem"), HOSTILE_JSONL.values(), ids=HOSTILE_JSONL)
def test_a_hostile_jsonl_file_is_refused(study, tmp_path, content, problem):
    assert problem in refused(study, tmp_path, content, "prompts.jsonl")


def test_a_file_that_is_wrong_all_over_is_given_up_after_a_thousand_problems(study, tmp_path):
    problems = refused(study, tmp_path, "key,en,fr\n" + "bad key,A,B\n" * 3000)
    assert len(problems) == 1001
    assert "the first 1000 problems are listed" in problems[-1]


def test_other_kinds_of_files_are_refused(study, tmp_path):
    assert refused(study, tmp_path, CSV, "prompts.xlsx") == ["expected a file that ends in .csv or .jsonl"]


def test_the_command_reports_and_refuses(study, tmp_path, capsys):
    call_command("import_prompts", "small", str(write(tmp_path, CSV, "prompts.csv")))
    assert "Prompts of small: 2 created, 0 updated, 0 unchanged." in capsys.readouterr().out
    with pytest.raises(CommandError, match=r"prompts\.csv: 1 problem; nothing was loaded\.\n  prompts\.csv, line 2: key: expected 1 to 80"):
        call_command("import_prompts", "small", str(write(tmp_path, "key,en,fr\n!,A,B\n", "prompts.csv")))
    with pytest.raises(CommandError, match=r"There is no study “large”\. Studies: small\."):
        call_command("import_prompts", "large", str(tmp_path / "prompts.csv"))
