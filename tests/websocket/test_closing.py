"""How the gateway closes a link of its own accord, seen from a client that takes its time to answer."""

import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.testing.faults import FaultPlan
from signal_gateway.testing.world import World, open_world
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.test_links import PHONE_HEAD, raw_phone


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
