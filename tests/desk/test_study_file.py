"""Reading a study file: what is wrong is said with line, key and what was expected, all of it at once."""

import random
import tempfile
from pathlib import Path

import pytest
import yaml
from django.conf import settings as django_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.desk.study_file import FileRefused, read_study_file
from tests.desk.study_files import ARMS, SMALL, changed, line_of, write


def problems_of(folder, text):
    with pytest.raises(FileRefused) as refused:
        read_study_file(write(folder, text))
    assert refused.value.name == "study.yaml"
    assert "nothing was loaded" in str(refused.value)
    return refused.value.problems


def test_a_right_file_is_read(tmp_path):
    _, file = read_study_file(write(tmp_path, SMALL))
    assert file.study.overlap == 3
    assert [locale.tag for locale in file.locales] == ["en-US", "fr-FR"]
    eligibility = file.locales[0].questionnaires.eligibility
    assert [option.code for option in eligibility.questions[0].options] == ["yes", "no"]


def test_line_ends_of_windows_and_a_byte_order_mark_are_fine(tmp_path):
    _, file = read_study_file(write(tmp_path, b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode()))
    assert file.study.slug == "small"


# What is changed, words of the line that the error must name (None where those stand elsewhere too), key, part of the message.
WRONG = [
    (("  overlap: 3\n", "  overlap: three\n"), "overlap: three", "study.overlap", "whole number, found “three”"),
    (("  overlap: 3\n", "  overlap: 0\n"), "overlap: 0", "study.overlap", "at least 1"),
    (("  overlap: 3\n", "  overlap:\n"), "overlap:", "study.overlap", "found nothing"),
    (("  overlap: 3\n", "  overlapp: 3\n"), "overlapp", "study.overlapp", "unknown key"),
    (("  seed: 7\n", ""), "study:", "study.seed", "expected this key"),
    (("slug: small", "slug: small talk"), "slug: small talk", "study.slug", "letters a–z"),
    (("study@example.org", "study at example"), "study at example", "study.contact_email", "e-mail address"),
    (("  seed: 7\n", "  seed: 7\n  seed: 8\n"), "seed: 8", "study.seed", "each key once"),
    (("  seed: 7\n", "  seed: 7\n  state: running\n"), "running", "study.state", "'draft', 'open', 'paused' or 'closed'"),
    (("  seed: 7\n", "  seed: 7\n  own_prompt_share: 0.5\n"), "own_prompt_share", "study.own_prompt_share", "invitation"),
    (("  seed: 7\n", "  seed: 7\n  own_prompt_share: 1.5\n"), "own_prompt_share: 1.5", "study.own_prompt_share", "at most 1"),
    (('    fr: "Petites conversations"\n', ""), "  title:\n", "study.title", "missing: fr"),
    (("min_turns: 2", "min_turns: 5"), "min_turns: 5", "task_design.min_turns", "at most max_turns (4)"),
    (("first: 1, last: 4", "first: 2, last: 4"), "first: 2", "task_design.turns[1].first", "leaves a hole"),
    (("first: 1, last: 4", "first: 1, last: 3"), "last: 3", "task_design.turns[1].last", "some turns have no range"),
    (("first: 1, last: 4", "first: 1, last: 5"), "last: 5", "task_design.turns[1].last", "goes beyond"),
    (("form: pick_one, k: 4", "form: pick_one, k: 3"), "    parts:", "recipes.nc3_default1.parts", "expected 3 candidates"),
    (("k: 4", "k: 9"), "k: 9", "task_design.turns[1].k", "at most 6"),
    (("form: pick_one", "form: rank"), "form: rank", "task_design.turns[1].form", "pick_one"),
    (("language: fr\n", "language: xx\n"), "language: xx", "locales[xx-FR].language", "expected one of en, fr, it, pt, hi"),
    (("{organisation}; it", "{organization}; it"), "{organization}", "locales[en-US].consent.participation.body", "{organisation}"),
    (("consent: sensitive", "consent: sensible"), "sensible", "locales[en-US].questionnaires.after.consent", "sensitive"),
    (('        title: "Avant de commencer"\n', ""), None, "locales[fr-FR].consent.participation.title", "this key"),
    (("min_age: 35", "min_age: 36"), "35_plus", "options[35_plus].min_age", "leaves a hole"),
    (("min_age: 35", "min_age: 34"), "35_plus", "options[35_plus].min_age", "leaves an overlap"),
    (("min_age: 35, ", "min_age: 35, max_age: 70, "), "35_plus", "options[35_plus].max_age", "no `max_age` in the last band"),
    (("min_age: 18, ", "min_age: 21, "), "18_34", "options[18_34].min_age", "expected 18 or less"),
    (("type: birth_year", "type: single"), "18_34", "options[18_34].min_age", "`type` is birth_year"),
    (('{code: man, label: "Man"', '{code: woman, label: "Man"'), "Man", "options[woman].code", "a value of its own"),
    (("{code: no, label: No, screens_out: true}", "{code: no, label: No, screens_out: maybe}"), "maybe", "screens_out", "true or false"),
    (("exclusive: true", "exclusive: [true]"), "exclusive", "options[prefer_not_to_say].exclusive", "true or false, found a list"),
    (("column: age", "column: gender"), None, "questions[gender].column", "a value of its own"),
    (("column: age", "required: true"), "required: true", "questions[birth_year].required", "eligibility"),
    (
        ("target: 50, strata: {gender: male}", "target: -1, strata: {gender: male}"),
        "-1",
        "quotas.women_and_men.cells.men.target",
        "at least 0",
    ),
    (("strata: {gender: male}", "strata: {gender: cat}"), "cat", "quotas.women_and_men.cells.men.strata.gender", "unknown stratum “cat”"),
    (("strata: {gender: male}", "strata: {race: x}"), "race: x", "quotas.women_and_men.cells.men.strata.race", "asks before the tasks"),
    (
        ("    kind: hard\n    locales: [en-US, fr-FR]", "    kind: hard\n    locales: [en-US, de-DE]"),
        "de-DE",
        "locales[2]",
        "unknown locale",
    ),
    (("model: offline, template: plain", "model: online, template: plain"), "online", "parts[2].model", "unknown model “online”"),
    (("template: plain", "template: fancy"), "fancy", "parts[2].template", "expected one of diverse, plain"),
    (('"Write {count} answers, each', '"Write answers, each'), "Write answers", "templates.diverse.text.en", "{count}"),
    (("model: polyphony-offline", "api_key_variable: sk-123\n    model: x"), "sk-123", "models.offline.api_key_variable", "never the key"),
    (("model: polyphony-offline", "base_url: ftp://host\n    model: x"), "ftp:", "models.offline.base_url", "http"),
    (("    topic: family\n", "    topic: fun\n"), "topic: fun", "prompts.phones_at_dinner.topic", "unknown topic “fun”"),
    (('fr: "Dois-je', 'de: "Dois-je'), "de: ", "prompts.phones_at_dinner.text.de", "expected one of en, fr"),
    (
        ("A friend has not paid me back. How can I ask?", "Should I forbid phones at the table?"),
        None,
        "prompts.unpaid_loan.text.en",
        "see it twice",
    ),
    (("temperature: 0.7", "temperature: hot"), "hot", "parts[1].temperature", "expected a number"),
    (
        ("  - name: panel\n    locales: [en-US, fr-FR]", "  - name: panel\n    locales: []"),
        "locales: []",
        "recruitment_links[panel].locales",
        "at least 1",
    ),
    (("  - name: panel\n", "  - name: panel\n    kind: email\n"), "kind: email", "recruitment_links[panel].kind", "prolific"),
    (
        ("  - name: panel\n", "  - name: panel\n    participant_parameter: sig\n"),
        "participant_parameter: sig",
        "recruitment_links[panel].participant_parameter",
        "none of locale, session, ts, sig",
    ),
]


@pytest.mark.parametrize(("change", "place", "key", "message"), WRONG, ids=[f"{place} {message}" for _, place, _, message in WRONG])
def test_each_error_names_line_key_and_what_was_expected(tmp_path, change, place, key, message):
    text = changed(change)
    found = [problem for problem in problems_of(tmp_path, text) if key in problem.key and message in problem.message]
    assert found, [str(problem) for problem in problems_of(tmp_path, text)]
    if place:
        lines = [number for number, line in enumerate(text.splitlines(keepends=True), start=1) if place in line]
        assert found[0].line in lines


OFFLINE, RECIPE = "    max_tokens: 2000\n", "template: plain}"
POLICY = "\ntopics:\n"


@pytest.mark.parametrize(
    ("change", "place", "key", "message"),
    [
        ((OFFLINE, f"{OFFLINE}    replacement: other\n"), "replacement", "models.offline.replacement", "unknown model “other”"),
        ((OFFLINE, f"{OFFLINE}    replacement: offline\n"), "replacement", "models.offline.replacement", "another model than this"),
        (
            (OFFLINE, f"{OFFLINE}    base_url: http://169.254.169.254/latest\n"),
            "base_url",
            "models.offline.base_url",
            "not an address of the open Internet",
        ),
        ((OFFLINE, f"{OFFLINE}    concurrency: 0\n"), "concurrency", "models.offline.concurrency", "at least 1"),
        ((OFFLINE, f"{OFFLINE}    budget: -1\n"), "budget", "models.offline.budget", "at least 0"),
        (
            (RECIPE, "template: plain, variants: [{model: offline}]}"),
            "variants",
            "recipes.nc3_default1.parts[2].variants",
            "expected only where",
        ),
        (
            ("{method: default", "{method: persona"),
            "persona",
            "recipes.nc3_default1.parts[2]",
            "expected 1 variant, as many as `count`, found 0",
        ),
        (("{method: default", "{method: sampling"), "sampling", "recipes.nc3_default1.parts[2].method", "temperature"),
        (
            (POLICY, f"\ngeneration: {{min_words: 50, max_words: 20}}\n{POLICY}"),
            "min_words: 50",
            "generation.min_words",
            "at most max_words (20)",
        ),
        ((POLICY, f"\ngeneration: {{judge_model: offline}}\n{POLICY}"), "generation:", "generation", "together"),
        ((POLICY, f"\ngeneration: {{moderation_model: x}}\n{POLICY}"), "moderation", "generation.moderation_model", "unknown model “x”"),
        ((POLICY, f"\ngeneration: {{diversity_floor: 1.1}}\n{POLICY}"), "diversity", "generation.diversity_floor", "at most 1"),
    ],
)
def test_errors_of_models_variants_and_the_policy_are_named(tmp_path, change, place, key, message):
    text = changed(change)
    [problem] = problems_of(tmp_path, text)
    assert (problem.key, problem.line) == (key, line_of(text, place))
    assert message in problem.message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[{model: offline}, {model: spare}]", "[{model: offline}]", "expected 2 variants"),
        ("[{model: offline}, {model: spare}]", "[{model: offline}, {template: plain}]", "expected `model`"),
        ("[{model: offline}, {model: spare}]", "[{model: offline}, {model: third}]", "unknown model “third”"),
        ("[{template: plain}, {template: plain, model: offline}]", "[{template: plain}, {model: offline}]", "expected `template`"),
        ("multi_model, count: 2", "multi_model, count: 1", "expected 4 candidates"),
    ],
)
def test_each_arm_is_checked(tmp_path, old, new, message):
    text = changed(*ARMS)
    assert text.count(old) == 1
    assert any(message in problem.message for problem in problems_of(tmp_path, text.replace(old, new)))


def test_a_structured_output_model_needs_no_marker_in_its_instruction(tmp_path):
    text = changed(
        (OFFLINE, f"{OFFLINE}    structured_output: true\n"),
        ('Write {count} answers, each after a line [[answer]]."', 'Write {count} answers."'),
    )
    read_study_file(write(tmp_path, text))
    problems = problems_of(tmp_path, text.replace("structured_output: true", "structured_output: false"))
    assert [problem.key for problem in problems] == ["templates.diverse.text.en"]


def test_all_errors_of_a_file_come_at_once_in_the_order_of_the_file(tmp_path):
    text = changed(
        ("  overlap: 3\n", "  overlap: three\n"),
        ("first: 1, last: 4", "first: 2, last: 4"),
        ("min_age: 35", "min_age: 40"),
        ("template: plain", "template: fancy"),
        ("    topic: family\n", "    topic: fun\n"),
        ("  - name: panel\n", "  - nom: panel\n"),
    )
    problems = problems_of(tmp_path, text)
    places = ["overlap: three", "first: 2", "min_age: 40", "fancy", "topic: fun", "nom: panel", "nom: panel"]
    assert [problem.line for problem in problems] == [line_of(text, place) for place in places]


def test_a_missing_part_is_named(tmp_path):
    start, end = SMALL.index("task_design:"), SMALL.index("locales:\n")
    problems = problems_of(tmp_path, SMALL[:start] + SMALL[end:])
    assert [str(problem) for problem in problems] == ["line 1: task_design: expected this key, found none"]


def test_another_format_is_refused_before_anything_else(tmp_path):
    problems = problems_of(tmp_path, "format: 2\nnovelty: true\n")
    assert [str(problem) for problem in problems] == ["line 1: format: expected 1, the format that this version reads, found 2"]


HOSTILE = {
    "broken syntax": (SMALL.replace("  title:\n    en", "  title: [\n    en", 1), 7, "a flow sequence that starts on line 5"),
    "tab as indentation": (SMALL.replace("  overlap: 3", "\toverlap: 3"), 10, "valid YAML"),
    "not UTF-8": (SMALL.encode("utf-16"), 1, "expected UTF-8"),
    "latin-1": (SMALL.encode("cp1252"), 90, "expected UTF-8"),
    "NUL": (SMALL.replace("small", "sm\x00all"), 4, "control character U+0000"),
    "escaped NUL": (SMALL.replace("Small talk", "Small\\0talk"), 6, "control character U+0000"),
    "escaped NUL in a key": (SMALL.replace("women: {target", '"wo\\0men": {target'), 121, "control character"),
    "anchor": (SMALL.replace("overlap: 3", "overlap: &many 3"), 10, "anchors (&) are not used"),
    "alias": (SMALL.replace("overlap: 3", "overlap: *many"), 10, "aliases (*) are not used"),
    "tag": (SMALL.replace("overlap: 3", "overlap: !!python/object/apply:os.system [ls]"), 10, "tags (!) are not used"),
    "bomb": ('a: &a ["x","x"]\nb: &b [*a,*a]\nc: &c [*b,*b]\n', 1, "anchors (&) are not used"),
    "merge key": (SMALL.replace("  overlap: 3", "  <<: {overlap: 3}"), 10, "unknown key"),
    "deep list": ("format: " + "[" * 5000 + "]" * 5000, 1, "expected at most 16 levels"),
    "deep mapping": ("format: " + "{a: " * 5000 + "}" * 5000, 1, "expected at most 16 levels"),
    "two documents": (SMALL + "---\nformat: 1\n", SMALL.count("\n") + 1, "expected one document"),
    "list as key": ("? [a, b]\n: 1\n", 1, "expected a simple key"),
    "list on top": ("- format\n", 1, "expected the keys of a study file"),
    "text on top": ("hello\n", 1, "expected the keys of a study file"),
    "empty": ("", 1, "found an empty file"),
    "comments only": ("# nothing\n", 1, "expected the keys of a study file"),
    "unclosed quote": (SMALL.replace('"Small talk"', '"Small talk'), None, "valid YAML"),
    "everything null": ("format: 1\nstudy:\ntask_design:\nlocales:\nprompts:\n", 2, "expected keys below it"),
    "everything a list": ("format: [1]\nstudy: [1]\ntask_design: []\nlocales: {}\nprompts: [1]\nquotas: 3\n", 1, "found"),
    "lists in leaves": (
        SMALL.replace("template: plain", "template: [plain]").replace("topic: family", "topic: {a: b}"),
        None,
        "expected text",
    ),
    "options as text": (SMALL.replace("options:", "options: many #"), None, "expected"),
}


@pytest.mark.parametrize(("text", "line", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_with_its_line(tmp_path, text, line, message):
    problems = problems_of(tmp_path, text)
    found = [problem for problem in problems if message in problem.message]
    assert found, [str(problem) for problem in problems]
    if line is not None:
        assert found[0].line == line


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "study.yaml"
    with path.open("wb") as file:
        file.truncate(21 * 1024 * 1024)
    with pytest.raises(FileRefused, match="expected at most 20 MB"):
        read_study_file(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileRefused, match="there is no such file"):
        read_study_file(tmp_path / "absent.yaml")
    with pytest.raises(FileRefused, match="found a folder"):
        read_study_file(tmp_path)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), edits=st.integers(1, 4))
def test_no_damage_to_a_file_ends_in_anything_but_a_list_of_problems(seed, edits):
    """Values of the wrong kind in random places, then broken bytes: refused with lines, or read; never another exception."""
    rng = random.Random(seed)
    tree = yaml.load(SMALL, Loader=yaml.BaseLoader)  # noqa: S506  (our own text; every value stays text)
    for _ in range(edits):
        container = tree
        while True:
            keys = list(container) if isinstance(container, dict) else list(range(len(container)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(container[key], dict | list) and rng.random() < 0.85:
                container = container[key]
                continue
            container[key] = rng.choice(
                [None, "", "x", "-1", "99999999999", "NaN", "1e400", [], {}, ["a", ["b"]], {"en": {"a": []}}, "true"]
            )
            break
    text = yaml.dump(tree, allow_unicode=True, sort_keys=False).encode()
    if rng.random() < 0.3:
        place = rng.randrange(len(text))
        text = (
            text[:place]
            + rng.choice([b"", b"\xff", b"\x00", b"[", b"{", b": ", b"- ", b"&", b"*", b"!", b"\t", b'"', b"\n"])
            + text[place + 1 :]
        )
    with tempfile.TemporaryDirectory() as folder:
        problems = []
        try:
            read_study_file(write(Path(folder), text))
        except FileRefused as refused:
            problems = refused.problems
    assert all(problem.line >= 1 and problem.message for problem in problems)


def test_the_example_in_the_documentation_is_a_right_file(tmp_path):
    page = (Path(django_settings.BASE_DIR) / "docs/study-files.md").read_text(encoding="utf-8")
    example = page.split("```yaml\n")[1].split("```")[0]
    _, file = read_study_file(write(tmp_path, example))
    assert file.study.slug == "weekend-plans"
