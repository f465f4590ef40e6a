"""Members who lose their seat while their link is lost, and are told so when they come back (CONTRACT.md §7, H35)."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.events import ClientUnregistered, DeviceDeleted, DeviceLinked, DeviceUnlinked
from signal_gateway.testing.world import World, open_world

from .members import Member, member
from .test_rooms import configured


@pytest.fixture
async def one_world() -> AsyncIterator[World]:
    async with open_world(configured()) as world:
        yield world


@pytest.fixture
async def a(one_world: World) -> AsyncIterator[Member]:
    async with member(one_world, "a") as a:
        yield a


def end_the_room(world: World, room_id: str) -> None:
    room = world.gateway.rooms.find(room_id)
    assert room is not None
    world.gateway.rooms.end(room, "boss")


def take_out(world: World, room_id: str, *, ban: bool) -> None:
    room = world.gateway.rooms.find(room_id)
    assert room is not None
    world.gateway.rooms.remove(room, "b", "boss", ban=ban)


PARTINGS = [
    (end_the_room, ("room_terminated", "", "operator")),
    (partial(take_out, ban=False), ("member_left", "b", "kicked")),
    (partial(take_out, ban=True), ("member_left", "b", "banned")),
]


@pytest.mark.parametrize(("part", "told"), PARTINGS)
@pytest.mark.parametrize("is_closing", [False, True])
async def test_who_loses_a_seat_while_its_link_is_lost_is_told_when_it_comes_back(
    autojump_clock: MockClock, one_world: World, a: Member, part: Any, told: Any, is_closing: bool
):
    """Once, and by whichever link comes next within the grace; also where the lost link has not ended yet."""
    room_id = await a.create()
    async with member(one_world, "b") as b:
        await b.join(room_id)
        await a.hear()
        if is_closing:
            link = one_world.gateway.hub.link_of("b")
            assert link is not None
            link.close_soon(1011, "for the test")
            part(one_world, room_id)
    await trio.sleep(10)
    if not is_closing:
        part(one_world, room_id)
    await trio.sleep(5)
    async with member(one_world, "b") as b:
        name, event = await b.hear()
        assert (name, event["room_id"], (event["event"], event["client_id"], event["reason"])) == ("room_event", room_id, told)
        await b.hears_nothing()
    async with member(one_world, "b") as b:
        await b.hears_nothing()


async def test_who_comes_back_after_the_grace_or_is_another_guest_hears_nothing_of_the_end(autojump_clock: MockClock, one_world: World):
    rooms, guests = one_world.gateway.rooms, one_world.gateway.guests
    made, other = rooms.make("boss", None), rooms.make("boss", None)
    async with member(one_world, "guest-1", "text", guests.issue(made.room_id, 600)) as one, member(one_world, "b") as b:
        await one.join(made.room_id, "sender")
        await b.join(made.room_id)
        await one.hear()
    await trio.sleep(1)
    end_the_room(one_world, made.room_id)
    async with member(one_world, "guest-1", "text", guests.issue(other.room_id, 600)) as another:
        await another.hears_nothing()
    async with member(one_world, "guest-1", "text", guests.issue(made.room_id, 600)) as one:
        assert (await one.hear())[1]["event"] == "room_terminated"
    await trio.sleep(18.5)
    assert rooms._partings._of_client  # until the sweep, its time is over already
    async with member(one_world, "b") as b:
        await b.hears_nothing()
    assert not rooms._partings._of_client


async def test_so_many_who_lost_their_seats_are_remembered(autojump_clock: MockClock):
    async with open_world(configured(partings_kept=1)) as world:
        async with member(world, "a") as a, member(world, "b") as b:
            room_id = await a.create()
            await b.join(room_id)
        end_the_room(world, room_id)
        assert world.metrics.limits.values[("rooms.partings_kept",)] == 1
        async with member(world, "a") as a, member(world, "b") as b:
            await a.hears_nothing()
            assert (await b.hear())[1]["event"] == "room_terminated"


async def test_a_link_that_is_heard_again_after_a_silence_hears_what_it_missed(autojump_clock: MockClock, one_world: World, a: Member):
    publish = one_world.gateway.rooms._bus.publish
    async with member(one_world, "b") as b:
        room_id = await a.create()
        await b.join(room_id)
        await a.hear()
        view = one_world.gateway.presence.view("b")
        assert view is not None
        publish(DeviceUnlinked("b", "agent", view.generation, 0, "silent"))
        end_the_room(one_world, room_id)
        await b.hears_nothing()
        publish(DeviceLinked("b", "agent", view.generation, 0))
        assert (await b.hear())[1]["event"] == "room_terminated"


@pytest.mark.parametrize("event", [ClientUnregistered("b"), DeviceDeleted("b")])
async def test_what_was_to_be_told_to_a_client_goes_with_its_record(
    autojump_clock: MockClock, one_world: World, a: Member, event: ClientUnregistered | DeviceDeleted
):
    """Whoever comes by this id next may be another one."""
    room_id = await a.create()
    async with member(one_world, "b") as b:
        await b.join(room_id)
    await trio.sleep(1)
    end_the_room(one_world, room_id)
    one_world.bus.publish(event)
    async with member(one_world, "b") as b:
        await b.hears_nothing()


async def test_what_nobody_comes_back_for_is_forgotten(autojump_clock: MockClock, one_world: World, a: Member):
    room_id = await a.create()
    async with member(one_world, "b") as b:
        await b.join(room_id)
    await trio.sleep(1)
    end_the_room(one_world, room_id)
    assert one_world.gateway.rooms._partings._of_client.keys() == {"b"}
    await trio.sleep(22)
    assert not one_world.gateway.rooms._partings._of_client
