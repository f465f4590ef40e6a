"""Credentials that TURN servers read with a shared secret, and what counts as an address of one."""

import hmac
from base64 import b64decode
from hashlib import sha1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain.ids import is_client_id
from signal_gateway.domain.turn import TurnCredentials, is_stun_uri, is_turn_uri, turn_credentials

USERNAME_BYTES_MAX = 508
"""RFC 8489 §14.3: a USERNAME has less than 509 bytes."""

client_ids = st.from_regex(r"[A-Za-z0-9._:\-]{1,128}", fullmatch=True)


def test_credentials_are_what_another_implementation_makes_of_the_same_secret():
    """`printf 1700000000:robot | openssl dgst -sha1 -hmac north -binary | base64`"""
    assert turn_credentials("north", "robot", 1_700_000_000) == TurnCredentials("1700000000:robot", "ciI4CGauLzGATBwNQKfSGtWaR2g=")


@given(secret=st.text(min_size=1), client_id=client_ids, expires_at_s=st.integers(0, 2**33))
def test_whoever_has_the_secret_reads_end_and_client_out_of_the_name(secret: str, client_id: str, expires_at_s: int):
    made = turn_credentials(secret, client_id, expires_at_s)
    end, colon, who = made.username.partition(":")
    assert (int(end), colon, who) == (expires_at_s, ":", client_id)
    assert is_client_id(who)
    assert len(made.username.encode()) <= USERNAME_BYTES_MAX
    assert hmac.compare_digest(b64decode(made.password), hmac.digest(secret.encode(), made.username.encode(), sha1))


@given(secret=st.text(min_size=1), client_id=client_ids, expires_at_s=st.integers(0, 2**33))
def test_another_secret_client_or_end_has_another_password(secret: str, client_id: str, expires_at_s: int):
    password = turn_credentials(secret, client_id, expires_at_s).password
    others = [(secret + "x", client_id, expires_at_s), (secret, client_id + "x", expires_at_s), (secret, client_id, expires_at_s + 1)]
    assert password not in [turn_credentials(*other).password for other in others]


def test_the_password_is_not_in_the_repr():
    made = turn_credentials("north", "robot", 1_700_000_000)
    assert made.password not in repr(made)
    assert "1700000000:robot" in repr(made)


@pytest.mark.parametrize("uri", ["stun:stun.example:3478", "stun:stun.example", "stuns:192.0.2.1:5349", "stun:[2001:db8::1]:3478"])
def test_addresses_of_stun_servers(uri: str):
    assert is_stun_uri(uri)
    assert not is_turn_uri(uri)


@pytest.mark.parametrize("uri", ["turn:turn.example", "turn:192.0.2.1:3478?transport=udp", "turns:turn.example:5349?transport=tcp"])
def test_addresses_of_turn_servers(uri: str):
    assert is_turn_uri(uri)
    assert not is_stun_uri(uri)


NO_ADDRESSES = ["", "stun:", "turn:", "https://turn.example", "stun://turn.example", "turn:user@turn.example", "turn:a b"]


@pytest.mark.parametrize("text", [*NO_ADDRESSES, "turn:turn.example?transport=sctp", "turn:turn.example?", "turn:turn.example\n"])
def test_what_browsers_would_not_take_is_no_address(text: str):
    assert not is_turn_uri(text)
    assert not is_stun_uri(text)
