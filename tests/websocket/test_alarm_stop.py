"""Of alarm_start and alarm_stop the later one is the last word (T-54): a stop waits for no answer, and nothing rings after it."""

from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from trio.testing import MockClock

from signal_gateway.domain.command import CommandKind, CommandState, Step, Wait
from signal_gateway.services import lane_reader
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.testing.client import Client
from signal_gateway.testing.world import World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import BOSS, enrol, log_of, patient, report, request, sms, state, states, submit, told, waits

S = CommandState
START = request(CommandKind.ALARM_START, alarm_type="sim_blocked", message="ring")
STOP = request(CommandKind.ALARM_STOP)
FIND = request(CommandKind.FIND_DEVICE, message="where?")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Whoever does not answer is asked again every few seconds."""
    async with open_world(patient(commands=CommandsSettings(dispatched_s=20, backoff_first_s=1))) as world:
        await enrol(world, "phone-1")
        yield world


async def told_all(phone: Client, within_s: float) -> list[str]:
    """What the phone is told until it is told nothing for so long."""
    heard: list[str] = []
    while (command := await told(phone, within_s)) is not None:
        heard.append(command["type"])
    return heard


async def last_step(world: World, message_id: str) -> Step:
    timeline: Sequence[Step] = (await world.gateway.commands.view(message_id, BOSS)).timeline
    return timeline[-1]


async def test_a_stop_overtakes_an_alarm_that_nobody_answered_and_ends_it(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        start = await submit(world, START)
        assert await told_all(phone, 1) == ["alarm_start"]
        stop = await submit(world, STOP)
        assert await told_all(phone, 1) == ["alarm_stop"]
        step = await last_step(world, start)
        words = f"alarm_stop {stop} came after it"
        assert (step.state, step.detail) == (S.UNKNOWN, {"error": "superseded", "error_message": words})
        await report(phone, "alarm_stopped", status="stopped")
        assert await told_all(phone, 300) == []
        assert (await state(world, start), await state(world, stop)) == (S.UNKNOWN, S.DELIVERED)
        assert await states(world, start) == ["queued", "dispatched", "unknown"]


async def test_a_late_word_about_it_is_believed_and_a_late_failure_begins_nothing(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for kind, expected in (("alarm_started", S.DELIVERED), ("alarm_failed", S.FAILED)):
            start = await submit(world, START)
            assert await told_all(phone, 1) == ["alarm_start"]
            await submit(world, STOP)
            assert await told_all(phone, 1) == ["alarm_stop"]
            await report(phone, kind, alarm_type="sim_blocked", status=kind.removeprefix("alarm_"))
            await report(phone, "alarm_stopped", status="stopped")
            assert await told_all(phone, 100) == []
            assert await state(world, start) is expected


async def test_an_alarm_that_waits_for_its_next_try_is_not_tried_again(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        start = await submit(world, START)
        await report(phone, "alarm_failed", alarm_type="sim_blocked", status="failed", error="muted")
        assert await told_all(phone, 0.5) == ["alarm_start"]
        assert await state(world, start) is S.QUEUED
        await submit(world, STOP)
        await report(phone, "alarm_stopped", status="stopped")
        assert await told_all(phone, 100) == ["alarm_stop"]
        assert ((await last_step(world, start)).detail or {})["error"] == "superseded"
        assert await states(world, start) == ["queued", "dispatched", "queued", "cancelled"]


@pytest.mark.parametrize("priority", [-50, 0, 100])
async def test_what_was_stopped_while_its_phone_was_away_is_not_sent_at_all(autojump_clock: MockClock, world: World, priority: int):
    start = await submit(world, START)
    find = await submit(world, FIND)
    stop = await submit(world, msgspec.structs.replace(STOP, priority=priority))
    after = await submit(world, request(CommandKind.ALARM_START, alarm_type="offline", message="again"))
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        heard = await told_all(phone, 1)
        assert heard == ["alarm_stop"] if priority > 0 else ["find_device", "alarm_stop"]
        assert await waits(world, after) == Wait("busy")
        await report(phone, "alarm_stopped", status="stopped")
        heard += await told_all(phone, 1)
        await report(phone, "find_device_success", status="success")
        heard += await told_all(phone, 1)
        assert sorted(heard) == ["alarm_start", "alarm_stop", "find_device"]
        assert [await state(world, each) for each in (start, find, stop)] == [S.CANCELLED, S.DELIVERED, S.DELIVERED]


async def test_a_stop_is_not_tried_again_once_a_later_alarm_has_set_out(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        stop = await submit(world, STOP)
        await submit(world, START)
        assert await told_all(phone, 15) == ["alarm_stop"]
        assert await told_all(phone, 6) == ["alarm_start"]  # the stop has waited for its answer long enough
        assert await state(world, stop) is S.CANCELLED
        await report(phone, "alarm_started", alarm_type="sim_blocked", status="started")
        assert await told_all(phone, 300) == []


async def test_a_stop_of_one_phone_is_none_of_another_and_a_stop_for_later_stops_nothing_yet(autojump_clock: MockClock, world: World):
    await enrol(world, "phone-2")
    start = await submit(world, START)
    await submit(world, request(CommandKind.ALARM_STOP, "phone-2"))
    await submit(world, msgspec.structs.replace(STOP, not_before=world.wall_ms() + 60_000))
    async with world.dial("/ws", phone_headers("phone-2")) as other:
        await hear(other)
        assert await told_all(other, 1) == ["alarm_stop"]
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        assert await told_all(phone, 1) == ["alarm_start"]
        await report(phone, "alarm_started", alarm_type="sim_blocked", status="started")
        assert await told_all(phone, 50) == []
        assert (await told(phone, 15) or {})["type"] == "alarm_stop"
        assert await state(world, start) is S.DELIVERED


@pytest.mark.parametrize("is_linked", [True, False])
async def test_a_stop_overtakes_a_line_of_which_memory_holds_a_page(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch, is_linked: bool
):
    monkeypatch.setattr(lane_reader, "PAGE", 3)
    texts = [await submit(world, sms(sim_slot=0, message=f"{number}")) for number in range(8)]
    if not is_linked:
        await submit(world, STOP)
    heard: list[str] = []
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        first = await told(phone)
        if is_linked:
            await submit(world, STOP)
        assert (await told(phone) or {})["type"] == "alarm_stop"
        await report(phone, "alarm_stopped", status="stopped")
        texts.append(await submit(world, sms(sim_slot=0, message="later")))
        command = first
        while command is not None:
            heard.append(command["message_id"])
            await log_of(phone, command)
            command = await told(phone)
    assert heard == texts


async def test_a_stop_does_not_wait_for_a_sim(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for asked in (sms(sim_slot=0), FIND, STOP, STOP):
            await submit(world, asked)
        assert await told_all(phone, 1) == ["send_sms", "find_device", "alarm_stop", "alarm_stop"]
