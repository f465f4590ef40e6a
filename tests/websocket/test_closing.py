"""How a link is closed: by the gateway, seen from a client that takes its time to answer, and by clients in every way there is."""

from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.testing.faults import FaultPlan
from signal_gateway.testing.world import World, open_world
from signal_gateway.websocket.hub import LiveLink
from tests.websocket.client_frames import client_frame, close, ping
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.test_links import PHONE_HEAD, raw_phone, report


async def test_a_client_has_time_to_answer_our_close(autojump_clock: MockClock, world: World):
    """RFC 6455 §1.4: whoever closes a socket with bytes of its peer unread resets it, and the peer may lose what it had not read.

    Then a client that was replaced sees no 4500, comes back, and takes the place of the link that took its own.
    """
    async with raw_phone(world) as phone:
        link = world.gateway.hub.link_of("raw-phone")
        assert link is not None
        link.close_soon(4500, "replaced")
        assert await phone.close_code() == 4500
        with trio.move_on_after(world.config.link.close_s / 2) as waited:
            await phone.stream.receive_some()
    assert waited.cancelled_caught


async def test_a_client_that_reads_on_after_the_write_deadline_hears_no_frame_torn(autojump_clock: MockClock):
    """How much of a cancelled send_all went out nobody knows, so nothing may follow it. Trio's TLS streams refuse more; others do not."""
    async with open_world(Config(auth=DEMO_AUTH), faults=FaultPlan(buffer_bytes=64)) as world:
        stream = world.connect()
        await stream.send_all(PHONE_HEAD)
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive_some(64)
        await trio.sleep(world.config.outbox.write_deadline_s + 0.5)
        while data := await stream.receive_some():
            received += data
        await stream.aclose()
    frames = received.partition(b"\r\n\r\n")[2]
    assert frames[:2] == b"\x81\x7e"
    whole = frames[4 : 4 + int.from_bytes(frames[2:4], "big")]
    assert b'{"type"' not in whole[1:]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", None),
        (b"\x03\xe8", 1000),
        (b"\x03\xe9going away", 1001),
        (b"\x0f\xa0" + "privat: ä".encode(), 4000),
        (b"\x13\x87", 4999),
        (b"\x03", 1002),
        (b"\x03\xe7", 1002),
        (b"\x03\xed", 1002),
        (b"\x03\xee", 1002),
        (b"\x03\xf7", 1002),
        (b"\x07\xd0", 1002),
        (b"\x03\xe8\xff", 1007),
    ],
)
async def test_a_close_is_answered_with_its_own_code_or_with_what_is_wrong_with_it(
    autojump_clock: MockClock, world: World, payload: bytes, code: int | None
):
    """RFC 6455 §5.5.1, §7.4; the bytes themselves, for a library at the other end would judge them once more."""
    async with raw_phone(world) as phone:
        await phone.stream.send_all(client_frame(8, payload))
        said = b""
        while data := await phone.stream.receive_some():
            said += data
        assert said[0] == 0x88
        assert said[2:4] == (b"" if code is None else code.to_bytes(2, "big"))
    await trio.sleep(1)
    assert len(world.gateway.hub) == 0
    assert world.metrics.errors.value("connection") == world.metrics.errors.value("link") == 0


async def test_behind_a_close_nothing_is_heard(autojump_clock: MockClock, world: World):
    async with raw_phone(world) as phone:
        await phone.stream.send_all(close(1000) + client_frame(1, report("late").encode()) + ping(b"late"))
        assert await phone.close_code() == 1000
    await trio.sleep(1)
    assert world.metrics.messages.value("in", "heartbeat") == world.metrics.messages.value("in", "ping") == 0


async def test_in_the_middle_of_fragments_the_library_answers_a_close(autojump_clock: MockClock, world: World):
    async with raw_phone(world) as phone:
        await phone.stream.send_all(client_frame(1, b"{", fin=False) + close(4123))
        assert await phone.close_code() == 4123
    await trio.sleep(1)
    assert len(world.gateway.hub) == 0


async def test_who_sends_a_fragment_and_hangs_up_is_a_link_that_was_lost(autojump_clock: MockClock, world: World):
    """The library is still to be made when there is nobody left to hear."""
    async with raw_phone(world) as phone:
        await phone.stream.send_all(client_frame(1, b"{", fin=False))
    await trio.sleep(1)
    assert len(world.gateway.hub) == 0
    assert world.metrics.refusals.value("connection_lost") == world.metrics.errors.value("connection") == 0


@pytest.mark.parametrize("kind", ["unmasked", "large messages"])
async def test_who_talks_on_after_our_close_is_read_so_far_and_no_further(autojump_clock: MockClock, world: World, kind: str):
    """H09: a client that floods must not have us read as fast as it speaks, for nothing, until `close_s` is over."""
    said = {
        "unmasked": client_frame(2, bytes(60_000), mask=None),
        "large messages": client_frame(2, bytes(100_000)),
    }[kind]
    async with raw_phone(world) as phone:
        before = world.metrics.socket_bytes.value("in")
        closed_at = trio.current_time()
        link_of(world).close_soon(4500, "replaced")
        await flood(phone.stream, said)
        assert trio.current_time() - closed_at >= world.config.link.close_s
        most = world.config.link.close_bytes_max + world.config.server.read_buffer_size
        assert world.config.link.close_bytes_max < world.metrics.socket_bytes.value("in") - before <= most
        assert world.metrics.limits.value("link.close_bytes_max") == 1
    assert world.metrics.errors.value("connection") == world.metrics.errors.value("link") == 0


@pytest.mark.parametrize("kind", ["too big", "too many fragments"])
async def test_who_breaks_a_bound_after_our_close_is_waited_for_no_longer(autojump_clock: MockClock, world: World, kind: str):
    """What follows is no close that could be told from the rest."""
    huge = client_frame(2, b"")[:1] + bytes((0x80 | 127,)) + (2**40).to_bytes(8, "big")
    said = huge + bytes(1000) if kind == "too big" else client_frame(2, b"x", fin=False) + client_frame(0, b"x", fin=False) * 70
    async with raw_phone(world) as phone:
        closed_at = trio.current_time()
        link_of(world).close_soon(4500, "replaced")
        await phone.stream.send_all(said)
        assert await phone.close_code() == 4500
        await trio.testing.wait_all_tasks_blocked()
        assert len(world.gateway.hub) == 0
        assert trio.current_time() - closed_at < world.config.link.close_s / 2
    assert world.metrics.refusals.value("connection_lost") == 0
    assert world.metrics.limits.value("server.max_message_size" if kind == "too big" else "link.fragments_max") == 1


async def test_who_was_in_the_middle_of_much_when_we_closed_still_answers(autojump_clock: MockClock, world: World):
    under_way = client_frame(2, bytes(100_000)) * 2
    async with raw_phone(world) as phone:
        closed_at = trio.current_time()
        link_of(world).close_soon(4500, "replaced")
        await phone.stream.send_all(under_way + close(4500))
        assert await phone.close_code() == 4500
        assert await phone.stream.receive_some() == b""
        assert trio.current_time() - closed_at < world.config.link.close_s / 2


async def flood(stream: trio.abc.Stream, said: bytes) -> None:
    """Say it over and over, until nobody takes it any more."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            await stream.send_all(said)


def link_of(world: World) -> LiveLink:
    link = world.gateway.hub.link_of("raw-phone")
    assert link is not None
    return link
