"""The Construct specification: in step with the struct path on any bytes, and able to explain any of them."""

import pytest
from construct import ConstructError
from hypothesis import given
from hypothesis import strategies as st

from protocol.frame import FrameFault, FrameType, PayloadKind, decode_frame, encode_frame
from protocol.frame_spec import TEXT_SHOWN_CHARACTERS_MAX, Field, build_frame, explain, parse_frame
from protocol.payload import write_cbor
from tests.protocol.golden import HEARTBEAT, REGISTER, SEED_FRAMES, SeedFrame

UUID = bytes(range(16))


@st.composite
def almost_frames(draw: st.DrawFn) -> bytes:
    """Bytes that are often a frame, and else wrong in one or two fields."""
    payload = draw(st.binary(max_size=40))
    length = len(payload) if draw(st.integers(0, 3)) else draw(st.integers(0, 65_535))
    start = 0xAA if draw(st.integers(0, 5)) else draw(st.integers(0, 255))
    frame_type = draw(st.sampled_from(FrameType) | st.integers(0, 255))
    kind = draw(st.integers(1, 5) | st.integers(0, 255))
    return bytes([start, frame_type]) + draw(st.binary(min_size=16, max_size=16)) + bytes([kind]) + length.to_bytes(2, "big") + payload


any_bytes = st.binary(max_size=80) | almost_frames()


def agree(data: bytes) -> bool:
    """Whether struct path and specification both refuse `data`, or both read the same fields from it."""
    parsed = parse_frame(data)
    try:
        frame = decode_frame(data)
    except FrameFault:
        return parsed is None
    return parsed is not None and (frame.type, frame.uuid, frame.payload_kind, frame.payload) == (
        parsed.type,
        parsed.uuid,
        parsed.payload_kind,
        parsed.payload,
    )


@given(any_bytes)
def test_both_paths_accept_the_same_bytes_and_read_the_same_fields(data: bytes):
    assert agree(data)


def test_both_paths_agree_on_every_type_kind_and_start_byte():
    for code in range(256):
        assert agree(bytes([0xAA, code]) + UUID + b"\x02\x00\x00")
        assert agree(b"\xaa\x04" + UUID + bytes([code]) + b"\x00\x00")
        assert agree(bytes([code, 0x04]) + UUID + b"\x02\x00\x00")


@pytest.mark.parametrize("seed", SEED_FRAMES, ids=lambda seed: seed.name)
def test_both_paths_agree_on_every_truncation_and_flip_of_the_golden_frames(seed: SeedFrame):
    assert parse_frame(seed.corrected) is not None
    assert parse_frame(seed.as_printed) is None
    for offset in range(len(seed.corrected)):
        assert agree(seed.corrected[:offset])
        for bit in range(8):
            flipped = bytearray(seed.corrected)
            flipped[offset] ^= 1 << bit
            assert agree(bytes(flipped))


@given(st.sampled_from(FrameType), st.binary(min_size=16, max_size=16), st.sampled_from(PayloadKind), st.binary(max_size=300))
def test_both_paths_write_the_same_bytes(frame_type: FrameType, uuid: bytes, kind: PayloadKind, payload: bytes):
    assert build_frame(frame_type, uuid, kind, payload) == encode_frame(frame_type, uuid, kind, payload)


@pytest.mark.parametrize(("frame_type", "uuid", "kind"), [(0x06, UUID, 2), (0x04, UUID[:15], 2), (0x04, UUID, 6)])
def test_specification_builds_no_wrong_frame(frame_type: int, uuid: bytes, kind: int):
    with pytest.raises(ConstructError):
        build_frame(frame_type, uuid, kind, b"")


def test_right_frame_is_explained_field_by_field():
    explanation = explain(HEARTBEAT.corrected)

    assert explanation.fields == (
        Field(0, 1, "AA", "start byte", "start of a frame"),
        Field(1, 1, "04", "frame type", "HEARTBEAT"),
        Field(2, 16, "55 0E 84 00 E2 9B 41 D4 A7 16 44 66 55 44 00 02", "message UUID", "550e8400-e29b-41d4-a716-446655440002"),
        Field(18, 1, "02", "payload type", "JSON"),
        Field(19, 2, "00 1B", "payload length", "27 bytes"),
        Field(21, 27, "7B 22 74 69 6D 65 73 74 61 6D 70 22 3A 31 37 30 34 30 36 37 32 30 30 30 30 30 7D", "payload", "27 bytes"),
    )
    assert explanation.payload == '{\n  "timestamp": 1704067200000\n}'
    assert (explanation.faults, explanation.is_faulty) == ((), False)


def test_seed_frame_as_printed_is_explained_with_both_lengths_and_its_payload():
    explanation = explain(REGISTER.as_printed)

    assert explanation.is_faulty
    assert explanation.faults == ("the header states a payload of 200 bytes, the message has 192",)
    assert explanation.fields[4].fault == explanation.faults[0]
    assert '"client_id": "unique_client_identifier"' in explanation.payload
    assert explanation.fields[5].hex.endswith("… (192 bytes)")


def test_every_fault_of_a_frame_is_told_in_the_order_of_its_bytes():
    explanation = explain(b"\xab\x77" + UUID + b"\x02\x00\x05{]")

    assert explanation.faults == (
        "a frame starts with 0xAA, this message with 0xAB",
        "0x77 is no frame type",
        "the header states a payload of 5 bytes, the message has 2",
        "payload: JSON is malformed: object keys must be strings (byte 1) (invalid_json)",
    )
    assert explanation.payload == "cannot be read: JSON is malformed: object keys must be strings (byte 1)"


def test_unknown_payload_type_is_one_fault_and_the_payload_is_not_read():
    explanation = explain(b"\xaa\x04" + UUID + b"\x09\x00\x01x")

    assert explanation.faults == ("0x09 is no payload type",)
    assert explanation.payload == "not read: its type is unknown"


@pytest.mark.parametrize("length", range(21))
def test_truncated_header_is_explained_as_far_as_it_goes(length: int):
    explanation = explain(HEARTBEAT.corrected[:length])

    assert sum(field.length for field in explanation.fields) == length
    assert explanation.faults == (f"a frame has at least 21 bytes, this message has {length}",)
    if length in (5, 20):
        assert explanation.fields[-1].meaning == {5: "cut short: 3 of 16 bytes", 20: "cut short: 1 of 2 bytes"}[length]


@pytest.mark.parametrize(
    ("kind", "payload", "shown", "is_faulty"),
    [
        (PayloadKind.JSON, b'{"a":"\xc3\xa9"}', '{\n  "a": "é"\n}', False),
        (
            PayloadKind.CBOR,
            write_cbor({"a": b"\x01\xff", "b": [None, 1.5]}),
            '{\n  "a": "h\'01 FF\'",\n  "b": [\n    null,\n    1.5\n  ]\n}',
            False,
        ),
        (PayloadKind.CBOR, b"\xa1\x01\x02", "cannot be read: the key at byte 1 is no text", True),
        (PayloadKind.TEXT, b"good\nday", "good\nday", False),
        (PayloadKind.TEXT, b"\x1b[2Jgone", "\\x1b[2Jgone", False),
        (PayloadKind.TEXT, b"a\xff", "cannot be read: the text is not UTF-8 at byte 1", True),
        (PayloadKind.BINARY, b"\x00\x1b", "00 1B", False),
        (PayloadKind.PROTOBUF, b"", "cannot be read: payloads of type PROTOBUF are not spoken here: use JSON or CBOR", True),
    ],
)
def test_payload_is_shown_readable_and_harmless(kind: PayloadKind, payload: bytes, shown: str, is_faulty: bool):
    explanation = explain(encode_frame(FrameType.REPORT, UUID, kind, payload))

    assert (explanation.payload, explanation.is_faulty) == (shown, is_faulty)


def test_long_payload_is_shown_up_to_its_limit():
    explanation = explain(encode_frame(FrameType.REPORT, UUID, PayloadKind.TEXT, b"x" * 30_000))

    assert explanation.payload == "x" * TEXT_SHOWN_CHARACTERS_MAX + "… (30000 characters)"


@given(any_bytes)
def test_any_bytes_are_explained_and_faulty_exactly_where_frame_or_payload_is_refused(data: bytes):
    explanation = explain(data)

    payload_faults = [fault for fault in explanation.faults if fault.startswith("payload: ")]
    assert (len(explanation.faults) > len(payload_faults)) == (parse_frame(data) is None)
    assert sum(field.length for field in explanation.fields) == len(data)
    assert [field.offset for field in explanation.fields] == sorted({field.offset for field in explanation.fields})
