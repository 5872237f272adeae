"""Judging answers one by one: length, repetition, language, and what they say."""

import re
from collections.abc import Iterator

from apps.core.text import count_words, counted
from apps.generation.acceptance.findings import Finding
from apps.generation.acceptance.language import read_language
from apps.generation.acceptance.wording import ADDRESSES_ANNOTATOR, LEFTOVER, REFUSAL, SELF_NAMING, is_json, plain
from apps.generation.models import GenerationPolicy

# Share of an answer's three-word sequences that differ. Written text has more than 0.9; a model caught in a loop goes towards 0.
MINIMUM_VARIETY = 0.5
_WORD = re.compile(r"\w[\w\u0900-\u097f]*")
# Check → what it looks for and what is wrong where it finds it.
_PATTERNS = (
    ("refusal", REFUSAL, "The answer opens with a refusal"),
    ("self_naming", SELF_NAMING, "The answer says that a model wrote it"),
    ("addresses_annotator", ADDRESSES_ANNOTATOR, "The answer speaks to whoever compares the answers"),
    ("leftover_prompt", LEFTOVER, "The answer holds a piece of the instruction or of a chat template"),
)


def examine_answers(answers: list[str], *, language: str, policy: GenerationPolicy) -> list[Finding]:
    """Findings of each of the cleaned `answers` by itself, in the order of the answers; `slot` is the index in `answers`.

    Checks and figures: `refusal`, `self_naming`, `addresses_annotator`, `leftover_prompt` (matches found), `language` (probability of
    being in `language`), `repetition` (share of distinct three-word sequences), `too_short` and `too_long` (words).
    """
    return [finding for slot, answer in enumerate(answers) for finding in _examine(answer, slot, language, policy)]


def _examine(answer: str, slot: int, language: str, policy: GenerationPolicy) -> Iterator[Finding]:
    text = plain(answer)
    for name, pattern, problem in _PATTERNS:
        found = [match.group().strip() for match in pattern.finditer(text)]
        if name == "leftover_prompt" and is_json(answer):
            found.append(answer[:40])
        yield _finding(name, slot, len(found), not found, f"{problem}: “{found[0][:120]}”." if found else "")
    reading = read_language(answer, language=language)
    if reading.verdict == "unsure":
        note = f"unsure: reads like {reading.detected}" if reading.detected else "unsure: too short to tell"
        yield Finding("language", True, reading.figure, note, slot, refuses=False)
    else:
        problem = f"The answer is in “{reading.detected}”, not in “{language}”."
        yield _finding("language", slot, reading.figure, reading.verdict == "right", problem)
    variety = _variety(answer)
    yield _finding("repetition", slot, variety, variety >= MINIMUM_VARIETY, "The answer repeats itself over and over.")
    words = count_words(answer)
    yield _finding("too_short", slot, words, words >= policy.min_words, f"{counted(words, 'word')}; at least {policy.min_words} wanted.")
    yield _finding("too_long", slot, words, words <= policy.max_words, f"{counted(words, 'word')}; at most {policy.max_words} wanted.")


def _finding(name: str, slot: int, figure: float | None, passed: bool, problem: str) -> Finding:
    return Finding(name, passed, None if figure is None else float(figure), "" if passed else problem[:300], slot, refuses=not passed)


def _variety(answer: str) -> float:
    """Distinct sequences of three words by all of them; 1 for a text of fewer than three words."""
    words = _WORD.findall(answer.casefold())
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return round(len(set(triples)) / len(triples), 4) if triples else 1.0
