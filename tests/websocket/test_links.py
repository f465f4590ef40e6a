"""What a link must bear: fragments, floods, silence, peers that vanish, handlers that fail. The client here is raw bytes."""

import gc
import json
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

from protocol.agent import Heartbeat
from protocol.frame import FrameType
from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.domain.events import DeviceUnlinked
from signal_gateway.domain.principal import LinkKind
from signal_gateway.testing.world import World
from signal_gateway.websocket.agents import AGENT_EARS
from signal_gateway.websocket.ears import Ears
from signal_gateway.websocket.link import Link
from tests.websocket.client_frames import binary, client_frame, close, ping, pong, text
from tests.websocket.talk import ask, closing, connect, frame, hear, phone_headers

HEAD = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
PHONE_HEAD = HEAD + b'Authorization: Bearer demo-enrolment-key\r\nDevice-Info: {"device_id":"raw-phone"}\r\n\r\n'
BEAT = frame(FrameType.HEARTBEAT, {"timestamp": 1})
CONNECT = frame(FrameType.CONNECT, {"client_id": "test_client_1", "auth_token": "test_token_1"})


class RawLink:
    """The bytes of one connection, and what wsproto makes of the answers."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.head = b""
        self._library = Connection(ConnectionType.CLIENT)
        self._events: list[Any] = []

    async def open(self, head: bytes = PHONE_HEAD, behind: bytes = b"") -> None:
        await self.stream.send_all(head + behind)
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self.stream.receive_some()
        self.head, _, rest = data.partition(b"\r\n\r\n")
        self._library.receive_data(rest)

    async def event(self) -> Any:
        """The next event; None when the connection has ended."""
        while True:
            for event in self._library.events():
                return event
            with trio.fail_after(300):
                data = bytes(await self.stream.receive_some())
            if not data:
                return None
            self._library.receive_data(data)

    async def said(self) -> Any:
        """The next message of the server, read."""
        event = await self.event()
        assert isinstance(event, TextMessage), event
        return json.loads(event.data)

    async def close_code(self) -> int | None:
        """Read on until the server closes."""
        while (event := await self.event()) is not None:
            if isinstance(event, CloseConnection):
                return event.code
        return None


@asynccontextmanager
async def raw_phone(world: World, behind: bytes = b"") -> AsyncGenerator[RawLink]:
    link = RawLink(world.connect())
    await link.open(behind=behind)
    assert (await link.said())["type"] == "connection_established"
    yield link
    await link.stream.aclose()


@asynccontextmanager
async def raw_phone_named(world: World, name: str) -> AsyncGenerator[RawLink]:
    link = RawLink(world.connect())
    await link.open(PHONE_HEAD.replace(b"raw-phone", name.encode()))
    assert (await link.said())["type"] == "connection_established"
    yield link
    await link.stream.aclose()


def report(request_id: str) -> str:
    return json.dumps({"type": "heartbeat", "request_id": request_id, "data": {}})


async def test_what_comes_right_behind_the_head_is_heard(autojump_clock: MockClock, world: World):
    async with raw_phone(world, behind=text(report("eager"))) as phone:
        assert (await phone.said())["request_id"] == "eager"


async def test_messages_are_answered_in_order_whoever_puts_them_together(autojump_clock: MockClock, world: World):
    """Ours, a fragmented one and a large one of the library, and ours again, all in one write."""
    large = json.dumps({"type": "heartbeat", "request_id": "large", "data": {"later_field": "x" * 70_000}})
    fragmented = report("fragmented").encode()
    stream = (
        text(report("first"))
        + client_frame(1, fragmented[:9], fin=False)
        + ping(b"between")
        + client_frame(0, fragmented[9:])
        + text(report("third"))
        + text(large)
        + text(report("last"))
    )
    async with raw_phone(world) as phone:
        await phone.stream.send_all(stream)
        heard: list[Any] = []
        while len(heard) < 6:
            event = await phone.event()
            heard.append(bytes(event.payload) if isinstance(event, Pong) else json.loads(event.data)["request_id"])
        assert heard == ["first", b"between", "fragmented", "third", "large", "last"]


async def test_a_stream_of_single_bytes_means_the_same(autojump_clock: MockClock, world: World):
    async with raw_phone(world) as phone:
        for byte in text(report("slow")):
            await phone.stream.send_all(bytes((byte,)))
        assert (await phone.said())["request_id"] == "slow"


async def test_pings_are_answered_with_their_payload(autojump_clock: MockClock, world: World):
    async with raw_phone(world) as phone:
        await phone.stream.send_all(ping(b"12345"))
        event = await phone.event()
        assert isinstance(event, Pong)
        assert bytes(event.payload) == b"12345"


async def test_a_close_frame_is_answered_and_ends_the_link(autojump_clock: MockClock, world: World):
    async with raw_phone(world) as phone:
        await phone.stream.send_all(close(1001) + ping() + text(report("too late")))
        event = await phone.event()
        assert isinstance(event, CloseConnection)
        assert event.code == 1001
        assert await phone.event() is None
    await trio.sleep(1)
    view = world.gateway.presence.view("raw-phone")
    assert view is not None
    assert not view.linked


@pytest.mark.parametrize(
    ("violation", "code"),
    [
        (client_frame(1, b"x", reserved=0x40), 1002),
        (client_frame(3, b"x"), 1002),
        (client_frame(1, b"x", mask=None), 1002),
        (client_frame(0, b"x"), 1002),
        (client_frame(9, b"x" * 126), 1002),
        (client_frame(1, b"\xff"), 1007),
        (client_frame(1, b"x" * 2_000_000)[:14], 1009),
        (client_frame(1, b"", fin=False) + 64 * client_frame(0, b"", fin=False), 1009),
    ],
)
async def test_violations_end_the_link_with_their_code(autojump_clock: MockClock, world: World, violation: bytes, code: int):
    async with raw_phone(world) as phone:
        await phone.stream.send_all(violation)
        assert await phone.close_code() == code
    assert world.metrics.errors.value("connection") == 0
    assert world.metrics.errors.value("link") == 0


async def test_before_authentication_a_message_has_eight_kibibytes(autojump_clock: MockClock, world: World):
    link = RawLink(world.connect())
    await link.open(HEAD + b"\r\n")
    await link.stream.send_all(binary(b"\xaa" * 8192))
    assert isinstance(await link.event(), BytesMessage)
    await link.stream.send_all(binary(b"\xaa" * 8193))
    assert await link.close_code() == 1009
    assert world.metrics.limits.value("security.unauthenticated_message_bytes") == 1
    await link.stream.aclose()


async def test_a_peer_that_is_silent_for_75_seconds_is_closed_with_4000(autojump_clock: MockClock, world: World):
    async with raw_phone(world) as phone:
        started_at = trio.current_time()
        pings = 0
        while not isinstance(event := await phone.event(), CloseConnection):
            assert isinstance(event, Ping)
            pings += 1
        assert event.code == 4000
        assert 75 <= trio.current_time() - started_at <= 77
        assert pings == 3
    await trio.sleep(1)
    view = world.gateway.presence.view("raw-phone")
    assert view is not None
    assert not view.linked


@pytest.mark.parametrize("said", [ping(), text('{"type":"unknown"}'), pong()], ids=["ping", "refused", "pong"])
async def test_whoever_says_anything_at_all_is_here_however_little_it_means(autojump_clock: MockClock, world: World, said: bytes):
    """`presence.offline_after_s` is 300; our pings stay away, since each of theirs is answered (CONTRACT.md §9)."""
    unlinked: list[DeviceUnlinked] = []
    world.bus.subscribe(DeviceUnlinked, unlinked.append)
    async with raw_phone(world) as phone:
        for _ in range(100):
            await trio.sleep(10)
            await phone.stream.send_all(said)
        await trio.sleep(1)
        view = world.gateway.presence.view("raw-phone")
        assert view is not None
        assert (view.linked, view.fresh, view.last_activity_at) == (True, True, world.wall_ms() - 1000)
        assert unlinked == []


async def test_one_message_may_take_thirty_seconds(autojump_clock: MockClock, world: World):
    async with raw_phone(world) as phone:
        whole = text(report("x" * 100))
        started_at = trio.current_time()
        for byte in whole[:40]:
            await phone.stream.send_all(bytes((byte,)))
            await trio.sleep(1)
            if trio.current_time() - started_at > 29:
                break
        assert await phone.close_code() == 4001
        assert world.metrics.limits.value("link.message_seconds_max") == 1


@pytest.mark.parametrize(
    "head", [b"GET /ws HTTP/1.1\r\n", b"\x00" * 100, b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", PHONE_HEAD, HEAD + b"\r\n"]
)
async def test_a_peer_that_vanishes_at_any_point_ends_nothing_but_its_link(autojump_clock: MockClock, world: World, head: bytes):
    """Both known faults of the library ended whole servers: a bad handshake before a reset, a ping while closing."""
    for cut in range(0, len(head) + 1, 7):
        stream = world.connect()
        await stream.send_all(head[:cut])
        await stream.aclose()
    await trio.sleep(10)
    async with world.dial("/ws", phone_headers()) as phone:
        assert (await hear(phone))["type"] == "connection_established"
    assert world.metrics.errors.value("connection") == 0


async def test_pings_while_we_close_end_nothing(autojump_clock: MockClock, world: World):
    async with raw_phone(world) as phone:
        link = world.gateway.hub.link_of("raw-phone")
        assert link is not None
        link.close_soon(4500, "go away")
        await phone.stream.send_all(ping(b"a") + client_frame(1, b"x", fin=False) + ping(b"b") + client_frame(9, b"y", fin=False))
        assert await phone.close_code() == 4500
        with suppress(trio.BrokenResourceError):
            await phone.stream.send_all(ping(b"c") * 100)
    await trio.sleep(5)
    assert world.metrics.errors.value("connection") == 0
    assert len(world.gateway.hub) == 0


async def test_a_peer_that_does_not_answer_our_close_is_gone_after_two_seconds(autojump_clock: MockClock, world: World):
    async with raw_phone(world):
        link = world.gateway.hub.link_of("raw-phone")
        assert link is not None
        link.close_soon(4500, "go away")
        await trio.sleep(2.1)
        assert len(world.gateway.hub) == 0


async def test_a_loris_gets_its_answer_and_its_end(autojump_clock: MockClock, world: World):
    stream = world.connect()
    await stream.send_all(b"GET /ws HTTP/1.1\r\n")
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 408 ")
    await stream.aclose()


FAILURES = [ValueError("bad"), RecursionError(), MemoryError(), ExceptionGroup("two", [ValueError(), KeyError()]), AssertionError()]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("waits", [False, True])
async def test_a_handler_that_fails_ends_its_own_link_alone(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch, failure: Exception, waits: bool
):
    def fail(link: Link, message: object, question: object) -> None:
        raise failure

    async def fail_later(link: Link, message: object, question: object) -> None:
        await trio.sleep(0.1)
        raise failure

    ears = Ears(AGENT_EARS.before, {**AGENT_EARS.after, Heartbeat: fail_later if waits else fail})
    async with world.dial("/ws", phone_headers()) as bystander, world.dial() as agent:
        await hear(bystander)
        await connect(agent)
        link = world.gateway.hub.link_of("test_client_1")
        assert isinstance(link, Link)
        assert link.kind is LinkKind.AGENT
        monkeypatch.setattr(link, "_ears", ears)
        await agent.send(BEAT)
        answer_type, _, _, answer = await hear(agent)
        assert (answer_type, answer["status"], answer["message"]) == (FrameType.ERROR, 500, "Internal server error")
        assert await closing(agent) == 1011
        await bystander.send(report("still here"))
        assert (await hear(bystander))["request_id"] == "still here"
    assert world.metrics.errors.value("link") == 1


async def test_a_request_that_fails_is_answered_500_in_its_own_ack(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
):
    async def fail(work: Any, **options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(world.database, "read", fail)
    async with world.dial() as agent:
        answer_type, answer = await ask(
            agent, FrameType.REGISTER, {"version": "1.0.0", "client_id": "unit-7", "auth_token": "demo-enrolment-key"}
        )
        assert answer_type is FrameType.REGISTER_ACK
        assert answer == {"version": "1.0.0", "status": 500, "message": "Internal server error", "client_id": None, "session_id": None}
        assert await closing(agent) == 1011
    assert world.metrics.errors.value("link") == 1


async def test_a_handler_that_waits_too_long_is_answered_503_and_the_link_goes_on(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
):
    async def wait_for_ever(link: Link, message: object, question: object) -> None:
        await trio.sleep_forever()

    async with world.dial() as agent:
        await connect(agent)
        link = world.gateway.hub.link_of("test_client_1")
        monkeypatch.setattr(link, "_ears", Ears({}, {Heartbeat: wait_for_ever}))
        started_at = trio.current_time()
        await agent.send(BEAT)
        answer = (await hear(agent))[3]
        assert (answer["status"], answer["reason"]) == (503, "database_down")
        assert trio.current_time() - started_at == pytest.approx(10)
        assert world.gateway.hub.link_of("test_client_1") is link


async def test_over_the_rate_of_frames_a_link_is_read_later_and_all_of_it_is_heard(autojump_clock: MockClock, world: World):
    """200 frames a second, 400 at once: of 6,000 the last is heard some 20 seconds later, and none is lost.

    What came in one read is heard as one: 8 KiB, over TLS up to a record of 16 KiB more. Of the pings in it not all are answered.
    """
    async with raw_phone(world) as phone:
        started_at = trio.current_time()
        await phone.stream.send_all(ping() * 6000 + text(report("last")))
        pongs = 0
        while isinstance(event := await phone.event(), Pong):
            pongs += 1
        assert json.loads(event.data)["request_id"] == "last"
        assert world.metrics.messages.value("in", "ping") == 6000
        assert pongs < 1000
        assert world.metrics.messages.value("out", "pong") - pongs in (0, 1)  # that for the end of a flood follows what was said behind it
        assert 7 <= trio.current_time() - started_at <= 28
        assert world.metrics.limits.value("limits.frames_per_s") >= 1


async def test_a_drain_says_goodbye_to_all_spread_over_its_time(autojump_clock: MockClock, world: World):
    async with raw_phone(world) as phone, world.dial() as agent:
        await connect(agent)
        started_at = trio.current_time()
        codes: dict[str, tuple[int | None, float]] = {}

        async def watch_phone() -> None:
            codes["phone"] = (await phone.close_code(), trio.current_time() - started_at)

        async def watch_agent() -> None:
            answer_type, _, _, goodbye = await hear(agent)
            assert answer_type is FrameType.DISCONNECT
            assert (goodbye["code"], goodbye["reconnect"]) == (1012, True)
            codes["agent"] = (await closing(agent), trio.current_time() - started_at)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_phone)
            nursery.start_soon(watch_agent)
            await world.gateway.hub.drain(8.0, 2.0)
        assert codes["phone"] == (1012, pytest.approx(0, abs=0.1))
        assert codes["agent"] == (1012, pytest.approx(4, abs=0.1))
        assert len(world.gateway.hub) == 0
        assert trio.current_time() - started_at < 8


async def test_plain_http_is_answered_beside_the_links(autojump_clock: MockClock, world: World):
    stream = world.connect()
    await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 OK\r\n")
    await stream.aclose()
    assert not world.metrics.refusals.values


async def test_every_message_and_byte_is_counted(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await connect(agent)
        for _ in range(3):
            await agent.send(BEAT)
            await hear(agent)
    messages = world.metrics.messages
    assert messages.value("in", "heartbeat") == 3
    assert messages.value("out", "heartbeat_ack") == 3
    assert world.metrics.bytes.value("in") == 3 * len(BEAT) + len(CONNECT)
    assert b'signal_gateway_messages_total{direction="in",type="heartbeat"} 3.0' in world.metrics.text()


@pytest.mark.parametrize(("delay_s", "status"), [(6, 200), (20, 503)])
async def test_a_slow_database_never_tells_a_client_to_stay_away(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch, delay_s: float, status: int
):
    read = world.database.read

    async def read_late(work: Any, **options: Any) -> Any:
        await trio.sleep(delay_s)
        return await read(work, **options)

    async with world.dial() as agent:
        monkeypatch.setattr(world.database, "read", read_late)
        await agent.send(CONNECT)
        answer_type, _, _, answer = await hear(agent)
        assert (answer_type, answer["status"]) == (FrameType.CONNECT_ACK, status)
        if status == 503:
            assert await closing(agent) == 1011
        else:
            await agent.send(BEAT)
            assert (await hear(agent))[0] is FrameType.HEARTBEAT_ACK


async def test_a_link_that_ended_is_out_of_memory_at_once(autojump_clock: MockClock, world: World):
    """Nothing collects cycles often: a fleet that comes and goes must not fill the memory."""
    gc.collect()
    gc.disable()
    try:
        ended: list[weakref.ref[Any]] = []
        for _ in range(3):
            async with world.dial("/ws", phone_headers()) as phone, world.dial() as agent:
                await hear(phone)
                await phone.send(report("r"))
                await hear(phone)
                await connect(agent)
                await agent.send(BEAT)
                await hear(agent)
                ended += [weakref.ref(world.gateway.hub.link_of(name)) for name in ("phone-1", "test_client_1")]
            await trio.sleep(5)
        assert [link() for link in ended] == [None] * 6
    finally:
        gc.enable()


async def test_what_was_called_in_for_a_fragment_is_out_of_memory_with_its_link(autojump_clock: MockClock, world: World):
    gc.collect()
    gc.disable()
    try:
        async with raw_phone(world) as phone:
            await phone.stream.send_all(client_frame(1, b"{", fin=False))
            await trio.sleep(1)
            link: Any = world.gateway.hub.link_of("raw-phone")
            library = weakref.ref(link._connection._library)
            assert library() is not None
            del link
        await trio.sleep(5)
        assert library() is None
    finally:
        gc.enable()


async def test_a_link_that_says_nothing_of_that_kind_has_no_library(autojump_clock: MockClock, world: World):
    """It is the largest part of a link, and the dearest of a connect."""
    async with raw_phone(world) as phone:
        await phone.stream.send_all(ping(b"a") + client_frame(1, report("r").encode()))
        await trio.sleep(1)
        link: Any = world.gateway.hub.link_of("raw-phone")
        await phone.stream.send_all(close(1000))
        assert await phone.close_code() == 1000
        assert link._connection._library is None


async def test_a_stranger_who_is_evicted_leaves_nothing_behind(autojump_clock: MockClock, world: World):
    link = RawLink(world.connect())
    await link.open(HEAD + b"\r\n")
    await link.stream.send_all(binary(b"rubbish"))
    assert isinstance(await link.event(), BytesMessage)
    (ticket,) = world.gateway.door.admission._waiting
    ticket.on_evicted()
    await trio.sleep(1)
    assert len(world.gateway.hub) == 0
    assert len(world.gateway.door.admission._waiting) == 0
    assert not world.gateway.lane
    await link.stream.aclose()


async def test_while_it_drains_a_newcomer_is_asked_to_come_back(autojump_clock: MockClock, world: World):
    async with raw_phone(world), raw_phone_named(world, "second"), trio.open_nursery() as nursery:
        nursery.start_soon(world.gateway.hub.drain, 8.0, 2.0)
        await trio.sleep(1)
        stream = world.connect()
        await stream.send_all(PHONE_HEAD.replace(b"raw-phone", b"third"))
        answer = bytes(await stream.receive_some())
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: " in answer
        await stream.aclose()


async def test_without_its_database_a_phone_is_asked_to_come_back(autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch):
    async def down(work: Any, **options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise DatabaseDown

    monkeypatch.setattr(world.database, "read", down)
    stream = world.connect()
    await stream.send_all(PHONE_HEAD)
    answer = bytes(await stream.receive_some())
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in answer
    await stream.aclose()
