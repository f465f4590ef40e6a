"""What a peer is told that spoke badly: in which form, about which question, in which words (CONTRACT.md §2)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import protocol.dialect as dialect
from protocol.agent import HEARD
from protocol.dialect import CONSOLE_TYPES, Fault, Question
from protocol.errors import InvalidFormat, NotImplementedYet, Unsupported, WireError
from protocol.frame import FrameType, PayloadKind, decode_frame, encode_frame
from protocol.payload import read_json, read_payload, write_cbor, write_payload
from protocol.phone_commands import COMMAND_NAMES
from protocol.phone_reports import REPORT_TYPES
from tests.protocol import golden
from tests.protocol.golden import SEED_FRAMES
from tests.protocol.seed_phone_messages import report
from tests.protocol.test_agent import COMPLETE

UUID = bytes.fromhex("550e8400e29b41d4a716446655440009")
ZERO = bytes(16)
LINK_KINDS = ("phone", "agent", "console")


def frame(frame_type: int, payload: object, kind: int = PayloadKind.JSON) -> bytes:
    return encode_frame(frame_type, UUID, kind, write_payload(kind, payload))


def text(message: object) -> bytes:
    return json.dumps(message).encode()


def refused(is_text: bool, data: bytes, link_kind: str = "agent") -> WireError:
    with pytest.raises(WireError) as caught:
        dialect.decode(is_text, data, link_kind)
    return caught.value


def told(error: WireError, is_text: bool) -> bytes:
    """The ERROR for it, as the door builds it."""
    kind = error.kind
    fault = Fault(kind.status, kind.type, kind.code, error.reason, error.message, error.details)
    return dialect.error(error.question, is_text, fault)


def told_in_frame(data: bytes) -> tuple[bytes, int, Any]:
    """UUID, payload kind and object of the ERROR that answers a frame."""
    answer = decode_frame(told(refused(False, data), is_text=False))
    assert answer.type == FrameType.ERROR
    return answer.uuid, answer.payload_kind, read_payload(answer.payload_kind, answer.payload)


# refusals in the request's own answer

CLIENT_ID = "Missing or invalid 'client_id' field"
EXACT = [
    ("connect", 0x01, '{"version":"1.0.0","status":400,"message":"%s","client_id":null,"session_id":null}'),
    ("register", 0x20, '{"version":"1.0.0","status":400,"message":"%s","client_id":null,"session_id":null}'),
    ("unregister", 0x22, '{"version":"1.0.0","status":400,"message":"%s","client_id":null}'),
    (
        "webrtc_room_create",
        0x30,
        '{"version":"1.0.0","status":400,"message":"%s","room_id":null,"session_id":null,"app_id":null,"stun_url":null,'
        '"connection_info":null}',
    ),
    (
        "webrtc_room_join",
        0x32,
        '{"version":"1.0.0","status":400,"message":"%s","room_id":null,"session_id":null,"app_id":null,"stun_url":null,'
        '"connection_info":null}',
    ),
    ("webrtc_room_leave", 0x34, '{"version":"1.0.0","status":400,"message":"%s","room_id":null,"client_id":null}'),
]
REFUSED_FIELDS = [
    (name, code, expected, field)
    for name, code, expected in EXACT
    for field in ("version", "client_id", "auth_token", "room_id", "role", "capabilities", "metadata", "offer_sdp")
    if field in COMPLETE[HEARD[FrameType(code)]]
]


@pytest.mark.parametrize(("name", "code", "expected", "field"), REFUSED_FIELDS)
def test_a_request_with_a_wrong_field_is_refused_in_its_own_answer(name: str, code: int, expected: str, field: str):
    payload = {**COMPLETE[HEARD[FrameType(code)]], field: ""}
    sentence = f"Missing or invalid '{field}' field"

    for kind in (PayloadKind.JSON, PayloadKind.CBOR):
        error = refused(False, frame(code, payload, kind))
        refusal = dialect.refusal(error.question, error.kind.status, error.message)
        assert refusal is not None
        answer = decode_frame(dialect.answer(error.question, refusal))
        assert (answer.type, answer.uuid, answer.payload_kind) == (code + 1, UUID, kind)
        expected_payload = (expected % sentence).encode()
        assert answer.payload == (expected_payload if kind == PayloadKind.JSON else write_cbor(read_json(expected_payload)))

    error = refused(True, text({"type": name, "request_id": "r", "data": payload}))
    refusal = dialect.refusal(error.question, error.kind.status, error.message)
    answered = dialect.answer(error.question, refusal).decode()
    assert answered == f'{{"type":"{name}_ack","request_id":"r","data":{expected % sentence}}}'


@pytest.mark.parametrize(("name", "code", "expected"), EXACT)
def test_an_empty_or_wrongly_built_request_is_refused_in_its_own_answer_too(name: str, code: int, expected: str):
    for payload, message in (([], "the payload is no object"), ("x", "the payload is no object"), (None, "the payload is no object")):
        error = refused(False, frame(code, payload))
        refusal = dialect.refusal(error.question, 400, error.message)
        assert decode_frame(dialect.answer(error.question, refusal)).payload.decode() == expected % message
    error = refused(True, text({"type": name, "data": [1]}))
    refusal = dialect.refusal(error.question, 400, error.message)
    assert dialect.answer(error.question, refusal).decode() == f'{{"type":"{name}_ack","data":{expected % "data: Expected `object`"}}}'


@pytest.mark.parametrize(("name", "code", "expected"), EXACT)
def test_a_request_whose_payload_cannot_be_read_is_refused_by_an_error_in_json(name: str, code: int, expected: str):
    for kind, payload in ((2, b""), (2, b"{"), (2, b'{"a":1,"a":1}'), (5, b"\xff"), (3, b"hello"), (1, b"\x00"), (4, b"\x08\x01")):
        error = refused(False, encode_frame(code, UUID, kind, payload))
        assert dialect.refusal(error.question, error.kind.status, error.message) is None
        answer = decode_frame(told(error, is_text=False))
        assert (answer.type, answer.uuid, answer.payload_kind) == (0xFF, UUID, PayloadKind.JSON)
        assert read_json(answer.payload)["ref_type"] == code


@pytest.mark.parametrize("name", ["heartbeat", "sms_log", "report", "signal_offer", "token_refresh", "command_ack", "unknown"])
def test_everything_else_is_refused_by_an_error(name: str):
    assert dialect.refusal(Question(False, name, 0x04), 400, "no") is None


def test_a_refusal_of_another_status_has_the_same_shape():
    _, question = dialect.decode(False, golden.REGISTER.corrected, "agent")
    refusal = dialect.refusal(question, 409, "Client id already exists")
    assert decode_frame(dialect.answer(question, refusal)).payload == (
        b'{"version":"1.0.0","status":409,"message":"Client id already exists","client_id":null,"session_id":null}'
    )


# ERROR


def test_an_error_in_a_frame_has_the_exact_keys_of_the_contract():
    fault = Fault(429, "RATE_LIMIT_EXCEEDED", 4290, "rate_limited", "wait", {"limit": "data"}, 0.123456)
    answer = decode_frame(dialect.error(Question(False, "heartbeat", 0x04, 0x05, UUID), False, fault))
    assert (answer.type, answer.uuid, answer.payload_kind) == (0xFF, UUID, PayloadKind.JSON)
    assert answer.payload == (
        b'{"version":"1.0.0","status":429,"type":"RATE_LIMIT_EXCEEDED","code":4290,"reason":"rate_limited","message":"wait",'
        b'"ref_type":4,"details":{"limit":"data"},"retry_after_s":0.123}'
    )


def test_an_error_in_text_names_the_type_and_the_request():
    fault = Fault(501, "NOT_IMPLEMENTED", 5010, "not_implemented", "later")
    assert dialect.error(Question(True, "sms_log", "sms_log", "ack", request_id="r"), True, fault) == (
        b'{"type":"error","data":{"version":"1.0.0","status":501,"type":"NOT_IMPLEMENTED","code":5010,"reason":"not_implemented",'
        b'"message":"later","ref_type":"sms_log","request_id":"r"}}'
    )


def test_an_error_without_a_question_is_as_the_door_says():
    fault = Fault(401, "AUTHENTICATION_FAILED", 4010, "not_authenticated", "CONNECT or REGISTER first")
    assert json.loads(dialect.error(None, True, fault))["data"]["ref_type"] is None
    answer = decode_frame(dialect.error(None, False, fault))
    assert (answer.uuid, answer.payload_kind, read_json(answer.payload)["ref_type"]) == (ZERO, PayloadKind.JSON, None)


HOSTILE_DETAILS: list[Any] = [
    {"x": "y" * 70_000},
    {"x": object()},
    {"x": 2**70},
    {"x": "\ud800"},
    {str(number): number for number in range(1000)},
    {"x": {1, 2}},
]


@pytest.mark.parametrize("details", HOSTILE_DETAILS, ids=range(len(HOSTILE_DETAILS)))
@pytest.mark.parametrize("kind", [PayloadKind.JSON, PayloadKind.CBOR], ids=lambda kind: kind.name)
def test_an_error_never_fails_to_be_written(details: Any, kind: PayloadKind):
    fault = Fault(500, "INTERNAL", 5001, "internal", "\ud800" + "é" * 100_000, details, float("inf"))
    question = Question(False, "connect", 0x01, 0x02, UUID, kind)
    answer = decode_frame(dialect.error(question, False, fault))
    payload = json.loads(dialect.error(Question(True, "connect", "\u0001" * 64, request_id="\u0001" * 128), True, fault))["data"]
    assert len(answer.payload) < 4000
    assert payload["message"] == "?" + "é" * 999
    assert payload.get("details") in (None, {"x": [1, 2]})


@pytest.mark.parametrize("seed", SEED_FRAMES, ids=lambda seed: seed.name)
def test_the_frames_of_the_seed_as_printed_are_told_both_lengths(seed: golden.SeedFrame):
    uuid, kind, payload = told_in_frame(seed.as_printed)
    assert (uuid, kind) == (seed.uuid, PayloadKind.JSON)
    assert (payload["status"], payload["reason"], payload["ref_type"]) == (400, "length_mismatch", seed.type)
    assert str(seed.stated_length) in payload["message"]
    assert str(seed.real_length) in payload["message"]


FAULTY_FRAMES = [
    (b"", ZERO, None, "truncated", 400),
    (b"\xaa", ZERO, None, "truncated", 400),
    (b"\xaa\x04" + UUID[:15], ZERO, 0x04, "truncated", 400),
    (b"\xaa\x04" + UUID, UUID, 0x04, "truncated", 400),
    (b"\xab\x04" + UUID + b"\x02\x00\x00", UUID, 0x04, "bad_start_byte", 400),
    (b"\xaa\x77" + UUID + b"\x02\x00\x00", UUID, 0x77, "unknown_type", 400),
    (b"\xaa\x04" + UUID + b"\x09\x00\x00", UUID, 0x04, "unknown_payload_type", 415),
    (b"\xaa\x04" + UUID + b"\x04\x00\x00", UUID, 0x04, "protobuf_not_built", 415),
    (b"\xaa\x04" + UUID + b"\x02\x00\x00", UUID, 0x04, "invalid_json", 400),
    (b"\xaa\x40" + UUID + b"\x03\x00\x01x", UUID, 0x40, "not_an_object", 400),
    (b"\xaa\x40" + UUID + b"\x01\x00\x01x", UUID, 0x40, "not_an_object", 400),
]


@pytest.mark.parametrize(("data", "uuid", "ref_type", "reason", "status"), FAULTY_FRAMES)
def test_a_frame_that_cannot_be_read_is_answered_in_json_with_its_uuid(
    data: bytes, uuid: bytes, ref_type: int | None, reason: str, status: int
):
    answered_uuid, kind, payload = told_in_frame(data)
    assert (answered_uuid, kind) == (uuid, PayloadKind.JSON)
    assert (payload["ref_type"], payload["reason"], payload["status"]) == (ref_type, reason, status)


def test_a_wrong_object_in_cbor_is_told_in_cbor():
    uuid, kind, payload = told_in_frame(frame(0x40, {"type": "sms_log", "data": {"status": "sent"}}, PayloadKind.CBOR))
    assert (uuid, kind) == (UUID, PayloadKind.CBOR)
    assert payload == {
        "version": "1.0.0",
        "status": 400,
        "type": "INVALID_MESSAGE_FORMAT",
        "code": 4001,
        "reason": "invalid_field",
        "message": "data.phone_number: Missing required field",
        "ref_type": 0x40,
        "details": {"field": "data.phone_number"},
    }


def test_a_wrong_report_in_text_is_told_its_path_its_type_and_its_request():
    message = report("heartbeat")
    message["data"]["sim_cards"][0]["slot_index"] = "0"
    error = refused(True, text({**message, "request_id": "r-9"}), "phone")
    assert json.loads(told(error, is_text=True)) == {
        "type": "error",
        "data": {
            "version": "1.0.0",
            "status": 400,
            "type": "INVALID_MESSAGE_FORMAT",
            "code": 4001,
            "reason": "invalid_field",
            "message": "data.sim_cards[0].slot_index: Expected `int`, got `str`",
            "ref_type": "heartbeat",
            "request_id": "r-9",
            "details": {"field": "data.sim_cards[0].slot_index"},
        },
    }


def test_in_the_json_form_of_a_report_the_path_begins_at_the_envelope():
    error = refused(True, text({"type": "report", "data": {"type": "alarm", "data": {"alarm_type": "x"}}}))
    assert error.details == {"field": "data.data.alarm_type"}
    assert error.question == Question(True, "report", "report", "report_ack")


# types that are not served, not ours, or not a client's

NOT_SERVED_FRAMES = [0x45, 0x50, 0x51, 0x52, 0x53, 0x54]
FROM_SERVER_FRAMES = [0x02, 0x05, 0x21, 0x23, 0x31, 0x33, 0x35, 0x36, 0x41, 0x42, 0x46, 0x61, 0xFF]


@pytest.mark.parametrize("code", NOT_SERVED_FRAMES)
def test_frames_of_consoles_and_telemetry_are_answered_501_in_frames_and_in_text(code: int):
    name = FrameType(code).name.lower()
    for payload in (b"{}", b"", b"not json"):
        error = refused(False, encode_frame(code, UUID, 2, payload))
        assert isinstance(error, NotImplementedYet)
        assert (error.reason, error.question.name, error.question.ref_type) == ("not_implemented", name, code)
    error = refused(True, text({"type": name, "request_id": "r"}))
    assert isinstance(error, NotImplementedYet)
    assert error.question.request_id == "r"


@pytest.mark.parametrize("link_kind", LINK_KINDS)
@pytest.mark.parametrize("name", sorted(CONSOLE_TYPES))
def test_the_events_of_consoles_are_answered_501(name: str, link_kind: str):
    error = refused(True, text({"type": name, "data": {"deviceId": "d"}, "request_id": "r"}), link_kind)
    assert isinstance(error, NotImplementedYet)
    payload = json.loads(told(error, is_text=True))["data"]
    assert (payload["status"], payload["type"], payload["code"]) == (501, "NOT_IMPLEMENTED", 5010)
    assert (payload["reason"], payload["ref_type"], payload["request_id"]) == ("not_implemented", name, "r")
    assert error.question.name == name


@pytest.mark.parametrize("code", FROM_SERVER_FRAMES)
def test_what_only_the_server_says_is_refused_from_a_client(code: int):
    name = FrameType(code).name.lower()
    in_frame = refused(False, frame(code, {}))
    in_text = refused(True, text({"type": name}))
    for error in (in_frame, in_text):
        assert (error.reason, error.kind.status, error.question.name) == ("wrong_direction", 400, name)


@pytest.mark.parametrize("name", sorted({*COMMAND_NAMES.values(), "ack"}))
def test_a_command_is_refused_from_a_phone(name: str):
    error = refused(True, text({"type": name, "data": {}}), "phone")
    assert (error.reason, error.question.name) == ("wrong_direction", name)


def test_every_frame_type_is_heard_refused_or_not_served():
    assert {*HEARD, 0x40, *NOT_SERVED_FRAMES, *FROM_SERVER_FRAMES} == set(FrameType)


@pytest.mark.parametrize("link_kind", LINK_KINDS)
def test_an_unknown_type_is_answered_with_the_question_and_makes_no_metric_label(link_kind: str):
    error = refused(True, text({"type": "self_destruct", "request_id": "r"}), link_kind)
    assert isinstance(error, InvalidFormat)
    assert error.reason == "unknown_type"
    assert error.question == Question(True, "unknown", "self_destruct", request_id="r")


def test_an_unknown_type_of_a_megabyte_is_repeated_in_64_characters():
    error = refused(True, text({"type": "x" * 1_000_000}))
    assert error.question.ref_type == "x" * 64
    assert len(told(error, is_text=True)) < 600


def test_an_unknown_type_inside_a_report_frame_keeps_the_frames_name():
    error = refused(False, frame(0x40, {"type": "self_destruct"}))
    assert (error.reason, error.question.name, error.question.ref_type) == ("unknown_type", "report", 0x40)


# envelopes


@pytest.mark.parametrize(
    ("message", "reason", "field"),
    [
        ([], "not_an_object", None),
        ("heartbeat", "not_an_object", None),
        (None, "not_an_object", None),
        (7, "not_an_object", None),
        ({}, "invalid_field", "type"),
        ({"type": None}, "invalid_field", "type"),
        ({"type": 7}, "invalid_field", "type"),
        ({"type": ["heartbeat"]}, "invalid_field", "type"),
        ({"type": "heartbeat", "request_id": 7}, "invalid_field", "request_id"),
        ({"type": "heartbeat", "request_id": ""}, "invalid_field", "request_id"),
        ({"type": "heartbeat", "request_id": "r" * 129}, "invalid_field", "request_id"),
        ({"type": "heartbeat", "request_id": "a\0"}, "invalid_field", "request_id"),
        ({"type": "heartbeat", "data": []}, "invalid_field", "data"),
        ({"type": "register", "data": "x"}, "invalid_field", "data"),
        ({"type": "alarm_stopped", "data": {"timestamp": "1"}}, "invalid_field", "data.timestamp"),
        ({"type": "sms_log", "timestamp": "1"}, "invalid_field", "timestamp"),
        ({"type": "sms_log", "message_id": 1}, "invalid_field", "message_id"),
    ],
)
@pytest.mark.parametrize("link_kind", LINK_KINDS)
def test_a_wrong_envelope_is_told_what_is_wrong_with_it(message: object, reason: str, field: str | None, link_kind: str):
    error = refused(True, text(message), link_kind)
    assert error.reason == reason
    assert (error.details or {}).get("field") == field


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"type":"heartbeat","type":"alarm"}', b"[" * 10_000, b'{"a":' * 10_000, b"NaN"])
def test_text_that_is_no_json_is_refused_without_a_question(data: bytes):
    error = refused(True, data)
    assert error.question is None
    assert json.loads(told(error, is_text=True))["data"]["ref_type"] is None


@pytest.mark.parametrize("depth", [31, 10_000])
@pytest.mark.parametrize("kind", [PayloadKind.JSON, PayloadKind.CBOR], ids=lambda kind: kind.name)
def test_deep_nesting_is_refused_before_it_is_walked(depth: int, kind: PayloadKind):
    if kind == PayloadKind.JSON:
        payload = b'{"type":"alarm","data":{"x":' + b"[" * depth + b"]" * depth + b"}}"
    else:
        payload = b"\xa2\x64type\x65alarm\x64data\xa1\x61x" + b"\x81" * depth + b"\x80"
    error = refused(False, encode_frame(0x40, UUID, kind, payload))
    assert (error.reason, error.question.is_read) == ("too_deep", False)


def test_protobuf_is_unsupported_and_the_question_is_known():
    error = refused(False, encode_frame(0x20, UUID, PayloadKind.PROTOBUF, b"\x08\x01"))
    assert isinstance(error, Unsupported)
    assert error.question == Question(False, "register", 0x20, 0x21, UUID, PayloadKind.JSON, is_read=False)


# whatever comes


def hear_anything(is_text: bool, data: bytes, link_kind: str) -> None:
    """A message or a WireError, whose answer can be written: nothing else may happen."""
    try:
        _, question = dialect.decode(is_text, data, link_kind)
    except WireError as error:
        answer = told(error, is_text)
    else:
        assert question.name != "unknown"
        answer = dialect.error(question, is_text, Fault(500, "INTERNAL", 5001, "internal", "x"))
    if is_text:
        message = json.loads(answer)
        assert message["type"] == "error"
        payload = message["data"]
    else:
        read = decode_frame(answer)
        assert read.type == FrameType.ERROR
        payload = read_payload(read.payload_kind, read.payload)
    assert len(str(payload["ref_type"])) <= 64


@given(st.booleans(), st.binary(max_size=200), st.sampled_from(LINK_KINDS))
def test_any_bytes_are_heard_or_refused(is_text: bool, data: bytes, link_kind: str):
    hear_anything(is_text, data, link_kind)


@given(
    st.sampled_from(FrameType),
    st.sampled_from(PayloadKind),
    st.binary(max_size=100) | st.sampled_from([json.dumps(payload).encode() for payload in COMPLETE.values()]),
)
def test_any_payload_in_any_frame_is_heard_or_refused(frame_type: FrameType, kind: PayloadKind, payload: bytes):
    hear_anything(False, encode_frame(frame_type, UUID, kind, payload), "agent")


@pytest.mark.parametrize("seed", SEED_FRAMES, ids=lambda seed: seed.name)
def test_every_truncation_and_every_flipped_bit_of_a_golden_frame_is_heard_or_refused(seed: golden.SeedFrame):
    data = seed.corrected
    for length in range(len(data)):
        hear_anything(False, data[:length], "agent")
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        hear_anything(False, bytes(flipped), "agent")


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
_types = st.sampled_from([*sorted(REPORT_TYPES | CONSOLE_TYPES), *(kind.name.lower() for kind in FrameType)]) | st.text(max_size=12)
_envelopes = st.fixed_dictionaries(
    {"type": _types | _json},
    optional={"data": _json, "timestamp": _json, "message_id": _json, "request_id": _json},
)


@given(_envelopes, st.sampled_from(LINK_KINDS))
def test_any_envelope_is_heard_or_refused(envelope: dict[str, Any], link_kind: str):
    hear_anything(True, text(envelope), link_kind)
    hear_anything(False, frame(0x40, envelope), link_kind)
    hear_anything(False, frame(0x40, envelope, PayloadKind.CBOR), link_kind)
