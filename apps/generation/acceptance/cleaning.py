"""Cleaning an answer of what is not part of it, and the checks that need no policy."""

import re
from collections.abc import Iterator

from apps.core.text import clean_text, count_words, counted, fingerprint
from apps.generation.acceptance.findings import AnswerRefused, Fault

MAX_CHARACTERS = 8000
# Layers of wrapping (a label, a number, a fence) that may lie around an answer.
_MAX_LAYERS = 20

# Characters without a glyph of their own that hide, reorder or stretch text. The joiners U+200C and U+200D stay: Devanagari needs them.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\uffa0\ufff9-\ufffb"
    "\ufdd0-\ufdef\U000e0000-\U000e007f]|[\ufffe\uffff]"
)
_LINE_SEPARATOR = re.compile("[\u2028\u2029\u0085\x0b\x0c]")
# More than two accents on one letter are there to cover the lines around it.
_MARKS = r"[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_STACKED_MARKS = re.compile(f"({_MARKS}{{2}}){_MARKS}+")
_BLANK_LINES = re.compile(r"\n[^\S\n]*+(?:\n[^\S\n]*+){2,}")

# What chat templates leave in a text: <|end_of_text|>, <|im_end|>, </s>, [/INST], <<SYS>>, <end_of_turn>, <eos>, ▁.
_END_TOKEN = re.compile(
    r"<\|[^|<>\n]{1,40}\|>|<[|｜][^|｜<>\n]{1,40}[|｜]>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|<(?:eos|bos|pad|unk|end)>"
    r"|\[(?:EOS|BOS|PAD|UNK|END)\]|<0x[0-9A-F]{2}>|\u2581",
    re.IGNORECASE,
)
# A reasoning model's thoughts come before its answer and are none of it.
_THOUGHTS = re.compile(r"\A.*</(?:think|thinking|reasoning)>", re.IGNORECASE | re.DOTALL)
_FENCE = re.compile(r"\A(?:```|~~~)[^\n`]{0,20}\n(.*?)\n?(?:```|~~~)\s*\Z", re.DOTALL)
_TAG = re.compile(r"\A<(answer|response|reply|output)\s*>(.*)</\1\s*>\s*\Z", re.IGNORECASE | re.DOTALL)
_ROLE = re.compile(r"\A[#*_\s]*(?:assistant|model|ai|bot|chatgpt|gpt)[*_]*\s*[:：][*_]*\s+", re.IGNORECASE)
_NUMERAL = r"(?:[0-9०-९]{1,2}|[A-F]|one|two|three|four|five|un|deux|trois|quatre|uno|due|tre|quattro|um|dois|três|quatro|एक|दो|तीन|चार)"
# “Answer 1:”, “**Response B:**”, “# Réponse n° 2”, “[Answer 3]”. A mark or a line of its own ends a label, so that a sentence may
# open with the word.
_LABEL = re.compile(
    r"\A[#*_\s>\[(]*(?:(?:first|second|third|fourth|final|my)\s+)?"
    r"(?:answer|response|reply|option|candidate|réponse|proposition|risposta|resposta|opzione|opção|उत्तर|जवाब|विकल्प)"
    rf"\s*(?:#|n[°ºo.]{{1,2}}\s*|no\.\s*|nº\s*)?\s*\(?{_NUMERAL}?\)?(?:\s*(?:of|/|de|di|sur|su)\s*[0-9०-९]{{1,2}})?[\])*_]*"
    r"(?:\s?[:：.)\-–—।|][*_]*(?:\s+|\Z)|[*_]*[ \t]*\n\s*)",
    re.IGNORECASE,
)
# “Sure! Here is my answer:”: talk about the answer that ends in a colon, on a line of its own or not.
_PREAMBLE = re.compile(
    r"\A(?:(?:sure|certainly|of course|absolutely|bien sûr|certainement|certo|certamente|claro|com certeza|ज़रूर|जरूर|बिल्कुल)"
    r"[,!. ]{1,3})?"
    r"(?:here(?:'s|’s| is)|voici|voilà|ecco|aqui (?:está|vai)|यह(?:ाँ|ां)? (?:रहा|है))[^\n:।.!?]{0,60}"
    r"\b(?:answer|response|reply|réponse|risposta|resposta|उत्तर|जवाब)\b[^\n:।.!?]{0,60}[:：]\s*",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"\A[*_]{0,2}(?:\(?[0-9०-९]{1,2}(?:\\?[.):।]|️?⃣)|\([a-fA-F]\)|[A-F][.):])[*_]{0,2}(?:\s+|\Z)")
_LATER_ITEM = re.compile(r"\n\s*[*_]{0,2}\(?(?:[0-9०-९]{1,2}|[A-Fa-f])(?:\\?[.):।]|️?⃣)[*_]{0,2}\s")
_BULLET = re.compile(r"\A[-*•–—]\s+")
_LATER_BULLET = re.compile(r"\n\s*[-*•–—]\s")


def clean_answer(text: str) -> str:
    """The answer without control, invisible and stacked characters, end tokens, a model's thoughts, a preamble, and a leading
    label or number. A list keeps its numbers and bullets; HTML is text like any other. Cleaning twice changes nothing more.
    """
    text = _visible(text)
    if len(text) > 8 * MAX_CHARACTERS:
        return text  # too long whatever is trimmed off it; the rest would only cost time
    for _ in range(_MAX_LAYERS):
        before = text
        text = _visible(_trimmed(text))
        if text == before:
            return text
    return ""  # labels and numbers all the way down


def _visible(text: str) -> str:
    text = _LINE_SEPARATOR.sub("\n", text.replace("\r\n", "\n"))
    text = clean_text(_INVISIBLE.sub("", _END_TOKEN.sub("", text)))
    return _BLANK_LINES.sub("\n\n", _STACKED_MARKS.sub(r"\1", text))


def _trimmed(text: str) -> str:
    """`text` without what a model puts around an answer; one layer of it."""
    text = _THOUGHTS.sub("", text)
    for wrapper, group in ((_FENCE, 1), (_TAG, 2)):
        if wrapped := wrapper.match(text):
            text = wrapped[group]
    text = _ROLE.sub("", text.lstrip())
    text = _PREAMBLE.sub("", text)
    text = _LABEL.sub("", text)
    if not _LATER_ITEM.search(text):
        text = _NUMBER.sub("", text)
    if not _LATER_BULLET.search(text):
        text = _BULLET.sub("", text)
    return text.strip()


def check_answers(answers: list[str], *, count: int) -> None:
    """Refuse answers that are not exactly `count` distinct texts of sane length. Raises `AnswerRefused` for the first fault."""
    fault = next(answer_faults(answers, count=count), None)
    if fault is not None:
        raise AnswerRefused(fault.code, fault.words if fault.slot is None else f"Answer {fault.slot + 1} of {count}: {fault.words}")


def answer_faults(answers: list[str], *, count: int) -> Iterator[Fault]:
    """Everything that `check_answers` refuses them for."""
    if len(answers) != count:
        yield Fault(None, "wrong_count", f"{counted(len(answers), 'answer')} instead of {count}.")
    for slot, answer in enumerate(answers):
        if len(answer) > MAX_CHARACTERS:
            yield Fault(slot, "answer_too_long", f"It is longer than {MAX_CHARACTERS} characters.")
        if count_words(answer) == 0:
            yield Fault(slot, "empty_answer", "It is empty.")
        if "[[answer" in answer.casefold() or "[[/answer" in answer.casefold():
            yield Fault(slot, "marker_in_answer", "It holds the marker that separates answers.")
    if len({fingerprint(answer) for answer in answers}) < len(answers):
        yield Fault(None, "duplicate_answers", "Two answers are the same text.")
