"""The struct path of the frame: golden vectors, every fault, every truncation, flip and length."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import InvalidFormat, MessageTooBig, Unsupported
from protocol.frame import (
    PAYLOAD_BYTES_MAX,
    BadStartByte,
    Frame,
    FrameFault,
    FrameLengthMismatch,
    FrameType,
    PayloadKind,
    TruncatedHeader,
    UnknownFrameType,
    UnknownPayloadKind,
    ack_type,
    decode_frame,
    encode_frame,
)
from tests.protocol.golden import HEARTBEAT, REGISTER, SEED_FRAMES, SeedFrame

each_seed_frame = pytest.mark.parametrize("seed", SEED_FRAMES, ids=lambda seed: seed.name)

UUID = bytes(range(16))


def fault_of(data: bytes) -> FrameFault:
    with pytest.raises(FrameFault) as caught:
        decode_frame(data)
    return caught.value


def frame_or_fault(data: bytes) -> Frame | FrameFault:
    try:
        return decode_frame(data)
    except FrameFault as fault:
        return fault


def header(frame_type: int = 0x04, kind: int = 0x02, length: int = 0, start: int = 0xAA) -> bytes:
    return bytes([start, frame_type]) + UUID + bytes([kind]) + length.to_bytes(2, "big")


@each_seed_frame
def test_corrected_seed_frame_is_read(seed: SeedFrame):
    assert decode_frame(seed.corrected) == Frame(seed.type, seed.uuid, 0x02, seed.payload)
    assert FrameType(seed.type).name == seed.name


@each_seed_frame
def test_corrected_seed_frame_is_written_byte_for_byte(seed: SeedFrame):
    assert encode_frame(seed.type, seed.uuid, PayloadKind.JSON, seed.payload) == seed.corrected


@pytest.mark.parametrize(("seed", "stated", "real"), list(zip(SEED_FRAMES, (24, 24, 200, 72), (27, 27, 192, 94), strict=True)))
def test_seed_frame_as_printed_is_refused_naming_both_lengths(seed: SeedFrame, stated: int, real: int):
    fault = fault_of(seed.as_printed)

    assert isinstance(fault, FrameLengthMismatch)
    assert (fault.kind.status, fault.kind.code, fault.reason) == (400, 4001, "length_mismatch")
    assert fault.message == f"the header states a payload of {stated} bytes, the message has {real}"
    assert fault.details == {"stated_length": stated, "real_length": real}
    assert (fault.uuid, fault.payload_kind, fault.frame_type) == (seed.uuid, 2, seed.type)


@pytest.mark.parametrize(
    ("data", "kind_of_fault", "reason"),
    [
        (b"", TruncatedHeader, "truncated"),
        (b"\xaa", TruncatedHeader, "truncated"),
        (header()[:20], TruncatedHeader, "truncated"),
        (b"{", BadStartByte, "bad_start_byte"),
        (header(start=0xAB), BadStartByte, "bad_start_byte"),
        (header(length=1), FrameLengthMismatch, "length_mismatch"),
        (header() + b"x", FrameLengthMismatch, "length_mismatch"),
        (header(length=PAYLOAD_BYTES_MAX), FrameLengthMismatch, "length_mismatch"),
        (header(frame_type=0x00), UnknownFrameType, "unknown_type"),
        (header(frame_type=0x7F), UnknownFrameType, "unknown_type"),
        (header(kind=0), UnknownPayloadKind, "unknown_payload_type"),
        (header(kind=6), UnknownPayloadKind, "unknown_payload_type"),
    ],
)
def test_each_fault_has_its_class_and_reason(data: bytes, kind_of_fault: type[FrameFault], reason: str):
    fault = fault_of(data)

    assert (type(fault), fault.reason) == (kind_of_fault, reason)
    assert isinstance(fault, Unsupported if kind_of_fault is UnknownPayloadKind else InvalidFormat)
    assert fault.kind.status == (415 if kind_of_fault is UnknownPayloadKind else 400)


@pytest.mark.parametrize(
    ("data", "kind_of_fault"),
    [
        (b"\x00", BadStartByte),
        (header(start=0, frame_type=0, kind=0, length=1), BadStartByte),
        (header(frame_type=0, kind=0, length=1), FrameLengthMismatch),
        (header(frame_type=0, kind=0), UnknownFrameType),
    ],
)
def test_of_several_faults_the_first_in_the_documented_order_is_told(data: bytes, kind_of_fault: type[FrameFault]):
    assert type(fault_of(data)) is kind_of_fault


@pytest.mark.parametrize("length", range(21))
def test_short_message_keeps_the_uuid_from_18_bytes_on_and_the_type_from_2_on(length: int):
    fault = fault_of(header(frame_type=0x20)[:length])

    assert fault.uuid == (UUID if length >= 18 else bytes(16))
    assert fault.frame_type == (0x20 if length >= 2 else None)
    assert fault.payload_kind == PayloadKind.JSON


def test_message_with_a_bad_start_byte_keeps_its_uuid_and_type():
    fault = fault_of(header(start=0x7B, frame_type=0x77))

    assert (fault.uuid, fault.frame_type) == (UUID, 0x77)


@pytest.mark.parametrize(
    ("data", "answer_kind"),
    [
        (header(frame_type=0x77, kind=5), 5),
        (header(frame_type=0x77, kind=2), 2),
        (header(frame_type=0x77, kind=1), 2),
        (header(frame_type=0x77, kind=3), 2),
        (header(frame_type=0x77, kind=9), 2),
        (header(kind=9), 2),
        (header(kind=5, length=1), 2),
        (header(start=0, kind=5), 2),
    ],
)
def test_error_is_answered_in_cbor_only_where_the_question_can_be_trusted_to_be_cbor(data: bytes, answer_kind: int):
    assert fault_of(data).payload_kind == answer_kind


@each_seed_frame
def test_every_truncation_is_refused(seed: SeedFrame):
    frame = seed.corrected

    for length in range(len(frame)):
        fault = fault_of(frame[:length])
        assert isinstance(fault, TruncatedHeader if length < 21 else FrameLengthMismatch)
        assert fault.uuid == (seed.uuid if length >= 18 else bytes(16))


@each_seed_frame
def test_every_single_bit_flip_is_a_right_frame_or_a_wire_error_with_the_flipped_uuid(seed: SeedFrame):
    for offset in range(len(seed.corrected)):
        for bit in range(8):
            flipped = bytearray(seed.corrected)
            flipped[offset] ^= 1 << bit
            read = frame_or_fault(bytes(flipped))
            if isinstance(read, Frame):
                assert offset not in (0, 19, 20)
                assert encode_frame(read.type, read.uuid, read.payload_kind, read.payload) == flipped
            else:
                assert offset in (0, 1, 18, 19, 20)
                assert (read.uuid, read.frame_type) == (flipped[2:18], flipped[1])


@pytest.mark.slow
def test_every_length_is_read_and_one_more_or_less_is_refused():
    """Every payload length 0 to 65,535, stated one too small, right, and one too large (H11)."""
    message = bytearray(header())
    for length in range(PAYLOAD_BYTES_MAX + 1):
        same_buffer = cast(bytes, message)  # grown in place: new bytes for each of 196,608 messages would be 6 GB of copies
        for stated in {max(length - 1, 0), min(length + 1, PAYLOAD_BYTES_MAX)} - {length}:
            message[19:21] = stated.to_bytes(2, "big")
            with pytest.raises(FrameLengthMismatch):
                decode_frame(same_buffer)
        message[19:21] = length.to_bytes(2, "big")
        assert len(decode_frame(same_buffer).payload) == length
        message.append(0x20)
    with pytest.raises(FrameLengthMismatch, match="a payload of 65535 bytes, the message has 65536"):
        decode_frame(bytes(message))


frame_types = st.sampled_from(FrameType)
payload_kinds = st.sampled_from(PayloadKind)
uuids = st.binary(min_size=16, max_size=16)


@given(frame_types, uuids, payload_kinds, st.binary(max_size=300))
def test_what_is_written_is_read_back(frame_type: FrameType, uuid: bytes, kind: PayloadKind, payload: bytes):
    assert decode_frame(encode_frame(frame_type, uuid, kind, payload)) == Frame(frame_type, uuid, kind, payload)


@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: b"\xaa" + tail))
def test_any_bytes_are_a_frame_or_a_wire_error(data: bytes):
    read = frame_or_fault(data)

    assert len(read.uuid) == 16
    if isinstance(read, Frame):
        assert encode_frame(read.type, read.uuid, read.payload_kind, read.payload) == data


def test_fields_of_a_frame_are_plain_ints_and_bytes():
    frame = decode_frame(HEARTBEAT.corrected)

    assert [type(part) for part in (frame.type, frame.uuid, frame.payload_kind, frame.payload)] == [int, bytes, int, bytes]


def test_longest_payload_is_written_and_one_byte_more_is_not():
    longest = encode_frame(FrameType.REPORT, UUID, PayloadKind.TEXT, bytes(65_535))
    assert (len(longest), longest[19:21]) == (65_556, b"\xff\xff")

    with pytest.raises(MessageTooBig, match="at most 65535 bytes, this payload has 65536") as caught:
        encode_frame(FrameType.REPORT, UUID, PayloadKind.TEXT, bytes(65_536))
    assert (caught.value.reason, caught.value.kind.status) == ("payload_too_big", 400)


@pytest.mark.parametrize("uuid", [b"", UUID[:15], UUID + b"x"])
def test_uuid_of_another_length_is_not_padded_or_cut(uuid: bytes):
    with pytest.raises(ValueError, match="16 bytes"):
        encode_frame(FrameType.HEARTBEAT, uuid, PayloadKind.JSON, b"{}")


@pytest.mark.parametrize(("frame_type", "kind"), [(0x06, 2), (-1, 2), (256, 2), (4, 0), (4, 6), (4, -1), (4, 256)])
def test_unknown_type_or_kind_is_not_written(frame_type: int, kind: int):
    with pytest.raises(ValueError, match="no frame has type"):
        encode_frame(frame_type, UUID, kind, b"")


def test_each_question_has_its_ack_and_nothing_else_has_one():
    answers = {code: ack_type(code) for code in range(256) if ack_type(code) is not None}

    assert answers == {
        0x01: 0x02,
        0x04: 0x05,
        0x20: 0x21,
        0x22: 0x23,
        0x30: 0x31,
        0x32: 0x33,
        0x34: 0x35,
        0x40: 0x41,
        0x42: 0x43,
        0x45: 0x46,
        0x50: 0x51,
        0x52: 0x53,
        0x60: 0x61,
    }
    assert all(type(answer) is int for answer in answers.values())


def test_exactly_the_codes_of_the_design_are_frame_types():
    known = [code for code in range(256) if not isinstance(frame_or_fault(header(frame_type=code)), UnknownFrameType)]

    assert known == [
        *range(0x01, 0x06),
        *range(0x10, 0x13),
        *range(0x20, 0x24),
        *range(0x30, 0x37),
        *range(0x40, 0x47),
        *range(0x50, 0x55),
        0x60,
        0x61,
        0xFF,
    ]


def test_exactly_five_payload_kinds_are_known():
    assert [kind for kind in range(256) if isinstance(frame_or_fault(header(kind=kind)), Frame)] == [1, 2, 3, 4, 5]


def test_payload_is_not_looked_at():
    assert decode_frame(encode_frame(0x20, REGISTER.uuid, 2, b"\xff not json")).payload == b"\xff not json"
