"""Whether an answer is in the language of its set.

Refuses only when sure: a wrong refusal costs a call, and hides whom a model serves badly.
"""

import re
import threading
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.conf import settings

# Languages that models slip into instead of a close one; without them Spanish would pass for Portuguese.
NEIGHBOURS = ("es", "de")
MINIMUM_LETTERS = 40
SURE = 0.99
# Share of an answer's letters that another script has to have before the script alone tells.
_FOREIGN_SHARE = 0.5

# Frequent little words of Hindi in Latin letters. No detector knows romanised Hindi, and takes it for English or German.
_ROMANISED_HINDI = frozenset(
    [
        "hai",
        "hain",
        "ka",
        "ki",
        "ke",
        "ko",
        "se",
        "mein",
        "mai",
        "aur",
        "nahin",
        "nahi",
        "kya",
        "aap",
        "aapke",
        "aapki",
        "apne",
        "apni",
        "apna",
        "bhi",
        "liye",
        "karna",
        "karein",
        "kare",
        "karo",
        "kar",
        "raha",
        "rahi",
        "rahe",
        "hota",
        "hoti",
        "hote",
        "tha",
        "thi",
        "yeh",
        "ye",
        "woh",
        "wo",
        "jo",
        "toh",
        "lekin",
        "agar",
        "unke",
        "unki",
        "unse",
        "unhe",
        "usse",
        "iske",
        "uske",
        "koi",
        "kuch",
        "bahut",
        "sab",
        "hum",
        "tum",
        "mere",
        "mera",
        "meri",
        "pehle",
        "phir",
        "jab",
        "tab",
        "sakte",
        "sakta",
        "sakti",
        "chahiye",
        "hoga",
        "hogi",
        "isliye",
        "saath",
        "baat",
        "ghar",
        "kyunki",
        "kaise",
        "accha",
    ]
)
_HINDI_SHARE = 0.08
_WORD = re.compile(r"[^\W\d_]+")
_loading = threading.Lock()


@dataclass(frozen=True)
class LanguageReading:
    """`figure`: probability (0 to 1) that the text is in the set's language, None where it was too short to say.

    `verdict`: right, wrong or unsure; `detected`: the likeliest language or script."""

    verdict: str
    figure: float | None
    detected: str


def read_language(text: str, *, language: str) -> LanguageReading:
    """Judge `text` against the set's `language` with py3langid, restricted to the content languages and their neighbours."""
    letters = [character for character in text if character.isalpha()]
    if not letters:
        return LanguageReading("unsure", None, "")
    expected = "DEVANAGARI" if language == "hi" else "LATIN"
    scripts = _scripts(letters)
    foreign = 1 - sum(scripts.get(script, 0.0) for script in (expected, "LATIN"))
    if foreign > _FOREIGN_SHARE and len(letters) >= MINIMUM_LETTERS // 4:
        return LanguageReading("wrong", 0.0, max(scripts, key=lambda script: scripts[script]).lower())
    if len(letters) < MINIMUM_LETTERS:
        return LanguageReading("unsure", None, "")
    ranking = dict(_identifier().rank(text))
    detected = max(ranking, key=lambda code: ranking[code])
    figure = float(ranking.get(language, 0.0))
    if detected == language:
        return LanguageReading("right" if figure >= SURE else "unsure", figure, detected)
    if ranking[detected] < SURE or language not in ranking or _is_romanised_hindi(text):
        return LanguageReading("unsure", figure, detected)
    return LanguageReading("wrong", figure, detected)


def _scripts(letters: list[str]) -> dict[str, float]:
    """Share of the letters per script, by the first word of their Unicode names."""
    counts: dict[str, int] = {}
    for letter in letters:
        script = "LATIN" if letter.isascii() else unicodedata.name(letter, "UNKNOWN").partition(" ")[0]
        counts[script] = counts.get(script, 0) + 1
    return {script: count / len(letters) for script, count in counts.items()}


def _is_romanised_hindi(text: str) -> bool:
    words = [word.casefold() for word in _WORD.findall(text) if word.isascii()]
    return bool(words) and sum(word in _ROMANISED_HINDI for word in words) / len(words) >= _HINDI_SHARE


def load_identifier() -> None:
    """Load the language model before the first answer needs it."""
    _identifier()


def _identifier() -> Any:
    """The process's model. One thread loads it: all threads of a fresh worker get their first answers at once."""
    with _loading:
        return _load()


@lru_cache(maxsize=1)
def _load() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # a model of 5 MB: loaded with the first answer, not at start-up

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = set(identifier.labels)
    identifier.set_languages([code for code in (*settings.CONTENT_LANGUAGES, *NEIGHBOURS) if code in known])
    return identifier
