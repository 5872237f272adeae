"""Names under which rows leave the platform: stable within a study, unrelated between studies, without an order.

A pseudonym is `<prefix>_` and 20 characters (100 bits) of HMAC-SHA256 under `PSEUDONYM_KEY`, which never enters the
database, over study, kind and primary key. The same row has the same name in every release and in the API.
"""

import base64
import hashlib
import hmac
from enum import StrEnum

from django.conf import settings


class Kind(StrEnum):
    """What a pseudonym stands for; the value is its prefix."""

    ANNOTATOR = "a"
    CONVERSATION = "c"
    COMPARISON = "j"
    CANDIDATE_SET = "s"
    CANDIDATE = "r"
    ATTEMPT = "g"


class Pseudonyms:
    """The pseudonyms of one study."""

    def __init__(self, study_pk: int) -> None:
        self._study_pk = study_pk
        self._key: bytes = settings.PSEUDONYM_KEY.encode()

    def of(self, kind: Kind, pk: int) -> str:
        digest = hmac.digest(self._key, f"{self._study_pk}:{kind.name}:{pk}".encode(), hashlib.sha256)
        return f"{kind}_{base64.b32encode(digest).decode()[:20].lower()}"
