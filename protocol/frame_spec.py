"""The binary frame said once more, in Construct: oracle of the tests, source of `frame inspect` and of the protocol's documentation.

`frame.py` is what the server runs; this file is slow and readable, and shares with it only the names of the codes. `explain` takes
any bytes and says field by field what they mean and what is wrong, without stopping at the first fault.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from construct import Bytes, Const, ConstructError, Int8ub, Int16ub, OneOf, Rebuild, Struct, Terminated, len_, this

from protocol.errors import WireError
from protocol.frame import FrameType, PayloadKind
from protocol.payload import read_payload

FRAME: Final[Any] = Struct(
    "start" / Const(0xAA, Int8ub) * "start byte",
    "type" / OneOf(Int8ub, [frame_type.value for frame_type in FrameType]) * "frame type",
    "uuid" / Bytes(16) * "message UUID",
    "payload_kind" / OneOf(Int8ub, [kind.value for kind in PayloadKind]) * "payload type",
    "length" / Rebuild(Int16ub, len_(this.payload)) * "payload length",
    "payload" / Bytes(this.length) * "payload",
    Terminated,
)
"""The whole frame; parsing fails on every fault. `build` takes type, uuid, payload_kind and payload, and fills in the rest."""

_HEADER: Final[tuple[Any, ...]] = tuple(FRAME.subcons[:5])
_HEADER_BYTES: Final[int] = sum(field.sizeof() for field in _HEADER)
_PAYLOAD_KIND_OFFSET: Final[int] = sum(field.sizeof() for field in _HEADER[:3])

HEX_SHOWN_BYTES_MAX: Final = 64
"""So many bytes of a field are shown in hex; of a longer one the first of them."""
TEXT_SHOWN_CHARACTERS_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a frame as it stands in the bytes: `length` bytes from `offset`, and what they mean."""

    offset: int
    length: int
    hex: str
    name: str
    meaning: str
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What some bytes mean when read as a frame.

    fields   those that are there, in order; the last may be cut short
    payload  the payload in readable form, or why it cannot be read
    faults   everything that is wrong, in the order of the bytes; empty for a right frame with a readable payload
    """

    fields: tuple[Field, ...]
    payload: str
    faults: tuple[str, ...]

    @property
    def is_faulty(self) -> bool:
        """Whether the frame would be refused, or its payload could not be read."""
        return bool(self.faults)


def parse_frame(data: bytes) -> Any | None:
    """Read a frame by the specification: its fields, or None where `decode_frame` must raise."""
    try:
        return FRAME.parse(data)
    except ConstructError:
        return None


def build_frame(type: int, uuid: bytes, payload_kind: int, payload: bytes) -> bytes:  # noqa: A002 - the field's own name
    """Write a frame by the specification. Raises ConstructError for what no frame can hold."""
    return FRAME.build({"type": type, "uuid": uuid, "payload_kind": payload_kind, "payload": payload})


def explain(data: bytes) -> Explanation:
    """Say field by field what `data` means as a frame, and everything that is wrong with it. Never raises, whatever the bytes."""
    fields: list[Field] = []
    offset = 0
    for spec in _HEADER:
        if offset < len(data):
            fields.append(_header_field(spec, offset, data))
        offset += spec.sizeof()
    if len(data) < _HEADER_BYTES:
        shown, fault = "none: the header is not whole", f"a frame has at least {_HEADER_BYTES} bytes, this message has {len(data)}"
        faults = [field.fault for field in fields] + [fault]
    else:
        payload = data[_HEADER_BYTES:]
        shown, fault = _show_payload(data[_PAYLOAD_KIND_OFFSET], payload)
        fields.append(Field(_HEADER_BYTES, len(payload), _hex(payload), FRAME.payload.docs, _bytes(len(payload)), fault))
        faults = [field.fault for field in fields]
    return Explanation(tuple(fields), shown, tuple(fault for fault in faults if fault))


def _header_field(spec: Any, offset: int, data: bytes) -> Field:
    """One field of the header: the specification says whether its bytes are right, the length field also looks at the rest."""
    size: int = spec.sizeof()
    raw = data[offset : offset + size]
    if len(raw) < size:
        return Field(offset, len(raw), _hex(raw), spec.docs, f"cut short: {len(raw)} of {_bytes(size)}")
    try:
        spec.parse(raw)
        fault = _length_fault(raw, data) if spec.name == "length" else None
    except ConstructError:
        fault = _FAULTS[spec.name].format(code=raw[0])
    meaning = "unknown" if fault and spec.name != "length" else _MEANINGS[spec.name](raw)
    return Field(offset, size, _hex(raw), spec.docs, meaning, fault)


def _length_fault(raw: bytes, data: bytes) -> str | None:
    stated, real = int.from_bytes(raw, "big"), len(data) - _HEADER_BYTES
    return None if stated == real else f"the header states a payload of {_bytes(stated)}, the message has {real}"


_FAULTS: Final = {
    "start": "a frame starts with 0xAA, this message with 0x{code:02X}",
    "type": "0x{code:02X} is no frame type",
    "payload_kind": "0x{code:02X} is no payload type",
}

_MEANINGS: Final[dict[str, Callable[[bytes], str]]] = {
    "start": lambda raw: "start of a frame",
    "type": lambda raw: FrameType(raw[0]).name,
    "uuid": lambda raw: str(UUID(bytes=raw)),
    "payload_kind": lambda raw: PayloadKind(raw[0]).name,
    "length": lambda raw: _bytes(int.from_bytes(raw, "big")),
}


def _show_payload(kind: int, payload: bytes) -> tuple[str, str | None]:
    """The payload as a person reads it, and what is wrong with it. An unknown kind is a fault of its own field, not of the payload."""
    if kind not in list(PayloadKind):
        return "not read: its type is unknown", None
    try:
        value = read_payload(kind, payload)
    except WireError as fault:
        return f"cannot be read: {fault.message}", f"payload: {fault.message} ({fault.reason})"
    if kind == PayloadKind.BINARY:
        return _hex(payload), None
    shown = value if kind == PayloadKind.TEXT else json.dumps(value, indent=2, ensure_ascii=False, default=_show_byte_string)
    if len(shown) > TEXT_SHOWN_CHARACTERS_MAX:
        shown = f"{shown[:TEXT_SHOWN_CHARACTERS_MAX]}… ({len(shown)} characters)"
    return _printable(shown), None


def _printable(text: str) -> str:
    """What a peer wrote, harmless on a terminal: control characters as escapes."""
    return "".join(mark if mark.isprintable() or mark == "\n" else mark.encode("unicode_escape").decode() for mark in text)


def _show_byte_string(value: object) -> str:
    """CBOR holds byte strings, which JSON does not: shown in CBOR's diagnostic notation (RFC 8949 §8)."""
    if isinstance(value, bytes):
        return f"h'{_hex(value)}'"
    raise TypeError(f"no payload holds a {type(value).__name__}")


def _hex(raw: bytes) -> str:
    shown = raw[:HEX_SHOWN_BYTES_MAX].hex(" ").upper()
    return f"{shown} … ({len(raw)} bytes)" if len(raw) > HEX_SHOWN_BYTES_MAX else shown


def _bytes(count: int) -> str:
    return f"{count} byte" if count == 1 else f"{count} bytes"
