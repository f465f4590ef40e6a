"""What a sender says to all, and those who come later: they get it behind their answer, and nothing of it is lost in silence (C-07)."""

from typing import Any

from trio.testing import MockClock

from signal_gateway.testing.world import World, open_world

from .members import Member, member
from .test_rooms import OFFER, configured


def candidate(text: str) -> dict[str, Any]:
    return {"candidate": text, "sdpMid": "0", "sdpMLineIndex": 0}


async def trickle(sender: Member, room_id: str, *texts: str) -> None:
    for text in texts:
        await sender.say("signal_ice_candidate", room_id=room_id, candidate=candidate(text))


async def heard(one: Member, number: int) -> list[str]:
    """The next things that are said to it: candidates by their text, all else by its name."""
    told = [await one.hear() for _ in range(number)]
    return [said["candidate"]["candidate"] if name == "signal_ice_candidate" else name for name, said in told]


async def test_what_a_browser_gathers_alone_comes_behind_the_offer_that_it_makes_to_each_who_joins(autojump_clock: MockClock):
    """It has offered nothing to all: who comes gets the candidates with an offer of its own."""
    async with open_world(configured()) as world, member(world, "a", "text") as a, member(world, "b") as b:
        room_id = await a.create()
        await trickle(a, room_id, "1", "2")
        await a.hears_nothing()  # they are kept, so nobody is told that they are lost
        await b.join(room_id)
        await a.hear()
        await a.say("signal_offer", room_id=room_id, to="b", sdp=OFFER)
        await trickle(a, room_id, "3")
        assert await heard(b, 4) == ["signal_offer", "1", "2", "3"]
        async with member(world, "c") as c:
            await c.join(room_id)
            assert await heard(c, 3) == ["1", "2", "3"]  # nothing is offered to it, within five seconds


async def test_candidates_to_all_reach_all_who_are_there_however_many_are_kept_for_others(autojump_clock: MockClock):
    async with open_world(configured(signals_held_max=3)) as world, member(world, "a") as a, member(world, "b") as b:
        room_id = await a.create(offer_sdp=OFFER)
        await b.join(room_id)
        await b.hear()
        await a.hear()
        await trickle(a, room_id, *"12345")
        assert await heard(b, 5) == list("12345")
        await a.hears_nothing()
        assert world.metrics.limits.values[("rooms.signals_held_max",)] == 2
        async with member(world, "c") as c:
            await c.join(room_id)
            assert await heard(c, 4) == ["signal_offer", "3", "4", "5"]


async def test_a_sender_who_is_alone_is_told_of_candidates_that_nobody_would_ever_hear(autojump_clock: MockClock):
    async with open_world(configured(signals_held_max=2)) as world, member(world, "a") as a, member(world, "b") as b:
        room_id = await a.create(offer_sdp=OFFER)
        await trickle(a, room_id, *"123")
        name, error = await a.hear()
        assert (name, error["status"], error["reason"]) == ("error", 429, "too_many_signals")
        assert (error["message"], error.get("details")) == ("Too many signals wait for those who are still to come", None)
        await b.join(room_id)
        assert await heard(b, 3) == ["signal_offer", "1", "2"]


async def test_what_is_given_to_those_who_come_later_is_counted_for_each(autojump_clock: MockClock):
    async with open_world(configured()) as world, member(world, "a") as a, member(world, "b") as b, member(world, "c") as c:
        room_id = await a.create(offer_sdp=OFFER)
        await trickle(a, room_id, "1")
        await a.hears_nothing()
        assert counted(world) == []
        await b.join(room_id)
        await c.join(room_id)
        assert counted(world) == ['{kind="candidate",outcome="relayed"} 2.0', '{kind="offer",outcome="relayed"} 2.0']


async def test_what_waits_for_an_offer_to_one_who_comes_later_is_counted_as_held(autojump_clock: MockClock):
    async with open_world(configured()) as world, member(world, "a") as a, member(world, "b") as b:
        room_id = await a.create()
        await trickle(a, room_id, "1", "2")
        await a.hears_nothing()
        await b.join(room_id)
        assert counted(world) == ['{kind="candidate",outcome="held"} 2.0']


def counted(world: World) -> list[str]:
    lines = world.metrics.text().decode().splitlines()
    return sorted(line.removeprefix("signal_gateway_signals_total") for line in lines if line.startswith("signal_gateway_signals_total{"))
