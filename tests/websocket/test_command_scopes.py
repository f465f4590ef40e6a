"""Who sees whose commands: what is out of an operator's scope is not there (H05)."""

import msgspec
import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.access import Operator, Role, Scope
from signal_gateway.domain.command import CommandState as S
from signal_gateway.domain.command import Target
from signal_gateway.domain.errors import CommandNotFound, DeviceNotFound
from signal_gateway.testing.world import World
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import BOSS, enrol, log_of, sms, state, submit, told


async def test_scopes_hide_devices_and_their_commands(autojump_clock: MockClock, world: World):
    await enrol(world, "phone-1", "phone-2")
    narrow = Operator("narrow", Role.OPERATOR, Scope(devices=frozenset({"phone-2"})))
    message_id = await submit(world, sms())
    with pytest.raises(DeviceNotFound):
        await world.gateway.commands.submit(sms(), narrow)
    with pytest.raises(CommandNotFound):
        await world.gateway.commands.view(message_id, narrow)
    with pytest.raises(CommandNotFound):
        await world.gateway.commands.cancel(message_id, narrow)
    mine = await world.gateway.commands.submit(sms("phone-2"), narrow)
    assert [each.message_id for each in await world.gateway.commands.search(narrow)] == [mine.message_id]
    anyone = await world.gateway.commands.submit(sms(None), narrow)
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        command = await told(phone)
        assert command is not None
        assert command["message_id"] == message_id
        await log_of(phone, command)
        assert await told(phone, 30) is None  # it may not take what its operator may not give it
    assert await state(world, anyone.message_id) is S.QUEUED
    alike = Operator("colleague", Role.OPERATOR, narrow.scope)
    other = Operator("other", Role.OPERATOR, Scope(groups=frozenset({"shop"})))
    for operator, sees in ((narrow, True), (alike, True), (other, False)):
        assert (anyone.message_id in {each.message_id for each in await world.gateway.commands.search(operator)}) == sees
    with pytest.raises(CommandNotFound):
        await world.gateway.commands.view(anyone.message_id, other)
    assert (await world.gateway.commands.cancel(anyone.message_id, narrow)).state is S.CANCELLED


async def test_who_sees_a_command_sees_the_group_that_its_device_is_in(autojump_clock: MockClock, world: World):
    """One rule for a command by its id and for a list of them."""
    one, two = (Operator(group, Role.OPERATOR, Scope(groups=frozenset({group}))) for group in ("shop", "depot"))

    async def seen(operator: Operator, message_id: str) -> bool:
        listed = message_id in {each.message_id for each in await world.gateway.commands.search(operator)}
        try:
            await world.gateway.commands.view(message_id, operator)
        except CommandNotFound:
            assert not listed
            return False
        assert listed
        return True

    async with world.dial("/ws", phone_headers(device_group="shop")) as phone:
        await hear(phone)
    message_id = await submit(world, sms())
    waiting = await submit(world, msgspec.structs.replace(sms(), target=Target(device_group="shop")))
    assert [await seen(one, message_id), await seen(two, message_id)] == [True, False]
    async with world.dial("/ws", phone_headers(device_group="depot")) as phone:
        await hear(phone)
        await trio.sleep(1)
    assert [await seen(one, message_id), await seen(two, message_id)] == [False, True]
    await world.gateway.devices.delete("phone-1", BOSS)
    assert [await seen(one, message_id), await seen(two, message_id)] == [True, False]
    assert [await seen(one, waiting), await seen(two, waiting)] == [True, False]
