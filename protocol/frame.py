"""The binary frame: bytes to header fields and payload, and back (seed 003, "Message Protocol"; DESIGN.md §6).

This is the struct fast path that every binary message takes. `protocol/frame_spec.py` says the same in Construct, slowly and in
words; the tests hold the two against each other.
"""

from collections.abc import Mapping
from enum import IntEnum
from struct import Struct
from struct import error as StructError  # noqa: N812 - a class, which struct spells in lower case
from typing import Final

import msgspec

from protocol.errors import InvalidFormat, MessageTooBig, Unsupported, WireError

START_BYTE: Final = 0xAA
HEADER_BYTES: Final = 21
UUID_BYTES: Final = 16
PAYLOAD_BYTES_MAX: Final = 65_535
UUID_END: Final = 18
"""A message of at least so many bytes names its UUID, whatever else is wrong with it."""
ZERO_UUID: Final = bytes(UUID_BYTES)

_HEADER: Final = Struct(">BB16sBH")


class FrameType(IntEnum):
    """What a frame says: seed 003 up to 0x35 and 0xFF, our own range between (DESIGN.md §6)."""

    CONNECT = 0x01
    CONNECT_ACK = 0x02
    DISCONNECT = 0x03
    HEARTBEAT = 0x04
    HEARTBEAT_ACK = 0x05

    SIGNAL_OFFER = 0x10
    SIGNAL_ANSWER = 0x11
    SIGNAL_ICE_CANDIDATE = 0x12

    REGISTER = 0x20
    REGISTER_ACK = 0x21
    UNREGISTER = 0x22
    UNREGISTER_ACK = 0x23

    WEBRTC_ROOM_CREATE = 0x30
    WEBRTC_ROOM_CREATE_ACK = 0x31
    WEBRTC_ROOM_JOIN = 0x32
    WEBRTC_ROOM_JOIN_ACK = 0x33
    WEBRTC_ROOM_LEAVE = 0x34
    WEBRTC_ROOM_LEAVE_ACK = 0x35
    ROOM_EVENT = 0x36

    REPORT = 0x40
    REPORT_ACK = 0x41
    COMMAND = 0x42
    COMMAND_ACK = 0x43
    COMMAND_RESULT = 0x44
    TELEMETRY = 0x45
    TELEMETRY_ACK = 0x46

    SUBSCRIBE = 0x50
    SUBSCRIBE_ACK = 0x51
    UNSUBSCRIBE = 0x52
    UNSUBSCRIBE_ACK = 0x53
    EVENT = 0x54

    TOKEN_REFRESH = 0x60
    TOKEN_REFRESH_ACK = 0x61

    ERROR = 0xFF


class PayloadKind(IntEnum):
    """How the payload of a frame is written (S-07). JSON and CBOR carry the same objects."""

    BINARY = 0x01
    JSON = 0x02
    TEXT = 0x03
    PROTOBUF = 0x04
    CBOR = 0x05


_IS_TYPE: Final = bytes(code in FrameType.__members__.values() for code in range(256))
"""1 at every code that a frame may have: an index costs a tenth of making a FrameType."""
_IS_KIND: Final = bytes(code in PayloadKind.__members__.values() for code in range(256))

_ACK_TYPES: Final[Mapping[int, int]] = {
    question: FrameType[f"{question.name}_ACK"].value for question in FrameType if f"{question.name}_ACK" in FrameType.__members__
}


def ack_type(frame_type: int) -> int | None:
    """The frame type that answers `frame_type`, such as 0x21 for REGISTER (0x20); None where nothing does."""
    return _ACK_TYPES.get(frame_type)


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame as it was read. `type` is a code of FrameType and `payload_kind` one of PayloadKind, both plain ints."""

    type: int
    uuid: bytes
    payload_kind: int
    payload: bytes


class FrameFault(WireError):
    """A frame that cannot be read, with what its ERROR answer needs (CONTRACT.md §2).

    uuid          the frame's own, or 16 zero bytes when the message is shorter than 18 bytes
    payload_kind  in which to answer: the frame's own where its layout holds and the kind carries objects, else JSON
    frame_type    the code that the frame states, known here or not; None when the message is shorter than 2 bytes
    """

    uuid: bytes = ZERO_UUID
    payload_kind: int = PayloadKind.JSON.value
    frame_type: int | None = None


class BadStartByte(FrameFault, InvalidFormat):
    """The first byte is not 0xAA."""

    def __init__(self, start: int) -> None:
        super().__init__(
            "bad_start_byte",
            f"a frame starts with 0xAA, this message with 0x{start:02X}",
            {"expected": START_BYTE, "found": start},
        )


class TruncatedHeader(FrameFault, InvalidFormat):
    """Fewer bytes than a header has."""

    def __init__(self, message_bytes: int) -> None:
        super().__init__(
            "truncated",
            f"a frame has at least {HEADER_BYTES} bytes, this message has {message_bytes}",
            {"bytes_min": HEADER_BYTES, "bytes": message_bytes},
        )


class FrameLengthMismatch(FrameFault, InvalidFormat):
    """The header states another payload length than the message has; no guess is made which of them is right (C-01)."""

    def __init__(self, stated: int, real: int) -> None:
        super().__init__(
            "length_mismatch",
            f"the header states a payload of {stated} bytes, the message has {real}",
            {"stated_length": stated, "real_length": real},
        )


class UnknownFrameType(FrameFault, InvalidFormat):
    """A frame type that the protocol does not have."""

    def __init__(self, frame_type: int) -> None:
        super().__init__("unknown_type", f"0x{frame_type:02X} is no frame type", {"frame_type": frame_type})


class UnknownPayloadKind(FrameFault, Unsupported):
    """A payload kind that the protocol does not have (415)."""

    def __init__(self, payload_kind: int) -> None:
        super().__init__("unknown_payload_type", f"0x{payload_kind:02X} is no payload type", {"payload_type": payload_kind})


def decode_frame(data: bytes) -> Frame:
    """Read one binary frame, which fills `data` exactly: one WebSocket message is one frame.

    Layout, big-endian (seed 003, "Message Protocol"):
        0      start byte, always 0xAA
        1      frame type                     FrameType
        2..17  message UUID, 16 bytes         an answer repeats its question's
        18     payload kind                   PayloadKind
        19..20 payload length N in bytes      0..65_535
        21..   payload, N bytes

    Raises BadStartByte, TruncatedHeader, FrameLengthMismatch, UnknownFrameType (400) or UnknownPayloadKind (415), looked for in
    this order; each is a FrameFault. The payload itself is not looked at.
    """
    try:
        start, frame_type, uuid, payload_kind, length = _HEADER.unpack_from(data)
    except StructError:
        raise _fault_of(data) from None
    if start == START_BYTE and length + HEADER_BYTES == len(data) and _IS_TYPE[frame_type] and _IS_KIND[payload_kind]:
        return Frame(frame_type, uuid, payload_kind, data[HEADER_BYTES:])
    raise _fault_of(data)


def encode_frame(type: int, uuid: bytes, payload_kind: int, payload: bytes) -> bytes:  # noqa: A002 - the field's own name
    """Write one frame, the inverse of `decode_frame`.

    Raises MessageTooBig when the payload does not fit the two bytes of its length: what is relayed may be longer. A type, kind or
    UUID that no frame can have is a mistake of the caller: ValueError.
    """
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise MessageTooBig(
            "payload_too_big",
            f"a frame carries at most {PAYLOAD_BYTES_MAX} bytes, this payload has {len(payload)}",
            {"bytes_max": PAYLOAD_BYTES_MAX, "bytes": len(payload)},
        )
    if len(uuid) != UUID_BYTES:  # struct would pad or cut it without a word
        raise ValueError(f"a frame's UUID has {UUID_BYTES} bytes, not {len(uuid)}")
    if not (0 <= type <= 255 and _IS_TYPE[type] and 0 <= payload_kind <= 255 and _IS_KIND[payload_kind]):
        raise ValueError(f"no frame has type {type:#04x} and payload kind {payload_kind:#04x}")
    return _HEADER.pack(START_BYTE, type, uuid, payload_kind, len(payload)) + payload


def _fault_of(data: bytes) -> FrameFault:
    """Say what is wrong with `data`, which is no frame, and keep what its answer needs."""
    fault = _first_fault(data)
    if len(data) >= UUID_END:
        fault.uuid = bytes(data[2:UUID_END])
    if len(data) >= 2:
        fault.frame_type = data[1]
    # Only a right layout makes byte 18 a payload kind, and only JSON and CBOR can carry the object of an ERROR.
    if isinstance(fault, UnknownFrameType) and data[18] == PayloadKind.CBOR:
        fault.payload_kind = PayloadKind.CBOR.value
    return fault


def _first_fault(data: bytes) -> FrameFault:
    if data and data[0] != START_BYTE:
        return BadStartByte(data[0])
    if len(data) < HEADER_BYTES:
        return TruncatedHeader(len(data))
    _, frame_type, _, payload_kind, length = _HEADER.unpack_from(data)
    if length != len(data) - HEADER_BYTES:
        return FrameLengthMismatch(length, len(data) - HEADER_BYTES)
    if not _IS_TYPE[frame_type]:
        return UnknownFrameType(frame_type)
    return UnknownPayloadKind(payload_kind)
