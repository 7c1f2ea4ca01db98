"""Signed words for browsers: what they prove, when they end, and the secret they stand on."""

from __future__ import annotations

import os
import stat
import threading

import pytest

from telecast.errors import OwnFault, PeerFault, SettingsError
from telecast.keys import tokens
from telecast.keys.secret import signing_secret
from telecast.keys.tokens import (
    MOST_SECONDS,
    OPERATOR,
    SESSION,
    SIGN_IN,
    STREAM,
    TICKET,
    Kind,
    Tokens,
)

SECRET = bytes(range(32))
KINDS = (TICKET, SIGN_IN, STREAM, SESSION, OPERATOR)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signer(clock: Clock) -> Tokens:
    return Tokens(SECRET, now=clock)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_word_says_whose_it_is(signer: Tokens, clock: Clock, kind):
    token = signer.read(kind, signer.issue(kind, "0000000a", "print"))
    assert (token.key_id, token.fingerprint, token.kind) == ("0000000a", "print", kind)
    assert token.expires_at == clock.now + kind.seconds
    assert signer.why_not(token) is None


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_word_for_one_purpose_is_foreign_to_every_other(signer: Tokens, kind):
    text = signer.issue(kind, "0000000a", "print")
    for other in KINDS:
        if other is not kind:
            with pytest.raises(PeerFault, match="is not of this service"):
                signer.read(other, text)


def test_a_word_of_another_secret_is_foreign(signer: Tokens, clock: Clock):
    text = Tokens(SECRET[::-1], now=clock).issue(TICKET, "0000000a", "print")
    with pytest.raises(PeerFault) as caught:
        signer.read(TICKET, text)
    assert caught.value.rule.http == 401


def test_no_letter_of_a_word_can_be_changed(signer: Tokens):
    text = signer.issue(TICKET, "0000000a", "print")
    for index, letter in enumerate(text[:-1]):  # the last one carries two bits that mean nothing
        changed = text[:index] + ("B" if letter == "A" else "A") + text[index + 1 :]
        with pytest.raises(PeerFault):
            signer.read(TICKET, changed)


@pytest.mark.parametrize("text", ["", ".", "a.b.c", "\udcff", "é", "." * 5000, "=.=.=", "\x00"])
def test_rubbish_is_refused_and_not_a_crash(signer: Tokens, text):
    with pytest.raises(PeerFault, match="is not of this service"):
        signer.read(TICKET, text)


def test_a_ticket_holds_for_thirty_seconds_and_no_longer(signer: Tokens, clock: Clock):
    ticket = signer.read(TICKET, signer.issue(TICKET, "0000000a", "print"))
    clock.now += 30
    assert signer.why_not(ticket) is None
    clock.now += 1
    assert signer.why_not(ticket) == "This ticket has expired: it holds for 30 seconds."


def test_a_word_from_the_future_does_not_hold(signer: Tokens, clock: Clock):
    ticket = signer.read(TICKET, signer.issue(TICKET, "0000000a", "print"))
    clock.now -= 61
    assert "expired" in (signer.why_not(ticket) or "")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_clock_that_is_set_back_a_little_ends_nothing(signer: Tokens, clock: Clock, kind):
    token = signer.read(kind, signer.issue(kind, "0000000a", "print"))
    clock.now -= tokens.STEP_BACK
    assert signer.why_not(token) is None


def test_what_is_used_up_stays_so_and_takes_its_renewals_along(signer: Tokens, clock: Clock):
    session = signer.read(SESSION, signer.issue(SESSION, "0000000a", "print"))
    clock.now += 3600
    renewed = signer.read(SESSION, signer.renew(session))
    signer.use_up(session)
    for each in (session, renewed):
        assert signer.why_not(each) == "This session was used already."
    clock.now += SESSION.seconds - 1
    assert signer.why_not(renewed) is not None


def test_two_words_of_one_moment_are_two(signer: Tokens):
    first, second = (
        signer.read(TICKET, signer.issue(TICKET, "0000000a", "print")) for _ in range(2)
    )
    signer.use_up(first)
    assert signer.why_not(second) is None


def test_ids_are_forgotten_once_their_words_have_expired(signer: Tokens, clock: Clock, monkeypatch):
    monkeypatch.setattr(tokens, "MOST_USED", 3)
    for _ in range(3):
        signer.use_up(signer.read(TICKET, signer.issue(TICKET, "0000000a", "print")))
    one_more = signer.read(TICKET, signer.issue(TICKET, "0000000a", "print"))
    with pytest.raises(OwnFault) as caught:  # closed rather than forgetful
        signer.use_up(one_more)
    assert caught.value.retryable
    assert signer.why_not(one_more) is None
    clock.now += 31
    signer.use_up(signer.read(TICKET, signer.issue(TICKET, "0000000a", "print")))


def test_who_uses_up_all_that_is_remembered_of_a_key_keeps_nobody_else_from_anything(
    signer: Tokens, clock: Clock, monkeypatch
):
    """One key's holder who signed out often enough kept everybody from signing out."""
    monkeypatch.setattr(tokens, "MOST_USED", 3)

    def use_up(kind: Kind, key_id: str) -> None:
        signer.use_up(signer.read(kind, signer.issue(kind, key_id, "print")))

    for _ in range(3):
        use_up(SESSION, "0000000a")
    with pytest.raises(OwnFault):
        use_up(SESSION, "0000000a")
    for _ in range(3):
        use_up(TICKET, "0000000a")
        use_up(SESSION, "0000000b")
    clock.now += SESSION.seconds + 1
    use_up(SESSION, "0000000a")


# --- the secret's file


def test_the_first_start_makes_a_secret_for_its_owner_alone(tmp_path):
    path = tmp_path / "telecast.secret"
    secret = signing_secret(path)
    assert len(secret) == 32
    assert path.read_text() == secret.hex() + "\n"
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["telecast.secret"]


def test_a_restart_finds_the_same_secret(tmp_path):
    path = tmp_path / "telecast.secret"
    assert signing_secret(path) == signing_secret(path)


def test_two_services_have_two_secrets(tmp_path):
    assert signing_secret(tmp_path / "a") != signing_secret(tmp_path / "b")


def test_all_who_start_at_once_have_one_secret(tmp_path):
    path, found, gate = tmp_path / "telecast.secret", [], threading.Barrier(8)

    def start() -> None:
        gate.wait()
        found.append(signing_secret(path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


@pytest.mark.parametrize("content", [b"", b"\n", b"ab" * 31, b"g" * 64, b"ab" * 33, b"\xff" * 64])
def test_a_file_that_is_no_secret_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "telecast.secret"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        signing_secret(path)
    assert "64 hex digits" in caught.value.problems[0]
    assert path.read_bytes() == content


def test_a_file_that_others_can_read_is_warned_of(tmp_path, caplog):
    path = tmp_path / "telecast.secret"
    secret = signing_secret(path)
    path.chmod(0o644)
    assert signing_secret(path) == secret
    assert "chmod 600" in caplog.text
    assert secret.hex() not in caplog.text


def test_a_place_that_can_not_be_is_a_sentence(tmp_path):
    with pytest.raises(SettingsError, match=r"secret_file: .* can't be made"):
        signing_secret(tmp_path / "nowhere" / "telecast.secret")
    with pytest.raises(SettingsError, match=r"secret_file: .* can't be read"):
        signing_secret(tmp_path)


def test_what_may_be_used_once_is_foreign_after_a_restart_and_a_session_is_not(clock: Clock):
    """A used ticket opened again after a restart within its 30 seconds."""
    before, after = Tokens(SECRET, now=clock), Tokens(SECRET, now=clock)
    for kind in (TICKET, SIGN_IN):
        with pytest.raises(PeerFault, match="before its last start"):
            after.read(kind, before.issue(kind, "0000000a", "print"))
    for kind in (SESSION, OPERATOR, STREAM):
        token = after.read(kind, before.issue(kind, "0000000a", "print"))
        assert after.why_not(token) is None


def test_a_session_that_is_renewed_again_and_again_still_ends(signer: Tokens, clock: Clock):
    token = signer.read(SESSION, signer.issue(SESSION, "0000000a", "print"))
    while clock.now < token.began_at + MOST_SECONDS - 3_600:
        clock.now += 3_600
        token = signer.read(SESSION, signer.renew(token))
        assert signer.why_not(token) is None
    clock.now += 3_601
    assert signer.why_not(token) is not None
    assert signer.why_not(signer.read(SESSION, signer.renew(token))) is not None
