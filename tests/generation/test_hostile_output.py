"""R14: whatever a model writes is cleaned or refused with a reason; no bad text gets through and no other error leaves the reading."""

import json
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from apps.core.text import clean_text, count_words, fingerprint
from apps.generation.acceptance import MAX_CHARACTERS, AnswerRefused, clean_answer, examine_answers, examine_set
from apps.generation.client import EndpointError, parse_completion
from apps.generation.methods import METHODS, Call, base
from apps.generation.models import CandidateSet, GenerationPolicy, InstructionTemplate, ModelSpec
from apps.generation.services import Outcome, generate_set, making, request_candidate_set
from tests.endpoints import Endpoint
from tests.generation.conftest import PHONES_EN
from tests.generation.hostile import BadAnswer, BadOutput, ScriptedBanks, as_json, bad_answers, bad_outputs, good_answers, marked

ANSWERS, OUTPUTS = bad_answers(), bad_outputs()
NC = METHODS["negatively_correlated"]
POLICY = GenerationPolicy()
# What only the examination finds: without it these texts would be shown.
EXAMINED = {"refusal", "self_naming", "addresses_annotator", "leftover_prompt", "language"}
# Characters that nobody may be shown; written out here, apart from the code under test.
UNSEEN = set("\x00\x08\x1b\x7f\x9b\ufeff\u200b\u2060\u202a\u202e\u2066\u2069\u00ad\u2028\u3164\U000e0041\uffff") | {
    chr(0xD83D),
    chr(0xDC00),
}


class NotFit(AssertionError):
    """A bad text would have been shown."""


def call(count: int, structured: bool = False) -> Call:
    spec = ModelSpec(key="x", model="m", max_tokens=100, structured_output=structured)
    return Call(count, spec, InstructionTemplate(key="t"), 1.0)


def read(output: str, *, language: str = "en", count: int = 3, structured: bool = False) -> tuple[list[str], str]:
    """What the making of a set does with an output: the accepted texts and "", or no text and the reason."""
    try:
        texts = NC.parse(output, call=call(count, structured))
    except AnswerRefused as refusal:
        return [], refusal.code
    findings = examine_answers(texts, language=language, policy=POLICY) + examine_set(texts, language=language, policy=POLICY).findings
    refused = [finding for finding in findings if finding.refuses]
    return ([], refused[0].check_name) if refused else (texts, "")


def insist_fit(texts: list[str], *, count: int = 3, trace: str = "") -> None:
    """Raise `NotFit` unless `texts` are `count` distinct storable texts of sane length without anything unseen."""
    for text in texts:
        seen = UNSEEN & set(text)
        if seen or not text.strip() or len(text) > MAX_CHARACTERS or text != clean_text(text) or (trace and trace in text):
            raise NotFit(f"{seen} {trace!r} in {text[:80]!r}")
        json.dumps(text, ensure_ascii=False).encode()
    if len(texts) != count or len({fingerprint(text) for text in texts}) != count:
        raise NotFit("wrong count")


def answers_with(kind: BadAnswer) -> list[str]:
    """Three answers in the kind's language, the first of them the bad one, and the others about as long as it."""
    good = good_answers(kind.language)[1:3]
    if kind.code in EXAMINED:
        good = tuple(" ".join(text.split()[:20]) + "." for text in good)
    return [kind.text, *good]


def output_with(kind: BadAnswer) -> str:
    return marked(answers_with(kind))


def check(kind: BadAnswer | BadOutput) -> None:
    """Raise `AssertionError` unless the kind is refused with its code, or cleaned of its trace where it has no code."""
    if isinstance(kind, BadAnswer):
        texts, code = read(output_with(kind), language=kind.language)
    else:
        texts, code = read(kind.text, structured=kind.structured)
    assert code == kind.code, (kind.name, code)
    if not kind.code:
        insist_fit(texts, trace=kind.trace)


def test_two_hundred_kinds_are_listed():
    assert len({kind.name for kind in [*ANSWERS, *OUTPUTS]}) == len(ANSWERS) + len(OUTPUTS) >= 200


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.name)
def test_a_bad_answer_in_a_set_is_refused_or_cleaned(kind):
    check(kind)


@pytest.mark.parametrize("kind", OUTPUTS, ids=lambda kind: kind.name)
def test_a_bad_output_is_refused_or_cleaned(kind):
    check(kind)


@pytest.mark.parametrize("kind", ANSWERS, ids=lambda kind: kind.name)
def test_the_same_within_json(kind):
    texts, code = read(as_json(answers_with(kind)), language=kind.language, structured=True)
    if kind.code:
        assert code == kind.code
    else:
        insist_fit(texts, trace=kind.trace)


# --- Sabotage: the checks above see what they should see ------------------------------------------------------------


def red(kinds: list) -> list[str]:
    """Names of the kinds that `check` objects to."""
    names = []
    for kind in kinds:
        try:
            check(kind)
        except (AssertionError, UnicodeError):
            names.append(kind.name)
    return names


def test_without_cleaning_the_check_goes_red(monkeypatch):
    cleaned = [kind for kind in ANSWERS if kind.trace]
    monkeypatch.setattr(base, "clean_answer", lambda text: text)
    assert len(red(cleaned)) == len(cleaned)


def test_without_the_examination_the_check_goes_red(monkeypatch):
    kinds = [kind for kind in ANSWERS if kind.code in EXAMINED]
    monkeypatch.setitem(globals(), "examine_answers", lambda *arguments, **options: [])
    assert len(red(kinds)) == len(kinds)
    shown = [kind for kind in kinds if kind.text in read(output_with(kind), language=kind.language)[0]]
    assert len(shown) > len(kinds) * 0.9, "the bad texts themselves would have got through"


# --- Anything at all ------------------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(codec=None))
PIECES = st.sampled_from(
    [
        "[[answer]]", "\n", "[[", "]]", '{"answers":', "[", "]", "}", '"', ",", "</s>", "<think>", "</think>", "Answer 1:", "1. ", "१. ",
        "```", "\x00", "\u202e", "\u200d", "\ud800", "\ufeff", "null", "\\u0000", "\\ud800", "talk to them", "बात करें", "<answer>",
        "</answer>", "<|im_end|>", "- ",
    ]
)  # fmt: skip


@given(st.one_of(ANY_TEXT, st.lists(st.one_of(PIECES, ANY_TEXT), max_size=25).map("".join)), st.integers(1, 4), st.booleans())
def test_no_output_breaks_the_reading(output, count, structured):
    texts, code = read(output, count=count, structured=structured)
    if not code:
        insist_fit(texts, count=count)
        assert all(POLICY.min_words <= count_words(text) <= POLICY.max_words for text in texts)


@given(st.one_of(ANY_TEXT, st.lists(st.one_of(PIECES, ANY_TEXT), max_size=25).map("".join)))
def test_cleaning_twice_changes_nothing_more_and_leaves_nothing_unseen(output):
    cleaned = clean_answer(output)
    assert clean_answer(cleaned) == cleaned
    assert not UNSEEN & set(cleaned)
    cleaned.encode()


# What makes careless patterns try everything in every way: long runs of what they are built of.
TIRING = [
    ",", " ", "\n", "\n \n", "\n\xa0", "\u2003", "a ", "* ", "- ", "1. ", "(1) ", "Answer 1: ", "[", "{", "<", '"', "sorry, but ",
    "pardon, ", "माफ कीजिए ", "thank you ", "i'm ", "please ", "कृपया ", "एक ", "ai ", "<answer>", "</think>", "```\n", "user:",
    "e\u0301\u0301\u0301",
]  # fmt: skip


@pytest.mark.parametrize("piece", TIRING)
def test_no_text_takes_long_to_read(piece):
    started = time.process_time()
    text = (piece * MAX_CHARACTERS)[:MAX_CHARACTERS]
    clean_answer(piece * 60_000)
    examine_answers([text, clean_answer(f"{text} end")], language="en", policy=POLICY)
    assert time.process_time() - started < 5


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | ANY_TEXT,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.sampled_from(["answers", "text", "0"]), children, max_size=3),
    max_leaves=12,
)


@given(JSON_VALUES)
def test_no_json_breaks_the_reading(value):
    texts, code = read(json.dumps(value), structured=True)
    assert code or len(texts) == 3


@given(st.binary(max_size=400))
def test_no_body_breaks_the_client(body):
    for whole in (body, b'{"choices": [{"message": {"content": "' + body + b'"}}]}'):
        with suppress(EndpointError):
            read(parse_completion(whole, latency_seconds=0).text)


SAID = [kind for kind in ANSWERS if kind.code in ("refusal", "self_naming", "addresses_annotator")]
SPELLINGS = [
    str.upper,
    str.title,
    lambda text: text.replace(" ", "  "),
    lambda text: f"“{text}”",
    lambda text: text.replace("'", "’"),
    lambda text: f"**{text}**",
]


@given(st.sampled_from(SAID), st.sampled_from(SPELLINGS))
def test_what_is_said_is_found_in_other_spellings_too(kind: BadAnswer, spell: Callable[[str], str]):
    text = clean_answer(spell(kind.text))
    found = {finding.check_name for finding in examine_answers([text], language=kind.language, policy=POLICY) if finding.refuses}
    assert kind.code in found


# --- The whole way: endpoint, worker, database ----------------------------------------------------------------------


# One of each family; the rest differ only in the text.
WHOLE_WAY = [
    *{kind.code: kind for kind in ANSWERS if kind.language == "en" and kind.code and len(kind.text) < 20_000}.values(),
    *[kind for kind in ANSWERS if kind.trace and "\ud83d" not in kind.text and "\udc00" not in kind.text][::6],
    *{kind.code: kind for kind in OUTPUTS if not kind.structured and kind.code}.values(),
]


@pytest.fixture
def hostile(offline_endpoint: Endpoint) -> ScriptedBanks:
    banks = ScriptedBanks(other=good_answers("en")[3])
    offline_endpoint.server.banks = banks
    return banks


def made(recipe, hostile: ScriptedBanks, kind: BadAnswer | BadOutput) -> tuple[CandidateSet, Outcome]:
    hostile.text = output_with(kind) if isinstance(kind, BadAnswer) else kind.text
    candidate_set = request_candidate_set(recipe=recipe, language="en", text=PHONES_EN)
    outcome = generate_set(candidate_set_id=candidate_set.pk, now=timezone.now())
    candidate_set.refresh_from_db()
    return candidate_set, outcome


@pytest.mark.parametrize("kind", WHOLE_WAY, ids=lambda kind: kind.name)
def test_no_bad_text_gets_into_a_ready_set(recipe, hostile, kind):
    candidate_set, outcome = made(recipe, hostile, kind)
    texts = list(candidate_set.candidates.values_list("text", flat=True))
    if kind.code:
        assert outcome != Outcome.READY
        assert candidate_set.state != CandidateSet.State.READY
        assert texts == []
    else:
        assert outcome == Outcome.READY, candidate_set.error_code
        insist_fit(texts, count=4, trace=kind.trace)


SOME_SAID = next(kind for kind in ANSWERS if kind.code == "self_naming")
SOME_UNSEEN = next(kind for kind in ANSWERS if kind.name == "right-to-left override")


def test_a_worker_that_does_not_examine_is_caught(recipe, hostile, monkeypatch):
    monkeypatch.setattr(making, "examine_answers", lambda *arguments, **options: [])
    GenerationPolicy.objects.update_or_create(study=recipe.study, defaults={"max_length_ratio": 10})
    candidate_set, outcome = made(recipe, hostile, SOME_SAID)
    assert outcome == Outcome.READY
    assert candidate_set.candidates.filter(text=SOME_SAID.text).exists(), "what the test above forbids is what happens without the check"


def test_a_worker_that_does_not_clean_is_caught(recipe, hostile, monkeypatch):
    monkeypatch.setattr(base, "clean_answer", lambda text: text)
    candidate_set, outcome = made(recipe, hostile, SOME_UNSEEN)
    assert outcome == Outcome.READY
    with pytest.raises(NotFit):
        insist_fit(list(candidate_set.candidates.values_list("text", flat=True)), count=4, trace=SOME_UNSEEN.trace)


def test_what_was_refused_is_stored_with_its_figure(recipe, hostile):
    candidate_set, _ = made(recipe, hostile, SOME_SAID)
    verdict = candidate_set.verdicts.get(check_name="self_naming", passed=False)
    assert (verdict.slot, verdict.figure) == (0, 1)
    assert verdict.detail
    assert verdict.attempt.error_code == "self_naming"
    assert candidate_set.verdicts.filter(check_name="language", passed=True).count() >= 2
