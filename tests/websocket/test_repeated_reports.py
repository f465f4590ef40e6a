"""What a device tells twice happened once; what only bears an id that was used before did happen (H19)."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.frame import FrameType
from protocol.payload import PayloadKind
from signal_gateway.config import Config
from signal_gateway.domain.access import Operator, Role
from signal_gateway.domain.alarm import Alarm
from signal_gateway.domain.command import CommandKind, CommandRequest, CommandState, Target
from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.services.reports import ReportsSettings
from signal_gateway.testing.client import Client
from signal_gateway.testing.world import World, open_world
from tests.storage.reports_filed import filed
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.talk import ask, ask_json, hear, phone_headers

BOSS = Operator("boss", Role.ADMIN)
NUMBER = "+905551234567"
SMS = {"phone_number": NUMBER, "message": "hi", "direction": "received"}
ALARM = {"alarm_type": "mms_blocked"}
S = CommandState


@pytest.fixture
def config() -> Config:
    return Config(auth=DEMO_AUTH, reports=ReportsSettings(repeats_known_s=60, repeats_known_max=3))


@pytest.fixture
async def world(config: Config) -> AsyncIterator[World]:
    async with open_world(config) as world:
        yield world


async def say(phone: Client, kind: str, data: Any, request_id: str = "1", **more: Any) -> None:
    """Report, and be told that it is kept."""
    said = {"type": kind, "request_id": request_id, "data": data, **more}
    assert await ask_json(phone, said) == {"type": "ack", "request_id": request_id}


async def alarms(world: World) -> list[Alarm]:
    return await world.gateway.alarms.find(BOSS)


async def count(world: World, kind: str) -> int:
    return len(await filed(world.database, kind))


async def submit(world: World, kind: CommandKind, **data: Any) -> str:
    asked = CommandRequest(kind=kind, target=Target(device_id="phone-1"), data=data)
    return (await world.gateway.commands.submit(asked, BOSS)).message_id


async def state(world: World, message_id: str) -> CommandState:
    return (await world.gateway.commands.view(message_id, BOSS)).command.state


async def test_results_are_heard_though_each_link_counts_its_ids_from_one(autojump_clock: MockClock, world: World):
    sent: list[str] = []
    for text in ("first", "second", "third"):
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            sent.append(await submit(world, CommandKind.SEND_SMS, phone_number=NUMBER, message=text))
            command = await hear(phone)
            await say(phone, "sms_log", {"phone_number": NUMBER, "message": text, "status": "sent"}, message_id=command["message_id"])
    assert [await state(world, message_id) for message_id in sent] == [S.SENT, S.SENT, S.SENT]
    assert await count(world, "sms_log") == 3


async def test_the_result_of_another_try_is_heard_under_the_id_of_the_one_before(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        message_id = await submit(world, CommandKind.SEND_USSD, ussd_code="*100#")
        await hear(phone)
        await say(phone, "ussd_response_failed", {"message_id": message_id, "failure_code": 7})  # another try may help
        assert await state(world, message_id) is S.QUEUED
        await trio.sleep(60)
        await hear(phone)
        await say(phone, "ussd_response", {"message_id": message_id, "response": "12,50 TL"})
        assert await state(world, message_id) is S.DELIVERED


async def test_what_is_told_again_is_acknowledged_and_neither_filed_nor_counted_again(autojump_clock: MockClock, world: World):
    for told_at in (1, 2, 3):  # on three links, each time in an envelope of that time
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            await say(phone, "sms_message", SMS, "sms", timestamp=told_at)
            await say(phone, "alarm", ALARM, "alarm", timestamp=told_at)
            assert await ask(phone, FrameType.REPORT, {"type": "mms_received", "data": {"sender": NUMBER}}, PayloadKind.CBOR) == (
                FrameType.REPORT_ACK,
                {"status": 200},
            )
    assert [await count(world, kind) for kind in ("sms_message", "alarm", "mms_received")] == [1, 1, 1]
    assert [alarm.occurrences for alarm in await alarms(world)] == [1]
    assert "signal_gateway_reports_repeated_total 6.0" in world.metrics.text().decode()


async def test_another_id_another_device_or_another_word_is_news(autojump_clock: MockClock, world: World):
    for device_id in ("phone-1", "phone-2"):
        async with world.dial("/ws", phone_headers(device_id)) as phone:
            await hear(phone)
            await say(phone, "alarm", ALARM, "1")
            await say(phone, "alarm", ALARM, "2")
            await say(phone, "alarm", {**ALARM, "message": "again"}, "1")
            await phone.send(json.dumps({"type": "alarm", "data": ALARM}))
            await phone.send(json.dumps({"type": "alarm", "data": ALARM}))
            await trio.sleep(1)
    assert [alarm.occurrences for alarm in await alarms(world)] == [5, 5]


async def test_a_report_is_known_for_a_while_and_as_one_of_so_many(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await say(phone, "alarm", ALARM)
        await trio.sleep(50)
        await say(phone, "alarm", ALARM)
        await trio.sleep(20)
        await say(phone, "alarm", ALARM)
        assert await count(world, "alarm") == 2
        for number in range(3):
            await say(phone, "sms_message", SMS, str(number))
        assert world.metrics.limits.value("reports.repeats_known_max") == 1
        await say(phone, "alarm", ALARM)
        assert await count(world, "alarm") == 3


async def test_a_condition_that_is_told_again_is_the_newest(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for status in ("maintenance", "online", "maintenance"):
            await say(phone, "device_status", {"status": status})
        await trio.sleep(1)
        assert await count(world, "device_status") == 3


async def test_while_the_first_is_not_on_disk_a_repetition_is_not_acknowledged(autojump_clock: MockClock, world: World):
    def fail(_commit: int) -> None:
        raise DatabaseDown

    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        said = json.dumps({"type": "sms_message", "request_id": "1", "data": SMS})
        before, world.database.before_commit = world.database.before_commit, fail
        await phone.send(said)
        await phone.send(said)
        with pytest.raises(trio.TooSlowError):
            await phone.receive(5)
        world.database.before_commit = before
        assert [await hear(phone), await hear(phone)] == [{"type": "ack", "request_id": "1"}] * 2
        assert await count(world, "sms_message") == 1
