"""Too large, too many pieces, too slow, too many frames: each bound at its last value and one over it, and what an abuser costs (H09)."""

import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock
from wsproto.events import Pong

from protocol.phone_reports import PhoneReport
from signal_gateway.config import Config
from signal_gateway.testing.world import World
from signal_gateway.websocket.ears import Ears
from signal_gateway.websocket.link import Link
from signal_gateway.websocket.server_settings import ServerSettings
from signal_gateway.websocket.tls import RECORD_BYTES_MAX
from tests.hazards.upgrades import PHONE, head
from tests.websocket.client_frames import client_frame, ping, pong, text
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.test_links import RawLink

MESSAGE_BYTES_MAX = 100_000
FRAGMENTS_MAX = 64
FRAMES_PER_S, FRAMES_BURST = 200, 400
READ_BYTES = 8192
OUTBOX_BYTES = 262_144


@pytest.fixture
def config() -> Config:
    """A message may have 100,000 bytes, to have less to write; all else as it is shipped."""
    return Config(auth=DEMO_AUTH, server=ServerSettings(max_message_size=MESSAGE_BYTES_MAX))


@asynccontextmanager
async def phone(world: World) -> AsyncGenerator[RawLink]:
    raw = RawLink(world.connect())
    await raw.open(head(*PHONE, host=b"localhost"))
    assert (await raw.said())["type"] == "connection_established"
    try:
        yield raw
    finally:
        await trio.aclose_forcefully(raw.stream)


def link_of(world: World) -> Link:
    link = world.gateway.hub.link_of("raw-phone")
    assert isinstance(link, Link)
    return link


def beat(request_id: str, size: int | None = None) -> bytes:
    """A heartbeat that wants to be acknowledged, of exactly `size` bytes."""
    bare = json.dumps({"type": "heartbeat", "request_id": request_id, "data": {"pad": ""}}).encode()
    return bare if size is None else bare.replace(b'""', b'"' + b"x" * (size - len(bare)) + b'"')


def in_fragments(payload: bytes, count: int, between: bytes = b"") -> bytes:
    """`payload` in `count` frames; those that find no byte left are empty."""
    size = -(-len(payload) // count)
    pieces = [payload[place * size : (place + 1) * size] for place in range(count)]
    frames = [client_frame(1 if not place else 0, piece, fin=place == count - 1) for place, piece in enumerate(pieces)]
    return between.join(frames)


@pytest.mark.parametrize("count", [1, 2, 7, FRAGMENTS_MAX])
async def test_a_message_of_the_greatest_size_is_heard_and_one_byte_more_ends_the_link(autojump_clock: MockClock, world: World, count: int):
    async with phone(world) as raw:
        await raw.stream.send_all(in_fragments(beat("most", MESSAGE_BYTES_MAX), count))
        assert (await raw.said())["request_id"] == "most"
        await raw.stream.send_all(in_fragments(beat("over", MESSAGE_BYTES_MAX + 1), count))
        assert await raw.close_code() == 1009
    assert world.metrics.limits.value("server.max_message_size") == 1
    assert world.metrics.messages.value("in", "heartbeat") == 1


@pytest.mark.parametrize("size", [MESSAGE_BYTES_MAX + 1, 2**31, 2**62])
async def test_a_size_is_refused_by_its_header_before_any_of_it_comes(autojump_clock: MockClock, world: World, size: int):
    async with phone(world) as raw:
        await raw.stream.send_all(bytes((0x82, 0xFF)) + size.to_bytes(8, "big") + b"mask")
        assert await raw.close_code() == 1009


async def test_sixty_four_fragments_are_heard_and_sixty_five_end_the_link(autojump_clock: MockClock, world: World):
    async with phone(world) as raw:
        await raw.stream.send_all(in_fragments(beat("most"), FRAGMENTS_MAX, between=ping()))
        while isinstance(event := await raw.event(), Pong):
            pass
        assert json.loads(event.data)["request_id"] == "most"
        await raw.stream.send_all(in_fragments(beat("again"), FRAGMENTS_MAX))
        assert (await raw.said())["request_id"] == "again"
        await raw.stream.send_all(in_fragments(beat("over"), FRAGMENTS_MAX + 1))
        assert await raw.close_code() == 1009
    assert world.metrics.limits.value("link.fragments_max") == 1


SLOW = {
    "in one small frame": text(beat("slow").decode()),
    "in fragments": in_fragments(beat("slow"), 16),
    "in one large frame": text(beat("slow", 90_000).decode()),
}


@pytest.mark.parametrize("message", SLOW.values(), ids=SLOW.keys())
async def test_a_message_may_take_thirty_seconds_whatever_it_consists_of(autojump_clock: MockClock, world: World, message: bytes):
    """Pings between are no excuse, and each message has its own thirty seconds. Looked at once a second."""
    async with phone(world) as raw:
        for _ in range(2):
            await raw.stream.send_all(message[:10])
            await trio.sleep(29)
            await raw.stream.send_all(message[10:])
            while isinstance(event := await raw.event(), Pong) or not hasattr(event, "data"):
                pass
            assert json.loads(event.data)["request_id"] == "slow"
        await raw.stream.send_all(message[:10])
        begun_at = trio.current_time()
        assert await raw.close_code() == 4001
        assert 30 <= trio.current_time() - begun_at <= 32
    assert world.metrics.limits.value("link.message_seconds_max") == 1


async def test_pings_between_fragments_do_not_give_a_message_more_time(autojump_clock: MockClock, world: World):
    async with phone(world) as raw:
        begun_at = trio.current_time()
        await raw.stream.send_all(client_frame(1, b"{", fin=False))
        with suppress(trio.BrokenResourceError):
            for _ in range(60):
                await raw.stream.send_all(ping() + client_frame(0, b"", fin=False))
                await trio.sleep(1)
                if trio.current_time() - begun_at > 33:
                    break
        assert await raw.close_code() == 4001
    assert world.metrics.limits.value("link.message_seconds_max") == 1


FRAMES = 3000
FLOODS: dict[str, bytes] = {
    "pings": ping() * FRAMES,
    "pings with a payload": ping(b"x" * 125) * FRAMES,
    "pongs": pong() * FRAMES,
    "messages": text(beat("r").decode().replace(', "request_id": "r"', "")) * FRAMES,
    "empty fragments": (client_frame(1, b"{}", fin=False) + client_frame(0, fin=False) * 28 + client_frame(0)) * (FRAMES // 30),
    "fragments": (client_frame(1, b"{", fin=False) + client_frame(0, b"  ", fin=False) * 58 + client_frame(0, b"}")) * (FRAMES // 60),
    "fragments with pongs between": (client_frame(1, b"{}", fin=False) + (client_frame(0, fin=False) + pong()) * 29 + client_frame(0))
    * (FRAMES // 60),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
async def test_every_frame_counts_whatever_it_is(autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch, flood: bytes):
    """200 a second after 400 at once; one read, of 8 KiB, is heard as one, over TLS with the record that it completes.

    What the messages say is not looked at.
    """
    monkeypatch.setattr(Link, "_hear", lambda link, is_text, payload: None)
    bytes_of_one = READ_BYTES + (RECORD_BYTES_MAX if world._transport == "tls" else 0)
    in_one_read = bytes_of_one // (len(flood) // FRAMES) + 1
    async with phone(world) as raw, trio.open_nursery() as nursery:
        link = link_of(world)
        before = link.parser.frames

        async def read_on() -> None:
            while await raw.event() is not None:
                pass

        nursery.start_soon(read_on)
        nursery.start_soon(raw.stream.send_all, flood)
        second = 0
        for second in range(30):
            heard = link.parser.frames - before
            assert heard <= FRAMES_BURST + FRAMES_PER_S * (second + 1) + in_one_read
            if heard >= FRAMES:
                break
            await trio.sleep(1)
        assert link.parser.frames - before == FRAMES
        assert (FRAMES - FRAMES_BURST - in_one_read) / FRAMES_PER_S - 1 <= second <= (FRAMES - FRAMES_BURST) / FRAMES_PER_S + 2
        assert world.metrics.limits.value("limits.frames_per_s") >= 1
        nursery.cancel_scope.cancel()


# What an abuser costs in memory


def bytes_held(link: Any) -> int:
    """What this gateway and its library keep of one link's bytes, their objects counted in full."""
    ours = link._connection._library
    held: list[Any] = [link.parser._rest, link.stream._rest, *link.outbox._chunks, *link.outbox._batch]
    if ours is None or (library := ours._websocket) is None:
        return sum(sys.getsizeof(each) for each in held)
    wsproto = library._wsproto._connection if hasattr(library._wsproto, "_connection") else library._wsproto.connection
    decoder = wsproto._proto._frame_decoder
    held += [ours._unread, *library._message_parts, decoder.buffer.buffer]
    return sum(sys.getsizeof(each) for each in held) + sys.getsizeof(library._message_parts)


async def most_held(world: World, raw: RawLink, abuse: Callable[[], Any], seconds: int = 40) -> int:
    """The most that is held while `abuse` goes on, looked at whenever the loop has nothing else to do."""
    link, most = link_of(world), 0
    async with trio.open_nursery() as nursery:

        async def go_on() -> None:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await abuse()

        nursery.start_soon(go_on)
        ends_at = trio.current_time() + seconds
        while trio.current_time() < ends_at and not link.is_fenced:
            most = max(most, bytes_held(link))
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    return most


async def test_who_floods_with_pings_and_reads_no_pong_holds_one_outbox_at_most(autojump_clock: MockClock, world: World):
    async with phone(world) as raw:
        link = link_of(world)

        async def abuse() -> None:
            while True:
                await raw.stream.send_all(ping(b"x" * 125) * 60)
                await trio.sleep(0.01)

        most = await most_held(world, raw, abuse, seconds=60)
        assert most <= OUTBOX_BYTES + 2 * READ_BYTES + 100_000
        assert link.is_fenced or world.metrics.limits.value("limits.frames_per_s") >= 1


async def test_who_sends_on_while_its_message_waits_is_not_read(autojump_clock: MockClock, world: World):
    async def wait(link: Link, message: object, question: object) -> None:
        await trio.sleep(9)

    async with phone(world) as raw:
        link_of(world)._ears = Ears({}, {PhoneReport: wait})
        message = text(beat("r", 60_000).decode())

        async def abuse() -> None:
            while True:
                await raw.stream.send_all(message)
                await trio.sleep(0.05)

        assert await most_held(world, raw, abuse, seconds=8) <= len(message) + 3 * READ_BYTES


@pytest.mark.parametrize("piece", [1, 100, 1000])
async def test_a_fragment_in_small_pieces_costs_little_more_than_its_bytes(autojump_clock: MockClock, world: World, piece: int):
    """The library keeps each piece as it comes, and a piece has an object around it."""
    message = client_frame(1, beat("slow", 3000), fin=False)
    async with phone(world) as raw:

        async def abuse() -> None:
            for place in range(0, len(message), piece):
                await raw.stream.send_all(message[place : place + piece])
                await trio.testing.wait_all_tasks_blocked()

        assert await most_held(world, raw, abuse, seconds=20) <= 2 * len(message) + 2 * READ_BYTES
