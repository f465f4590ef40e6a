"""Bytes that nobody meant, for everything that reads what a stranger sends: a value or a refusal, never anything else (H11, H12).

Bounded in examples, not in seconds, so that a slow machine tries as much as a fast one.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import protocol.dialect as dialect
from protocol.errors import WireError
from protocol.frame import FrameType, PayloadKind, decode_frame, encode_frame
from protocol.payload import read_cbor, read_json, write_cbor
from protocol.phone_reports import REPORT_TYPES
from signal_gateway.domain.proxies import TrustedProxies
from signal_gateway.observe.redaction import Redactor
from signal_gateway.services.subscriber_ids import SubscriberIds
from signal_gateway.websocket.handshake import check_origin, check_upgrade, describe_phone, kind_of, phone_key, upgrade_answer
from signal_gateway.websocket.request_head import Refused, parse_request
from tests.hazards.test_bad_frames import GOLDEN
from tests.hazards.upgrades import PHONE, head
from tests.protocol.seed_phone_messages import report
from tests.websocket.client_frames import binary, client_frame, close, ping, pong, text
from tests.websocket.test_frame_parser import Recorder

pytestmark = pytest.mark.slow
SOME = settings(max_examples=400, deadline=None)
LINK_KINDS = st.sampled_from(("phone", "agent", "console"))

scalars = st.none() | st.booleans() | st.integers(-(2**64), 2**65) | st.floats() | st.text(max_size=20) | st.just("x" * 5000)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=10
)


@st.composite
def damaged(draw: st.DrawFn, wholes: st.SearchStrategy[bytes]) -> bytes:
    """Something right with a few places overwritten, cut out, doubled or put in."""
    data = bytearray(draw(wholes))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        to = draw(st.integers(at, min(len(data), at + 8)))
        data[at:to] = draw(st.binary(max_size=6) | st.just(bytes(data[at:to]) * 2))
    return bytes(data)


@st.composite
def distorted(draw: st.DrawFn) -> dict[str, Any]:
    """A report of the seed in which a few fields hold something else."""
    message = report(draw(st.sampled_from(sorted(REPORT_TYPES - {"rcs_log"}))))
    for _ in range(draw(st.integers(1, 3))):
        place = message if draw(st.booleans()) else message["data"]
        if isinstance(place, dict) and place:
            place[draw(st.sampled_from(sorted(place)) | st.text(max_size=6))] = draw(values)
    return message


def answered(is_text: bool, data: bytes, link_kind: str) -> None:
    """Decode as the door does; a refusal must be one that can be told, in the encoding of the question."""
    try:
        message, question = dialect.decode(is_text, data, link_kind)
    except WireError as error:
        kind = error.kind
        fault = dialect.Fault(kind.status, kind.type, kind.code, error.reason, error.message, error.details)
        told = dialect.error(error.question, is_text, fault)
        read_json(told) if is_text else decode_frame(told)
    else:
        assert message is not None
        assert question.is_text is is_text


@given(st.binary(max_size=200) | damaged(st.sampled_from(sorted(GOLDEN.values()))), LINK_KINDS)
@SOME
def test_any_binary_message_is_a_message_or_a_refusal(data: bytes, link_kind: str):
    answered(False, data, link_kind)


@given(st.binary(max_size=200) | damaged(distorted().map(lambda message: json.dumps(message).encode())), LINK_KINDS)
@SOME
def test_any_text_message_is_a_message_or_a_refusal(data: bytes, link_kind: str):
    answered(True, data, link_kind)


@given(distorted())
@SOME
def test_a_report_with_wrong_fields_means_the_same_in_text_and_in_both_kinds_of_frame(message: dict[str, Any]):
    """Whatever JSON can write of it: the same report, or the same refusal."""
    try:
        data = json.dumps(message, allow_nan=False).encode()
        item = write_cbor(json.loads(data))
    except (ValueError, OverflowError):
        return
    outcomes = set[str]()
    for is_text, said in (
        (True, data),
        (False, encode_frame(FrameType.REPORT, bytes(16), PayloadKind.JSON, data)),
        (False, encode_frame(FrameType.REPORT, bytes(16), PayloadKind.CBOR, item)),
    ):
        try:
            read, _ = dialect.decode(is_text, said, "phone")
            outcomes.add(repr(read))
        except WireError as error:
            outcomes.add(error.reason)
    if "tag_not_allowed" not in outcomes:  # what is beyond 64 bits needs a tag in CBOR
        assert len(outcomes) == 1


@pytest.mark.parametrize("read", [read_json, read_cbor, decode_frame])
@given(data=st.binary(max_size=120))
@SOME
def test_any_bytes_are_read_or_refused(read: Callable[[bytes], Any], data: bytes):
    with suppress(WireError):
        read(data)


# the request


heads = st.sampled_from(
    [
        head(*PHONE),
        head(*PHONE, b"Origin: http://gateway.example:8080", b"X-Forwarded-For: 192.0.2.1, 10.0.0.1"),
        head(b"Sec-WebSocket-Protocol: signal-gateway.v1, bearer.x", target=b"/ws?api_key=k&x=%41"),
        head(target=b"http://x/ws?a=b#c"),
    ]
)


@given(damaged(heads) | st.binary(max_size=200).map(lambda noise: b"GET /ws HTTP/1.1\r\n" + noise + b"\r\n\r\n"))
@SOME
@example(b"GET //[ HTTP/1.1\r\nHost: x\r\n\r\n")
@example(head(b"Origin: http://[::1", host=b"[::1"))
@example(head(b"Origin: http://x:99999", host=b"x:99999"))
def test_any_head_is_a_request_or_a_refusal(data: bytes):
    proxies = TrustedProxies(("10.0.0.0/8",))
    with suppress(Refused):
        request = parse_request(data, b"", 64)
        check_upgrade(request)
        assert upgrade_answer(request).count(b"\r\n\r\n") == 1
        assert proxies.client_address("10.0.0.1", request.headers.get("x-forwarded-for", ""))
        kind_of(request)
        phone_key(request)
        check_origin(request, ("self",), frozenset({8080}), believes_any=False)
        describe_phone(request)


# the stream of frames


frames = st.one_of(
    st.binary(max_size=130).map(binary),
    st.text(max_size=40).map(text),
    st.binary(max_size=125).map(ping),
    st.binary(max_size=125).map(pong),
    st.tuples(st.integers(0, 15), st.binary(max_size=20), st.booleans(), st.sampled_from([0, 0, 0, 0x40])).map(
        lambda said: client_frame(said[0], said[1], fin=said[2], reserved=said[3])
    ),
    st.just(close()),
)


@given(damaged(st.lists(frames, max_size=8).map(b"".join)) | st.binary(max_size=80), st.lists(st.integers(0, 2000), max_size=6))
@SOME
def test_any_stream_of_frames_is_heard_the_same_however_it_is_cut(stream: bytes, cuts: list[int]):
    whole, pieces = Recorder(bytes_max=1000), Recorder(bytes_max=1000)
    whole.feed(stream)
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for start, stop in pairwise(places):
        pieces.feed(stream[start:stop])
    assert _messages(whole) == _messages(pieces)
    assert whole.refused == pieces.refused
    assert whole.parser.frames == pieces.parser.frames


def _messages(heard: Recorder) -> list[tuple[str, bytes]]:
    """All but what the library alone finds wrong: when it says so depends on when it is given its turn."""
    return [said for said in heard.said if said[0] not in ("violation", "close")]


# what a text goes through on its way to the log, and an object on its way to the disk


@given(values)
@SOME
def test_any_value_can_be_logged_on_one_line_and_its_ids_redacted(value: Any):
    shown = Redactor(["a secret of ours"]).event({"reason": value, "client_id": str(value), "at": [value]})
    assert "\n" not in json.dumps(shown, ensure_ascii=False)
    SubscriberIds(b"p" * 32).redact_data({"imei": value, "more": [value, {"ICCID": value}]})
