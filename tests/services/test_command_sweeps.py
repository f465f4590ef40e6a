"""Deadlines are looked at once a second while a command is open, and more seldom while none is known to be."""

from collections.abc import AsyncIterator

import pytest
import trio
from sqlalchemy import update
from trio.testing import MockClock

from signal_gateway.domain.command import CommandState
from signal_gateway.domain.events import CommandChanged
from signal_gateway.storage import commands as kept
from signal_gateway.storage.tables import commands
from signal_gateway.testing.world import WORLD_BEGINS_MS, World, open_world
from tests.websocket.test_commands import enrol, patient, sms, state, submit


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world(patient()) as world:
        await enrol(world, "phone-1")
        yield world


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the database was asked for what is overdue."""
    asked_at: list[float] = []
    overdue = kept.overdue

    def noted(connection: kept.Connection, now_ms: int, limit: int) -> list[str]:
        asked_at.append(trio.current_time())
        return overdue(connection, now_ms, limit)

    monkeypatch.setattr(kept, "overdue", noted)
    return asked_at


async def test_a_deadline_is_kept_to_the_second(autojump_clock: MockClock, world: World):
    ended_at_ms: list[int] = []
    world.bus.subscribe(CommandChanged, lambda _: ended_at_ms.append(world.wall_ms()))
    await trio.sleep(100)
    begun_at_ms = world.wall_ms()
    message_id = await submit(world, sms(ttl_s=60))
    await trio.sleep(70)
    assert await state(world, message_id) is CommandState.EXPIRED
    assert 60_000 <= ended_at_ms[0] - begun_at_ms <= 61_500


async def test_nobody_asks_every_second_while_nothing_is_open(autojump_clock: MockClock, world: World, sweeps: list[float]):
    await trio.sleep(100)
    assert 9 <= len(sweeps) <= 11
    await submit(world, sms(ttl_s=1000))
    sweeps.clear()
    await trio.sleep(100)
    assert 99 <= len(sweeps) <= 101


async def test_what_somebody_else_left_open_is_found_all_the_same(autojump_clock: MockClock, world: World):
    """Another process on the same database has it that it is queued, this one knows it as final."""
    message_id = await submit(world, sms(ttl_s=1))
    await trio.sleep(10)
    assert await state(world, message_id) is CommandState.EXPIRED
    again = {"state": CommandState.QUEUED.value, "final_at": None, "deadline_at": WORLD_BEGINS_MS}
    await world.database.write(lambda connection: connection.execute(update(commands).values(again)))
    await trio.sleep(11)
    assert await state(world, message_id) is CommandState.EXPIRED
