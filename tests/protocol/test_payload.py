"""Which payload kinds are read and written, and how the others are refused."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidFormat, Unsupported, WireError
from protocol.payload import PayloadKind, read_payload, write_payload


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        (PayloadKind.BINARY, b"\x00\xff", b"\x00\xff"),
        (PayloadKind.JSON, b'{"a":1}', {"a": 1}),
        (PayloadKind.TEXT, "grüße".encode(), "grüße"),
        (PayloadKind.TEXT, b"", ""),
        (PayloadKind.CBOR, b"\xa1aa\x01", {"a": 1}),
    ],
)
def test_each_kind_is_read_and_written_in_its_own_form(kind: int, data: bytes, value: object):
    assert read_payload(kind, data) == value
    assert write_payload(kind, value) == data


def test_kinds_have_the_codes_of_the_protocol():
    assert {kind.name: kind.value for kind in PayloadKind} == {"BINARY": 1, "JSON": 2, "TEXT": 3, "PROTOBUF": 4, "CBOR": 5}


@pytest.mark.parametrize("act", [read_payload, write_payload])
@pytest.mark.parametrize(
    ("kind", "reason"), [(4, "protobuf_not_built"), (0, "unknown_payload_type"), (6, "unknown_payload_type"), (255, "unknown_payload_type")]
)
def test_protobuf_and_unknown_kinds_are_unsupported(act: Callable[[int, bytes], Any], kind: int, reason: str):
    with pytest.raises(Unsupported) as caught:
        act(kind, b"")

    assert (caught.value.reason, caught.value.kind.status, caught.value.kind.code) == (reason, 415, 4150)
    assert caught.value.details == {"payload_type": kind}


@pytest.mark.parametrize(("data", "offset"), [(b"\xff", 0), (b"ab\xc3", 2), (b"\xed\xa0\x80", 0), (b"a\xc0\x80", 1)])
def test_text_that_is_not_utf8_is_refused_naming_the_byte(data: bytes, offset: int):
    with pytest.raises(InvalidFormat) as caught:
        read_payload(PayloadKind.TEXT, data)

    assert (caught.value.reason, caught.value.details) == ("not_utf8", {"offset": offset})


@given(st.integers(0, 255), st.binary(max_size=60))
def test_any_payload_of_any_kind_is_read_or_refused_with_a_wire_error(kind: int, data: bytes):
    try:
        read_payload(kind, data)
    except WireError as refusal:
        message = refusal.message
    else:
        message = "read"
    assert message
