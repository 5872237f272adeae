"""Who people are outside: what addresses say, how it is matched, kept and signed."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import InvalidToken
from django.conf import settings

from apps.annotators import identities
from apps.annotators.errors import IdentityMissing, SignatureRefused
from apps.annotators.identities import decrypt, encrypt, identity_in_address, outside_hash, sign_address, sign_message, signing_secret
from apps.annotators.models import RecruitmentLink

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PID = "5f3c1e8b9a7d4c0012ab34cd"


def link(kind="PROLIFIC", **fields) -> RecruitmentLink:
    return RecruitmentLink(kind=kind, **fields)


def signed(panel, participant=PID, session="s1", now=NOW) -> dict[str, str]:
    stamp = str(int(now.timestamp()))
    signature = sign_address(link=panel, participant=participant, session=session, stamp=stamp)
    return {"participant": participant, "session": session, "ts": stamp, "sig": signature}


def test_a_direct_link_names_nobody():
    assert identity_in_address(link=link("DIRECT"), address={"PROLIFIC_PID": PID}, now=NOW) is None


def test_prolific_parameters_are_read():
    found = identity_in_address(link=link(), address={"PROLIFIC_PID": PID, "STUDY_ID": "study", "SESSION_ID": "session"}, now=NOW)
    assert (found.participant, found.panel_study, found.panel_session) == (PID, "study", "session")


def test_the_parameter_can_have_a_name_of_its_own():
    found = identity_in_address(link=link(participant_parameter="workerId"), address={"workerId": PID}, now=NOW)
    assert found.participant == PID


@pytest.mark.parametrize(
    "participant",
    ["", " ", "{{%PROLIFIC_PID%}}", "[PID]", "${id}", "<id>", "%pid%", "PROLIFIC_PID", "null", "undefined", "a b", "a\x00b", "x" * 101],
)
def test_what_can_be_nobodys_identity_is_refused(participant):
    with pytest.raises(IdentityMissing):
        identity_in_address(link=link(), address={"PROLIFIC_PID": participant}, now=NOW)
    with pytest.raises(IdentityMissing):
        identity_in_address(link=link(), address={}, now=NOW)


def test_a_study_or_session_that_the_panel_did_not_fill_in_is_dropped():
    address = {"PROLIFIC_PID": PID, "STUDY_ID": "{{%STUDY_ID%}}", "SESSION_ID": "x" * 101}
    found = identity_in_address(link=link(), address=address, now=NOW)
    assert (found.panel_study, found.panel_session) == ("", "")


def test_a_signed_address_is_believed_for_a_day():
    panel = link("PANEL")
    for age in (timedelta(0), timedelta(hours=24), timedelta(minutes=-5)):
        found = identity_in_address(link=panel, address=signed(panel), now=NOW + age)
        assert (found.participant, found.panel_session) == (PID, "s1")


@pytest.mark.parametrize("age", [timedelta(hours=24, seconds=1), timedelta(minutes=-5, seconds=-1)])
def test_a_signature_that_is_too_old_or_from_the_future_is_refused(age):
    panel = link("PANEL")
    with pytest.raises(SignatureRefused):
        identity_in_address(link=panel, address=signed(panel), now=NOW + age)


@pytest.mark.parametrize(
    "change",
    [{"participant": PID + "0"}, {"session": "s2"}, {"ts": "1795435201"}, {"ts": "x"}, {"sig": ""}, {"sig": "0" * 64}, {"sig": "é" * 64}],
)
def test_s12_a_signed_address_cannot_be_edited(change):
    panel = link("PANEL")
    with pytest.raises(SignatureRefused):
        identity_in_address(link=panel, address=signed(panel) | change, now=NOW)


def test_s12_sabotage_without_the_comparison_an_edited_identity_is_believed(monkeypatch):
    monkeypatch.setattr(identities, "_check", lambda expected, given: None)
    panel = link("PANEL")
    assert identity_in_address(link=panel, address=signed(panel) | {"participant": "other"}, now=NOW).participant == "other"


def test_s9_the_signature_of_another_link_is_refused():
    one, other = link("PANEL"), link("PANEL")
    assert signing_secret(one) != signing_secret(other)
    with pytest.raises(SignatureRefused):
        identity_in_address(link=one, address=signed(other), now=NOW)


def test_the_documented_recipe_gives_the_signatures():
    """What a panel does on its side, from the text of docs/sample.md alone."""
    panel = link("PANEL")
    secret = signing_secret(panel).encode()
    canonical = hmac.new(secret, b"1795435200\nP1\ns1", hashlib.sha256).hexdigest()
    assert sign_address(link=panel, participant="P1", session="s1", stamp="1795435200") == canonical
    body = hmac.new(secret, b'1795435200.{"a": 1}', hashlib.sha256).hexdigest()
    assert sign_message(link=panel, body=b'{"a": 1}', stamp=1795435200) == f"t=1795435200,v1={body}"


def guesses(study_pk: int) -> set[str]:
    """What somebody without the key can compute about a person they suspect."""
    words = [PID, f"{study_pk}:{PID}", f"{study_pk}:outside:{PID}", f"{study_pk}:outside:PROLIFIC:{PID}"]
    return {hashlib.sha256(word.encode()).hexdigest() for word in words}


def test_p4_the_hash_is_keyed_and_differs_in_every_study(settings):
    first, second = (outside_hash(study_pk=pk, kind="PROLIFIC", participant=PID) for pk in (1, 2))
    assert first != second
    assert first not in guesses(1)
    settings.PSEUDONYM_KEY = "another key"
    assert outside_hash(study_pk=1, kind="PROLIFIC", participant=PID) != first


def test_p4_sabotage_a_hash_without_the_key_is_guessed(monkeypatch):
    monkeypatch.setattr(identities, "_hmac", lambda key, message: hashlib.sha256(message).hexdigest())
    assert outside_hash(study_pk=1, kind="PROLIFIC", participant=PID) in guesses(1)


def test_the_numbers_of_two_kinds_of_panel_do_not_meet():
    assert outside_hash(study_pk=1, kind="PROLIFIC", participant="7") != outside_hash(study_pk=1, kind="PANEL", participant="7")


def test_what_is_stored_does_not_show_the_identity_and_can_be_read_back():
    stored = encrypt(PID)
    assert PID not in stored
    assert decrypt(stored) == PID
    assert encrypt(PID) != stored, "equal identities must not look equal"
    assert (encrypt(""), decrypt("")) == ("", "")


def test_a_new_key_in_front_still_reads_what_the_old_one_wrote(settings):
    old, new = "old " * 15, "new " * 15
    settings.IDENTITY_KEY = old
    stored = encrypt(PID)
    settings.IDENTITY_KEY = f"{new}, {old}"
    assert decrypt(stored) == PID
    written_since = encrypt(PID)
    settings.IDENTITY_KEY = new
    assert decrypt(written_since) == PID
    with pytest.raises(InvalidToken):
        decrypt(stored)


def test_the_secret_of_a_link_follows_the_panel_key(settings):
    panel = link("PANEL")
    before = signing_secret(panel)
    settings.PANEL_KEY = "another key"
    assert signing_secret(panel) != before
    assert settings.PANEL_KEY not in before


def test_no_key_serves_two_purposes():
    assert len({settings.SECRET_KEY, settings.PSEUDONYM_KEY, settings.PANEL_KEY, settings.IDENTITY_KEY}) == 4
