"""One socket message in and out: text and frames, JSON and CBOR say the same, and an answer looks like its question."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import protocol.dialect as dialect
import protocol.plain as plain
from protocol.agent import (
    HEARD,
    ConnectAck,
    Disconnect,
    Heartbeat,
    HeartbeatAck,
    Register,
    RegisterAck,
    ReportAck,
    RoomEvent,
    SignalOffer,
    Unregister,
    UnregisterAck,
)
from protocol.dialect import Question
from protocol.errors import MessageTooBig, WireError
from protocol.frame import FrameType, PayloadKind, decode_frame, encode_frame
from protocol.payload import read_payload, write_payload
from protocol.phone_commands import SendSms, SendSmsData
from protocol.phone_reports import HeartbeatData, PhoneReport
from tests.protocol import golden
from tests.protocol.seed_phone_messages import REPORTS, report
from tests.protocol.test_agent import COMPLETE

UUID = bytes.fromhex("550e8400e29b41d4a716446655440009")
ZERO = bytes(16)
OBJECT_KINDS = (PayloadKind.JSON, PayloadKind.CBOR)
each_object_kind = pytest.mark.parametrize("kind", OBJECT_KINDS, ids=lambda kind: kind.name)


def frame(frame_type: int, payload: object, kind: int = PayloadKind.JSON) -> bytes:
    return encode_frame(frame_type, UUID, kind, write_payload(kind, payload))


def text(message: object) -> bytes:
    return json.dumps(message).encode()


def opened(answer: bytes) -> tuple[int, bytes, int, Any]:
    """Type, UUID, payload kind and object of a frame."""
    read = decode_frame(answer)
    return read.type, read.uuid, read.payload_kind, read_payload(read.payload_kind, read.payload)


# plain heartbeats


def frames_like_a_beat() -> st.SearchStrategy[bytes]:
    """HEARTBEAT frames, plain and not, right and nearly right."""
    number = st.integers(-(10**20), 10**20).map(lambda value: b"%d" % value) | st.sampled_from(
        [b"0", b"00", b"01", b"1.0", b"1e3", b"", b"-0"]
    )
    plain = st.builds(lambda digits: b'{"timestamp":%b}' % digits, number)
    spaced = st.builds(lambda digits: b'{"timestamp": %b}' % digits, number)
    payload = plain | spaced | st.sampled_from([b'{"timestamp":1,"timestamp":2}', b'{"timestamp":1}\n', b'{"timestamp":"1"}', b"{}", b""])
    frame_type = st.just(0x04) | st.sampled_from([0x05, 0x40])
    kind = st.just(2) | st.sampled_from([1, 5])
    off = st.just(0) | st.sampled_from([-1, 1, 256])

    def build(frame_type: int, uuid: bytes, kind: int, payload: bytes, off: int) -> bytes:
        return bytes((0xAA, frame_type)) + uuid + bytes((kind,)) + max(0, len(payload) + off).to_bytes(2, "big") + payload

    return st.builds(build, frame_type, st.binary(min_size=16, max_size=16), kind, payload, off)


@given(frames_like_a_beat())
def test_the_short_way_of_a_plain_heartbeat_says_what_the_long_one_says(data: bytes):
    ack = plain.BEAT_ACK_BEGINS + data[2:] if plain.is_plain_beat(data) else None
    try:
        message, question = dialect.decode(False, data, "agent")
    except WireError:
        assert ack is None
        return
    if ack is not None:
        assert isinstance(message, Heartbeat)
        assert ack == dialect.answer(question, HeartbeatAck(timestamp=message.timestamp))


def test_the_heartbeats_of_the_seed_take_the_short_way():
    assert plain.is_plain_beat(golden.HEARTBEAT.corrected)
    assert not plain.is_plain_beat(golden.HEARTBEAT.corrected + b" ")


# the seed's frames


def test_the_corrected_heartbeat_of_the_seed_is_heard_and_answered_with_its_own_timestamp():
    message, question = dialect.decode(False, golden.HEARTBEAT.corrected, "agent")
    assert message == Heartbeat(timestamp=1704067200000)
    answered = dialect.answer(question, HeartbeatAck(timestamp=1704067200000))
    assert answered == bytes([0xAA, 0x05]) + golden.HEARTBEAT.corrected[2:]


def test_the_corrected_register_of_the_seed_is_heard_and_answered():
    message, question = dialect.decode(False, golden.REGISTER.corrected, "agent")
    assert message == Register(
        version="1.0.0",
        client_id="unique_client_identifier",
        auth_token="authentication_token",
        capabilities=["websocket", "heartbeat", "webrtc"],
        metadata={"platform": "web", "version": "1.0.0"},
    )
    answer = RegisterAck(status=200, message="Registration successful", client_id="unique_client_identifier", session_id="s")
    assert opened(dialect.answer(question, answer)) == (
        0x21,
        golden.REGISTER.uuid,
        0x02,
        {
            "version": "1.0.0",
            "status": 200,
            "message": "Registration successful",
            "client_id": "unique_client_identifier",
            "session_id": "s",
        },
    )


def test_the_corrected_unregister_of_the_seed_is_heard():
    message, question = dialect.decode(False, golden.UNREGISTER.corrected, "agent")
    assert isinstance(message, Unregister)
    assert (question.name, question.ref_type, question.answer_type) == ("unregister", 0x22, 0x23)


# heartbeats: one word, two meanings


def test_a_heartbeat_in_json_is_a_report_where_a_phone_says_it_and_an_agents_elsewhere():
    said = {"type": "heartbeat", "request_id": "r", "data": {"timestamp": 7, "battery_level": 85}}
    from_phone, _ = dialect.decode(True, text(said), "phone")
    assert isinstance(from_phone, PhoneReport)
    assert from_phone.data == HeartbeatData(battery_level=85)
    for kind in ("agent", "console"):
        message, question = dialect.decode(True, text(said), kind)
        assert message == Heartbeat(timestamp=7)
        assert dialect.answer(question, HeartbeatAck(timestamp=7)) == b'{"type":"heartbeat_ack","request_id":"r","data":{"timestamp":7}}'


@pytest.mark.parametrize("link_kind", ["phone", "agent"])
def test_in_frames_the_two_heartbeats_are_two_types_whoever_says_them(link_kind: str):
    assert dialect.decode(False, frame(0x04, {"timestamp": 7}), link_kind)[0] == Heartbeat(timestamp=7)
    message, question = dialect.decode(False, frame(0x40, report("heartbeat")), link_kind)
    assert isinstance(message, PhoneReport)
    assert (question.name, question.ref_type, question.answer_type) == ("heartbeat", 0x40, 0x41)


PLAIN = [0, 1, 9, 10, 1704067200000, 10**19 - 1]
OTHER = ["-1", "18446744073709551615", "-9223372036854775808"]
NOT = ["01", "1.0", "1e3", "true", "null", '"1"', "[1]", "18446744073709551616", "99999999999999999999", "", "-", "+1", "0x1"]


@pytest.mark.parametrize("number", [str(number) for number in PLAIN] + OTHER)
@pytest.mark.parametrize(
    "form", ['{"timestamp":%s}', '{ "timestamp" : %s }\n', '{"timestamp":%s,"version":"1.0.0"}', '{"\\u0074imestamp":%s}']
)
def test_a_heartbeat_repeats_any_whole_number_of_64_bits_however_it_is_written(number: str, form: str):
    message, question = dialect.decode(False, encode_frame(0x04, UUID, 2, (form % number).encode()), "agent")
    assert message == Heartbeat(timestamp=int(number))
    assert decode_frame(dialect.answer(question, HeartbeatAck(timestamp=int(number)))).payload == b'{"timestamp":%s}' % number.encode()


@pytest.mark.parametrize("number", NOT)
def test_a_heartbeat_with_anything_else_is_refused(number: str):
    with pytest.raises(WireError) as caught:
        dialect.decode(False, encode_frame(0x04, UUID, 2, b'{"timestamp":%s}' % number.encode()), "agent")
    assert caught.value.question == Question(False, "heartbeat", 0x04, 0x05, UUID, 2, is_read=caught.value.reason == "invalid_field")


@given(st.binary(max_size=40) | st.integers(-(2**70), 2**70).map(lambda number: b'{"timestamp":%d}' % number))
def test_the_short_way_of_a_heartbeat_judges_as_the_long_way_does(payload: bytes):
    def heard(data: bytes) -> object:
        try:
            return dialect.decode(False, encode_frame(0x04, UUID, 2, data), "agent")[0]
        except WireError as error:
            return error.reason

    assert heard(payload) == heard(payload + b" ")


def test_a_heartbeat_in_cbor_is_answered_in_cbor():
    _, question = dialect.decode(False, frame(0x04, {"timestamp": 7}, PayloadKind.CBOR), "agent")
    assert opened(dialect.answer(question, HeartbeatAck(timestamp=7))) == (0x05, UUID, PayloadKind.CBOR, {"timestamp": 7})


# the same meaning in every form


@pytest.mark.parametrize("frame_type", HEARD, ids=lambda frame_type: frame_type.name)
def test_an_agents_message_means_the_same_in_json_in_cbor_and_as_text(frame_type: FrameType):
    payload = COMPLETE[HEARD[frame_type]]
    name = frame_type.name.lower()
    in_json, json_question = dialect.decode(False, frame(frame_type, payload), "agent")
    in_cbor, cbor_question = dialect.decode(False, frame(frame_type, payload, PayloadKind.CBOR), "agent")
    in_text, text_question = dialect.decode(True, text({"type": name, "request_id": "r", "data": payload}), "agent")
    assert type(in_json) is HEARD[frame_type]
    assert in_json == in_cbor == in_text
    assert {json_question.name, cbor_question.name, text_question.name} == {name}
    assert {json_question.rate_class, cbor_question.rate_class, text_question.rate_class} == {json_question.rate_class}
    assert (json_question.frame_type, text_question.frame_type) == (frame_type, None)


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_means_the_same_in_json_in_cbor_and_as_text(name: str):
    message = report(name)
    forms = [
        dialect.decode(True, text(message), "phone"),
        dialect.decode(False, frame(0x40, message), "agent"),
        dialect.decode(False, frame(0x40, message, PayloadKind.CBOR), "agent"),
        dialect.decode(True, text({"type": "report", "data": message}), "agent"),
    ]
    assert {question.name for _, question in forms} == {name}
    assert {question.rate_class for _, question in forms} == {"data"}
    assert [question.ref_type for _, question in forms] == [name, 0x40, 0x40, "report"]
    assert [question.answer_type for _, question in forms] == ["ack", 0x41, 0x41, "report_ack"]
    assert all(read == forms[0][0] for read, _ in forms)


_json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_data_of_any = st.sampled_from([report(name)["data"] for name in REPORTS])


@settings(max_examples=40)
@given(st.sampled_from(sorted(REPORTS)), _data_of_any, st.dictionaries(st.text(max_size=8), _json_values, max_size=4), st.data())
def test_whatever_a_report_holds_json_cbor_and_text_agree_on_it(
    name: str, base: dict[str, Any], extra: dict[str, Any], choice: st.DataObject
):
    data = {**base, **extra}
    for field in choice.draw(st.lists(st.sampled_from(sorted(base)), max_size=2)):
        data[field] = choice.draw(_json_values)
    message = {"type": name, "data": data}

    def heard(is_text: bool, payload: bytes) -> object:
        try:
            return msgspec.to_builtins(dialect.decode(is_text, payload, "phone")[0])
        except WireError as error:
            return error.reason, error.message

    in_text = heard(True, msgspec.json.encode(message))
    assert in_text == heard(False, frame(0x40, message)) == heard(False, frame(0x40, message, PayloadKind.CBOR))


def test_a_byte_string_in_cbor_is_the_base64_text_that_it_would_be_in_json():
    message = {"type": "alarm", "data": {"alarm_type": "offline", "vendor": b"\x00\xff"}}
    read, _ = dialect.decode(False, frame(0x40, message, PayloadKind.CBOR), "agent")
    assert isinstance(read, PhoneReport)
    assert read.raw == {"alarm_type": "offline", "vendor": "AP8="}


def test_each_message_draws_from_the_bucket_of_its_class():
    classes = {
        frame_type.name: dialect.decode(False, frame(frame_type, COMPLETE[shape]), "agent")[1].rate_class
        for frame_type, shape in HEARD.items()
    }
    signals = {"SIGNAL_OFFER", "SIGNAL_ANSWER", "SIGNAL_ICE_CANDIDATE"}
    assert {name for name, rate_class in classes.items() if rate_class == "signal"} == signals
    assert {name for name, rate_class in classes.items() if rate_class == "data"} == {"HEARTBEAT", "COMMAND_ACK", "COMMAND_RESULT"}
    assert set(classes.values()) == {"data", "control", "signal"}


# answers


@each_object_kind
def test_a_frames_answer_repeats_uuid_and_payload_kind(kind: PayloadKind):
    _, question = dialect.decode(False, frame(0x01, {"client_id": "c", "auth_token": "t"}, kind), "agent")
    answered = dialect.answer(question, ConnectAck(status=200, message="Connected", client_id="c", session_id="s"))
    expected = {"version": "1.0.0", "status": 200, "message": "Connected", "client_id": "c", "session_id": "s"}
    assert opened(answered) == (0x02, UUID, kind, expected)


def test_every_message_with_an_acknowledgement_is_answered_by_its_own():
    answers: dict[str, Any] = {}
    for frame_type, shape in HEARD.items():
        _, in_frame = dialect.decode(False, frame(frame_type, COMPLETE[shape]), "agent")
        _, in_text = dialect.decode(True, text({"type": frame_type.name.lower(), "data": COMPLETE[shape]}), "agent")
        answers[in_frame.name] = (in_frame.answer_type, in_text.answer_type)
    assert answers == {
        "connect": (0x02, "connect_ack"),
        "disconnect": (None, None),
        "heartbeat": (0x05, "heartbeat_ack"),
        "signal_offer": (None, None),
        "signal_answer": (None, None),
        "signal_ice_candidate": (None, None),
        "register": (0x21, "register_ack"),
        "unregister": (0x23, "unregister_ack"),
        "webrtc_room_create": (0x31, "webrtc_room_create_ack"),
        "webrtc_room_join": (0x33, "webrtc_room_join_ack"),
        "webrtc_room_leave": (0x35, "webrtc_room_leave_ack"),
        "command_ack": (None, None),
        "command_result": (None, None),
        "token_refresh": (0x61, "token_refresh_ack"),
    }


def test_what_has_no_acknowledgement_cannot_be_answered_by_mistake():
    _, question = dialect.decode(False, frame(0x03, {}), "agent")
    with pytest.raises(ValueError, match="disconnect has no answer"):
        dialect.answer(question, ReportAck(status=200))


@pytest.mark.parametrize(
    ("request_id", "answer"),
    [
        (
            {"request_id": "7b"},
            b'{"type":"unregister_ack","request_id":"7b","data":{"version":"1.0.0","status":200,"message":"m","client_id":null}}',
        ),
        ({}, b'{"type":"unregister_ack","data":{"version":"1.0.0","status":200,"message":"m","client_id":null}}'),
    ],
)
def test_a_question_in_json_form_is_answered_in_json_form(request_id: dict[str, str], answer: bytes):
    _, question = dialect.decode(True, text({"type": "unregister", **request_id, "data": COMPLETE[Unregister]}), "agent")
    assert dialect.answer(question, UnregisterAck(status=200, message="m")) == answer


def test_a_phone_that_wants_to_know_is_told_ack_and_nothing_else():
    _, question = dialect.decode(True, text({**report("sms_log"), "request_id": "r-1"}), "phone")
    assert question.request_id == "r-1"
    assert dialect.answer(question, ReportAck(status=200, message_id="m")) == b'{"type":"ack","request_id":"r-1"}'


@each_object_kind
def test_a_report_in_a_frame_is_answered_by_report_ack(kind: PayloadKind):
    message = {**report("sms_delivery_report"), "request_id": "r-1"}
    read, question = dialect.decode(False, frame(0x40, message, kind), "agent")
    assert isinstance(read, PhoneReport)
    assert (read.request_id, question.request_id) == ("r-1", None)
    answered = dialect.answer(question, ReportAck(status=200, message_id=read.message_id))
    assert opened(answered) == (0x41, UUID, kind, {"status": 200, "message_id": "unique_message_id"})


# what the server says


SMS = SendSms(message_id="m", data=SendSmsData(sim_slot=0, phone_number="+1", message="é", priority="high"))


@pytest.mark.parametrize(
    ("message", "frame_type", "said"),
    [
        (
            Disconnect(code=4500, reason="replaced", reconnect=False),
            0x03,
            '{"type":"disconnect","data":{"version":"1.0.0","code":4500,"reason":"replaced","reconnect":false}}',
        ),
        (
            RoomEvent(room_id="r", event="room_terminated", client_id="c", role="sender", reason="left"),
            0x36,
            '{"type":"room_event","data":{"version":"1.0.0","room_id":"r","event":"room_terminated","client_id":"c","role":"sender",'
            '"reason":"left"}}',
        ),
        (
            SignalOffer(room_id="r", sender="a", sdp="v=0"),
            0x10,
            '{"type":"signal_offer","data":{"version":"1.0.0","room_id":"r","from":"a","sdp":"v=0"}}',
        ),
        (
            SMS,
            0x42,
            '{"type":"send_sms","message_id":"m","data":{"sim_slot":0,"phone_number":"+1","message":"é","priority":"high"}}',
        ),
    ],
)
def test_what_the_server_starts_goes_out_in_the_encoding_of_the_link(message: msgspec.Struct, frame_type: int, said: str):
    assert dialect.say(True, PayloadKind.JSON, UUID, message).decode() == said
    payload = json.loads(said) if frame_type == 0x42 else json.loads(said)["data"]
    for kind in OBJECT_KINDS:
        assert opened(dialect.say(False, kind, UUID, message)) == (frame_type, UUID, kind, payload)


def test_a_command_that_does_not_fit_a_frame_is_refused_to_its_sender():
    long = SendSms(message_id="m", data=SendSmsData(sim_slot=0, phone_number="+1", message="x" * 65536, priority="normal"))
    assert len(dialect.say(True, PayloadKind.JSON, UUID, long)) > 65536
    with pytest.raises(MessageTooBig):
        dialect.say(False, PayloadKind.JSON, UUID, long)


@pytest.mark.parametrize("message", [RegisterAck(status=200, message=""), Heartbeat(timestamp=1), {"type": "send_sms"}, "text", None])
def test_answers_and_strangers_are_not_said_unasked(message: object):
    with pytest.raises(ValueError, match="a server does not say"):
        dialect.say(True, PayloadKind.JSON, UUID, message)
