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
from protocol.payload import read_json
from protocol.plain_signals import SignalReader, WrittenSignal, plain_signal, question_of, written

from .objects import written as object_of

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


def meant(short: WrittenSignal) -> tuple[int, str, str | None, Any]:
    """What it says, however it is written."""
    return short.frame_type, short.room_id, short.to, read_json(short.json)


def same(short: WrittenSignal | None, signal: Any) -> bool:
    """Whether this is what was to be passed on."""
    return short is not None and signal is not None and meant(short) == meant(written(signal))


@pytest.mark.parametrize(("frame_type", "payload"), PLAIN)
def test_what_members_say_takes_the_short_way(frame_type: FrameType, payload: Any):
    frame = encode_frame(frame_type, UUID, PayloadKind.JSON, msgspec.json.encode(payload))
    short = plain_signal(frame, CLIENT)
    assert short is not None
    signal = long_way(frame)
    assert short == written(signal)
    for is_text, kind in ((False, PayloadKind.JSON), (True, PayloadKind.JSON), (False, PayloadKind.CBOR)):
        assert dialect.say_json(is_text, kind, UUID, short.frame_type, short.json) == dialect.say(is_text, kind, UUID, signal)


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
    assert question_of(frame, short) == dialect.decode(False, frame, "agent")[1]


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


@settings(max_examples=500)
@given(st.sampled_from(SIGNALS), st.lists(st.tuples(KEYS, VALUES | CANDIDATES), max_size=8), st.booleans())
@example(FrameType.SIGNAL_ICE_CANDIDATE, [("room_id", "r"), ("candidate", {"candidate": "", "sdpMLineIndex": 0.0})], False)
def test_nothing_passes_the_short_way_that_the_long_one_would_refuse(frame_type: FrameType, pairs: list[tuple[str, Any]], is_ascii: bool):
    """One that is passed is the same; and a colon or a key that is hidden somewhere hides none that stands twice."""
    frame = encode_frame(frame_type, UUID, PayloadKind.JSON, object_of(pairs, is_ascii))
    short = plain_signal(frame, CLIENT)
    assert short is None or same(short, long_way(frame))


def heard_before(*frames: bytes) -> SignalReader:
    """The reader of a client that has said these."""
    reader = SignalReader(CLIENT)
    for frame in frames:
        assert reader.read(frame) is not None
    return reader


def json_frame(frame_type: FrameType, payload: Any, separators: tuple[str, str] = (",", ":")) -> bytes:
    return encode_frame(frame_type, UUID, PayloadKind.JSON, json.dumps(payload, separators=separators, ensure_ascii=False).encode())


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize(("frame_type", "payload"), PLAIN)
def test_what_is_said_to_the_same_member_again_is_read_as_the_first_time(
    monkeypatch: pytest.MonkeyPatch, frame_type: FrameType, payload: Any, separators: tuple[str, str]
):
    """And by its last field alone, where it is written as browsers and JSON libraries do; each time it is what stands in this frame."""
    first = json_frame(frame_type, payload, separators)
    reader = heard_before(first, first)
    other = {**payload, "sdp": 'v=1\r\n\u00e9"\\'}
    if "candidate" in payload:
        other = {**payload, "candidate": {**CANDIDATE, "candidate": "other: 1", "sdpMid": "1"}}
    fields = payload.get("candidate", CANDIDATE)
    is_usual = all(fields.get(name) is not None for name in CANDIDATE) and fields.get("usernameFragment", "") is not None
    again = json_frame(frame_type, other, separators)
    expected = long_way(again)
    if is_usual:
        monkeypatch.setattr("protocol.plain_signals.plain_signal", pytest.fail)
    assert same(reader.read(again), expected)


@pytest.mark.parametrize(
    ("known", "payload"),
    [
        (b'{"room_id":"r","sdp":', b'{"room_id":"r","sdp":"v","to":"b"}'),
        (b'{"room_id":"r","sdp":', b'{"room_id":"r","sdp":"v","sdp":"w"}'),
        (b'{"room_id":"r","sdp":', b'{"room_id":"r","sdp":"v","from":"c"}'),
        (b'{"room_id":"r","sdp":', b'{"room_id":"r","sdp":"v"}}'),
        (b'{"room_id":"r","sdp":', b'{"room_id":"r","sdp":"v\x00"}'),
        (b'{"room_id":"r","sdp":', b'{"room_id":"r","sdp":"\xff"}'),
        (b'{"room_id":"r","sdp":', b'{"room_id":"r","sdp":""}'),
        (b'{"room_id":"r","sdp":', b'{"room_id":"r","sdp":null}'),
        (b'{"room_id":"r","sdp":', b'{"room_id":"r","sdp":"v"'),
        (b'{"room_id":"r","sdp":', b'{"room_id":"r","sdp":"v"]'),
        (b'{"room_id":"r","sdp":', b'{"room_id":"r","sdp":}'),
        (b'{"room_id":"r","sdp":', b'{"room_id":"r","sdp":'),
        (b'{"room_id":"r","candidate":', b'{"room_id":"r","candidate":{"candidate":"","sdpMid":"0","sdpMLineIndex":0},"room_id":"s"}'),
        (b'{"room_id":"r","candidate":', b'{"room_id":"r","candidate":{"candidate":"","sdpMid":"0","sdpMLineIndex":0,"sdpMid":"1"}}'),
        (b'{"room_id":"r","candidate":', b'{"room_id":"r","candidate":{"candidate":"","sdpMid":"0","sdpMLineIndex":0,"sdpMLineIndex":0}}'),
        (b'{"room_id":"r","candidate":', b'{"room_id":"r","candidate":{"candidate":"","sdpMid":"0","sdpMLineIndex":0,"more":1}}'),
        (b'{"room_id":"r","candidate":', b'{"room_id":"r","candidate":{"candidate":"","sdpMid":null,"sdpMLineIndex":0,"a":0}}'),
        (b'{"room_id":"r","candidate":', b'{"room_id":"r","candidate":{"candidate":"","sdpMid":"0","sdpMLineIndex":0,"\\"":0}}'),
        (b'{"room_id":"r","candidate":', b'{"room_id":"r","candidate":{"candidate":"","sdpMid":"0","sdpMLineIndex":0}'),
    ],
)
def test_a_beginning_that_is_known_hides_nothing_behind_it(known: bytes, payload: bytes):
    is_candidate = known.endswith(b'"candidate":')
    frame_type = FrameType.SIGNAL_ICE_CANDIDATE if is_candidate else FrameType.SIGNAL_OFFER
    last = json.dumps(CANDIDATE, separators=(",", ":")).encode() if is_candidate else b'"v"'
    first = encode_frame(frame_type, UUID, PayloadKind.JSON, known + last + b"}")
    reader, frame = heard_before(first, first), encode_frame(frame_type, UUID, PayloadKind.JSON, payload)
    again = reader.read(frame)
    assert again is None or same(again, long_way(frame))


def test_other_frames_with_a_beginning_that_is_known_are_read_as_what_they_are():
    frame_type, payload = PLAIN[0]
    frame = json_frame(frame_type, payload)
    reader = heard_before(frame, frame)
    answer = b"\xaa" + bytes((FrameType.SIGNAL_ANSWER,)) + frame[2:]
    assert same(reader.read(answer), long_way(answer))
    for broken in (b"\xab" + frame[1:], frame[:18] + b"\x05" + frame[19:], frame[:20] + b"\x00" + frame[21:], frame + b"}", b""):
        assert reader.read(broken) is None
    long_sdp = json_frame(frame_type, {**payload, "sdp": "v" * 20_000})
    assert reader.read(long_sdp) is None


@settings(max_examples=500)
@given(st.data(), st.sampled_from(PLAIN), st.booleans())
def test_whatever_follows_a_known_beginning_means_what_the_long_way_reads(data: st.DataObject, plain: Any, is_ascii: bool):
    frame_type, payload = plain
    first = json_frame(frame_type, payload)
    reader = heard_before(first, first)
    last = "sdp" if "sdp" in payload else "candidate"
    pairs = [(key, value) for key, value in payload.items() if key != last]
    pairs += data.draw(st.lists(st.tuples(st.just(last) | KEYS, VALUES | CANDIDATES), min_size=1, max_size=3))
    text = object_of(pairs, is_ascii).replace(b'": ', b'":')
    for cut in (text, text + b"}", text[: data.draw(st.integers(0, len(text)))]):
        frame = encode_frame(frame_type, UUID, PayloadKind.JSON, cut)
        again = reader.read(frame)
        assert again is None or same(again, long_way(frame))
