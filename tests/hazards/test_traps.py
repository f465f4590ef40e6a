"""JSON and CBOR that are made to hurt, said on a whole link: an answer with a stable reason, and the link goes on (H12).

What each decoder makes of them stands in tests/protocol/test_payload_json.py and test_payload_cbor.py.
"""

import json
from typing import Any

import pytest
from trio.testing import MockClock

import protocol.dialect as dialect
from protocol.errors import WireError
from protocol.frame import FrameType, PayloadKind, decode_frame, encode_frame
from protocol.payload import read_cbor, read_json
from signal_gateway.config import Config
from signal_gateway.services.limits import LimitsSettings
from signal_gateway.testing.world import World
from signal_gateway.websocket.admission import SecuritySettings
from tests.hazards.upgrades import PHONE, head, status_of
from tests.protocol.test_payload_cbor import HOSTILE as HOSTILE_CBOR
from tests.protocol.test_payload_json import HOSTILE as HOSTILE_JSON
from tests.websocket.client_frames import binary, client_frame
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.test_links import RawLink, report

UUID = bytes(range(16))
FRAME_PAYLOAD_MAX = 65_535
CBOR_MAP_HEAD = b"\xa2\x64type\x65alarm\x64data"
"""The beginning of `{"type": "alarm", "data": …}`."""


@pytest.fixture
def config() -> Config:
    """Nobody is closed for saying too much of it."""
    limits = LimitsSettings(data_per_s=0, control_per_min=0, frames_per_s=0)
    return Config(auth=DEMO_AUTH, limits=limits, security=SecuritySettings(max_malformed_per_minute=0, max_offences_per_minute=0))


async def linked(world: World) -> RawLink:
    link = RawLink(world.connect())
    await link.open(head(*PHONE, host=b"localhost"))
    await link.said()
    return link


async def goes_on(link: RawLink) -> bool:
    await link.stream.send_all(client_frame(1, report("still here").encode()))
    return (await link.said())["request_id"] == "still here"


async def test_hostile_json_as_a_message_is_answered_and_the_link_goes_on(autojump_clock: MockClock, world: World):
    """In a text message whatever is no UTF-8 is a fault of WebSocket itself: it ends the link with 1007 (RFC 6455 §8.1)."""
    link = await linked(world)
    for data, reason in HOSTILE_JSON.values():
        if reason == "not_utf8":
            continue
        await link.stream.send_all(client_frame(1, data))
        assert (await link.said())["data"]["reason"] == reason
    assert await goes_on(link)
    for data in (data for data, reason in HOSTILE_JSON.values() if reason == "not_utf8"):
        other = await linked(world)
        await other.stream.send_all(client_frame(1, data))
        assert await other.close_code() == 1007
        await other.stream.aclose()
    assert not any(world.metrics.errors.values.values())
    await link.stream.aclose()


@pytest.mark.parametrize("kind", [PayloadKind.JSON, PayloadKind.CBOR])
async def test_a_hostile_payload_of_a_frame_is_answered_with_its_uuid_and_the_link_goes_on(
    autojump_clock: MockClock, world: World, kind: PayloadKind
):
    vectors = HOSTILE_JSON if kind is PayloadKind.JSON else {name: (bytes.fromhex(data), why) for name, (data, why) in HOSTILE_CBOR.items()}
    link = await linked(world)
    said = 0
    for data, reason in vectors.values():
        if len(data) > FRAME_PAYLOAD_MAX:
            continue
        await link.stream.send_all(binary(encode_frame(FrameType.REPORT, UUID, kind, data)))
        answer = decode_frame(bytes((await link.event()).data))
        assert (answer.type, answer.uuid) == (FrameType.ERROR, UUID)
        assert json.loads(answer.payload)["reason"] == reason
        said += 1
    assert said >= 60
    assert await goes_on(link)
    assert not any(world.metrics.errors.values.values())
    await link.stream.aclose()


async def test_hostile_json_about_a_device_is_refused_before_the_upgrade(autojump_clock: MockClock, world: World):
    """As far as a header can hold it."""
    tried = 0
    for data, _ in HOSTILE_JSON.values():
        if len(data) > 8000 or any(byte < 0x20 or byte == 0x7F for byte in data) or data != data.strip() or not data:
            continue
        assert await status_of(world, head(PHONE[0], b"Device-Info: " + data)) == 400
        tried += 1
    assert tried >= 40
    assert await status_of(world, head(*PHONE)) == 101
    assert not any(world.metrics.errors.values.values())


@pytest.mark.parametrize("field", ["message_id", "request_id"])
@pytest.mark.parametrize("value", ["a\x00b", "", "x" * 129, 7, ["a"], {"a": 1}])
async def test_an_id_of_a_peer_has_1_to_128_characters_and_no_nul(autojump_clock: MockClock, world: World, field: str, value: Any):
    link = await linked(world)
    if field == "message_id":
        message: dict[str, Any] = {"type": "mms_received", "data": {"message_id": value, "phone_number": "1"}}
    else:
        message = {"type": "heartbeat", "request_id": value, "data": {}}
    await link.stream.send_all(client_frame(1, json.dumps(message).encode()))
    assert (await link.said())["data"]["reason"] == "invalid_field"
    assert await goes_on(link)
    await link.stream.aclose()


DEEP: dict[str, tuple[bool, bytes]] = {
    "arrays": (True, b'{"type":"alarm","data":' + b"[" * 500_000),
    "closed arrays": (True, b'{"type":"alarm","data":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    "objects": (True, b'{"type":"alarm","data":' + b'{"a":' * 100_000),
    "strings that look deep": (True, b'{"type":"alarm","data":"' + b"[{" * 200_000 + b'"}'),
    "CBOR arrays": (False, encode_frame(FrameType.REPORT, UUID, PayloadKind.CBOR, CBOR_MAP_HEAD + b"\x81" * 65_000)),
    "CBOR maps": (False, encode_frame(FrameType.REPORT, UUID, PayloadKind.CBOR, CBOR_MAP_HEAD + b"\xa1\x60" * 32_000)),
    "CBOR tags": (False, encode_frame(FrameType.REPORT, UUID, PayloadKind.CBOR, CBOR_MAP_HEAD + b"\xc1" * 65_000)),
    "open CBOR arrays": (False, encode_frame(FrameType.REPORT, UUID, PayloadKind.CBOR, CBOR_MAP_HEAD + b"\x9f" * 65_000)),
}


@pytest.mark.parametrize("height", range(0, 900, 60))
@pytest.mark.parametrize(("is_text", "data"), DEEP.values(), ids=DEEP.keys())
def test_no_depth_and_no_height_of_the_stack_lets_a_recursion_error_escape(is_text: bool, data: bytes, height: int):
    def decode_at(height: int) -> None:
        if height:
            decode_at(height - 1)
        else:
            dialect.decode(is_text, data, "phone")

    with pytest.raises(WireError):
        decode_at(height)


@pytest.mark.parametrize("read", [read_json, read_cbor])
@pytest.mark.parametrize("failure", [RecursionError, MemoryError])
def test_whatever_in_a_reader_runs_out_of_stack_or_memory_is_a_refusal(
    monkeypatch: pytest.MonkeyPatch, read: Any, failure: type[Exception]
):
    """Every function of the module that the reader calls, made to fail in turn."""
    import protocol.payload as payload

    seams = {
        read_json: ("_decode_json", "_check_shape", "_encode_msgpack", "_encode_json", "_repeats_a_key", "_duplicate_key_of"),
        read_cbor: ("_item_end", "_map_end", "_array_end", "_long_argument", "_simple_end"),
    }[read]
    data = {
        read_json: b'{"a":1,"a":2,"b":' + b"[[" * 10 + b"0" + b"]]" * 10 + b',"c":[' + b"[]," * 50 + b"[]]}",
        read_cbor: b"\xa2\x61a\x9f\xf4\x18\x20\xff\x61b\xf6",
    }[read]

    def fail(*_: object) -> None:
        raise failure

    for seam in seams:
        with monkeypatch.context() as patch:
            patch.setattr(payload, seam, fail)
            with pytest.raises(WireError) as caught:
                read(data)
            assert caught.value.reason == ("too_deep" if failure is RecursionError else "too_big")
