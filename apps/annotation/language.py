"""Which language a person writes, stored beside the assigned one. Never a reason to refuse."""

from functools import lru_cache
from threading import Lock
from typing import Any

from django.conf import settings

UNSURE = ""
_MINIMUM_LETTERS = 12
_MINIMUM_PROBABILITY = 0.9
_loading = Lock()  # the first messages of a process come at once: one loads the model, the others wait for it


@lru_cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # 5 MB model: loaded on the first message, not at start-up

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(settings.CONTENT_LANGUAGES))
    return identifier


def detect_language(text: str) -> str:
    """Language code of `text` among the content languages, or `UNSURE`.

    No detector knows romanised Hindi, so Latin text is never taken for Hindi.
    """
    letters = [character for character in text if character.isalpha()]
    if len(letters) < _MINIMUM_LETTERS:
        return UNSURE
    with _loading:
        identifier = _identifier()
    language, probability = identifier.classify(text)
    if probability < _MINIMUM_PROBABILITY:
        return UNSURE
    if language == "hi" and not any("\u0900" <= character <= "\u097f" for character in letters):
        return UNSURE
    return str(language)
