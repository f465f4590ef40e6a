"""What happens to one link ends no other, and never the server: whatever loops over links holds each fault by itself."""

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.observe.metrics import Metrics
from signal_gateway.testing.world import World
from signal_gateway.websocket.link import Link
from signal_gateway.websocket.turn import Turn
from tests.websocket.client_frames import text
from tests.websocket.test_links import HEAD, RawLink, raw_phone, report

PASSES = 8
"""Of the event loop, from the cancellation of a link to its end: more than it takes."""


@pytest.mark.parametrize("passes", range(PASSES))
async def test_a_link_may_be_looked_at_in_whatever_instant_it_loses_its_place(autojump_clock: MockClock, world: World, passes: int):
    """A newcomer takes the place of a stranger (H07). The stranger's nursery is closed a moment before the hub hears of the end."""
    stranger = RawLink(world.connect())
    await stranger.open(HEAD + b"\r\n")
    (link,) = world.gateway.hub._links
    (ticket,) = world.gateway.door.admission._waiting
    ticket.on_evicted()
    for _ in range(passes):
        await trio.lowlevel.cancel_shielded_checkpoint()
    link.look_after(trio.current_time() + world.config.auth.deadline_s + 1)  # as the hub does, when its time to authenticate is over
    link.close_soon(1012, "the server restarts")  # and as a drain does
    await trio.sleep(1)
    assert len(world.gateway.hub) == 0
    assert not any(world.metrics.errors.values.values())
    await trio.aclose_forcefully(stranger.stream)


async def test_a_link_that_cannot_be_looked_after_keeps_nobody_else_from_it(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
):
    looked: list[Link] = []
    look_after = Link.look_after

    def broken(link: Link, now: float) -> float:
        if not looked:
            looked.append(link)
            raise RuntimeError
        return look_after(link, now)

    async with raw_phone(world) as phone:
        stranger = RawLink(world.connect())
        await stranger.open(HEAD + b"\r\n")
        monkeypatch.setattr(Link, "look_after", broken)
        await trio.sleep(10)
        assert await stranger.close_code() == 4501  # not authenticated in time
        await phone.stream.send_all(text(report("here")))
        assert (await phone.said())["request_id"] == "here"
        await trio.aclose_forcefully(stranger.stream)
    assert looked
    assert world.metrics.errors.value("hub") == 1


def test_an_outbox_that_fails_at_the_end_of_a_turn_keeps_no_other_from_being_written():
    class Outbox:
        def __init__(self, fails: bool) -> None:
            self.fails, self.flushed = fails, 0

        def flush(self) -> None:
            self.flushed += 1
            if self.fails:
                raise RuntimeError

    metrics = Metrics()
    turn, outboxes = Turn(lambda: True, metrics), [Outbox(fails) for fails in (False, True, False)]
    for _ in range(2):
        turn.begin(1.0)
        for outbox in outboxes:
            turn.mark(outbox)
        turn.end()
    assert [outbox.flushed for outbox in outboxes] == [2, 2, 2]
    assert metrics.errors.value("outbox") == 2
    assert not turn.is_on
