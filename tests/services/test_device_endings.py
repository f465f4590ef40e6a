"""With a device end its commands: whoever comes by its id later is another one, and is told nothing of what it left."""

from collections.abc import AsyncIterator

import msgspec
import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.command import Command, CommandKind, CommandState
from signal_gateway.domain.errors import DatabaseDown, DeviceNotFound
from signal_gateway.storage import commands as kept
from signal_gateway.storage import device_endings
from signal_gateway.testing.world import World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import BOSS, enrol, log_of, patient, request, sms, state, submit, told

S = CommandState


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world(patient()) as world:
        await enrol(world, "phone-1", "phone-2")
        yield world


async def command_of(world: World, message_id: str) -> Command:
    return (await world.gateway.commands.view(message_id, BOSS)).command


@pytest.mark.parametrize("page", [500, 2])
async def test_who_enrols_by_the_id_at_once_is_told_nothing_of_what_waited(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch, page: int
):
    monkeypatch.setattr(device_endings, "PAGE", page)
    waiting = [await submit(world, sms(message=f"{number}")) for number in range(4)]
    waiting.append(await submit(world, sms(not_before=world.wall_ms() + 60_000)))
    others = await submit(world, sms("phone-2"))
    await world.gateway.devices.delete("phone-1", BOSS)
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        ended = [await command_of(world, message_id) for message_id in waiting]
        assert {(each.state, each.error, each.deadline_at) for each in ended} == {(S.CANCELLED, "device_deleted", None)}
        assert await state(world, others) is S.QUEUED
        assert world.gateway.dispatcher.open.total == 1
        assert await told(phone, 100) is None
        own = await submit(world, sms(message="mine"))
        assert (await told(phone) or {})["message_id"] == own


async def test_what_is_on_its_way_is_unknown_and_not_repeated_and_a_late_word_of_it_counts(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        sent, find = await submit(world, sms()), await submit(world, request(CommandKind.FIND_DEVICE, message="where?"))
        command = await told(phone)
        await told(phone)
        await world.gateway.devices.delete("phone-1", BOSS)
        for message_id in (sent, find):
            known = await command_of(world, message_id)
            assert (known.state, known.error, known.deadline_at) == (S.UNKNOWN, "device_deleted", None)
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        assert await told(phone, 300) is None
        await log_of(phone, command, message_id=sent)
        await trio.sleep(1)
        assert await state(world, sent) is S.SENT


async def test_one_that_was_accepted_meanwhile_ends_and_one_for_whoever_came_since_does_not(autojump_clock: MockClock, world: World):
    first = await command_of(world, await submit(world, sms()))
    late = msgspec.structs.replace(first, id=first.id + 1, message_id="late")
    await world.gateway.devices.delete("phone-1", BOSS)
    await world.database.write(lambda connection: kept.keep(connection, [late]))
    await trio.sleep(0.2)
    await enrol_for_a_moment(world)
    own = await submit(world, sms())
    await trio.sleep(5)
    assert (await state(world, "late"), await state(world, own)) == (S.CANCELLED, S.QUEUED)


async def enrol_for_a_moment(world: World) -> None:
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)


async def test_what_any_phone_may_take_waits_for_another(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        message_id = await submit(world, sms(None, retry_safe=True))
        await told(phone)
        await world.gateway.devices.delete("phone-1", BOSS)
    async with world.dial("/ws", phone_headers("phone-2")) as other:
        await hear(other)
        assert (await told(other) or {})["message_id"] == message_id


async def test_nothing_ends_where_the_device_stays(autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch):
    message_id = await submit(world, sms())
    with pytest.raises(DeviceNotFound):
        await world.gateway.devices.delete("phone-9", BOSS)
    monkeypatch.setattr(world.writer, "post", lambda *_, **__: False)
    with pytest.raises(DatabaseDown):
        await world.gateway.devices.delete("phone-1", BOSS)
    assert await state(world, message_id) is S.QUEUED
