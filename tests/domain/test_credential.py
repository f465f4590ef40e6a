"""The form of keys, and when they end."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signal_gateway.domain.credential import Credential, CredentialKind, key_id_of, new_key


def test_a_key_is_sgk_then_its_id_then_256_bits_of_secret():
    key = new_key(os.urandom)

    prefix, key_id, secret = key.text.split("_", 2)
    assert (prefix, key_id, len(key_id), len(secret)) == ("sgk", key.id, 12, 43)
    assert secret not in repr(key)


@given(st.binary(min_size=32, max_size=32))
def test_the_id_is_read_back_from_every_key_underscores_in_the_secret_or_not(random: bytes):
    key = new_key(lambda count: random[:count])

    assert key_id_of(key.text) == key.id


@pytest.mark.parametrize(
    "text", ["", "sgk_", "sgk_a_b", "demo-enrolment-key", "xsgk_" + "a" * 12 + "_" + "b" * 43, "sgk_" + "a" * 12 + "_" + "b" * 43 + "\n"]
)
def test_other_texts_have_no_id(text: str):
    assert key_id_of(text) is None


@pytest.mark.parametrize(
    ("kind", "expires_at", "revoked_at", "worthless"),
    [
        (CredentialKind.ENROLMENT, None, None, False),
        (CredentialKind.ENROLMENT, 10, None, False),
        (CredentialKind.ENROLMENT, None, 5, True),
        (CredentialKind.CLIENT, 10, None, True),
        (CredentialKind.CLIENT, 11, None, False),
        (CredentialKind.DEVICE, 10, None, True),
        (CredentialKind.DEVICE, None, 11, True),
    ],
)
def test_what_ends_which_key(kind: CredentialKind, expires_at: int | None, revoked_at: int | None, worthless: bool):
    assert Credential("a", kind, b"", expires_at=expires_at, revoked_at=revoked_at).is_worthless(10) is worthless
