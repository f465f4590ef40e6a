"""How much of the queues is read into memory: large pages while there is room, small ones when there is none."""

from collections.abc import Callable
from typing import Any

import trio
from trio.testing import MockClock

from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.services.lane_reader import PAGE, PAGE_WHEN_FULL
from signal_gateway.storage.lanes import LaneContents
from signal_gateway.testing.world import World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import enrol, log_of, patient, sms, submit, told


def lanes_read(world: World) -> list[LaneContents]:
    """What each read of a lane brings, from now on."""
    read: list[LaneContents] = []
    look_up = world.database.look_up

    async def noted(work: Callable[[Any], Any]) -> Any:
        found = await look_up(work)
        if isinstance(found, LaneContents):
            read.append(found)
        return found

    world.database.look_up = noted  # type: ignore[method-assign]
    return read


async def test_pages_are_small_where_memory_holds_as_much_as_it_may(autojump_clock: MockClock):
    async with open_world(patient(commands=CommandsSettings(in_memory_max=PAGE))) as world:
        await enrol(world, "phone-1", "phone-2")
        for device_id in ("phone-1", "phone-2"):
            for number in range(PAGE + 1):
                await submit(world, sms(device_id, f"text {number}", sim_slot=0))
        read = lanes_read(world)
        async with world.dial("/ws", phone_headers("phone-1")) as one:
            await hear(one)
            assert await told(one) is not None
            async with world.dial("/ws", phone_headers("phone-2")) as other:
                await hear(other)
                assert await told(other) is not None
        assert [len(contents.queued) for contents in read] == [PAGE, PAGE_WHEN_FULL]
        assert world.metrics.limits.value("commands.in_memory_max") >= 1


async def test_of_a_lane_in_memory_its_queue_alone_is_read(autojump_clock: MockClock):
    async with open_world(patient(commands=CommandsSettings(in_memory_max=PAGE))) as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await submit(world, sms(sim_slot=0))
        await log_of(phone, await told(phone))
        await trio.sleep(1)
        read = lanes_read(world)
        world.gateway.dispatcher._read("phone-1")
        await trio.sleep(1)
        assert [(contents.usages, contents.on_their_way) for contents in read] == [({}, [])]
        assert world.gateway.dispatcher.lanes["phone-1"].usages[0].day_used == 1
