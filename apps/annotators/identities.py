"""Who people are outside this platform: read from a link's address, hashed for matching, encrypted at rest, vouched for by signatures.

A panel signs two things with its link's secret (`signing_secret`), each as HMAC-SHA256 in hex:

- an address, over the three lines `ts`, `participant` and `session` joined by a line feed (`session` may be empty);
- a message to the webhook, over `t`, a full stop and the body as sent.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings

from apps.annotators.errors import IdentityMissing, SignatureRefused
from apps.annotators.models import RecruitmentLink

ADDRESS_LIFETIME = timedelta(hours=24)
MESSAGE_LIFETIME = timedelta(minutes=5)
CLOCK_DIFFERENCE = timedelta(minutes=5)  # how far a panel's clock may be ahead of ours

# Braces, brackets, signs of percent and the like: a placeholder such as {{%PROLIFIC_PID%}} that the panel did not fill in. U+FFFD stands
# for bytes that could not be read: two people's could look the same.
_IDENTITY = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd{}\[\]<>%$]{1,100}")
_NOBODY = {"null", "none", "undefined", "nan"}
_SIGNATURE = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")


@dataclass(frozen=True)
class OutsideIdentity:
    """A person as their panel knows them. `kind` keeps the numbers of one kind of panel apart from those of another."""

    kind: str
    participant: str
    panel_study: str = ""
    panel_session: str = ""


def is_identity(text: str) -> bool:
    """Whether `text` can be somebody's identity: 1 to 100 visible characters that no placeholder is made of."""
    return _IDENTITY.fullmatch(text) is not None and text.lower() not in _NOBODY


def participant_parameter(link: RecruitmentLink) -> str:
    """The address parameter that holds the person's identity."""
    return link.participant_parameter or ("PROLIFIC_PID" if link.kind == RecruitmentLink.Kind.PROLIFIC else "participant")


def identity_in_address(*, link: RecruitmentLink, address: Mapping[str, str], now: datetime) -> OutsideIdentity | None:
    """Who the parameters of an opened link name; None for a direct link.

    Raises `IdentityMissing` without a usable identity, `SignatureRefused` for a signature that is wrong or too old.
    """
    if link.kind == RecruitmentLink.Kind.DIRECT:
        return None
    parameter = participant_parameter(link)
    participant, panel_study, panel_session = address.get(parameter, ""), "", address.get("session", "")
    if link.kind == RecruitmentLink.Kind.PROLIFIC:
        panel_study, panel_session = address.get("STUDY_ID", ""), address.get("SESSION_ID", "")
    if not is_identity(participant) or participant == parameter:
        raise IdentityMissing
    if link.kind == RecruitmentLink.Kind.PANEL:
        stamp = address.get("ts", "")
        signature = sign_address(link=link, participant=participant, session=panel_session, stamp=stamp)
        _check(signature, address.get("sig", ""))
        _check_time(stamp, ADDRESS_LIFETIME, now)
    return OutsideIdentity(
        kind=link.kind,
        participant=participant,
        # Kept to match the panel's own lists only: one that no panel would send is dropped.
        panel_study=panel_study if is_identity(panel_study) else "",
        panel_session=panel_session if is_identity(panel_session) else "",
    )


def signing_secret(link: RecruitmentLink) -> str:
    """The secret that a link shares with its panel, made from `PANEL_KEY` and the link's token: it is stored nowhere."""
    return hmac.digest(settings.PANEL_KEY.encode(), f"panel-link:{link.token}".encode(), hashlib.sha256).hex()


def sign_address(*, link: RecruitmentLink, participant: str, session: str, stamp: str) -> str:
    """The signature (hex) of an address; `stamp` is its Unix time in seconds."""
    return _hmac(signing_secret(link), f"{stamp}\n{participant}\n{session}".encode())


def sign_message(*, link: RecruitmentLink, body: bytes, stamp: int) -> str:
    """The header that vouches for a message to the webhook, sent at the Unix time `stamp`."""
    return f"t={stamp},v1={_hmac(signing_secret(link), b'%d.' % stamp + body)}"


def check_message(*, link: RecruitmentLink, header: str, body: bytes, now: datetime) -> None:
    """Raises `SignatureRefused` unless the link's panel signed `body` within the last five minutes."""
    match = _SIGNATURE.fullmatch(header)
    if match is None:
        raise SignatureRefused
    stamp, signature = match.groups()
    _check(_hmac(signing_secret(link), stamp.encode() + b"." + body), signature)
    _check_time(stamp, MESSAGE_LIFETIME, now)


def outside_hash(*, study_pk: int, kind: str, participant: str) -> str:
    """The name under which a study matches a panel's person: keyed, and different in every study."""
    return _hmac(settings.PSEUDONYM_KEY, f"{study_pk}:outside:{kind}:{participant}".encode())


def encrypt(text: str) -> str:
    """`text` as it may be stored; empty stays empty."""
    return _fernet().encrypt(text.encode()).decode() if text else ""


def decrypt(stored: str) -> str:
    """What `encrypt` was given. Raises `cryptography.fernet.InvalidToken` when none of the present keys made it."""
    return _fernet().decrypt(stored.encode()).decode() if stored else ""


def _fernet() -> MultiFernet:
    """The first key of `IDENTITY_KEY` encrypts, all of them decrypt."""
    keys = [key.strip() for key in settings.IDENTITY_KEY.split(",")]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(hmac.digest(key.encode(), b"panel-identity", hashlib.sha256))) for key in keys])


def _hmac(key: str, message: bytes) -> str:
    return hmac.digest(key.encode(), message, hashlib.sha256).hex()


def _check(expected: str, given: str) -> None:
    if not hmac.compare_digest(expected.encode(), given.encode("utf-8", "replace")):
        raise SignatureRefused


def _check_time(stamp: str, lifetime: timedelta, now: datetime) -> None:
    """Raises `SignatureRefused` for a (signed) Unix time outside the window."""
    if not (stamp.isascii() and stamp.isdecimal() and len(stamp) <= 12):
        raise SignatureRefused
    age = now.timestamp() - int(stamp)
    if not -CLOCK_DIFFERENCE.total_seconds() <= age <= lifetime.total_seconds():
        raise SignatureRefused
