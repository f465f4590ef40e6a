"""The short way of a signal: what it passes is what the long way would pass, and nothing else (H12)."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import protocol.dialect as dialect
from protocol.errors import WireError
from protocol.frame import FrameType, PayloadKind, encode_frame
from protocol.phone_reports import PhoneReport
from protocol.plain import beat_data, plain_signal, question_of, same_beat

UUID = bytes(range(16))
SIGNALS = (FrameType.SIGNAL_OFFER, FrameType.SIGNAL_ANSWER, FrameType.SIGNAL_ICE_CANDIDATE)
CLIENT = "a:client"
CANDIDATE = {"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0}
PLAIN = [
    (FrameType.SIGNAL_OFFER, {"room_id": "r", "to": "b", "sdp": "v=0\r\na=x:1\r\n"}),
    (FrameType.SIGNAL_ANSWER, {"version": "1.2", "room_id": "r", "sdp": "v=0"}),
    (FrameType.SIGNAL_ICE_CANDIDATE, {"room_id": "r", "to": "b", "candidate": CANDIDATE}),
    (FrameType.SIGNAL_ICE_CANDIDATE, {"room_id": "r", "candidate": {"candidate": ""}}),
    (FrameType.SIGNAL_ICE_CANDIDATE, {"room_id": "r", "candidate": {**CANDIDATE, "usernameFragment": None}}),
]


def long_way(frame: bytes) -> Any:
    """What `decode` makes of it, said by CLIENT; None where it is refused."""
    try:
        message, _ = dialect.decode(False, frame, "agent")
    except WireError:
        return None
    return msgspec.structs.replace(message, sender=CLIENT)  # type: ignore[type-var]


@pytest.mark.parametrize(("frame_type", "payload"), PLAIN)
def test_what_members_say_takes_the_short_way(frame_type: FrameType, payload: Any):
    frame = encode_frame(frame_type, UUID, PayloadKind.JSON, msgspec.json.encode(payload))
    short = plain_signal(frame, CLIENT)
    assert short is not None
    assert short.signal == long_way(frame)
    for is_text in (False, True):
        written = dialect.say(is_text, PayloadKind.JSON, UUID, short.signal)
        assert dialect.say(is_text, PayloadKind.JSON, UUID, short.signal, short.json) == written
    assert dialect.say(False, PayloadKind.CBOR, UUID, short.signal, short.json) == dialect.say(False, PayloadKind.CBOR, UUID, short.signal)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"room_id":"r","sdp":"v","sdp":"w"}',
        b'{"room_id":"r","room_id":"s","sdp":"v:\\u003a"}',
        b'{"room_id":"r","room_id":"s","sdp":"\\u003a"}',
        b'{"room_id":"r","room_id":"s","candidate":{"candidate":""}}',
        b'{"room_id":"r","room_id":"s","room_id":"t","candidate":{"candidate":""}}',
        b'{"room_id":"r","from":"somebody","sdp":"v"}',
        b'{"room_id":"r","sdp":"v","more":1}',
        b'{"room_id":"r","to":null,"sdp":"v"}',
        b'{"room_id":"r" ,"version" :"1.0.0","sdp":"v"}',
        b'{"room_id":"r","sdp":""}',
        b'{"room_id":"r","sdp":1}',
        b'{"room_id":"","sdp":"v"}',
        b'{"sdp":"v"}',
        b'{"room_id":"r","sdp":"\xff"}',
        b"[]",
        b"",
    ],
)
@pytest.mark.parametrize("frame_type", SIGNALS)
def test_what_is_not_plain_takes_the_long_way(frame_type: FrameType, payload: bytes):
    assert plain_signal(encode_frame(frame_type, UUID, PayloadKind.JSON, payload), CLIENT) is None


@pytest.mark.parametrize(("frame_type", "payload"), PLAIN)
def test_what_an_error_repeats_is_what_the_long_way_read(frame_type: FrameType, payload: Any):
    frame = encode_frame(frame_type, UUID, PayloadKind.JSON, msgspec.json.encode(payload))
    short = plain_signal(frame, CLIENT)
    assert short is not None
    assert question_of(frame, short.signal) == dialect.decode(False, frame, "agent")[1]


def test_only_whole_frames_of_signals_in_json_are_plain():
    frame_type, payload = PLAIN[0]
    written = msgspec.json.encode(payload)
    frame = encode_frame(frame_type, UUID, PayloadKind.JSON, written)
    for end in range(len(frame)):
        assert plain_signal(frame[:end], CLIENT) is None
    assert plain_signal(frame + b" ", CLIENT) is None
    for other in (
        encode_frame(frame_type, UUID, PayloadKind.CBOR, written),
        encode_frame(FrameType.HEARTBEAT, UUID, PayloadKind.JSON, written),
    ):
        assert plain_signal(other, CLIENT) is None


TEXTS = st.sampled_from(["", "r", "b", "v=0", ":", '"', '\\"version\\":', '"sdpMid":', "1.0.0", "é", "\x00", "\x1f"]) | st.text(max_size=6)
VALUES: Any = TEXTS | st.none() | st.integers(-3, 3) | st.floats(0, 1)
CANDIDATES = st.none() | st.dictionaries(st.sampled_from(["candidate", "sdpMid", "sdpMLineIndex", "usernameFragment", "x"]), VALUES)
KEYS = st.sampled_from(["room_id", "to", "sdp", "version", "from", "x", "candidate"])


def written(pairs: list[tuple[str, Any]], is_ascii: bool) -> bytes:
    """An object in which a key may stand twice."""
    return ("{" + ",".join(f"{json.dumps(key)}:{json.dumps(value, ensure_ascii=is_ascii)}" for key, value in pairs) + "}").encode()


@settings(max_examples=500)
@given(st.sampled_from(SIGNALS), st.lists(st.tuples(KEYS, VALUES | CANDIDATES), max_size=8), st.booleans())
@example(FrameType.SIGNAL_ICE_CANDIDATE, [("room_id", "r"), ("candidate", {"candidate": "", "sdpMLineIndex": 0.0})], False)
def test_nothing_passes_the_short_way_that_the_long_one_would_refuse(frame_type: FrameType, pairs: list[tuple[str, Any]], is_ascii: bool):
    """One that is passed is the same; and a colon or a key that is hidden somewhere hides none that stands twice."""
    frame = encode_frame(frame_type, UUID, PayloadKind.JSON, written(pairs, is_ascii))
    short = plain_signal(frame, CLIENT)
    assert short is None or short.signal == long_way(frame)


DATA = b'{"battery_level":85,"note":"a:b\\"c","sim_cards":[{"slot_index":0}]}'


def beat(envelope: bytes = b'"timestamp":1,', data: bytes = DATA, end: bytes = b"") -> bytes:
    """A phone's heartbeat."""
    return b'{"type":"heartbeat",' + envelope + b'"data":' + data + end + b"}"


@pytest.mark.parametrize("space", [b"", b" ", b"\n\t"])
@pytest.mark.parametrize(
    "envelope", [b"", b'"timestamp":1704067200000,', b'"request_id":"r1",', b' "timestamp" : 7 , "request_id":"r\\n1",']
)
def test_a_heartbeat_with_the_same_data_is_known(envelope: bytes, space: bytes):
    data = space + DATA
    assert beat_data(beat(data=data)) == data
    text = beat(envelope, data)
    again = same_beat(text, data)
    assert again is not None
    report, question = dialect.decode(True, text, "phone")
    assert isinstance(report, PhoneReport)
    assert (again.timestamp, again.request_id) == (report.timestamp, question.request_id)
    assert json.loads(data) == report.raw
    if again.request_id is not None:
        assert dialect.acknowledged(again.request_id) == dialect.answer(question, None)


@pytest.mark.parametrize(
    "text",
    [
        beat(b'"timestamp":1,"timestamp":2,'),
        beat(b'"timestamp":1,"timestamp":1,"request_id":"\\u003a",'),
        beat(b'"request_id":"a:b",'),
        beat(b'"request_id":null,'),
        beat(b'"timestamp":-1,'),
        beat(b'"timestamp":1.5,'),
        beat(b'"message_id":"m",'),
        beat(b'"more":1,'),
        beat().replace(b'"data":', b'"data" :'),
        beat(end=b',"type":"heartbeat"'),
        beat(end=b',"data":' + DATA),
        beat() + b"x",
        beat()[:-1],
        beat().replace(b'"heartbeat"', b'"device_status"'),
        beat().replace(b'"type":"heartbeat"', b'"type":"x"') + b'"heartbeat"',
        beat(b'"request_id":"' + b"r" * 20_000 + b'",'),
        beat(b'"request_id":"\xff",'),
        b"",
    ],
)
def test_whatever_needs_a_closer_look_is_read_the_long_way(text: bytes):
    assert beat_data(text) is None
    assert same_beat(text, DATA) is None


OTHER = DATA.replace(b"85", b"84")


@pytest.mark.parametrize(
    "text",
    [
        beat(data=OTHER),
        beat(data=b" " + DATA),
        beat(data=DATA + b"5"),
        beat(data=DATA + b".5"),
        beat(data=DATA + DATA),
        beat(data=DATA[:-1]),
        beat(b'"request_id":"\\"data\\":' + DATA[1:-1] + b'",', OTHER),
        beat(b'"request_id":"\\"data":' + DATA + b",", OTHER),
        beat(b'"data":' + DATA + b",", OTHER),
        beat(b'"x":{"data":' + DATA + b"},", OTHER),
        beat(b'"\\u0064ata":' + DATA + b",", OTHER),
    ],
)
def test_other_data_are_not_known(text: bytes):
    assert same_beat(text, DATA) is None


ENVELOPES = st.sampled_from(["type", "timestamp", "request_id", "data", "message_id", "x"])
WORDS: Any = (
    st.sampled_from(["heartbeat", "r1", ":", "a:b", "\\u003a", '"data":']) | st.none() | st.integers(-1, 3) | st.just({"battery_level": 85})
)


@settings(max_examples=500)
@given(st.lists(st.tuples(ENVELOPES, WORDS), max_size=6), st.booleans())
@example([("type", "heartbeat"), ("data", {"battery_level": 85}), ("timestamp", 1), ("timestamp", 2)], False)
def test_nothing_is_known_again_that_the_long_way_would_refuse_or_read_otherwise(pairs: list[tuple[str, Any]], is_ascii: bool):
    text, known = written(pairs, is_ascii), b'{"battery_level": 85}'
    again = same_beat(text, known)
    if again is not None:
        report, question = dialect.decode(True, text, "phone")
        assert isinstance(report, PhoneReport)
        assert (again.timestamp, again.request_id) == (report.timestamp, question.request_id)
        assert report.raw == {"battery_level": 85}
    assert (again is not None) == (beat_data(text) == known)
