"""Commands from their operator to a phone and back: what is sent, when, and what becomes of it (H19, H20)."""

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from protocol.frame import FrameType
from signal_gateway.config import Config
from signal_gateway.domain.access import Operator, Role
from signal_gateway.domain.command import CommandKind, CommandRequest, CommandState, Target, Wait
from signal_gateway.domain.errors import CommandNotFound, DeviceNotFound, IdTaken, InvalidCommand, KeyReused, QueueFull, TooLate
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.services.limits import LimitsSettings
from signal_gateway.services.presence import PresenceSettings
from signal_gateway.storage.inline import InlineDatabase
from signal_gateway.testing.client import Client
from signal_gateway.testing.world import WORLD_BEGINS_MS, World, open_world
from signal_gateway.websocket.link_settings import LinkSettings
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.talk import ask, ask_json, closing, connect, frame, hear, phone_headers

BOSS = Operator("boss", Role.ADMIN)
NUMBER = "+905551234567"
S = CommandState


def patient(**settings: Any) -> Config:
    """A gateway whose phones may say nothing for hours."""
    link, presence = LinkSettings(silence_max_s=1e9, ping_after_s=1e9), PresenceSettings(offline_after_s=0)
    return Config(auth=DEMO_AUTH, link=link, presence=presence, **settings)


@pytest.fixture
def config() -> Config:
    return patient()


@pytest.fixture
async def world(config: Config) -> AsyncIterator[World]:
    async with open_world(config) as world:
        yield world


def sms(device_id: str | None = "phone-1", message: str = "hello", **asked: Any) -> CommandRequest:
    data = {"phone_number": NUMBER, "message": message}
    return CommandRequest(kind=CommandKind.SEND_SMS, target=Target(device_id=device_id), data=data, **asked)


def request(kind: CommandKind, device_id: str = "phone-1", **data: Any) -> CommandRequest:
    return CommandRequest(kind=kind, target=Target(device_id=device_id), data=data)


async def enrol(world: World, *device_ids: str) -> None:
    for device_id in device_ids:
        async with world.dial("/ws", phone_headers(device_id)) as phone:
            await hear(phone)
    await trio.sleep(1)


async def submit(world: World, asked: CommandRequest) -> str:
    return (await world.gateway.commands.submit(asked, BOSS)).message_id


async def state(world: World, message_id: str) -> CommandState:
    return (await world.gateway.commands.view(message_id, BOSS)).command.state


async def states(world: World, message_id: str) -> list[str]:
    return [step.state.value for step in (await world.gateway.commands.view(message_id, BOSS)).timeline]


async def waits(world: World, message_id: str) -> Wait | None:
    return (await world.gateway.commands.view(message_id, BOSS)).waits


async def told(phone: Client, within_s: float = 5) -> dict[str, Any] | None:
    """The next command; None when none comes within this time."""
    try:
        return json.loads(await phone.receive(within_s))
    except trio.TooSlowError:
        return None


async def report(phone: Client, kind: str, **data: Any) -> None:
    await phone.send(json.dumps({"type": kind, "data": data}))


async def log_of(phone: Client, command: dict[str, Any] | None, status: str = "sent", **more: Any) -> None:
    """The report of a phone of the seed: without an id (C-24)."""
    assert command is not None
    data = command["data"]
    said = {"sim_slot": data["sim_slot"], "phone_number": data["phone_number"], "message": data["message"], "status": status}
    await report(phone, "sms_log", **said, **more)


async def test_an_sms_is_told_as_the_seed_prints_it_and_its_life_can_be_read(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        message_id = await submit(world, sms(sim_slot=1, priority=50))
        command = await told(phone)
        assert command == {
            "type": "send_sms",
            "message_id": message_id,
            "data": {"sim_slot": 1, "phone_number": NUMBER, "message": "hello", "priority": "high"},
        }
        assert await states(world, message_id) == ["queued", "dispatched"]
        await log_of(phone, command)
        await trio.sleep(1)
        assert await states(world, message_id) == ["queued", "dispatched", "sent"]


async def test_a_report_that_found_no_room_is_news_when_it_comes_again(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        message_id = await submit(world, sms(sim_slot=0))
        command = await told(phone)
        assert command is not None
        said = {"type": "sms_log", "request_id": "r1", "data": {**command["data"], "status": "sent"}}
        monkeypatch.setattr(world.writer, "post", lambda *_arguments, **_options: False)  # as when it is full
        refused = await ask_json(phone, said)
        assert (refused["type"], refused["data"]["status"]) == ("error", 503), refused
        monkeypatch.undo()
        assert (await ask_json(phone, said))["type"] == "ack"
        assert await state(world, message_id) is S.SENT


async def test_every_kind_is_told_and_closed_by_its_own_report(autojump_clock: MockClock, world: World):
    cases: list[tuple[CommandRequest, dict[str, Any], tuple[str, dict[str, Any]], CommandState]] = [
        (
            request(CommandKind.SEND_USSD, ussd_code="*123#"),
            {"sim_slot": 0, "ussd_code": "*123#", "delay": 0},
            ("ussd_response", {"response": "Bakiyeniz 12,50 TL"}),
            S.DELIVERED,
        ),
        (
            request(CommandKind.SEND_RCS, phone_number=NUMBER, message="hi"),
            {"sim_slot": 0, "phone_number": NUMBER, "message": "hi", "message_type": "text"},
            ("rcs_log", {"phone_number": NUMBER, "status": "sent"}),
            S.SENT,
        ),
        (
            request(CommandKind.FIND_DEVICE, message="ring"),
            {"message": "ring"},
            ("find_device_success", {"status": "success"}),
            S.DELIVERED,
        ),
        (
            request(CommandKind.ALARM_START, alarm_type="battery_low", message="low"),
            {"alarm_type": "battery_low", "message": "low"},
            ("alarm_started", {"status": "started"}),
            S.DELIVERED,
        ),
        (request(CommandKind.ALARM_STOP), {}, ("alarm_stopped", {"status": "stopped"}), S.DELIVERED),
    ]
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for asked, data, (kind, said), end in cases:
            message_id = await submit(world, asked)
            command = await told(phone)
            assert command is not None
            assert (command["type"], command.get("data", {})) == (asked.kind.value, data)
            await report(phone, kind, **said)
            await trio.sleep(1)
            assert await state(world, message_id) is end
        ussd = await world.gateway.commands.search(BOSS, kind=CommandKind.SEND_USSD)
        assert ussd[0].result == {"response": "Bakiyeniz 12,50 TL", "is_menu": False, "balance": "12.50"}


async def test_while_the_phone_is_away_commands_wait_and_then_go_by_priority_and_in_order(autojump_clock: MockClock, world: World):
    await enrol(world, "phone-1")
    asked = [("a", 0), ("b", 0), ("c", 100), ("d", -50), ("e", 0)]
    ids = {text: await submit(world, sms(message=text, priority=priority, sim_slot=0)) for text, priority in asked}
    assert await waits(world, ids["a"]) == Wait("offline")
    heard: list[str] = []
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for _ in asked:
            command = await told(phone)
            assert command is not None
            assert await told(phone, 30) is None  # one at a time per SIM
            heard.append(command["data"]["message"])
            await log_of(phone, command)
    assert heard == ["c", "a", "b", "e", "d"]


async def test_both_sims_send_at_once_and_the_guard_interval_holds(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await report(phone, "heartbeat", sim_cards=[{"slot_index": 0}, {"slot_index": 1}])
        await trio.sleep(2)
        ids = [await submit(world, sms(message=str(number))) for number in range(3)]
        first, second = await told(phone), await told(phone)
        assert first is not None
        assert second is not None
        assert {first["data"]["sim_slot"], second["data"]["sim_slot"]} == {0, 1}
        began = trio.current_time()
        await log_of(phone, first)
        await trio.sleep(0.1)
        wait = await waits(world, ids[2])
        assert wait is not None
        assert wait.reason == "guard_interval"
        assert await told(phone) is not None
        assert trio.current_time() - began == pytest.approx(1, abs=0.05)


LIMITED = PhoneSettings(enable_sms_limits=True, sim1_daily_sms_limit=3, sms_limit_reset_hour=1)


@pytest.mark.parametrize("config", [patient(phones=LIMITED)], ids=[""])
async def test_a_daily_limit_holds_counts_segments_and_ends_with_the_day(autojump_clock: MockClock, world: World, config: Config):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await submit(world, sms(message="x" * 161, sim_slot=0))  # two parts
        two = await submit(world, sms(message="y" * 161, sim_slot=0))
        small = await submit(world, sms(message="z", sim_slot=0))
        command = await told(phone)
        assert command is not None
        await log_of(phone, command)
        assert await told(phone, 60) is None
        wait = await waits(world, two)
        assert wait is not None
        assert wait == Wait("daily_limit", WORLD_BEGINS_MS + 3_600_000)
        assert await waits(world, small) == wait  # it would fit, and must not overtake
        assert await told(phone, 3600) is not None


async def test_what_the_phone_reports_as_failed_is_tried_again_and_then_dead_and_may_be_requeued(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        message_id = await submit(world, sms(sim_slot=0))
        for _ in range(6):
            command = await told(phone, 4000)
            assert command is not None
            await log_of(phone, command, "failed")
        assert await told(phone, 4000) is None
        assert await state(world, message_id) is S.DEAD
        assert [each.message_id for each in await world.gateway.commands.search(BOSS, states=[S.DEAD])] == [message_id]
        await world.gateway.commands.requeue(message_id, BOSS)
        command = await told(phone, 4000)
        assert command is not None
        await log_of(phone, command)
        await trio.sleep(1)
        assert await state(world, message_id) is S.SENT


async def test_a_sim_that_fails_again_and_again_rests(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        ids = [await submit(world, sms(sim_slot=0)) for _ in range(3)]
        for _ in ids:
            await log_of(phone, await told(phone, 60), "failed", error_code=4)
        last = await submit(world, sms(sim_slot=0))
        await trio.sleep(10)
        wait = await waits(world, last)
        assert wait is not None
        assert wait.reason == "sim_parked"
        assert (await world.gateway.commands.view(ids[2], BOSS)).command.error == "send_failed"
        assert await told(phone, 300) is not None


async def test_an_sms_without_a_word_is_unknown_never_sent_again_and_a_late_report_resolves_it(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        message_id = await submit(world, sms(sim_slot=0))
        command = await told(phone)
        assert command is not None
        assert await told(phone, 3600) is None
        assert await state(world, message_id) is S.UNKNOWN
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        assert await told(phone, 60) is None
        await log_of(phone, command)
        await trio.sleep(1)
        assert await states(world, message_id) == ["queued", "dispatched", "unknown", "sent"]


async def test_a_find_device_goes_out_again_over_the_next_link(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        message_id = await submit(world, request(CommandKind.FIND_DEVICE, message="ring"))
        assert await told(phone) is not None
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        assert await told(phone) is not None
        await report(phone, "find_device_success", status="success")
        await trio.sleep(1)
        assert await state(world, message_id) is S.DELIVERED


async def test_delivery_reports_are_waited_for_where_they_were_asked_for(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        plain = await submit(world, sms(message="plain", sim_slot=0))
        wanted = await submit(world, sms(message="wanted", sim_slot=1, delivery_report=True))
        for _ in range(2):
            command = await told(phone)
            assert command is not None
            await log_of(phone, command)
        await trio.sleep(1)
        assert [await state(world, each) for each in (plain, wanted)] == [S.SENT, S.SENT]
        for _ in range(2):  # told twice, as networks do
            await report(phone, "sms_delivery_report", phone_number=NUMBER, message_id=wanted, status="delivered")
            await report(phone, "sms_delivery_report", phone_number=NUMBER, message_id=plain, status="delivered")
        await report(phone, "sms_delivery_report", phone_number=NUMBER, message_id="nobody's", status="delivered")
        await trio.sleep(1)
        assert [await state(world, each) for each in (plain, wanted)] == [S.SENT, S.DELIVERED]
        assert "signal_gateway_command_reports_late_total 3.0" in world.metrics.text().decode()
        assert "signal_gateway_command_reports_unmatched_total 1.0" in world.metrics.text().decode()


async def test_the_same_id_or_key_is_the_same_command(autojump_clock: MockClock, world: World):
    await enrol(world, "phone-1")
    commands = world.gateway.commands
    first = await commands.submit(sms(message_id="mine"), BOSS)
    assert (await commands.submit(sms(message_id="mine"), BOSS)).id == first.id
    with pytest.raises(IdTaken):
        await commands.submit(sms(message="other", message_id="mine"), BOSS)
    keyed = await commands.submit(sms(idempotency_key="k"), BOSS)
    assert (await commands.submit(sms(idempotency_key="k"), BOSS)).message_id == keyed.message_id
    with pytest.raises(KeyReused):
        await commands.submit(sms(message="other", idempotency_key="k"), BOSS)
    other = await commands.submit(sms(idempotency_key="k"), Operator("another", Role.OPERATOR))
    assert other.message_id != keyed.message_id
    assert len(await commands.search(BOSS)) == 3


async def test_a_hundred_uses_of_one_key_at_once_make_one_command(autojump_clock: MockClock, world: World):
    await enrol(world, "phone-1")
    results = await world.gateway.commands.submit_many([sms(idempotency_key="k")] * 100, BOSS)
    assert len({getattr(each, "message_id", each) for each in results}) == 1
    assert len(await world.gateway.commands.search(BOSS)) == 1


async def test_what_waits_is_cancelled_and_what_was_sent_is_not(autojump_clock: MockClock, world: World):
    await enrol(world, "phone-1")
    waiting = await submit(world, sms())
    await world.gateway.commands.cancel(waiting, BOSS)
    assert await state(world, waiting) is S.CANCELLED
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        assert await told(phone, 60) is None
        message_id = await submit(world, sms())
        assert await told(phone) is not None
        with pytest.raises(TooLate):
            await world.gateway.commands.cancel(message_id, BOSS)
    with pytest.raises(CommandNotFound):
        await world.gateway.commands.cancel("nothing", BOSS)


async def test_time_runs_out_and_time_comes(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        later = await submit(world, sms(not_before=world.wall_ms() + 100_000))
        assert (await waits(world, later)) == Wait("not_before", world.wall_ms() + 100_000)
        assert await told(phone, 99) is None
        assert await told(phone, 2) is not None
    short = await submit(world, sms(ttl_s=10))
    await trio.sleep(12)
    assert await state(world, short) is S.EXPIRED
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        assert await told(phone, 60) is None


async def test_a_newer_link_takes_over_and_nothing_is_sent_twice(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as old, world.dial("/ws", phone_headers()) as new:
        await hear(new)
        message_id = await submit(world, sms(sim_slot=0))
        command = await told(new)
        assert command is not None
        assert command["message_id"] == message_id
        assert await closing(old) == 4500
        assert await told(new, 60) is None


async def test_a_restart_loses_nothing_and_repeats_no_sms(autojump_clock: MockClock, config: Config):
    database = InlineDatabase()
    async with open_world(config, database=database) as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        sent = await submit(world, sms(message="on its way", sim_slot=0))
        assert await told(phone) is not None
        queued = await submit(world, sms(message="waits", sim_slot=0))
    async with open_world(config, seed=1, database=database) as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        assert await told(phone, 60) is None  # its SIM is taken by the first, of which a word may still come
        assert await waits(world, queued) == Wait("busy")
        command = await told(phone, 120)
        assert command is not None
        assert command["message_id"] == queued
        assert await state(world, sent) is S.UNKNOWN
    database.close()


async def test_any_phone_of_a_group_sends_and_the_one_with_the_most_left(autojump_clock: MockClock, world: World):
    await enrol(world, "phone-1", "phone-2")
    asked = CommandRequest(kind=CommandKind.SEND_SMS, target=Target(device_group="shop"), data={"phone_number": NUMBER, "message": "hi"})
    message_id = await submit(world, asked)
    assert await waits(world, message_id) == Wait("no_phone")
    headers = phone_headers("phone-2", device_group="shop")
    async with world.dial("/ws", phone_headers()) as other, world.dial("/ws", headers) as phone:
        await hear(other)
        await hear(phone)
        command = await told(phone)
        assert command is not None
        await log_of(phone, command)
        await trio.sleep(1)
        assert await told(other, 30) is None
        view = await world.gateway.commands.view(message_id, BOSS)
        assert (view.command.state, view.command.device_id) == (S.SENT, "phone-2")
        anyone = [await submit(world, sms(None, str(number))) for number in range(2)]
        first, second = await told(phone), await told(other)
        assert first is not None
        assert second is not None
        assert {first["message_id"], second["message_id"]} == set(anyone)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (sms("nobody"), "device_not_found"),
        (request(CommandKind.SEND_SMS, phone_number="12", message="x"), "invalid_number"),
        (request(CommandKind.SEND_SMS, phone_number="0555 123 45 67", message="x"), "invalid_number"),
        (request(CommandKind.SEND_SMS, phone_number=NUMBER), "invalid_field"),
        (request(CommandKind.SEND_SMS, phone_number=NUMBER, message="x" * 1531), "message_too_long"),
        (request(CommandKind.SEND_USSD, ussd_code="*21*5551234#"), "ussd_refused"),
        (request(CommandKind.SEND_USSD, ussd_code="hello"), "ussd_refused"),
        (request(CommandKind.USSD_REPLY, session_id="nothing", reply="1"), "unknown_session"),
        (msgspec.structs.replace(request(CommandKind.USSD_REPLY, session_id="nothing", reply="1"), sim_slot=0), "unknown_session"),
        (request(CommandKind.USSD_REPLY, session_id="s", reply="*21*5551234#"), "ussd_refused"),
        (request(CommandKind.ALARM_START, alarm_type="fire"), "invalid_field"),
        (sms(ttl_s=0), "invalid_ttl"),
        (sms(message_id="not an id"), "invalid_message_id"),
        (sms(sim_slot=9), "invalid_sim_slot"),
        (CommandRequest(kind=CommandKind.FIND_DEVICE, target=Target(), data={}), "device_needed"),
    ],
)
async def test_what_cannot_be_sent_is_refused_with_a_reason(autojump_clock: MockClock, world: World, asked: CommandRequest, reason: str):
    await enrol(world, "phone-1")
    with pytest.raises((InvalidCommand, DeviceNotFound)) as caught:
        await world.gateway.commands.submit(asked, BOSS)
    assert caught.value.reason == reason
    assert await world.gateway.commands.search(BOSS) == []


@pytest.mark.parametrize("config", [patient(commands=CommandsSettings(open_max=2))], ids=[""])
async def test_as_many_may_wait_as_the_setting_says(autojump_clock: MockClock, world: World, config: Config):
    await enrol(world, "phone-1")
    ids = [await submit(world, sms()) for _ in range(2)]
    with pytest.raises(QueueFull):
        await submit(world, sms())
    await world.gateway.commands.cancel(ids[0], BOSS)
    await submit(world, sms())
    assert world.metrics.limits.value("commands.open_max") == 1


async def test_a_ussd_menu_is_answered_by_the_same_sim(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        opened = await submit(
            world, msgspec.structs.replace(request(CommandKind.SEND_USSD, ussd_code="*100#", auto_cancel=False), sim_slot=1)
        )
        command = await told(phone)
        assert command is not None
        assert command["data"] == {"sim_slot": 1, "ussd_code": "*100#", "session_id": opened, "delay": 0, "auto_cancel": False}
        await report(phone, "ussd_response", session_id=opened, message_id=opened, response="1. Balance\n2. Packages")
        await trio.sleep(1)
        assert (await world.gateway.commands.view(opened, BOSS)).command.result == {
            "response": "1. Balance\n2. Packages",
            "session_id": opened,
            "is_menu": True,
        }
        elsewhere = msgspec.structs.replace(request(CommandKind.USSD_REPLY, session_id=opened, reply="1"), sim_slot=0)
        with pytest.raises(InvalidCommand, match="on this SIM"):
            await submit(world, elsewhere)
        with pytest.raises(InvalidCommand, match="diverted"):
            await submit(world, request(CommandKind.USSD_REPLY, session_id=opened, reply="**21*5551234#"))
        await submit(world, request(CommandKind.USSD_REPLY, session_id=opened, reply="1"))
        reply = await told(phone)
        assert reply is not None
        assert reply["data"] == {"sim_slot": 1, "session_id": opened, "reply": "1"}


async def test_an_agent_takes_a_command_in_a_frame_accepts_it_and_tells_its_result(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await ask(agent, FrameType.REGISTER, {"version": "1.0.0", "client_id": "unit-7", "auth_token": "demo-enrolment-key"})
        message_id = await submit(world, request(CommandKind.FIND_DEVICE, "unit-7", message="blink"))
        heard = await agent.receive(20)
        assert isinstance(heard, bytes)
        assert heard[1] == FrameType.COMMAND
        await agent.send(frame(FrameType.COMMAND_ACK, {"status": 200, "message_id": message_id}))
        await trio.sleep(1)
        assert await state(world, message_id) is S.ACCEPTED
        await agent.send(frame(FrameType.COMMAND_RESULT, {"message_id": message_id, "status": 200, "result": {"seen": True}}))
        await trio.sleep(1)
        view = await world.gateway.commands.view(message_id, BOSS)
        assert (view.command.state, view.command.result) == (S.DELIVERED, {"result": {"seen": True}})


async def test_a_thousand_commands_wait_for_a_phone_and_all_go_in_order(autojump_clock: MockClock):
    config = patient(phones=PhoneSettings(sim1_guard_interval=0), limits=LimitsSettings(data_per_s=0, frames_per_s=0))
    async with open_world(config) as world:
        await enrol(world, "phone-1")
        for place in range(0, 1000, 100):
            await world.gateway.commands.submit_many([sms(message=str(place + number), sim_slot=0) for number in range(100)], BOSS)
        heard: list[int] = []
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            while (command := await told(phone, 30)) is not None:
                heard.append(int(command["data"]["message"]))
                await log_of(phone, command)
        assert heard == list(range(1000))
        assert len(await world.gateway.commands.search(BOSS, states=[S.SENT], limit=2000)) == 1000


async def test_commands_are_told_while_the_phone_connects_again_and_again(autojump_clock: MockClock, world: World):
    """Each command that is heard is heard once, whenever the link goes."""
    await enrol(world, "phone-1")
    ids = [await submit(world, sms(message=str(number), sim_slot=0)) for number in range(20)]
    heard: list[str] = []
    for number in range(40):
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            with trio.move_on_after(0.01 * (number % 7)):
                while True:
                    command = json.loads(await phone.receive(200))
                    heard.append(command["message_id"])
                    await log_of(phone, command)
        await trio.sleep(200)
    assert len(heard) == len(set(heard))
    assert {await state(world, each) for each in ids} <= {S.SENT, S.UNKNOWN}


async def test_connect_with_nothing_to_send_reads_no_lane(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await connect(agent)
        await trio.sleep(1)
        assert "signal_gateway_command_lanes 0.0" in world.metrics.text().decode()
