"""Those who wait for the batch writer: how many share a commit, who passes whom, and what they hear when there is none."""

from typing import Any

import pytest
import trio
import trio.testing

from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.settings import StorageSettings

from .rows_kept import entry
from .test_batch_writer import answer_to, fails

CALLS_MAX = 4


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def writer(inline: InlineDatabase, metrics: Metrics) -> BatchWriter:
    return BatchWriter(inline, StorageSettings(batch_calls_max=CALLS_MAX), metrics)


async def test_callers_that_come_together_share_a_commit(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery
):
    await nursery.start(writer.run)
    answers: dict[str, Any] = {}
    async with trio.open_nursery() as callers:
        for number in range(CALLS_MAX):
            callers.start_soon(answer_to, writer, f"call-{number}", answers)

    assert len(answers) == CALLS_MAX
    assert inline.commits == 1


async def test_rows_behind_many_callers_wait_for_one_batch_of_them(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery, metrics: Metrics
):
    """While a fleet registers, a report is durable with the next commit."""
    answers: dict[str, Any] = {}
    durable_after: list[tuple[int, int]] = []
    async with trio.open_nursery() as callers:
        for number in range(3 * CALLS_MAX):
            callers.start_soon(answer_to, writer, f"call-{number}", answers)
        await trio.testing.wait_all_tasks_blocked()
        writer.put([entry("put")], lambda: durable_after.append((inline.commits, len(answers))))
        await nursery.start(writer.run)

    assert durable_after == [(1, 0)]
    assert len(answers) == 3 * CALLS_MAX
    assert inline.commits == 3
    assert metrics.limits.value("storage.batch_calls_max") == 2


async def test_while_the_database_is_down_no_caller_waits_for_its_turn_to_hear_it(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery
):
    inline.before_commit = fails(DatabaseDown, 1)
    answers: dict[str, Any] = {}
    async with trio.open_nursery() as callers:
        for number in range(3 * CALLS_MAX):
            callers.start_soon(answer_to, writer, f"call-{number}", answers)
        await trio.testing.wait_all_tasks_blocked()
        await nursery.start(writer.run)

    assert {type(answer) for answer in answers.values()} == {DatabaseDown}
    assert len(answers) == 3 * CALLS_MAX
    assert writer.rows_waiting == 0
