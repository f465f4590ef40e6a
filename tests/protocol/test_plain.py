"""The short way of a phone's heartbeat: what it knows again is what the long way would read, and nothing else (H12)."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import protocol.dialect as dialect
from protocol.phone_reports import PhoneReport
from protocol.plain import beat_data, same_beat

from .objects import written

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
