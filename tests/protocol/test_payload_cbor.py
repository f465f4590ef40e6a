"""CBOR payloads: strict reading (RELIABILITY.md H12), with vectors of RFC 8949 and a generator that knows what it broke."""

import struct
from math import isfinite
from typing import Any

import cbor2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidFormat
from protocol.payload import read_cbor, read_json, write_cbor, write_json

INT_MIN, INT_MAX = -(2**63), 2**64 - 1

HOSTILE = {
    "empty": ("", "invalid_cbor"),
    "cut integer": ("19 01", "invalid_cbor"),
    "cut text": ("62 61", "invalid_cbor"),
    "cut array": ("82 01", "invalid_cbor"),
    "cut map, key alone": ("a1 61 61", "invalid_cbor"),
    "cut float": ("fb 00 00", "invalid_cbor"),
    "cut simple value": ("f8", "invalid_cbor"),
    "open array": ("9f 01", "invalid_cbor"),
    "open map": ("bf 61 61 01", "invalid_cbor"),
    "open map, key alone": ("bf 61 61 ff", "invalid_cbor"),
    "break without a beginning": ("ff", "invalid_cbor"),
    "break in a definite array": ("82 01 ff", "invalid_cbor"),
    "text of 2^64-1 bytes": ("7b ffffffffffffffff", "invalid_cbor"),
    "bytes of 4 GiB": ("5a ffffffff", "invalid_cbor"),
    "array of 2^64-1 items": ("9b ffffffffffffffff", "invalid_cbor"),
    "map of 2^64-1 pairs": ("bb ffffffffffffffff", "invalid_cbor"),
    "reserved head 1c": ("1c", "invalid_cbor"),
    "reserved head 1e with bytes to spare": ("1e" + "00" * 70, "invalid_cbor"),
    "reserved head 7c with bytes to spare": ("7c" + "00" * 70, "invalid_cbor"),
    "reserved head 9e": ("9e", "invalid_cbor"),
    "reserved head fc": ("fc", "invalid_cbor"),
    "indefinite integer": ("1f", "invalid_cbor"),
    "indefinite tag": ("df 01", "invalid_cbor"),
    "false in two bytes": ("f8 14", "invalid_cbor"),
    "trailing byte": ("a0 00", "trailing_bytes"),
    "second value": ("01 02", "trailing_bytes"),
    "trailing break": ("80 ff", "trailing_bytes"),
    "tag of a date": ("c1 1a514b67b0", "tag_not_allowed"),
    "tag of a large number": ("c2 41 01", "tag_not_allowed"),
    "tag of a decimal fraction": ("c4 82 21 19 6ab3", "tag_not_allowed"),
    "tag of a shared value": ("d8 1c 80", "tag_not_allowed"),
    "tag of a reference": ("82 d8 1c 80 d8 1d 00", "tag_not_allowed"),
    "tag of a set": ("d9 0102 80", "tag_not_allowed"),
    "tag of a regular expression": ("d8 23 61 61", "tag_not_allowed"),
    "tag of CBOR itself": ("d9 d9f7 a0", "tag_not_allowed"),
    "tag deep within": ("a1 61 61 81 c0 60", "tag_not_allowed"),
    "tag without content": ("c0", "tag_not_allowed"),
    "same key": ("a2 61 61 01 61 61 02", "duplicate_key"),
    "same key by a longer head": ("a2 61 61 01 78 01 61 02", "duplicate_key"),
    "same key in an indefinite map": ("bf 61 61 01 61 61 02 ff", "duplicate_key"),
    "same key deep within": ("81 a1 60 a2 60 01 60 02", "duplicate_key"),
    "integer as key": ("a1 01 02", "key_not_text"),
    "bytes as key": ("a1 41 61 01", "key_not_text"),
    "null as key": ("a1 f6 01", "key_not_text"),
    "array as key": ("a1 80 01", "key_not_text"),
    "tag as key": ("a1 c0 60 01", "key_not_text"),
    "key in chunks": ("a1 7f 61 61 ff 01", "value_not_allowed"),
    "text in chunks": ("7f 61 61 61 61 ff", "value_not_allowed"),
    "bytes in chunks": ("5f 41 61 ff", "value_not_allowed"),
    "undefined": ("f7", "value_not_allowed"),
    "simple value 16": ("f0", "value_not_allowed"),
    "simple value 255": ("f8 ff", "value_not_allowed"),
    "NaN in 16 bits": ("f9 7e00", "number_out_of_range"),
    "NaN in 32 bits": ("fa 7fc00000", "number_out_of_range"),
    "NaN in 64 bits": ("81 fb 7ff8000000000000", "number_out_of_range"),
    "signalling NaN": ("fb 7ff0000000000001", "number_out_of_range"),
    "Infinity in 16 bits": ("f9 7c00", "number_out_of_range"),
    "-Infinity in 32 bits": ("fa ff800000", "number_out_of_range"),
    "Infinity in 64 bits": ("a1 60 fb 7ff0000000000000", "number_out_of_range"),
    "integer -2^63-1": ("3b 8000000000000000", "number_out_of_range"),
    "integer -2^64": ("3b ffffffffffffffff", "number_out_of_range"),
    "text not UTF-8": ("61 ff", "not_utf8"),
    "surrogate in text": ("63 eda080", "not_utf8"),
    "overlong text": ("62 c080", "not_utf8"),
    "key not UTF-8": ("a1 61 ff 01", "not_utf8"),
    "33 arrays": ("81" * 32 + "80", "too_deep"),
    "33 maps": ("a1 60" * 32 + "a0", "too_deep"),
    "33 indefinite arrays": ("9f" * 33 + "ff" * 33, "too_deep"),
    "60,000 arrays": ("81" * 60_000, "too_deep"),
    "60,000 indefinite maps": ("bf 60" * 30_000, "too_deep"),
    "129 keys": ("b8 81" + "".join(f"62 {n // 100 + 48:02x} {n % 100 + 27:02x} 00" for n in range(129)), "too_many_keys"),
    "129 keys in an indefinite map": (
        "bf" + "".join(f"62 {n // 100 + 48:02x} {n % 100 + 27:02x} 00" for n in range(129)) + "ff",
        "too_many_keys",
    ),
}


@pytest.mark.parametrize(("data", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_cbor_is_refused_with_a_stable_reason(data: str, reason: str):
    with pytest.raises(InvalidFormat) as caught:
        read_cbor(bytes.fromhex(data))

    assert (caught.value.reason, caught.value.kind.status, caught.value.kind.code) == (reason, 400, 4001)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("00", 0),
        ("18 18", 24),
        ("1b ffffffffffffffff", INT_MAX),
        ("3b 7fffffffffffffff", INT_MIN),
        ("1b 0000000000000001", 1),
        ("f9 3c00", 1.0),
        ("fa 47c35000", 100000.0),
        ("fb 7fefffffffffffff", 1.7976931348623157e308),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("44 01020304", b"\x01\x02\x03\x04"),
        ("a1 61 61 41 ff", {"a": b"\xff"}),
        ("64 49455446", "IETF"),
        ("62 c3bc", "ü"),
        ("9f 01 82 02 03 9f 04 05 ff ff", [1, [2, 3], [4, 5]]),
        ("bf 61 61 01 61 62 9f 02 03 ff ff", {"a": 1, "b": [2, 3]}),
        ("a2 61 61 a1 61 61 01 61 62 a1 61 61 02", {"a": {"a": 1}, "b": {"a": 2}}),
        ("a2 61 41 01 61 61 02", {"A": 1, "a": 2}),
        ("81" * 31 + "80", eval("[" * 32 + "]" * 32)),
        ("b8 80" + "".join(f"62 {n // 100 + 48:02x} {n % 100 + 27:02x} 00" for n in range(128)), 128),
    ],
)
def test_cbor_at_the_edge_of_what_is_allowed_is_read(data: str, value: object):
    read = read_cbor(bytes.fromhex(data))

    assert (len(read) if value == 128 else repr(read)) == (128 if value == 128 else repr(value))


@pytest.mark.parametrize("characters", [65_535, 65_536, 65_537])
def test_long_text_is_read_whole_wherever_a_character_lies(characters: int):
    """cbor2 reads long strings in pieces of 65,536 bytes; a character of two or four bytes may lie across the seam."""
    for text in ("é" * characters, "a" + "\U0001f600" * characters):
        assert read_cbor(cbor2.dumps(text)) == text


def test_recursion_and_memory_errors_do_not_escape(monkeypatch: pytest.MonkeyPatch):
    for error, reason in ((RecursionError, "too_deep"), (MemoryError, "too_big")):

        def fail(_: bytes, error: type[Exception] = error) -> None:
            raise error

        monkeypatch.setattr("protocol.payload.cbor2.loads", fail)
        with pytest.raises(InvalidFormat) as caught:
            read_cbor(b"\x00")
        assert caught.value.reason == reason


def test_refusal_of_a_duplicate_names_the_key():
    with pytest.raises(InvalidFormat, match='the key "abc" stands twice in one object') as caught:
        read_cbor(bytes.fromhex("a2 63 616263 00 63 616263 00"))
    assert caught.value.details == {"key": "abc"}


def test_refusal_of_trailing_bytes_names_where_they_start():
    with pytest.raises(InvalidFormat, match="3 bytes follow the value") as caught:
        read_cbor(bytes.fromhex("82 01 02 00 00 00"))
    assert caught.value.details == {"offset": 3}


# A generator of CBOR that knows whether what it writes is allowed


def head(major: int, argument: int, width: int) -> bytes:
    """The head of an item in `width` further bytes, or in the fewest that hold the argument."""
    while argument >= (24 if width == 0 else 1 << (8 * width)):
        width = width * 2 or 1
    first = major << 5 | (argument if width == 0 else {1: 24, 2: 25, 4: 26, 8: 27}[width])
    return bytes([first]) + (argument.to_bytes(width, "big") if width else b"")


widths = st.sampled_from([0, 0, 0, 1, 2, 4, 8])
Item = tuple[bytes, Any, bool]
"""The bytes of an item, its value, and whether it is allowed."""


@st.composite
def leaves(draw: st.DrawFn) -> Item:
    width = draw(widths)
    match draw(st.integers(0, 6)):
        case 0:
            number = draw(st.integers(0, INT_MAX))
            return head(0, number, width), number, True
        case 1:
            number = draw(st.integers(0, INT_MAX) | st.sampled_from([2**63 - 1, 2**63]))
            return head(1, number, width), -1 - number, number < 2**63
        case 2:
            raw = draw(st.binary(max_size=5))
            return head(2, len(raw), width) + raw, raw, True
        case 3:
            raw = draw(st.text(max_size=5)).encode()
            return head(3, len(raw), width) + raw, raw.decode(), True
        case 4:
            layout, first = draw(st.sampled_from([(">e", b"\xf9"), (">f", b"\xfa"), (">d", b"\xfb")]))
            number = draw(st.floats(width=16))
            return first + struct.pack(layout, number), number, isfinite(number)
        case 5:
            raw, value = draw(st.sampled_from([(b"\xf4", False), (b"\xf5", True), (b"\xf6", None)]))
            return raw, value, True
        case _:
            wrong = ["f7", "f0", "f97e00", "f97c00", "61ff", "c000", "c24101", "d9d9f700", "7f6161ff", "5fff", "1c", "fc", "f818", "ff"]
            return bytes.fromhex(draw(st.sampled_from(wrong))), None, False


@st.composite
def containers(draw: st.DrawFn, children: st.SearchStrategy[Item]) -> Item:
    items = draw(st.lists(children, max_size=4))
    raws = [raw for raw, _, _ in items]
    is_allowed = all(allowed for _, _, allowed in items)
    value: Any = [value for _, value, _ in items]
    major = 4
    if draw(st.booleans()):
        keys = [draw(st.sampled_from(["a", "b", "c", "d", "e", "", "é"])) for _ in items]
        raws = [head(3, len(key.encode()), draw(widths)) + key.encode() + raw for key, raw in zip(keys, raws, strict=True)]
        is_allowed = is_allowed and len(set(keys)) == len(keys)
        value = dict(zip(keys, value, strict=True))
        major = 5
    if draw(st.integers(0, 3)) == 0:
        return bytes([major << 5 | 31]) + b"".join(raws) + b"\xff", value, is_allowed
    return head(major, len(items), draw(widths)) + b"".join(raws), value, is_allowed


@given(st.recursive(leaves(), containers, max_leaves=12))
def test_generated_cbor_is_read_exactly_where_it_is_allowed(item: Item):
    data, value, is_allowed = item
    if not is_allowed:
        with pytest.raises(InvalidFormat):
            read_cbor(data)
        return
    assert repr(read_cbor(data)) == repr(value)
    for end in range(len(data)):
        with pytest.raises(InvalidFormat):
            read_cbor(data[:end])


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str for key in value) and all(is_plain(child) for child in value.values())
    if type(value) is int:
        return INT_MIN <= value <= INT_MAX
    if type(value) is list:
        return all(is_plain(child) for child in value)
    return value is None or type(value) in (str, bytes, bool, float)


@given(
    st.binary(max_size=60) | st.lists(st.sampled_from(b"\x00\x18\x41\x61a\x80\x81\x9f\xa1\xa2\xbf\xc0\xf5\xf9\xff"), max_size=20).map(bytes)
)
def test_any_bytes_are_refused_or_read_to_plain_values_as_cbor2_reads_them(data: bytes):
    try:
        value = read_cbor(data)
    except InvalidFormat:
        return
    assert is_plain(value)
    assert repr(value) == repr(cbor2.loads(data))
    assert repr(read_cbor(write_cbor(value))) == repr(value)


values = st.recursive(
    st.none() | st.booleans() | st.integers(INT_MIN, INT_MAX) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=5) | st.dictionaries(st.text(max_size=8), children, max_size=5),
    max_leaves=20,
)


@given(values | st.binary(max_size=20))
def test_what_is_written_is_read_back(value: object):
    assert repr(read_cbor(write_cbor(value))) == repr(value)


@given(values)
def test_what_other_encoders_write_is_read(value: object):
    assert read_cbor(cbor2.dumps(value, canonical=True)) == value
    assert read_cbor(cbor2.dumps(value, indefinite_containers=True)) == value


class Reading(msgspec.Struct, rename={"battery": "battery_level"}, omit_defaults=True):
    battery: int
    note: str = ""


@given(values)
def test_json_and_cbor_carry_the_same_object(value: object):
    assert repr(read_cbor(write_cbor(value))) == repr(read_json(write_json(value)))


def test_structs_are_written_alike_in_json_and_cbor():
    assert read_cbor(write_cbor([Reading(85)])) == read_json(write_json([Reading(85)])) == [{"battery_level": 85}]
