"""Payload codecs: JSON, CBOR, text and bytes to objects and back, strict in what they read (RELIABILITY.md H12).

What is accepted is the same in JSON and CBOR: objects whose keys are text and stand once, at most 128 of them; arrays; valid
Unicode text; whole numbers of 64 bits (-2^63 to 2^64-1); finite floats; true, false, null; 32 levels of nesting; 65,536 arrays and
objects in all; nothing after the value. CBOR may also hold byte strings, and arrays and maps of indefinite length, as small encoders
write them when they do not know the count beforehand. Tags, text or bytes in chunks, undefined and other simple values are refused.

Reasons of InvalidFormat: `invalid_json`, `invalid_cbor`, `not_utf8`, `too_deep`, `too_big`, `duplicate_key`, `too_many_keys`,
`number_out_of_range`, and of CBOR alone `tag_not_allowed`, `key_not_text`, `value_not_allowed`, `trailing_bytes`.
"""

import json
import re
from math import isfinite
from struct import Struct
from typing import Any, Final

import cbor2
import msgspec

from protocol.errors import InvalidFormat, MessageTooBig, Unsupported
from protocol.frame import PayloadKind as PayloadKind

DEPTH_MAX: Final = 32
"""Arrays and objects within each other."""
OBJECT_KEYS_MAX: Final = 128
CONTAINERS_MAX: Final = 65_536
"""Arrays and objects in one JSON text. A frame has no room for more of them in CBOR."""
KEY_SHOWN_CHARACTERS_MAX: Final = 64
"""So much of a peer's key is repeated to it."""
NAMED_IN_OBJECTS_MAX: Final = 10_000
"""A key that stands twice is named where `{` stands at most so often: to find it every object must be read again, in Python."""
SHORT_BYTES_MAX: Final = 32_768
LONG_EXPONENTS_MAX: Final = 200
"""In a JSON text of more than SHORT_BYTES_MAX, so many exponents of three characters; with more, Python reads its floats."""

_decode_json: Final = msgspec.json.Decoder().decode
_encode_json: Final = msgspec.json.Encoder().encode
_encode_msgpack: Final = msgspec.msgpack.Encoder().encode


def read_payload(kind: int, data: bytes) -> Any:
    """Read a payload: JSON and CBOR to an object, TEXT to str, BINARY as it is.

    Raises InvalidFormat (400) with one of the reasons above, Unsupported (415) for PROTOBUF and unknown kinds.
    """
    if kind == PayloadKind.JSON:
        return read_json(data)
    if kind == PayloadKind.CBOR:
        return read_cbor(data)
    if kind == PayloadKind.TEXT:
        return _read_text(data)
    if kind == PayloadKind.BINARY:
        return data
    raise _unsupported(kind)


def write_payload(kind: int, obj: Any) -> bytes:
    """Write a payload of this kind: any object for JSON and CBOR, a str for TEXT, bytes for BINARY; else as `read_payload` refuses."""
    if kind == PayloadKind.JSON:
        return write_json(obj)
    if kind == PayloadKind.CBOR:
        return write_cbor(obj)
    if kind == PayloadKind.TEXT:
        return str(obj).encode()
    if kind == PayloadKind.BINARY:
        return bytes(obj)
    raise _unsupported(kind)


def _unsupported(kind: int) -> Unsupported:
    if kind == PayloadKind.PROTOBUF:
        return Unsupported("protobuf_not_built", "payloads of type PROTOBUF are not spoken here: use JSON or CBOR", {"payload_type": kind})
    return Unsupported("unknown_payload_type", f"{kind:#04x} is no payload type", {"payload_type": kind})


def _read_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(error.start) from None


def _not_utf8(offset: int) -> InvalidFormat:
    return InvalidFormat("not_utf8", f"the text is not UTF-8 at byte {offset}", {"offset": offset})


def _too_deep() -> InvalidFormat:
    return InvalidFormat("too_deep", f"more than {DEPTH_MAX} levels of arrays and objects", {"depth_max": DEPTH_MAX})


def _too_big() -> MessageTooBig:
    return MessageTooBig("too_big", "the value does not fit the memory")


def _too_many_keys() -> InvalidFormat:
    return InvalidFormat("too_many_keys", f"an object with more than {OBJECT_KEYS_MAX} keys", {"keys_max": OBJECT_KEYS_MAX})


def _duplicate_key(key: str | None) -> InvalidFormat:
    if key is None:
        return InvalidFormat("duplicate_key", "a key stands twice in one object")
    shown = key[:KEY_SHOWN_CHARACTERS_MAX]
    return InvalidFormat("duplicate_key", f'the key "{shown}" stands twice in one object', {"key": shown})


def _number_out_of_range(what: str) -> InvalidFormat:
    return InvalidFormat("number_out_of_range", what)


_INTEGER_RANGE: Final = "whole numbers go from -2^63 to 2^64-1"
_FLOAT_RANGE: Final = "floats are finite 64-bit numbers"


# JSON (RFC 8259)


def read_json(data: bytes) -> Any:
    """Read one JSON value that fills `data`. Raises InvalidFormat.

    The parser is msgspec's, which refuses what is no JSON, lone surrogates, floats beyond 64 bits and text that is not UTF-8. What it
    lets pass is refused here, without looking at every value in Python where that can be avoided: a count of bytes bounds the nesting
    and the keys, msgspec's msgpack encoder refuses whole numbers beyond 64 bits, and what its JSON encoder writes tells whether a key
    was dropped. Where the counts leave room for too much the value is walked. All of it takes time in proportion to the bytes (H12).
    """
    try:
        value = _decode_json(data) if len(data) <= SHORT_BYTES_MAX else _decode_long_json(data)
        marks = data.translate(None, _NO_MARKS)
        colons = marks.count(b":")
        if colons > OBJECT_KEYS_MAX or len(marks) - colons > DEPTH_MAX:
            _check_shape(value)
        _encode_msgpack(value)
        if _repeats_a_key(data, colons, _encode_json(value)):
            raise _duplicate_key_of(data, marks)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _json_fault(data, error) from None
    except OverflowError:
        raise _number_out_of_range(_INTEGER_RANGE) from None
    except RecursionError:
        raise _too_deep() from None
    except MemoryError:
        raise _too_big() from None
    return value


_NO_MARKS: Final = bytes(set(range(256)) - set(b":{["))
"""All but the bytes that every key, object and array needs one of. Strings may hold more of them: the counts are upper bounds."""


def write_json(obj: Any) -> bytes:
    """Write an object, or msgspec Structs, as JSON without spaces. Byte strings become base64."""
    return _encode_json(obj)


def _decode_long_json(data: bytes) -> Any:
    """The same value. msgspec takes up to 10 µs for a float at either end of their range: 1 MiB of `5e-324` would hold us for a second."""
    exponents = data.translate(_EXPONENTS_ALIKE).count(b"0e000")
    return _decode_json(data) if exponents <= LONG_EXPONENTS_MAX else _decode_json_floats_apart(data)


_EXPONENTS_ALIKE: Final = bytes.maketrans(b"123456789+-E", b"00000000000e")


def _read_float(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise _number_out_of_range(f"{_INTEGER_RANGE}, {_FLOAT_RANGE}")
    return number


_decode_json_floats_apart: Final = msgspec.json.Decoder(float_hook=_read_float).decode


def _repeats_a_key(data: bytes, colons: int, rewritten: bytes) -> bool:
    """Whether an object in `data` has a key twice, of which the value kept the last.

    `rewritten` is the value written again, so no key stands twice in it. Every key is followed by a colon, and every other colon stands
    in a string; `colons` of them stand in `data` as they are, and strings may hold more as escapes. `rewritten` has those of the keys
    and strings that were kept, never as escapes. A key that was dropped took its colon along: equal counts mean that none was.
    """
    if rewritten == data:
        return False
    if b"\\u003" in data:
        plain = data.replace(b"\\\\", b"")  # what is left of a backslash now begins an escape
        colons += plain.count(b"\\u003a") + plain.count(b"\\u003A")
    return rewritten.count(b":") != colons


def _check_shape(value: Any) -> None:
    """Refuse too much nesting, too many keys, too many values, level by level. Only called where counts of bytes leave room for any."""
    level: list[Any] = [value] if type(value) in _CONTAINERS else []
    containers = 0
    for _ in range(DEPTH_MAX):
        if not level:
            return
        containers += len(level)
        if containers > CONTAINERS_MAX:
            raise MessageTooBig("too_big", f"more than {CONTAINERS_MAX} arrays and objects", {"containers_max": CONTAINERS_MAX})
        if max(map(len, level)) > OBJECT_KEYS_MAX and any(type(each) is dict and len(each) > OBJECT_KEYS_MAX for each in level):
            raise _too_many_keys()
        level = [child for each in level if each for child in (each.values() if type(each) is dict else each) if type(child) in _CONTAINERS]
    if level:
        raise _too_deep()


_CONTAINERS: Final = frozenset({dict, list})


def _duplicate_key_of(data: bytes, marks: bytes) -> InvalidFormat:
    """The refusal of a text in which a key stands twice. It names the key, unless that would take long."""
    if marks.count(b"{") <= NAMED_IN_OBJECTS_MAX:
        try:
            _EXACT_READER.decode(data.decode())
        except InvalidFormat as duplicate:
            return duplicate
    return _duplicate_key(None)


def _refuse_duplicate(pairs: list[tuple[str, Any]]) -> None:
    keys = set[str]()
    for key, _ in pairs:
        if key in keys:
            raise _duplicate_key(key)
        keys.add(key)


_EXACT_READER: Final = json.JSONDecoder(object_pairs_hook=_refuse_duplicate, parse_int=len, parse_float=len)
"""Sees every pair of every object, those of dropped keys too. What it reads is thrown away, so numbers are not converted."""


_HALF_A_PAIR: Final = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]")
"""A \\u escape for half of a character (RFC 8259 §8.2)."""


def _json_fault(data: bytes, error: Exception) -> InvalidFormat:
    try:
        data.decode()
    except UnicodeDecodeError as decode_error:
        return _not_utf8(decode_error.start)
    if isinstance(error, msgspec.ValidationError):  # without a type to validate, only numbers raise it
        return _number_out_of_range(f"{_INTEGER_RANGE}, {_FLOAT_RANGE}")
    if half := _HALF_A_PAIR.search(data):  # the parser calls it truncated
        return InvalidFormat("invalid_json", f"a surrogate without its other half at byte {half.start()}")
    return InvalidFormat("invalid_json", str(error))


# CBOR (RFC 8949)

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = range(7)
_FALSE, _TRUE, _NULL = 0xF4, 0xF5, 0xF6
_BREAK: Final = 0xFF
_INDEFINITE: Final = 31
_FLOATS: Final = {0xF9: Struct(">e"), 0xFA: Struct(">f"), 0xFB: Struct(">d")}


def read_cbor(data: bytes) -> Any:
    """Read one CBOR item that fills `data`. Raises InvalidFormat.

    cbor2 builds the value. It accepts much that is refused here, and does not tell a tag from what the tag made of its content: so
    every item is looked at first, and only what is known to be harmless is built.
    """
    try:
        end = _item_end(data, 0, DEPTH_MAX)
        if end != len(data):
            raise InvalidFormat("trailing_bytes", f"{len(data) - end} bytes follow the value", {"offset": end})
        return cbor2.loads(data)
    except IndexError:
        raise InvalidFormat("invalid_cbor", f"the value does not end within its {len(data)} bytes") from None
    except cbor2.CBORDecodeError as error:
        raise _cbor_fault(error) from None
    except RecursionError:
        raise _too_deep() from None
    except MemoryError:
        raise _too_big() from None


def write_cbor(obj: Any) -> bytes:
    """Write an object, or msgspec Structs, as CBOR: the same maps as `write_json` writes, byte strings as they are."""
    return cbor2.dumps(msgspec.to_builtins(obj, builtin_types=(bytes,), str_keys=True))


def _cbor_fault(error: cbor2.CBORDecodeError) -> InvalidFormat:
    """Name what the scan leaves to cbor2, which is the text alone; anything else would be a form that the scan does not know."""
    if isinstance(error.__cause__, UnicodeDecodeError):
        return InvalidFormat("not_utf8", "a text string is not UTF-8")
    return InvalidFormat("invalid_cbor", str(error))


def _item_end(data: bytes, at: int, levels_left: int) -> int:
    """The offset after the item that starts at `at`, once it and all it holds are found to be allowed.

    Raises InvalidFormat, and IndexError where the data ends before the item does.
    """
    head = data[at]
    major, argument = head >> 5, head & 0x1F
    end = at + 1
    if major > _TAG:
        return _simple_end(data, at)
    if argument >= 24:
        end, argument = _long_argument(data, at)
    if major == _UNSIGNED:
        return end
    if major in (_BYTES, _TEXT):
        if end + argument > len(data):
            raise IndexError
        return end + argument
    if major == _NEGATIVE:
        if argument >= 1 << 63:
            raise _number_out_of_range(_INTEGER_RANGE)
        return end
    if major == _TAG:
        raise InvalidFormat("tag_not_allowed", f"tag {argument} at byte {at}: tags are not spoken here", {"offset": at, "tag": argument})
    if not levels_left:
        raise _too_deep()
    if major == _ARRAY:
        return _array_end(data, end, argument, levels_left - 1)
    return _map_end(data, end, argument, levels_left - 1)


def _long_argument(data: bytes, at: int) -> tuple[int, int]:
    """Where the head at `at` ends, and the number in its 1, 2, 4 or 8 further bytes; -1 for an indefinite length."""
    head = data[at]
    size = head & 0x1F
    if size == _INDEFINITE:
        if head >> 5 in (_ARRAY, _MAP):
            return at + 1, -1
        if head >> 5 in (_BYTES, _TEXT):
            raise InvalidFormat("value_not_allowed", f"text or bytes in chunks at byte {at}", {"offset": at})
    if size > 27:
        raise _malformed(data, at)
    end = at + 1 + (1 << (size - 24))
    if end > len(data):
        raise IndexError
    return end, int.from_bytes(data[at + 1 : end], "big")


def _array_end(data: bytes, at: int, count: int, levels_left: int) -> int:
    if count < 0:
        while data[at] != _BREAK:
            at = _item_end(data, at, levels_left)
        return at + 1
    for _ in range(count):  # a count beyond the data ends with it, since every item has a byte
        at = _item_end(data, at, levels_left)
    return at


def _map_end(data: bytes, at: int, count: int, levels_left: int) -> int:
    keys = set[bytes]()
    while (len(keys) < count) if count >= 0 else (data[at] != _BREAK):
        if len(keys) == OBJECT_KEYS_MAX:
            raise _too_many_keys()
        if data[at] >> 5 != _TEXT:
            raise InvalidFormat("key_not_text", f"the key at byte {at} is no text", {"offset": at})
        end = _item_end(data, at, levels_left)
        start = at + 1 if data[at] & 0x1F < 24 else _long_argument(data, at)[0]
        key = data[start:end]
        if key in keys:
            raise _duplicate_key(key.decode(errors="replace"))
        keys.add(key)
        at = _item_end(data, end, levels_left)
    return at if count >= 0 else at + 1


def _simple_end(data: bytes, at: int) -> int:
    """The offset after a float, false, true or null; nothing else of major type 7 is allowed."""
    head = data[at]
    if head in (_FALSE, _TRUE, _NULL):
        return at + 1
    if head in _FLOATS:
        layout = _FLOATS[head]
        end = at + 1 + layout.size
        if end > len(data):
            raise IndexError
        if not isfinite(layout.unpack_from(data, at + 1)[0]):
            raise _number_out_of_range(_FLOAT_RANGE)
        return end
    if head > 0xFB or (head == 0xF8 and data[at + 1] < 32):
        raise _malformed(data, at)
    raise InvalidFormat("value_not_allowed", f"undefined or another simple value at byte {at}", {"offset": at})


def _malformed(data: bytes, at: int) -> InvalidFormat:
    return InvalidFormat("invalid_cbor", f"no value starts with 0x{data[at]:02X}, at byte {at}", {"offset": at})
