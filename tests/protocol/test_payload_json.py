"""JSON payloads: strict reading (RELIABILITY.md H12), with the standard library's json as second reader."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.errors import InvalidFormat
from protocol.payload import CONTAINERS_MAX, DEPTH_MAX, OBJECT_KEYS_MAX, read_json, write_json

INT_MIN, INT_MAX = -(2**63), 2**64 - 1

HOSTILE = {
    "empty": (b"", "invalid_json"),
    "blank": (b" \n", "invalid_json"),
    "cut word": (b"tru", "invalid_json"),
    "cut object": (b'{"a":1', "invalid_json"),
    "second value": (b"{} {}", "invalid_json"),
    "trailing byte": (b"[1]\x00", "invalid_json"),
    "trailing comma": (b"[1,]", "invalid_json"),
    "comment": (b"/**/1", "invalid_json"),
    "byte order mark": (b"\xef\xbb\xbf{}", "invalid_json"),
    "utf-16": ("{}".encode("utf-16-le"), "invalid_json"),
    "number as key": (b"{1:2}", "invalid_json"),
    "single quotes": (b"{'a':1}", "invalid_json"),
    "leading zero": (b"01", "invalid_json"),
    "hexadecimal": (b"0x1", "invalid_json"),
    "plus": (b"+1", "invalid_json"),
    "bare point": (b"1.", "invalid_json"),
    "raw newline": (b'"\n"', "invalid_json"),
    "raw NUL": (b'"\x00"', "invalid_json"),
    "wrong escape": (b'"\\x41"', "invalid_json"),
    "NaN": (b"NaN", "invalid_json"),
    "Infinity": (b'{"a":Infinity}', "invalid_json"),
    "-Infinity": (b"[-Infinity]", "invalid_json"),
    "float too large": (b"1e400", "number_out_of_range"),
    "float too small": (b'{"a":[-1e400]}', "number_out_of_range"),
    "float past the largest": (b"1.7976931348623159e308", "number_out_of_range"),
    "integer 2^64": (b"18446744073709551616", "number_out_of_range"),
    "integer -2^63-1": (b'{"a":[{"b":-9223372036854775809}]}', "number_out_of_range"),
    "integer of 400 digits": (b"1" * 400, "number_out_of_range"),
    "integer of 60,000 digits": (b"1" * 60_000, "number_out_of_range"),
    "integer too large in a dropped key": (b'{"a":18446744073709551616,"a":1}', "duplicate_key"),
    "lone high surrogate": (b'"\\ud800"', "invalid_json"),
    "lone high surrogate in the midst": (b'"\\ud800 and more"', "invalid_json"),
    "lone low surrogate": (b'"\\udc00 and more"', "invalid_json"),
    "surrogates in the wrong order": (b'"\\udc00\\ud800"', "invalid_json"),
    "two high surrogates": (b'"\\ud800\\ud800\\udc00"', "invalid_json"),
    "lone surrogate in a key": (b'{"\\udfff":1}', "invalid_json"),
    "surrogate in UTF-8": (b'"\xed\xa0\x80"', "not_utf8"),
    "overlong NUL": (b'"\xc0\x80"', "not_utf8"),
    "past U+10FFFF": (b'"\xf4\x90\x80\x80"', "not_utf8"),
    "cut UTF-8": (b'"\xc3"', "not_utf8"),
    "not UTF-8 in a key": (b'{"\xff":1}', "not_utf8"),
    "not UTF-8 outside text": (b"\xff", "not_utf8"),
    "same key": (b'{"a":1,"a":2}', "duplicate_key"),
    "same key, same value": (b'{"a":1,"b":0,"a":1}', "duplicate_key"),
    "same key deep within": (b'[{"x":{"a":1,"a":1}}]', "duplicate_key"),
    "same key by an escape": (b'{"a":1,"\\u0061":2}', "duplicate_key"),
    "same key of a colon": (b'{":":1,":":2}', "duplicate_key"),
    "same key of an escaped colon": (b'{":":1,"\\u003a":2}', "duplicate_key"),
    "escaped colons that make up for the dropped key's": (b'{"a":1,"a":"\\u003a"}', "duplicate_key"),
    "escaped colons in capitals": (b'{"a":1,"a":"\\u003A"}', "duplicate_key"),
    "same key that drops an object": (b'{"a":{"b":":"},"a":":"}', "duplicate_key"),
    "same key whose loss a longer number hides": (b'{"a":1,"a":1e6}', "duplicate_key"),
    "same empty key": (b'{"":1,"":2}', "duplicate_key"),
    "33 arrays": (b"[" * 33 + b"]" * 33, "too_deep"),
    "33 objects": (b'{"a":' * 33 + b"1" + b"}" * 33, "too_deep"),
    "33 of both": (b'[{"a":' * 16 + b"[]" + b"}]" * 16, "too_deep"),
    "100,000 arrays": (b"[" * 100_000 + b"]" * 100_000, "too_deep"),
    "100,000 arrays that stay open": (b"[" * 100_000, "too_deep"),
    "20,000 objects": (b'{"a":' * 20_000, "too_deep"),
    "too deep in a dropped key": (b'{"a":' + b"[" * 990 + b"]" * 990 + b',"a":1}', "too_deep"),
    "129 keys": (json.dumps({str(n): n for n in range(129)}).encode(), "too_many_keys"),
    "65,537 arrays and objects": (b"[" + b"[],{}," * 32_767 + b"[],[]]", "too_big"),
    "6,000 floats past the largest": (b"[" + b"1e400," * 6000 + b"1]", "number_out_of_range"),
    "one float past the largest among 6,000": (b"[" + b"1e-400," * 6000 + b"1e400]", "number_out_of_range"),
    "same key in a text of many objects": (b'[{"a":1,"a":1}' + b",{}" * 10_000 + b"]", "duplicate_key"),
    "129 keys deep within": (json.dumps([{"x": {str(n): n for n in range(129)}}]).encode(), "too_many_keys"),
}


@pytest.mark.parametrize(("data", "reason"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_json_is_refused_with_a_stable_reason(data: bytes, reason: str):
    with pytest.raises(InvalidFormat) as caught:
        read_json(data)

    assert (caught.value.reason, caught.value.kind.status, caught.value.kind.code) == (reason, 400, 4001)


@pytest.mark.parametrize(("data", "at"), [(b'["x","\\ud800"]', 6), (b'"\\udc00\\ud800"', 1), (b'"\\ud83d\\ude00 \\uDBFF."', 14)])
def test_half_a_surrogate_pair_is_named_with_its_place(data: bytes, at: int):
    with pytest.raises(InvalidFormat, match=f"other half at byte {at}$"):
        read_json(data)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"18446744073709551615", INT_MAX),
        (b"-9223372036854775808", INT_MIN),
        (b"1.7976931348623157e308", 1.7976931348623157e308),
        (b"1e-400", 0.0),
        (b"-0", 0),
        (b' \t\r\n{ "a" : [ ] } \n', {"a": []}),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        ('"\U0001f600\u2028"'.encode(), "\U0001f600\u2028"),
        (b'"\\u0000"', "\x00"),
        (b'"\x7f"', "\x7f"),
        (b'{"a":{"a":{"a":1}},"b":{"a":2}}', {"a": {"a": {"a": 1}}, "b": {"a": 2}}),
        (b'{"at":"12:30:00","url":"https://example.org:8080/"}', {"at": "12:30:00", "url": "https://example.org:8080/"}),
        (b'{"a\\u003ab":"\\u003a:\\\\u003a"}', {"a:b": "::\\u003a"}),
        (b'["' + b"[{" * 100 + b'"]', ["[{" * 100]),
        (b"[" * 32 + b"]" * 32, json.loads("[" * 32 + "]" * 32)),
        (b"[" + b"[]," * 5000 + b"{}]", [[]] * 5000 + [{}]),
        (b"[" + b"[],{}," * 32_767 + b"[]]", [[], {}] * 32_767 + [[]]),
        (b"[" + b"5e-324,1.7976931348623157E+308,1e-400," * 1500 + b"0.5]", [5e-324, 1.7976931348623157e308, 0.0] * 1500 + [0.5]),
        (rb'{"\\":1,"\\u003a":"\u003a\\","x":"\"\u003A"}', {"\\": 1, "\\u003a": ":\\", "x": '":'}),
        (json.dumps({str(n): n for n in range(128)}).encode(), {str(n): n for n in range(128)}),
        (json.dumps([{str(n): n for n in range(128)}] * 2).encode(), [{str(n): n for n in range(128)}] * 2),
        (json.dumps([{"a": n} for n in range(500)]).encode(), [{"a": n} for n in range(500)]),
    ],
)
def test_json_at_the_edge_of_what_is_allowed_is_read(data: bytes, value: object):
    assert read_json(data) == value


def test_limits_are_those_of_the_hostile_table():
    assert (DEPTH_MAX, OBJECT_KEYS_MAX, CONTAINERS_MAX) == (32, 128, 65_536)


def test_floats_that_cost_msgspec_much_are_read_by_python_beyond_200_of_them(monkeypatch: pytest.MonkeyPatch):
    """msgspec takes up to 10 µs for one at either end of their range, so that 1 MiB of them would hold every link for a second (H12)."""
    read: list[int] = []
    monkeypatch.setattr("protocol.payload._decode_json", lambda data: read.append(len(data)))
    few = b"[" + b"5E-324," * 200 + b" " * 32_768 + b"1]"
    read_json(few)
    assert read == [len(few)]
    assert read_json(few.replace(b"[", b"[5E-324,")) == [5e-324] * 201 + [1]
    assert read == [len(few)]


def test_no_text_is_read_twice_but_to_name_a_key_among_at_most_10_000_objects(monkeypatch: pytest.MonkeyPatch):
    """The exact reader calls Python for every object: 250 ms for 1 MiB of them, where an escaped colon once was reason enough (H12)."""
    read: list[int] = []

    class Reader:
        def decode(self, text: str) -> None:
            read.append(len(text))

    monkeypatch.setattr("protocol.payload._EXACT_READER", Reader())
    read_json(b'["\\u003a"' + b',{"a":1}' * 60_000 + b"]")
    with pytest.raises(InvalidFormat, match="a key stands twice in one object"):
        read_json(b"[" + b"{}," * 10_000 + b'{"a":1,"a":1}]')
    assert read == []
    with pytest.raises(InvalidFormat):
        read_json(b"[" + b"{}," * 9_999 + b'{"a":1,"a":1}]')
    assert len(read) == 1


def test_refusal_of_a_duplicate_names_the_key_up_to_64_characters():
    with pytest.raises(InvalidFormat, match='the key "a" stands twice in one object') as caught:
        read_json(b'{"a":1,"a":2}')
    assert caught.value.details == {"key": "a"}

    with pytest.raises(InvalidFormat) as caught:
        read_json(b'{"%b":1,"%b":2}' % (b"k" * 500, b"k" * 500))
    assert caught.value.details == {"key": "k" * 64}


def test_refusal_of_bad_utf8_names_the_byte():
    with pytest.raises(InvalidFormat, match="not UTF-8 at byte 6") as caught:
        read_json(b'{"a":"\xff"}')
    assert caught.value.details == {"offset": 6}


def test_recursion_error_does_not_escape_where_the_stack_is_nearly_full():
    """The depth at which a reader gives up depends on its caller's stack: at every height the answer is a value or a refusal."""

    def read_at(height: int) -> str:
        if height:
            return read_at(height - 1)
        try:
            read_json(b"[" * 30 + b"]" * 30)
        except InvalidFormat as fault:
            return fault.reason
        return "read"

    outcomes = set[str]()
    for height in range(0, 2000, 3):
        try:
            outcomes.add(read_at(height))
        except RecursionError:  # of the tower itself, whose top has no room for the call
            break
    assert outcomes <= {"read", "too_deep"}
    assert "read" in outcomes


@pytest.mark.parametrize("seam", ["_decode_json", "_encode_json", "_encode_msgpack"])
def test_memory_error_does_not_escape(seam: str, monkeypatch: pytest.MonkeyPatch):
    def fail(_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(f"protocol.payload.{seam}", fail)
    with pytest.raises(InvalidFormat) as caught:
        read_json(b"{}")
    assert caught.value.reason == "too_big"


# The standard library's json as second reader


def read_by_second_reader(data: bytes) -> Any:
    """The same rules, by another parser and the plainest means. Raises ValueError."""
    value = json.loads(data.decode(), object_pairs_hook=_object_of, parse_constant=_refuse_constant)
    _check(value, DEPTH_MAX)
    return value


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("duplicate key")
    return dict(pairs)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _check(value: Any, levels_left: int) -> None:
    match value:
        case bool() | None:
            pass
        case int():
            _require(INT_MIN <= value <= INT_MAX)
        case float():
            _require(abs(value) != float("inf"))
        case str():
            value.encode()
        case dict():
            _require(levels_left > 0 and len(value) <= OBJECT_KEYS_MAX)
            for key, child in value.items():
                key.encode()
                _check(child, levels_left - 1)
        case _:
            _require(levels_left > 0)
            for child in value:
                _check(child, levels_left - 1)


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError


def outcome(reader: Any, data: bytes) -> str:
    """The value as repr, which tells 1 from 1.0 from True and -0.0 from 0.0 and keeps the order of keys; or "refused"."""
    try:
        return repr(reader(data))
    except (InvalidFormat, ValueError):
        return "refused"


PLAIN_PIECES = ["a", ":", "{", "[", "é", "\U0001f600", "\x7f"]
ESCAPES = ["\\u003a", "\\u003A", "\\u0061", "\\\\", "\\\\u003a", '\\"', "\\/", "\\n", "\\u0000", "\\ud83d\\ude00"]
WRONG_PIECES = ["\\ud800", "\\udc00", "\x1f", "\\x"]
text_pieces = st.sampled_from(PLAIN_PIECES + ESCAPES) | st.sampled_from(PLAIN_PIECES + ESCAPES + WRONG_PIECES)
texts = st.lists(text_pieces, max_size=4).map(lambda pieces: f'"{"".join(pieces)}"')
tame_texts = st.sampled_from(['"a"', '"b"', '":"', '"\\u0061"', '"\\u003a"', '""', '"a:b"'])
numbers = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.sampled_from([INT_MIN - 1, INT_MIN, INT_MAX, INT_MAX + 1]).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(["NaN", "Infinity", "-", "1.", "01", "1e400", "-0", "-0.0"]),
)
blanks = st.sampled_from(["", "", "", " ", "\n\t"])


@st.composite
def objects_of(draw: st.DrawFn, children: st.SearchStrategy[str]) -> str:
    pairs = draw(st.lists(st.tuples(tame_texts | texts, blanks, children), max_size=4))
    return "{" + ",".join(f"{blank}{key}{blank}:{value}" for key, blank, value in pairs) + "}"


documents = st.recursive(
    texts | tame_texts | numbers | st.sampled_from(["true", "false", "null"]),
    lambda children: objects_of(children) | st.lists(children, max_size=4).map(lambda items: f"[{','.join(items)}]"),
    max_leaves=12,
).map(str.encode)


@given(documents)
@example(b'{"a":1,"a":"\\u003a"}')
@example(b'{"a":1,"\\u0061":2}')
def test_both_readers_accept_the_same_documents_with_the_same_value(data: bytes):
    assert outcome(read_json, data) == outcome(read_by_second_reader, data)


@given(documents, st.data())
def test_both_readers_agree_on_documents_with_a_byte_changed(document: bytes, data: st.DataObject):
    changed = bytearray(document)
    changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.sampled_from(b'":,{}[]\\0 \xff\xc3au') | st.integers(0, 255))
    assert outcome(read_json, bytes(changed)) == outcome(read_by_second_reader, bytes(changed))


@given(st.binary(max_size=40))
def test_any_bytes_are_read_alike_or_refused_by_both(data: bytes):
    assert outcome(read_json, data) == outcome(read_by_second_reader, data)


values = st.recursive(
    st.none() | st.booleans() | st.integers(INT_MIN, INT_MAX) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=5) | st.dictionaries(st.text(max_size=8), children, max_size=5),
    max_leaves=20,
)


@given(values)
def test_what_is_written_is_read_back(value: object):
    assert repr(read_json(write_json(value))) == repr(value)


@given(values)
def test_what_others_write_is_read(value: object):
    for data in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=3)):
        assert repr(read_json(data.encode())) == repr(value)


def test_json_is_written_without_spaces():
    assert write_json({"a": [1, 2.5, None, True], "b": {"c": "é: ,"}}) == '{"a":[1,2.5,null,true],"b":{"c":"é: ,"}}'.encode()
