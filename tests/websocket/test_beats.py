"""Plain heartbeats of agents have a shorter way than all else: it counts, limits, fences and contains as the long one does."""

from contextlib import suppress
from types import SimpleNamespace

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from protocol.frame import FrameType
from protocol.payload import PayloadKind
from signal_gateway.config import Config
from signal_gateway.services.limits import LimitsSettings
from signal_gateway.testing.client import LinkClosed
from signal_gateway.testing.world import World, open_world
from signal_gateway.websocket.link import Link
from signal_gateway.websocket.stream import MIDDLE_READ_BYTES, SMALL_READ_BYTES, SMALL_READS
from tests.websocket.client_frames import binary
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.talk import UUID, ask, closing, connect, frame, hear
from tests.websocket.test_links import HEAD, RawLink

PLAIN = b'{"timestamp":1704067200000}'
SPACED = b'{"timestamp": 1704067200000}'


def beat(payload: bytes = PLAIN) -> bytes:
    """A HEARTBEAT frame in JSON as its sender wrote it."""
    return bytes((0xAA, FrameType.HEARTBEAT)) + UUID + bytes((PayloadKind.JSON,)) + len(payload).to_bytes(2, "big") + payload


@pytest.mark.parametrize("payload", [PLAIN, SPACED])
async def test_either_way_a_heartbeat_is_answered_counted_and_seen(autojump_clock: MockClock, world: World, payload: bytes):
    async with world.dial() as agent:
        await connect(agent)
        before = {name: world.metrics.bytes.value(name) for name in ("in", "out")}
        await trio.sleep(10)
        await agent.send(beat(payload))
        assert await hear(agent) == (FrameType.HEARTBEAT_ACK, UUID, PayloadKind.JSON, {"timestamp": 1704067200000})
        view = world.gateway.presence.view("test_client_1")
        assert view is not None
        assert view.last_activity_at == world.wall_ms()
        metrics = world.metrics
        assert metrics.messages.value("in", "heartbeat") == 1
        assert metrics.messages.value("out", "heartbeat_ack") == 1
        assert metrics.bytes.value("in") - before["in"] == 21 + len(payload)
        assert metrics.bytes.value("out") - before["out"] == 21 + len(PLAIN)


@pytest.mark.parametrize("payload", [PLAIN, SPACED])
async def test_before_authentication_it_is_401(autojump_clock: MockClock, world: World, payload: bytes):
    async with world.dial() as agent:
        await agent.send(beat(payload))
        answer_type, _, _, answer = await hear(agent)
        assert (answer_type, answer["status"], answer["reason"]) == (FrameType.ERROR, 401, "not_authenticated")


@pytest.mark.parametrize("payload", [PLAIN, SPACED])
async def test_over_the_rate_it_is_refused_once_and_the_others_in_silence(autojump_clock: MockClock, payload: bytes):
    config = Config(auth=DEMO_AUTH, limits=LimitsSettings(data_per_s=1, data_burst=5))
    async with open_world(config) as world, world.dial() as agent:
        await connect(agent)
        for _ in range(20):
            await agent.send(beat(payload))
        answers = [(await hear(agent))[0] for _ in range(6)]
        assert answers == [FrameType.HEARTBEAT_ACK] * 5 + [FrameType.ERROR]
        assert world.metrics.limits.value("limits.data_per_s") == 15
        await trio.sleep(2)
        await agent.send(beat(payload))
        assert (await hear(agent))[0] is FrameType.HEARTBEAT_ACK


@pytest.mark.parametrize("payload", [PLAIN, SPACED])
async def test_a_link_that_was_replaced_is_heard_no_more(autojump_clock: MockClock, world: World, payload: bytes):
    async with world.dial() as older, world.dial() as newer:
        await connect(older)
        await connect(newer)
        with suppress(LinkClosed):  # where the goodbye was quicker
            await older.send(beat(payload))
        assert await closing(older) == 4500
        assert world.metrics.messages.value("in", "heartbeat") == 0
        assert (await ask(newer, FrameType.HEARTBEAT, {"timestamp": 7}))[0] is FrameType.HEARTBEAT_ACK


async def test_a_phone_s_link_has_no_such_way(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", {"Authorization": "Bearer demo-enrolment-key", "Device-Info": '{"device_id":"phone-1"}'}) as phone:
        await hear(phone)
        await phone.send(beat())
        answer_type, _, _, answer = await hear(phone)
        assert (answer_type, answer["status"]) == (FrameType.ERROR, 501)


async def test_what_fails_in_it_ends_that_link_with_1011(autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch):
    def fail(now_s: float) -> float:
        raise RecursionError("a bug of ours")

    async with world.dial() as agent:
        await connect(agent)
        link = world.gateway.hub.link_of("test_client_1")
        monkeypatch.setattr(link, "_data_bucket", SimpleNamespace(take=fail))
        with capture_logs() as logs:
            await agent.send(beat())
            assert await closing(agent) == 1011
        assert world.metrics.errors.value("link") == 1
        assert [line["event"] for line in logs if line["log_level"] == "error"] == ["a handler failed"]


async def test_a_hundred_in_one_write_are_answered_in_order_beside_other_messages(autojump_clock: MockClock, world: World):
    raw = RawLink(world.connect())
    await raw.open(HEAD + b"\r\n")
    await raw.stream.send_all(binary(frame(FrameType.CONNECT, {"client_id": "test_client_1", "auth_token": "test_token_1"})))
    await raw.event()
    payloads = [b'{"timestamp":%d}' % number if number % 7 else b'{"timestamp": %d }' % number for number in range(100)]
    await raw.stream.send_all(b"".join(binary(beat(payload)) for payload in payloads))
    answers = [bytes((await raw.event()).data) for _ in payloads]
    assert [int(answer[21 + len('{"timestamp":') : -1]) for answer in answers] == list(range(100))
    await raw.stream.aclose()


async def test_who_says_little_is_read_in_small_pieces_and_who_says_more_in_the_largest():
    config = Config(auth=DEMO_AUTH)
    async with open_world(config, transport="sockets") as world, world.dial() as agent:
        await connect(agent)
        link = world.gateway.hub.link_of("test_client_1")
        assert isinstance(link, Link)
        asked_for: list[int] = []
        for spaces in [*[0] * SMALL_READS, 600, 0, 600, 0, 3000, 600, *[0] * SMALL_READS]:
            await agent.send(beat(b'{"timestamp":7' + b" " * spaces + b"}"))
            assert (await hear(agent))[3] == {"timestamp": 7}
            asked_for.append(link.stream._read_bytes)
    most = config.server.read_buffer_size
    assert asked_for[:SMALL_READS] == [most] * (SMALL_READS - 2) + [SMALL_READ_BYTES] * 2  # CONNECT was the first
    assert asked_for[SMALL_READS:-SMALL_READS] == [most, most, MIDDLE_READ_BYTES, MIDDLE_READ_BYTES, most, MIDDLE_READ_BYTES]
    assert asked_for[-1] == SMALL_READ_BYTES
