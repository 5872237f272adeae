"""Cleaning, hashing and counting of text, and counts in words."""

import hashlib
import re
import unicodedata

# Control characters other than tab and newline, lone surrogates, BOM and byte-order relatives.
_UNSTORABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff\ufffe\uffff]")
# What makes a spreadsheet run a cell as a formula.
_DANGEROUS = re.compile(r"'*(?:[\t\r\n]|\s*[=+\-@＝＋－＠])")
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


def neutralise(cell: str) -> str:
    """A cell that no spreadsheet runs as a formula: one apostrophe before anything dangerous. See `restore`."""
    return f"'{cell}" if _DANGEROUS.match(cell) else cell


def restore(cell: str) -> str:
    """The text that `neutralise` was given."""
    return cell[1:] if cell.startswith("'") and _DANGEROUS.match(cell[1:]) else cell


def counted(count: int, noun: str) -> str:
    """A count with its English noun, for pages and commands of researchers: “1 candidate set”, “2 candidate sets”."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
