"""What changes while a lane is being read must not be lost with the older picture that the read brings."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.command import CommandKind, CommandRequest, CommandState, Target
from signal_gateway.domain.events import SettingsChanged
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.services.backlog_pace import SLOWEST_S
from signal_gateway.storage import sims
from signal_gateway.testing.client import Client
from signal_gateway.testing.world import World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import NUMBER, enrol, log_of, patient, sms, state, submit, told

SLOW_S = 1.0


def slow_look_ups(world: World) -> None:
    """Every look-up sees the database as it is when it is asked, and answers a second later."""
    look_up = world.database.look_up

    async def later(work: Callable[[Any], Any]) -> Any:
        seen = await look_up(work)
        await trio.sleep(SLOW_S)
        return seen

    world.database.look_up = later  # type: ignore[method-assign]


async def answer(phone: Client, count: int) -> None:
    for _ in range(count):
        await log_of(phone, await told(phone))


async def test_a_retry_that_is_due_later_is_not_lost_while_its_lane_is_read(autojump_clock: MockClock):
    async with open_world(patient()) as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        message_id = await submit(world, sms(sim_slot=0))
        command = await told(phone)
        slow_look_ups(world)
        world.bus.publish(SettingsChanged("phone-1", PhoneSettings(), 2))  # the lane is read again
        await log_of(phone, command, "failed")
        while (heard := await told(phone, 60)) is not None and heard["type"] == "connection_established":
            pass
        assert heard is not None
        assert heard["message_id"] == message_id


async def test_what_ends_while_its_lane_is_first_read_holds_no_sim_for_ever(autojump_clock: MockClock):
    """As after a crash: the phone comes back, its lane is read, and what it has still to tell of before arrives meanwhile."""
    async with open_world(patient(phones=PhoneSettings(sim1_guard_interval=0))) as world:
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            _first, second = await submit(world, sms(sim_slot=0)), await submit(world, sms(sim_slot=0))
            sent = await told(phone)
        slow_look_ups(world)
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            await log_of(phone, sent)
            heard = await told(phone, 30)
            assert heard is not None
            assert heard["message_id"] == second


async def test_what_is_for_any_phone_is_not_lost_while_the_pool_is_read(autojump_clock: MockClock):
    async with open_world(patient()) as world:
        data = {"phone_number": NUMBER, "message": "x"}
        waiting = CommandRequest(kind=CommandKind.SEND_SMS, target=Target(), data=data)
        later = CommandRequest(kind=CommandKind.SEND_SMS, target=Target(device_group="nobody's"), data=data)
        slow_look_ups(world)
        await submit(world, later)  # waits for ever, and must not stand in the way
        world.gateway.dispatcher._pool.has_more = True
        world.gateway.dispatcher._pool.queue.clear()
        world.gateway.dispatcher._wake("")
        await trio.sleep(SLOW_S / 2)
        ids = [await submit(world, waiting), await submit(world, scheduled(world, waiting))]
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            for _ in ids:
                await log_of(phone, await told(phone, 200))
            await trio.sleep(1)
        assert [await state(world, each) for each in ids] == [CommandState.SENT, CommandState.SENT]


def scheduled(world: World, request: CommandRequest) -> CommandRequest:
    from msgspec.structs import replace

    return replace(request, not_before=world.wall_ms() + 60_000)


async def test_a_dispatch_that_the_database_will_not_have_holds_no_sim_for_ever(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch):
    async with open_world(patient()) as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        keep, refusals = sims.keep, iter([True])

        def refuse_once(*arguments: Any) -> None:
            if next(refusals, False):
                raise ValueError("not today")
            keep(*arguments)

        monkeypatch.setattr(sims, "keep", refuse_once)
        await submit(world, sms(sim_slot=0))
        assert (await told(phone, 30) or {}).get("type") == "send_sms"
        assert world.metrics.errors.value("job") == 1


async def test_a_second_command_to_a_phone_reads_no_lane(autojump_clock: MockClock):
    async with open_world(patient(phones=PhoneSettings(sim1_guard_interval=0))) as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await submit(world, sms(sim_slot=0))
        await log_of(phone, await told(phone))
        await trio.sleep(2)
        looked: list[object] = []
        look_up = world.database.look_up

        async def count(work: Callable[[Any], Any]) -> Any:
            looked.append(work)
            return await look_up(work)

        world.database.look_up = count  # type: ignore[method-assign]
        await submit(world, sms(sim_slot=0))
        assert json.dumps(await told(phone))
        assert looked == []


async def test_what_waited_gives_way_to_a_busy_process_and_a_new_command_does_not(autojump_clock: MockClock):
    """Ten wait for each of two phones, with no pause between them: while others use up the core, both together get one each 10 ms."""
    async with open_world(patient(phones=PhoneSettings(sim1_guard_interval=0))) as world:
        pace = world.gateway.dispatcher.pace
        pace.cpu_s = lambda: 10 * trio.current_time()  # others use ten cores
        await enrol(world, "phone-1", "phone-2", "phone-3")
        waiting = [await submit(world, sms(f"phone-{number}", f"text {place}", sim_slot=0)) for number in (1, 2) for place in range(10)]
        async with (
            world.dial("/ws", phone_headers("phone-1")) as one,
            world.dial("/ws", phone_headers("phone-2")) as other,
            world.dial("/ws", phone_headers("phone-3")) as free,
        ):
            for phone in (one, other, free):
                await hear(phone)
            begun_at = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer, one, 10)
                nursery.start_soon(answer, other, 10)
            took_s = trio.current_time() - begun_at
            assert 0.9 * len(waiting) * SLOWEST_S <= took_s < 3 * len(waiting) * SLOWEST_S
            pace.add("phone-1")
            asked_at = trio.current_time()
            await submit(world, sms("phone-3", sim_slot=0))
            await told(free)
            assert trio.current_time() - asked_at < SLOWEST_S / 2
