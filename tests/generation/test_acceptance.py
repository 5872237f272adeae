"""What models really write is cleaned or refused with a code."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.core.text import clean_text, fingerprint
from apps.generation.acceptance import MAX_CHARACTERS, AnswerRefused, check_answers, clean_answer
from apps.generation.methods import METHODS, Default, NegativelyCorrelated


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Talk to them.<|end_of_text|>", "Talk to them."),
        ("Talk to them.</s>", "Talk to them."),
        ("<|im_start|>Talk to them.<|im_end|>\n", "Talk to them."),
        ("Answer 1: Talk to them.", "Talk to them."),
        ("**Answer 2:** Talk to them.", "Talk to them."),
        ("## Response B\n\nTalk to them.", "Talk to them."),
        ("Réponse 3 : Parlez-leur.", "Parlez-leur."),
        ("Risposta: Ne parli con loro.", "Ne parli con loro."),
        ("उत्तर 1: उनसे बात करें।", "उनसे बात करें।"),
        ("1. Talk to them.", "Talk to them."),
        ("(2) Talk to them.", "Talk to them."),
        ("1. Talk.\n2. Listen.", "1. Talk.\n2. Listen."),
        ("Answer the phone less often.", "Answer the phone less often."),
        ("Option B is what I would take.", "Option B is what I would take."),
        ("2024 was a hard year.", "2024 was a hard year."),
        ("A\x00B\ud800C\ufeff", "ABC"),
        ("Line\r\nend", "Line\nend"),
    ],
)
def test_an_answer_is_cleaned(raw, cleaned):
    assert clean_answer(raw) == cleaned


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([], "wrong_count"),
        (["one", "two"], "wrong_count"),
        (["one", "two", "three", "four"], "wrong_count"),
        (["one", "two", ""], "empty_answer"),
        (["one", "two", "—!"], "empty_answer"),
        (["one", "two", "x" * (MAX_CHARACTERS + 1)], "answer_too_long"),
        (["one", "two", "see [[answer]] here"], "marker_in_answer"),
        (["one", "Two words.", "two  WORDS"], "duplicate_answers"),
    ],
)
def test_answers_are_refused_with_a_code(answers, code):
    with pytest.raises(AnswerRefused) as refusal:
        check_answers(answers, count=3)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "output",
    [
        "[[answer]]\none\n\n[[answer]]\ntwo\n\n[[answer]]\nthree",
        "Here are three answers:\n\n[[answer]] one\n[[answer]] two\n[[answer]] three<|eot_id|>",
        "**[[Answer 1]]**\none\n**[[Answer 2]]**\ntwo\n**[[Answer 3]]**\nthree",
        "[[answer]]\nAnswer 1: one\n[[answer]]\nAnswer 2: two\n[[answer]]\nAnswer 3: three",
    ],
)
def test_marked_answers_are_read(output):
    assert NegativelyCorrelated().parse(output, count=3) == ["one", "two", "three"]


@pytest.mark.parametrize(
    "output", ["", "one two three", "one\n[[answer]]\ntwo\n[[answer]]\nthree", "[[answer]]\none\n[[answer]]\n\n[[answer]]\nthree"]
)
def test_output_with_too_few_answers_is_refused(output):
    with pytest.raises(AnswerRefused):
        NegativelyCorrelated().parse(output, count=3)


@given(st.text(st.characters(codec=None)), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_any_output_is_read_into_storable_distinct_answers_or_refused(output, count):
    for method in METHODS.values():
        wanted = count if method.key == "negatively_correlated" else 1
        stored = clean_text(output)
        try:
            answers = method.parse(stored, count=wanted)
        except AnswerRefused:
            continue
        assert len(answers) == wanted == len({fingerprint(answer) for answer in answers})
        assert all(answer.encode() and "\x00" not in answer for answer in answers)


@given(st.lists(st.from_regex(r"\A[a-z]{3,8}( [a-z]{3,8}){1,5}\Z"), min_size=2, max_size=5, unique_by=fingerprint))
@settings(max_examples=50, deadline=None)
def test_what_was_marked_comes_back(answers):
    output = "\n\n".join(f"[[answer]]\n{answer}" for answer in answers)
    assert NegativelyCorrelated().parse(output, count=len(answers)) == answers


def test_default_asks_once_per_answer_and_negatively_correlated_once_in_all():
    assert Default().calls(3) == [1, 1, 1]
    assert NegativelyCorrelated().calls(3) == [3]
