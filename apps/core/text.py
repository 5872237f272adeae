"""Cleaning, hashing and counting of text."""

import hashlib
import re
import unicodedata

# Control characters other than tab and newline, lone surrogates, BOM and byte-order relatives.
_UNSTORABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
_WORD = re.compile(r"[^\W_][\w\u0900-\u097f\u200c\u200d'’-]*")


def clean_text(text: str) -> str:
    """Text that any database and any export can hold: NFC, `\\n` line ends, no control characters or surrogates, trimmed."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", _UNSTORABLE.sub("", text)).strip()


def text_hash(text: str) -> str:
    """SHA-256 (hex) of the cleaned text; equal texts have equal hashes in every language."""
    return hashlib.sha256(clean_text(text).encode()).hexdigest()


def fingerprint(text: str) -> str:
    """Hash that ignores case, punctuation and spacing, to find texts that differ only in form."""
    return text_hash(" ".join(_WORD.findall(text.casefold())))


def is_blank(text: str) -> bool:
    """Whether nothing can be seen: only spaces, control and format characters (zero-width, bidi marks)."""
    return all(character.isspace() or unicodedata.category(character) in {"Cc", "Cf"} for character in text)


def count_words(text: str) -> int:
    """Number of words; works for Latin and Devanagari script."""
    return len(_WORD.findall(text))
