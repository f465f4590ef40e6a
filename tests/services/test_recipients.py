"""A number more than a SIM may write to in a month: told as such, tried elsewhere, and asked of the database no more often than needed."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.command import CommandKind, CommandRequest, Target, Wait
from signal_gateway.domain.command_rules import Dispatched
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.services.new_numbers import NewNumbers
from signal_gateway.storage import command_changes
from signal_gateway.testing.client import Client
from signal_gateway.testing.world import WORLD_BEGINS_MS, World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import BOSS, log_of, patient, report, submit, told, waits

FIRST, SECOND, THIRD = (f"+90555123456{digit}" for digit in range(3))
MONTH_ENDS = WORLD_BEGINS_MS + 3_600_000
"""On the Azores the last hour of the year begins with a world."""
GROUP, ATTEMPTS_MAX = "", 500
LIMITED = PhoneSettings(enable_sms_limits=True, sim1_guard_interval=0, sim2_guard_interval=0)


def to(number: str, device_id: str | None = "phone-1", sim_slot: int | None = None) -> CommandRequest:
    target = Target(device_group="shop") if device_id == GROUP else Target(device_id=device_id)
    data = {"phone_number": number, "message": "hello"}
    return CommandRequest(kind=CommandKind.SEND_SMS, target=target, data=data, sim_slot=sim_slot)


@asynccontextmanager
async def one_number_a_month() -> AsyncGenerator[World]:
    commands = CommandsSettings(recipients_per_month=1, time_zone="Atlantic/Azores")
    async with open_world(patient(commands=commands, phones=LIMITED)) as world:
        yield world


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Dispatched]:
    """Every dispatch that the database was asked for. Without a bound a loop would leave virtual time no way to go on."""
    seen: list[Dispatched] = []
    apply_one = command_changes._apply

    def count(ledger: Any, item: command_changes.Item) -> command_changes.Applied:
        if isinstance(item.event, Dispatched):
            seen.append(item.event)
            assert len(seen) < ATTEMPTS_MAX
        return apply_one(ledger, item)

    monkeypatch.setattr(command_changes, "_apply", count)
    return seen


async def two_sims(phone: Client) -> None:
    cards = [{"slot_index": slot, "is_active": True} for slot in range(2)]
    await report(phone, "heartbeat", battery_level=80, sim_cards=cards)
    await trio.sleep(1)


async def next_sms(phone: Client) -> dict[str, Any] | None:
    """Told beside other things, such as settings."""
    heard = await told(phone, 30)
    while heard is not None and heard["type"] != "send_sms":
        heard = await told(phone, 30)
    return heard


@pytest.mark.slow
async def test_a_number_too_many_is_asked_for_once_and_told_until_the_month_ends(autojump_clock: MockClock, attempts: list[Dispatched]):
    async with one_number_a_month() as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await submit(world, to(FIRST, sim_slot=0))
        await log_of(phone, await told(phone))
        barred = await submit(world, to(SECOND, sim_slot=0))
        again = await submit(world, to(SECOND, sim_slot=0))
        known = await submit(world, to(FIRST, sim_slot=0))
        command = await told(phone)
        assert (command or {}).get("message_id") == known  # it stands behind what only another month ends
        await log_of(phone, command)
        assert await told(phone, 60) is None
        assert [await waits(world, each) for each in (barred, again)] == [Wait("recipients_limit", MONTH_ENDS)] * 2
        assert [event.message_id for event in attempts].count(barred) == 1
        assert again not in [event.message_id for event in attempts]  # it goes to the same number
        heard = await told(phone, 3600)
        assert (heard or {}).get("message_id") == barred
        assert world.wall_ms() - MONTH_ENDS in range(2000)
        assert len(attempts) == 4


async def test_any_sim_takes_the_one_that_may_still_write_to_new_numbers(autojump_clock: MockClock, attempts: list[Dispatched]):
    async with one_number_a_month() as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await two_sims(phone)
        ids = [await submit(world, to(number)) for number in (FIRST, SECOND, THIRD)]
        took = {}
        for _ in range(2):
            command = await told(phone)
            assert command is not None
            took[command["message_id"]] = command["data"]["sim_slot"]
            await log_of(phone, command)
        assert (sorted(took), sorted(took.values())) == (sorted(ids[:2]), [0, 1])
        assert await told(phone, 60) is None
        assert await waits(world, ids[2]) == Wait("recipients_limit", MONTH_ENDS)
        assert sorted(event.sim_slot or 0 for event in attempts if event.message_id == ids[2]) == [0, 1]
        assert len(attempts) <= 5


async def test_a_group_takes_the_phone_that_may_still_write_to_new_numbers(autojump_clock: MockClock, attempts: list[Dispatched]):
    async with (
        one_number_a_month() as world,
        world.dial("/ws", phone_headers("shop-1", device_group="shop")) as one,
        world.dial("/ws", phone_headers("shop-2", device_group="shop")) as two,
    ):
        await hear(one)
        await hear(two)
        for device_id, phone in (("shop-1", one), ("shop-2", two)):
            await submit(world, to(FIRST, device_id, 0))
            await log_of(phone, await told(phone))
        barred = await submit(world, to(SECOND, GROUP))
        await trio.sleep(60)
        asked = [event.device_id for event in attempts if event.message_id == barred]
        assert sorted(asked) == ["shop-1", "shop-2"]
        async with world.dial("/ws", phone_headers("shop-3", device_group="shop")) as third:
            await hear(third)
            assert (await told(third, 30) or {}).get("message_id") == barred


async def test_a_number_is_let_through_when_another_one_is_given_back(autojump_clock: MockClock, attempts: list[Dispatched]):
    async with one_number_a_month() as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await submit(world, to(FIRST, sim_slot=0))
        first = await told(phone)
        barred = await submit(world, to(SECOND, sim_slot=0))
        await trio.sleep(10)
        assert await waits(world, barred) == Wait("busy")
        await log_of(phone, first, "failed", error_code=3)
        command = await told(phone, 30)
        assert (command or {}).get("message_id") == barred
        later = await submit(world, to(FIRST, sim_slot=0))
        await log_of(phone, command, "failed", error_code=3)
        command = await told(phone, 30)
        assert (command or {}).get("message_id") == later
        barred_again = await submit(world, to(SECOND, sim_slot=0))
        await log_of(phone, command)
        assert await told(phone, 30) is None
        assert await waits(world, barred_again) == Wait("recipients_limit", MONTH_ENDS)
        assert len(attempts) == 4


async def test_a_number_that_was_new_is_so_no_more_once_it_was_written_to(autojump_clock: MockClock, attempts: list[Dispatched]):
    async with one_number_a_month() as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await submit(world, to(FIRST, sim_slot=0))
        first = await told(phone)
        ids = [await submit(world, to(SECOND, sim_slot=0)) for _ in range(2)]
        await trio.sleep(150)  # nobody knows what became of the first, so it counts
        assert [await waits(world, each) for each in ids] == [Wait("recipients_limit", MONTH_ENDS)] * 2
        await log_of(phone, first, "failed", error_code=3)
        for message_id in ids:
            command = await told(phone, 30)
            assert (command or {}).get("message_id") == message_id
            await log_of(phone, command)
        assert len(attempts) == 4


async def test_a_number_is_let_through_when_limits_are_switched_off(autojump_clock: MockClock, attempts: list[Dispatched]):
    async with one_number_a_month() as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await submit(world, to(FIRST, sim_slot=0))
        await log_of(phone, await told(phone))
        barred = await submit(world, to(SECOND, sim_slot=0))
        assert await told(phone, 60) is None
        await world.gateway.devices.change_settings("phone-1", {"enable_sms_limits": False}, BOSS)
        assert (await next_sms(phone) or {}).get("message_id") == barred


async def test_what_the_database_refuses_for_a_reason_that_memory_cannot_know_is_asked_for_once_a_second(
    autojump_clock: MockClock, attempts: list[Dispatched], monkeypatch: pytest.MonkeyPatch
):
    async with one_number_a_month() as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        monkeypatch.setattr(command_changes, "wait_for", lambda *_arguments, **_options: Wait("daily_limit"))
        await submit(world, to(FIRST, sim_slot=0))
        await submit(world, to(FIRST, GROUP))
        await submit(world, to(FIRST, None))
        await trio.sleep(60)
        assert 60 <= len(attempts) <= 130


def test_numbers_to_which_nothing_waits_are_forgotten_once_they_are_many():
    numbers = NewNumbers()
    for number in range(1000):
        numbers.add(0, str(number), "2026-01")
        numbers.prune(2, ["7", "8", None])
    assert len(numbers) <= 64 + 2 * 16
    assert [numbers.holds(0, number, month) for number, month in (("7", "2026-01"), ("8", "2026-02"), ("9", "2026-01"))] == [
        True,
        False,
        False,
    ]
