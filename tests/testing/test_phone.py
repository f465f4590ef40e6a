"""A simulated phone on its link: what it repeats, and what becomes of commands between it and a real gateway."""

import json
from dataclasses import replace
from typing import Any

import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.domain.access import Operator, Role
from signal_gateway.domain.command import CommandKind, CommandRequest, CommandState, Target
from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.testing.behaviour import FLAWLESS, Behaviour
from signal_gateway.testing.handset import Effect
from signal_gateway.testing.history import EFFECT
from signal_gateway.testing.phone import REPEAT_S, SimulatedPhone
from signal_gateway.testing.world import World, open_world

CONFIG = Config(auth=AuthSettings(enrolment_keys=("demo:demo-enrolment-key",)))
BOSS = Operator("boss", Role.ADMIN)
NUMBER = "+905551234567"


async def linked(world: World, behaviour: Behaviour = FLAWLESS) -> SimulatedPhone:
    phone = world.phone(1, behaviour=behaviour)
    await world.links.start(phone.live)
    return phone


async def send_sms(world: World, phone: SimulatedPhone, **asked: Any) -> str:
    data = {"phone_number": NUMBER, "message": asked.pop("message", "hello")}
    target = Target(device_id=phone.device_id)
    request = CommandRequest(kind=CommandKind.SEND_SMS, target=target, data=data, sim_slot=0, **asked)
    return (await world.gateway.commands.submit(request, BOSS)).message_id


async def states(world: World, message_id: str) -> list[CommandState]:
    return [step.state for step in (await world.gateway.commands.view(message_id, BOSS)).timeline]


def said(world: World, phone: SimulatedPhone, kind: str) -> list[dict[str, Any]]:
    sent = [entry.about for entry in world.history.entries if (entry.who, entry.what) == (phone.device_id, "sent")]
    return [message for message in map(json.loads, sent) if message["type"] == kind]


async def test_a_command_is_obeyed_reported_and_its_effect_told_to_the_history(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        phone = await linked(world)
        message_id = await send_sms(world, phone, delivery_report=True)
        await trio.sleep(60)
        assert await states(world, message_id) == ["queued", "dispatched", "sent", "delivered"]
        assert [(sms.message_id, sms.text) for sms in phone.sent] == [(message_id, "hello")]
        (told,) = [entry for entry in world.history.entries if entry.what == EFFECT]
        assert isinstance(told.about, Effect)
        assert (told.who, told.link, told.about.message_id) == (phone.device_id, 0, message_id)
        numbers = phone.numbers
        assert (numbers.commands, numbers.effects) == ({"send_sms": 1}, {"send_sms": 1})
        assert numbers.results == {"sms_log sent": 1, "sms_delivery_report delivered": 1}
        assert not numbers.failures


async def test_a_report_that_is_not_acknowledged_is_said_again_under_the_same_id(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        phone = await linked(world, replace(FLAWLESS, send_s=(5, 5), delivery_chance=0))
        message_id = await send_sms(world, phone)

        def refuse(_number: int) -> None:
            raise DatabaseDown

        await trio.sleep(1)
        world.database.before_commit = refuse
        await trio.sleep(2.5 * REPEAT_S)
        world.database.before_commit = lambda _number: None
        await trio.sleep(2 * REPEAT_S)
        reports = said(world, phone, "sms_log")
        assert len(reports) > 1
        assert len({report["request_id"] for report in reports}) == 1
        assert (await states(world, message_id))[-1] == "sent"
        assert len(phone.sent) == 1


async def test_a_phone_that_restarts_before_it_reports_does_so_with_its_next_link(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        phone = await linked(world, replace(FLAWLESS, restart_chance=1, restart_s=(30, 30), delivery_chance=0))
        message_id = await send_sms(world, phone)
        await trio.sleep(29)
        assert phone.client is None
        assert (len(phone.sent), said(world, phone, "sms_log")) == (1, [])
        assert await states(world, message_id) == ["queued", "dispatched"]
        await trio.sleep(10)
        assert await states(world, message_id) == ["queued", "dispatched", "sent"]
        assert len(said(world, phone, "sms_log")) == 1


async def test_a_report_that_was_acknowledged_may_come_once_more_and_changes_nothing(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        phone = await linked(world, replace(FLAWLESS, repeat_chance=1, delivery_chance=0))
        message_id = await send_sms(world, phone)
        await trio.sleep(10)
        phone.hang_up()
        await trio.sleep(10)
        first, second = said(world, phone, "sms_log")
        assert first["request_id"] == second["request_id"]
        assert await states(world, message_id) == ["queued", "dispatched", "sent"]
        assert not phone.numbers.failures


async def test_a_phone_of_the_seed_says_each_result_once_and_without_an_id(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        phone = await linked(world, replace(FLAWLESS, keeps_reports=False, delivery_chance=0))
        message_id = await send_sms(world, phone)
        await trio.sleep(60)
        (report,) = said(world, phone, "sms_log")
        assert "request_id" not in report
        assert (await states(world, message_id))[-1] == "sent"


async def test_a_phone_may_acknowledge_a_command_before_it_obeys(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        phone = await linked(world, replace(FLAWLESS, acknowledges_commands=True, send_s=(5, 5), delivery_chance=0))
        message_id = await send_sms(world, phone)
        await trio.sleep(10)
        assert await states(world, message_id) == ["queued", "dispatched", "accepted", "sent"]
        assert [message["data"] for message in said(world, phone, "command_ack")] == [{"message_id": message_id, "status": 200}]


async def test_while_a_phone_sends_it_hears_on(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        phone = await linked(world, replace(FLAWLESS, send_s=(50, 50), delivery_chance=0))
        await send_sms(world, phone)
        await trio.sleep(1)
        ring = CommandRequest(kind=CommandKind.FIND_DEVICE, target=Target(device_id=phone.device_id), data={"message": "here"})
        await world.gateway.commands.submit(ring, BOSS)
        await trio.sleep(1)
        assert [rang.kind for rang in phone.rang] == ["find_device"]
        assert phone.sent == []


async def test_ids_of_reports_are_never_used_again_by_a_later_life_of_the_phone(autojump_clock: MockClock):
    async with open_world(CONFIG) as world:
        ids: list[str] = []
        for _ in range(2):
            phone = world.phone(1, behaviour=replace(FLAWLESS, delivery_chance=0))
            await world.links.start(phone.live)
            await send_sms(world, phone)
            await trio.sleep(10)
            ids += {report["request_id"] for report in said(world, phone, "sms_log")} - set(ids)
        assert len(ids) == 2
