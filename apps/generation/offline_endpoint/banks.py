"""The banks of hand-written answers, and which of them answer a request."""

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from apps.core.text import fingerprint

BANKS_DIR = Path(__file__).parent / "banks"
MARKER = "[[answer]]"
# What the rubric of a judge and the instruction to moderation ask for by name; no other instruction does.
JUDGE_KEYS = ("traditional_secular", "survival_self_expression")
MODERATION_KEYS = ('"allowed"', '"category"')
# A text that holds this word is not allowed, so that a person can walk the refused path of a demonstration study.
REFUSED_WORD = "grizzlebark"
MODEL = "polyphony-offline"
UNLABELLED_MODEL = f"{MODEL}-unlabelled"
# The seed of a call is a multiple of this plus the number of the draw within its set, so that no two draws of a set get the same text.
DRAWS = 1000
_DEVANAGARI = re.compile("[\u0900-\u097f]")
# The C loader reads the banks in a tenth of the time; not every build of PyYAML has it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Answers:
    """Written answers: those that differ from each other in values, and the balanced ones."""

    negatively_correlated: tuple[str, ...]
    default: tuple[str, ...]


class Banks:
    """Answers per known prompt, and replies per language for any other message."""

    def __init__(self, documents: list[dict[str, Any]]) -> None:
        self._known: dict[str, tuple[str, Answers]] = {}
        self._replies: dict[str, Answers] = {}
        self.labels: dict[str, tuple[float, float]] = {}
        for document in documents:
            language = document["language"]
            replies = document["offline_replies"]
            self._replies[language] = Answers(tuple(replies["negatively_correlated"]), tuple(replies["default"]))
            for entry in document["answers"].values():
                answers = Answers(tuple(answer["text"] for answer in entry["negatively_correlated"]), (entry["default"]["text"],))
                self._known[fingerprint(entry["prompt"])] = (language, answers)
                for answer in [*entry["negatively_correlated"], entry["default"]]:
                    traditional_secular, survival_self_expression = (float(answer["values"][key]) for key in JUDGE_KEYS)
                    self.labels[fingerprint(answer["text"])] = (traditional_secular, survival_self_expression)

    @property
    def languages(self) -> frozenset[str]:
        return frozenset(self._replies)

    @property
    def size(self) -> int:
        return len(self._known)

    def judge(self, *, system: str, messages: list[str]) -> tuple[str, str] | None:
        """The JSON answer to a judge's or a moderator's question and the model's name; None where `system` asks for neither.

        A judge's answer is the label written by hand beside the text, or 0.5 and 0.5 by another model name where there is none.
        """
        last = messages[-1] if messages else ""
        if all(key in system for key in JUDGE_KEYS):
            label = self.labels.get(fingerprint(_field(last, "answer")))
            scores = dict(zip(JUDGE_KEYS, label or (0.5, 0.5), strict=True))
            return json.dumps(scores), MODEL if label else UNLABELLED_MODEL
        if all(key in system for key in MODERATION_KEYS):
            allowed = REFUSED_WORD not in last.casefold()
            return json.dumps({"allowed": allowed, "category": "" if allowed else "test word"}), MODEL
        return None

    def answer(self, *, system: str, messages: list[str], seed: int) -> list[str] | str:
        """The answers to the last of the user's `messages`: a list where the instruction asks for marked ones, else one text.

        A known prompt that opens a conversation gets its bank; anything else gets replies marked as offline ones, which
        `seed` and the message vary. A list is shorter than asked where there is not enough to say. One text is the one that the last
        digits of `seed` number: 0 is the balanced answer, the others follow; a number beyond them gets the balanced one.
        """
        last = messages[-1] if messages else ""
        language, known = self._known.get(fingerprint(last), ("", None)) if len(messages) == 1 else ("", None)
        replies = self._replies[language or self._language_of(system or last)]
        if MARKER not in system:
            # The message alone turns the pool, so that the draws for one set come from the same order.
            pool = known.default + known.negatively_correlated[::-1] if known else _from(replies.default, _number(last))
            pool += replies.negatively_correlated
            draw = seed % DRAWS
            return pool[draw] if draw < len(pool) else pool[0]
        wanted = re.search(r"\d+", system)
        count = int(wanted.group()) if wanted else 3
        varied = _from(replies.negatively_correlated, _number(f"{seed}:{last}"))
        return list(((known.negatively_correlated if known else ()) + varied)[:count])

    def _language_of(self, text: str) -> str:
        if "hi" in self._replies and _DEVANAGARI.search(text):
            return "hi"
        latin = tuple(sorted(self._replies.keys() - {"hi"}))
        return latin[0] if len(latin) == 1 else _classify(text, latin)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _from(texts: tuple[str, ...], number: int) -> tuple[str, ...]:
    """All of `texts`, turned so that the one at `number` comes first."""
    start = number % len(texts)
    return texts[start:] + texts[:start]


def _field(question: str, name: str) -> str:
    """A text in the JSON object that a judge is given; empty where there is none."""
    try:
        value = json.loads(question)[name]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return value if isinstance(value, str) else ""


def load_banks(folder: Path) -> Banks:
    """Read every `*.yaml` in `folder`, one per language."""
    return Banks([yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER) for path in sorted(folder.glob("*.yaml"))])  # noqa: S506  (both loaders are the safe one)


@lru_cache(maxsize=256)
def _classify(text: str, languages: tuple[str, ...]) -> str:
    # Loads a model of 5 MB, which the first answers from the banks need not wait for.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(list(languages))
    return str(identifier.classify(text)[0])
