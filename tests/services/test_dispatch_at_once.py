"""A new command whose phone has nothing else to do is written as dispatched by the transaction that takes it in."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from signal_gateway.domain.command import CommandKind, CommandState
from signal_gateway.domain.errors import DatabaseDown, IdTaken
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.storage import commands as kept
from signal_gateway.testing.client import Client
from signal_gateway.testing.world import World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import enrol, log_of, patient, request, sms, state, states, submit, told


@asynccontextmanager
async def with_a_known_lane(guard_s: int = 0) -> AsyncGenerator[tuple[World, Client]]:
    """A phone that has sent one SMS, so that its lane is in memory."""
    async with open_world(patient(phones=PhoneSettings(sim1_guard_interval=guard_s))) as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await submit(world, sms(sim_slot=0))
        await log_of(phone, await told(phone))
        await trio.sleep(2)
        yield world, phone


def count_writes(world: World, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every transaction of the writer from now on."""
    written: list[object] = []
    write = world.database.write

    async def counted(work: Callable[[Any], Any]) -> Any:
        written.append(work)
        return await write(work)

    monkeypatch.setattr(world.database, "write", counted)
    return written


async def test_a_command_for_an_idle_phone_takes_one_transaction_until_it_sets_out(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
):
    async with with_a_known_lane() as (world, phone):
        written = count_writes(world, monkeypatch)
        message_id = await submit(world, sms(sim_slot=0))
        assert (await told(phone) or {})["message_id"] == message_id
        assert len(written) == 1
        assert await states(world, message_id) == ["queued", "dispatched"]
        assert world.gateway.dispatcher.lanes["phone-1"].queue == []


async def test_what_stands_behind_another_waits_for_its_turn(autojump_clock: MockClock):
    async with with_a_known_lane() as (world, phone):
        first, second = await submit(world, sms(sim_slot=0)), await submit(world, sms(sim_slot=0))
        command = await told(phone)
        assert (command or {})["message_id"] == first
        assert await told(phone, 1) is None
        await log_of(phone, command)
        assert (await told(phone) or {})["message_id"] == second


async def test_two_that_are_asked_for_at_once_go_out_one_after_the_other(autojump_clock: MockClock):
    async with with_a_known_lane() as (world, phone):
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(submit, world, sms(sim_slot=0, message=f"text {number}"))
        seen: list[str] = []
        while (command := await told(phone, 1)) is not None:
            seen.append(command["message_id"])
            await log_of(phone, command)
        assert len(set(seen)) == len(seen) == 5


@pytest.mark.parametrize("asked", ["scheduled", "guarded"])
async def test_what_may_not_go_yet_waits(autojump_clock: MockClock, asked: str):
    async with with_a_known_lane(60 if asked == "guarded" else 0) as (world, phone):
        not_before = world.wall_ms() + 30_000 if asked == "scheduled" else None
        message_id = await submit(world, replace(sms(sim_slot=0), not_before=not_before))
        assert await told(phone, 20) is None
        assert await state(world, message_id) is CommandState.QUEUED
        assert (await told(phone, 60) or {})["message_id"] == message_id


async def test_the_same_command_again_sets_out_once(autojump_clock: MockClock):
    async with with_a_known_lane() as (world, phone):
        for _ in range(2):
            await submit(world, sms(sim_slot=0, message_id="mine"))
        await log_of(phone, await told(phone))
        await submit(world, sms(sim_slot=0, message_id="mine"))
        assert await told(phone, 300) is None
        assert await states(world, "mine") == ["queued", "dispatched", "sent"]


async def test_an_id_of_another_phones_command_sends_nothing_and_holds_no_sim(autojump_clock: MockClock):
    async with with_a_known_lane() as (world, phone):
        await enrol(world, "phone-2")
        await submit(world, sms("phone-2", sim_slot=0, message_id="mine"))
        with pytest.raises(IdTaken):
            await submit(world, sms(sim_slot=0, message_id="mine"))
        assert await told(phone, 5) is None
        assert await state(world, "mine") is CommandState.QUEUED
        later = await submit(world, sms(sim_slot=0))
        assert (await told(phone) or {})["message_id"] == later


async def test_a_command_that_could_not_be_kept_is_not_sent_and_holds_no_sim(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch):
    async with with_a_known_lane() as (world, phone):

        async def down(_: object) -> None:
            raise DatabaseDown

        monkeypatch.setattr(world.database, "write", down)
        with pytest.raises(DatabaseDown):
            await submit(world, sms(sim_slot=0))
        monkeypatch.undo()
        assert await told(phone, 5) is None
        later = await submit(world, sms(sim_slot=0))
        assert (await told(phone) or {})["message_id"] == later


async def test_a_fault_in_keeping_one_keeps_it_from_the_phone(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch):
    async with with_a_known_lane() as (world, phone):

        def refuse(*_: object) -> None:
            raise ValueError("not today")

        monkeypatch.setattr(kept, "keep", refuse)
        with pytest.raises(ValueError, match="not today"):
            await submit(world, sms(sim_slot=0))
        monkeypatch.undo()
        assert await told(phone, 5) is None
        later = await submit(world, sms(sim_slot=0))
        assert (await told(phone) or {})["message_id"] == later


async def test_a_phone_that_dials_anew_meanwhile_hears_of_it_once(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch):
    async with with_a_known_lane() as (world, _):
        write = world.database.write

        async def slowly(work: Callable[[Any], Any]) -> Any:
            await trio.sleep(1)
            return await write(work)

        monkeypatch.setattr(world.database, "write", slowly)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit, world, sms(sim_slot=0))
            await trio.sleep(0.1)
            async with world.dial("/ws", phone_headers()) as again:
                await hear(again)
                command = await told(again, 60)
                await log_of(again, command)
                assert await told(again, 600) is None
        assert command is not None
        assert (await states(world, command["message_id"]))[-1] == "sent"


async def test_a_stop_finds_no_place_busy(autojump_clock: MockClock):
    async with with_a_known_lane() as (world, phone):
        await submit(world, request(CommandKind.ALARM_START, alarm_type="offline"))
        await submit(world, request(CommandKind.ALARM_STOP))
        assert [(await told(phone) or {})["type"] for _ in range(2)] == ["alarm_start", "alarm_stop"]
