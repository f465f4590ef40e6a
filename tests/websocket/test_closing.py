"""How the gateway closes a link of its own accord, seen from a client that takes its time to answer."""

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.testing.world import World
from tests.websocket.test_links import raw_phone


@pytest.mark.xfail(reason="the socket is closed right behind our close frame, with the answer on its way", strict=True)
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
