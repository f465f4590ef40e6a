"""Find and alarms for every phone of a group: whom they reach, all or none, once, and no more than may be."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from sqlalchemy import Connection, insert
from trio.testing import MockClock

from signal_gateway.domain.access import Operator, Role, Scope
from signal_gateway.domain.command import CommandKind, CommandRequest, FanOut, Target
from signal_gateway.domain.errors import GatewayError, InvalidCommand
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.storage.inline import InlineDatabase
from signal_gateway.storage.tables import devices
from signal_gateway.testing.world import World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import BOSS, NUMBER, patient, report, state, told


def for_group(kind: CommandKind = CommandKind.FIND_DEVICE, group: str = "shop", **asked: Any) -> CommandRequest:
    data = {"alarm_type": "offline"} if kind is CommandKind.ALARM_START else {}
    return CommandRequest(kind=kind, target=Target(device_group=group), data=data, **asked)


def add_devices(connection: Connection, ids: dict[str, str], group: str) -> None:
    """Devices that came once, by id and kind."""
    row = {"device_group": group, "settings_version": 1, "created_at": 0, "updated_at": 0}
    connection.execute(insert(devices), [{"device_id": device_id, "kind": kind, **row} for device_id, kind in ids.items()])


async def in_group(world: World, *device_ids: str, group: str = "shop", kind: str = "phone") -> None:
    await world.database.write(lambda connection: add_devices(connection, dict.fromkeys(device_ids, kind), group))


async def outcomes(world: World, *requests: CommandRequest, operator: Operator = BOSS) -> list[Any]:
    """Of each request the devices that were told, or why none."""
    results = await world.gateway.commands.submit_many(requests, operator)
    return [[each.device_id for each in one.commands] if isinstance(one, FanOut) else getattr(one, "reason", one) for one in results]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world(patient(commands=CommandsSettings(fan_out_max=5))) as world:
        await in_group(world, "shop-1", "shop-2", "shop-3")
        await in_group(world, "agent-1", kind="agent")
        await in_group(world, "bar-1", group="bar")
        yield world


@pytest.mark.parametrize("kind", [CommandKind.FIND_DEVICE, CommandKind.ALARM_START, CommandKind.ALARM_STOP])
async def test_every_phone_of_the_group_has_a_command_of_its_own(autojump_clock: MockClock, world: World, kind: CommandKind):
    (result,) = await world.gateway.commands.submit_many([for_group(kind)], BOSS)
    assert isinstance(result, FanOut)
    assert [command.device_id for command in result.commands] == ["shop-1", "shop-2", "shop-3"]  # no agent, and not the bar
    assert len({command.message_id for command in result.commands}) == 3
    assert {(command.device_group, command.any_device, command.created_by) for command in result.commands} == {("shop", False, "boss")}
    assert {command.fan_out_id for command in result.commands} == {result.commands[0].message_id}
    assert {command.message_id for command in await world.gateway.commands.search(BOSS)} == {each.message_id for each in result.commands}
    assert f'commands_accepted_total{{kind="{kind.value}"}} 3.0' in world.metrics.text().decode()


async def test_each_goes_out_to_its_own_phone_and_ends_by_itself(autojump_clock: MockClock, world: World):
    one, two = (world.dial("/ws", phone_headers(f"live-{number}", device_group="live")) for number in (1, 2))
    async with one as first, two as second:
        await hear(first)
        await hear(second)
        (result,) = await world.gateway.commands.submit_many([for_group(group="live")], BOSS)
        assert isinstance(result, FanOut)
        heard = [await told(phone) for phone in (first, second)]
        assert [command and command["type"] for command in heard] == ["find_device"] * 2
        await report(first, "find_device_success", status="success")
        await trio.sleep(1)
        assert [await state(world, each.message_id) for each in result.commands] == ["delivered", "dispatched"]


async def test_the_same_request_is_the_same_commands_also_when_the_group_has_changed(autojump_clock: MockClock, world: World):
    asked = for_group(message_id="drill"), for_group(CommandKind.ALARM_STOP, idempotency_key="k")
    first = [(await world.gateway.commands.submit_many([request], BOSS))[0] for request in asked]
    await in_group(world, "shop-4", "shop-5", "shop-6")  # more than one call may reach by now
    await world.gateway.devices.delete("shop-1", BOSS)
    for request, before in zip(asked, first, strict=True):
        (again,) = await world.gateway.commands.submit_many([request], BOSS)
        assert isinstance(before, FanOut)
        assert isinstance(again, FanOut)
        assert [(each.message_id, each.device_id) for each in again.commands] == [
            (each.message_id, each.device_id) for each in before.commands
        ]
    assert len(await world.gateway.commands.search(BOSS)) == 6


async def test_the_same_request_twice_at_once_is_one(autojump_clock: MockClock, world: World):
    first, second = await world.gateway.commands.submit_many([for_group(group="bar", idempotency_key="k")] * 2, BOSS)
    assert isinstance(first, FanOut)
    assert isinstance(second, FanOut)
    assert first.commands[0].message_id == second.commands[0].message_id
    assert len(await world.gateway.commands.search(BOSS)) == 1


async def test_an_id_or_key_that_stands_for_something_else_is_refused(autojump_clock: MockClock, world: World):
    sms = CommandRequest(
        kind=CommandKind.SEND_SMS, target=Target(device_id="bar-1"), data={"phone_number": NUMBER, "message": "x"}, message_id="sms"
    )
    assert await outcomes(world, for_group(group="bar", message_id="drill"), for_group(group="bar", idempotency_key="k")) == [["bar-1"]] * 2
    await world.gateway.commands.submit(sms, BOSS)
    again = [
        for_group(CommandKind.ALARM_STOP, "bar", message_id="drill"),
        for_group(CommandKind.ALARM_STOP, "bar", idempotency_key="k"),
        for_group(group="bar", message_id="sms"),
        CommandRequest(kind=CommandKind.FIND_DEVICE, target=Target(device_id="bar-1"), data={}, message_id="drill"),
    ]
    reasons = await outcomes(world, *again)
    assert reasons == ["message_id_taken", "idempotency_key_reused", "message_id_taken", "message_id_taken"]
    assert len(await world.gateway.commands.search(BOSS)) == 3


async def test_a_call_reaches_so_many_phones_and_no_more(autojump_clock: MockClock, world: World):
    assert await outcomes(world, for_group(), for_group(group="bar"), for_group(), for_group(group="bar")) == [
        ["shop-1", "shop-2", "shop-3"],
        ["bar-1"],
        "fan_out_too_large",
        ["bar-1"],
    ]
    assert 'limits_reached_total{limit="commands.fan_out_max"} 1.0' in world.metrics.text().decode()
    assert len(await world.gateway.commands.search(BOSS)) == 5  # of what was too much, nothing


async def test_of_a_group_only_what_is_in_the_operators_scope_is_told(autojump_clock: MockClock, world: World):
    some = Operator("some", Role.OPERATOR, Scope(devices=frozenset({"shop-2", "bar-1"})))
    shop = Operator("shop", Role.OPERATOR, Scope(groups=frozenset({"shop"})))
    assert await outcomes(world, for_group(), for_group(group="bar"), operator=some) == [["shop-2"], ["bar-1"]]
    assert await outcomes(world, for_group(), for_group(group="bar"), operator=shop) == [["shop-1", "shop-2", "shop-3"], "group_empty"]
    assert len(await world.gateway.commands.search(BOSS)) == 5  # nor is any other commanded
    await world.gateway.commands.submit_many([for_group(message_id="drill")], BOSS)
    assert await outcomes(world, for_group(message_id="drill"), operator=some) == [["shop-2"]]  # of another's, no more than he may know
    nobody = Operator("nobody", Role.OPERATOR, Scope(devices=frozenset({"bar-1"})))
    assert await outcomes(world, for_group(message_id="drill"), operator=nobody) == ["group_empty"]


async def test_a_group_without_phones_and_any_phone_at_all_are_refused(autojump_clock: MockClock, world: World):
    await in_group(world, "agent-2", kind="agent", group="agents")
    any_phone = CommandRequest(kind=CommandKind.FIND_DEVICE, target=Target(), data={})
    reply = CommandRequest(kind=CommandKind.USSD_REPLY, target=Target(device_group="shop"), data={"session_id": "s", "reply": "1"})
    requests = for_group(group="nowhere"), for_group(group="agents"), any_phone, reply
    results = await world.gateway.commands.submit_many(requests, BOSS)
    assert [each.reason for each in results if isinstance(each, GatewayError)] == ["group_empty"] * 2 + ["device_needed"] * 2
    with pytest.raises(InvalidCommand, match="one device, or each of a group"):
        await world.gateway.commands.submit(any_phone, BOSS)


async def test_all_are_on_disk_when_it_is_answered_and_none_when_the_queue_is_full(autojump_clock: MockClock):
    async with open_world(patient()) as world:
        await in_group(world, *(f"phone-{number}" for number in range(1000)))
        (result,) = await world.gateway.commands.submit_many([for_group(message_id="drill")], BOSS)
        assert isinstance(result, FanOut)
        assert len(result.commands) == 1000
        image = world.crash()
    config = patient(commands=CommandsSettings(open_max=1001))
    async with open_world(config, database=InlineDatabase(image=image)) as world:
        (again,) = await world.gateway.commands.submit_many([for_group(message_id="drill")], BOSS)
        assert isinstance(again, FanOut)
        assert [each.message_id for each in again.commands] == [each.message_id for each in result.commands]
        assert await outcomes(world, for_group()) == ["queue_full"]
        assert len(await world.gateway.commands.search(BOSS, limit=2000)) == 1000
