"""When the batch writer writes, what it does while the database cannot, and how it ends. Virtual time, SQL inline."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from signal_gateway.domain.errors import DatabaseDown, DiskFull
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.faults import OutcomeUnknown, StorageBroken
from signal_gateway.storage.settings import StorageSettings

from .rows_kept import POISON, entry, insert_entry, subjects

SETTINGS = StorageSettings(
    batch_rows_max=10, batch_wait_s=0.002, high_water_rows=30, rows_max=40, retry_first_s=0.05, retry_max_s=1.0, flush_s=5.0
)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def writer(inline: InlineDatabase, metrics: Metrics) -> BatchWriter:
    return BatchWriter(inline, SETTINGS, metrics)


def fails(error: Callable[[], BaseException], *numbers: int) -> Callable[[int], None]:
    """A hook that fails these commits; all of them when none is named."""

    def hook(number: int) -> None:
        if not numbers or number in numbers:
            raise error()

    return hook


def down_until(time_s: float) -> Callable[[int], None]:
    def hook(_number: int) -> None:
        if trio.current_time() < time_s:
            raise DatabaseDown

    return hook


async def answer_to(writer: BatchWriter, subject: str, answers: dict[str, Any]) -> None:
    try:
        answers[subject] = await writer.call(partial(insert_entry, subject=subject))
    except (DatabaseDown, DiskFull) as error:
        answers[subject] = error


def count_of(metrics: Metrics, name: str) -> str:
    """The value of one line of the metrics page."""
    (line,) = [line for line in metrics.text().decode().splitlines() if line.startswith(f"signal_gateway_{name} ")]
    return line.split()[1]


# When it writes


async def test_rows_wait_two_milliseconds_for_company(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery
):
    await nursery.start(writer.run)
    began = trio.current_time()
    durable_at: list[float] = []
    for _ in range(3):
        writer.put([entry("row")], lambda: durable_at.append(trio.current_time() - began))
        await trio.sleep(0.0005)
    await trio.sleep(1)

    assert durable_at == pytest.approx([0.002] * 3)
    assert inline.commits == 1


async def test_a_full_batch_and_a_caller_do_not_wait(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery
):
    await nursery.start(writer.run)
    began = trio.current_time()
    durable_at: list[float] = []
    for _ in range(10):
        writer.put([entry("row")])
    writer.put([entry("row")], lambda: durable_at.append(trio.current_time() - began))
    await writer.call(partial(insert_entry, subject="call"))

    assert trio.current_time() == began
    assert durable_at == [0.0]


async def test_a_batch_ends_with_the_put_that_fills_it(autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, metrics: Metrics):
    for _ in range(5):
        writer.put([entry("row")] * 7)
    writer.close()
    await writer.run()

    assert inline.commits == 3
    assert count_of(metrics, "storage_batch_rows_sum") == "35.0"
    assert count_of(metrics, "storage_batch_rows_count") == "3.0"


async def test_a_put_without_rows_is_told_behind_what_was_put_before(autojump_clock: Any, writer: BatchWriter, nursery: trio.Nursery):
    await nursery.start(writer.run)
    told: list[str] = []
    writer.put([], lambda: told.append("nothing"))
    writer.put([entry("row")], lambda: told.append("row"))
    writer.put([], lambda: told.append("nothing again"))
    await trio.sleep(1)

    assert told == ["nothing", "row", "nothing again"]


async def test_nobody_is_told_before_the_commit(autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery):
    told: list[str] = []
    seen: list[list[str]] = []
    inline.before_commit = lambda number: seen.append(list(told))
    await nursery.start(writer.run)
    writer.put([entry("row")], lambda: told.append("durable"))
    await trio.sleep(1)

    assert (seen, told) == ([[]], ["durable"])


async def test_a_callback_that_fails_is_counted_and_hinders_nobody(
    autojump_clock: Any, writer: BatchWriter, metrics: Metrics, nursery: trio.Nursery
):
    await nursery.start(writer.run)
    told: list[str] = []

    def fail() -> None:
        raise RuntimeError

    writer.put([entry("a")], fail)
    writer.put([entry("b")], lambda: told.append("b"))
    await trio.sleep(1)

    assert told == ["b"]
    assert metrics.errors.value("on_durable") == 1


async def test_a_callback_may_put(autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery):
    await nursery.start(writer.run)

    def put_another() -> None:
        writer.put([entry("second")])

    writer.put([entry("first")], put_another)
    await trio.sleep(1)

    assert await subjects(inline) == ["first", "second"]


# What may wait


async def test_at_the_hard_cap_more_is_refused_and_counted(autojump_clock: Any, writer: BatchWriter, metrics: Metrics):
    assert all(writer.put([entry("row")] * 10) for _ in range(4))
    refused: list[str] = []

    assert not writer.put([entry("row")], lambda: refused.append("durable"), lambda: refused.append("failed"))
    with pytest.raises(DatabaseDown):
        await writer.call(partial(insert_entry, subject="call"))
    writer.close()
    await writer.run()

    assert refused == []
    assert metrics.limits.value("storage.rows_max") == 2


async def test_above_high_water_until_the_rows_are_durable(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery
):
    writer.put([entry("row")] * 29)
    assert not writer.above_high_water
    writer.put([entry("row")])
    assert writer.above_high_water

    held: list[tuple[int, bool]] = []
    inline.before_commit = lambda number: held.append((writer.rows_waiting, writer.above_high_water))
    await nursery.start(writer.run)
    await trio.sleep(1)

    assert held == [(30, True), (1, False)]
    assert writer.rows_waiting == 0


async def test_the_age_of_the_oldest_row_is_told_also_while_it_is_tried(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, metrics: Metrics, nursery: trio.Nursery
):
    inline.before_commit = down_until(trio.current_time() + 100)
    assert (writer.oldest_row_age_s, count_of(metrics, "storage_rows_waiting")) == (0.0, "0.0")
    await nursery.start(writer.run)
    writer.put([entry("row")])
    await trio.sleep(60)
    writer.put([entry("row")])

    assert writer.oldest_row_age_s == pytest.approx(60)
    assert float(count_of(metrics, "storage_oldest_row_age_seconds")) == pytest.approx(60)
    assert count_of(metrics, "storage_rows_waiting") == "2.0"

    await trio.sleep(60)
    assert writer.oldest_row_age_s == 0.0


# While the database cannot


async def test_while_the_database_is_down_rows_are_tried_again_ever_less_often(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, metrics: Metrics, nursery: trio.Nursery
):
    began = trio.current_time()
    tried_at: list[float] = []

    def hook(_number: int) -> None:
        tried_at.append(round(trio.current_time() - began, 3))
        if len(tried_at) < 8:
            raise DatabaseDown

    inline.before_commit = hook
    await nursery.start(writer.run)
    durable: list[int] = []
    for number in range(10):
        writer.put([entry(f"row-{number}")], partial(durable.append, number))
    await trio.sleep(60)

    assert tried_at == [0.0, 0.05, 0.15, 0.35, 0.75, 1.55, 2.55, 3.55]
    assert durable == list(range(10))
    assert await subjects(inline) == [f"row-{number}" for number in range(10)]
    assert b'signal_gateway_storage_batches_failed_total{reason="database_down"} 7.0' in metrics.text()


@pytest.mark.parametrize("error", [DatabaseDown, DiskFull])
async def test_callers_are_told_why_and_rows_wait(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery, error: type[DatabaseDown] | type[DiskFull]
):
    inline.before_commit = fails(error, 1)
    answers: dict[str, Any] = {}
    async with trio.open_nursery() as callers:
        writer.put([entry("put")])
        callers.start_soon(answer_to, writer, "call-1", answers)
        callers.start_soon(answer_to, writer, "call-2", answers)
        await trio.testing.wait_all_tasks_blocked()
        await nursery.start(writer.run)
    await trio.sleep(1)

    assert [type(answer) for answer in answers.values()] == [error, error]
    assert answers["call-1"] is not answers["call-2"]
    assert await subjects(inline) == ["put"]
    assert writer.rows_waiting == 0


async def test_when_the_database_is_back_it_writes_without_pause(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery
):
    inline.before_commit = down_until(trio.current_time() + 30)
    await nursery.start(writer.run)
    writer.put([entry("row")])
    await trio.sleep(60)
    began = trio.current_time()
    await writer.call(partial(insert_entry, subject="call"))

    assert trio.current_time() == began


@pytest.mark.parametrize("where", ["before", "after"])
async def test_a_lost_answer_to_a_commit_writes_nothing_twice_and_loses_nothing(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery, where: str
):
    """The connection goes down in the commit: whether that held is asked before anything else is written (H24)."""
    hook = fails(lambda: OutcomeUnknown("1", None), 1)
    if where == "before":
        inline.before_commit = hook
    else:
        inline.after_commit = hook
    answers: dict[str, Any] = {}
    fates: list[str] = []
    await nursery.start(writer.run)
    async with trio.open_nursery() as callers:
        writer.put([entry("a")], lambda: fates.append("a durable"))
        writer.put([POISON], None, lambda: fates.append("b failed"))
        callers.start_soon(answer_to, writer, "call", answers)
        await trio.testing.wait_all_tasks_blocked(0.001)
        writer.put([entry("c")], lambda: fates.append("c durable"))
    await trio.sleep(1)

    assert isinstance(answers["call"], DatabaseDown)
    assert fates == ["a durable", "b failed", "c durable"]
    assert await subjects(inline) == (["a", "c"] if where == "before" else ["a", "call", "c"])
    assert writer.rows_waiting == 0


async def test_while_nobody_can_tell_how_a_commit_ended_nothing_else_is_written(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
):
    known_at = trio.current_time() + 20
    inline.after_commit = fails(lambda: OutcomeUnknown("1", None), 1)
    truth = inline.committed

    async def committed(transaction: str) -> bool:
        if trio.current_time() < known_at:
            raise DatabaseDown
        return await truth(transaction)

    monkeypatch.setattr(inline, "committed", committed)
    await nursery.start(writer.run)
    durable_at: list[float] = []
    writer.put([entry("a")], lambda: durable_at.append(trio.current_time()))
    await trio.sleep(0.01)
    writer.put([entry("b")], lambda: durable_at.append(trio.current_time()))
    await trio.sleep(10)
    assert (inline.commits, durable_at) == (1, [])

    await trio.sleep(20)
    assert await subjects(inline) == ["a", "b"]
    assert len(durable_at) == 2
    assert durable_at[0] >= known_at


def lost() -> OutcomeUnknown:
    return OutcomeUnknown("", None)


@pytest.mark.parametrize(
    ("where", "error"),
    [("before_commit", DatabaseDown), ("before_commit", DiskFull), ("before_commit", lost), ("after_commit", lost)],
)
async def test_whichever_commit_fails_every_accepted_row_is_written_once(
    autojump_clock: Any, where: str, error: Callable[[], BaseException]
):
    """Fail the n-th commit, n = 1, 2, 3… until a run passes untouched (RELIABILITY, "Fail the N-th")."""
    puts = [name for number in range(4) for name in (f"put-{number}", f"put-{number}", f"late-{number}")]
    for failing in range(1, 100):
        database = InlineDatabase()
        setattr(database, where, fails(error, failing))
        answers, durable = await puts_and_calls(database)
        kept = await subjects(database)
        database.close()

        kept_calls = [subject for subject in kept if subject.startswith("call")]
        answered = [subject for subject, answer in answers.items() if answer == f"{subject} done"]
        assert [subject for subject in kept if subject not in kept_calls] == puts
        assert durable == list(dict.fromkeys(puts))
        assert set(answered) <= set(kept_calls)
        assert len(kept_calls) == len(set(kept_calls))
        if database.commits < failing:
            assert len(answered) == 4
            return
    pytest.fail("no run passed untouched")


async def puts_and_calls(database: InlineDatabase) -> tuple[dict[str, Any], list[str]]:
    """Four rounds of two rows, a call and a row; what the callers were told, and the puts that were told durable."""
    writer = BatchWriter(database, SETTINGS, Metrics())
    answers: dict[str, Any] = {}
    durable: list[str] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        for number in range(4):
            writer.put([entry(f"put-{number}")] * 2, partial(durable.append, f"put-{number}"))
            await answer_to(writer, f"call-{number}", answers)
            writer.put([entry(f"late-{number}")], partial(durable.append, f"late-{number}"))
            await trio.sleep(1)
        writer.close()
    return answers, durable


class Steps(trio.abc.Instrument):
    """Counts the steps of tasks of this name, by passes of the loop."""

    def __init__(self, name: str) -> None:
        self.by_pass = [0]
        self._name = name

    def before_io_wait(self, timeout: float) -> None:
        self.by_pass.append(0)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.by_pass[-1] += task.name == self._name


async def test_who_waits_for_room_sleeps_until_there_is_and_goes_on_in_order(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery
):
    """A thousand links that looked a hundred times a second would take the time of the writer that is to catch up."""
    inline.before_commit = down_until(trio.current_time() + 30)
    await nursery.start(writer.run)
    writer.put([entry("row")] * 30)
    went_on: list[int] = []

    async def wait(number: int) -> None:
        await writer.wait_for_room()
        went_on.append(number)

    for number in range(200):
        nursery.start_soon(wait, number, name="waiter")
        await trio.testing.wait_all_tasks_blocked()
    steps = Steps("waiter")
    trio.lowlevel.add_instrument(steps)
    await trio.sleep(29)
    assert (sum(steps.by_pass), went_on) == (0, [])

    await trio.sleep(2)
    trio.lowlevel.remove_instrument(steps)
    assert went_on == list(range(200))
    assert sum(steps.by_pass) == 200
    assert max(steps.by_pass) == 1


async def test_who_was_let_in_and_fills_the_writer_lets_nobody_else_in(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery
):
    inline.before_commit = down_until(trio.current_time() + 30)
    writer.put([entry("first")] * 40)
    waiting_rows: list[int] = []

    async def wait(number: int) -> None:
        await writer.wait_for_room()
        assert writer.put([entry(f"row-{number}")] * 5)
        waiting_rows.append(writer.rows_waiting)

    for number in range(50):
        nursery.start_soon(wait, number)
    await trio.testing.wait_all_tasks_blocked()
    await nursery.start(writer.run)
    await trio.sleep(60)

    assert len(waiting_rows) == 50
    assert max(waiting_rows) < 30 + 5
    assert writer.rows_waiting == 0


@pytest.mark.parametrize("way", ["answered", "given up"])
async def test_room_that_comes_without_a_commit_is_told_too(autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, way: str):
    """Callers who are told that the database is down wait no more, and nothing does after the end."""
    inline.before_commit = fails(DatabaseDown)
    went_on: list[float] = []

    async def wait() -> None:
        await writer.wait_for_room()
        went_on.append(trio.current_time())

    async with trio.open_nursery() as waiters:
        if way == "answered":
            for number in range(30):
                waiters.start_soon(answer_to, writer, str(number), {})
        else:
            writer.put([entry("row")] * 30)
        await trio.testing.wait_all_tasks_blocked()
        waiters.start_soon(wait)
        waiters.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            await trio.sleep(0.01)
            assert len(went_on) == (2 if way == "answered" else 0)
            writer.close()
    assert len(went_on) == 2


# How it ends


async def test_a_broken_disk_ends_the_run_and_nothing_is_tried_again(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, metrics: Metrics
):
    inline.before_commit = fails(lambda: StorageBroken("fsync failed"), 1)
    answers: dict[str, Any] = {}
    with pytest.RaisesGroup(StorageBroken):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            writer.put([entry("put")])
            nursery.start_soon(answer_to, writer, "call", answers)

    assert isinstance(answers["call"], DatabaseDown)
    assert not writer.put([entry("more")])
    with pytest.raises(DatabaseDown):
        await writer.call(partial(insert_entry, subject="more"))
    assert (inline.commits, await subjects(inline)) == (1, [])
    assert count_of(metrics, "storage_rows_lost_total") == "3.0"


async def test_a_disk_that_breaks_under_somebody_else_ends_the_run_too(autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter):
    with pytest.RaisesGroup(StorageBroken):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            inline.before_commit = fails(lambda: StorageBroken("fsync failed"))
            with pytest.raises(StorageBroken):
                await inline.write(partial(insert_entry, subject="elsewhere"))
            await trio.sleep(3600)
    assert trio.current_time() < 3600


async def test_cancelled_it_still_writes_what_waits_and_answers_who_waits(autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter):
    durable: list[int] = []
    answers: dict[str, Any] = {}
    async with trio.open_nursery() as callers, trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        for number in range(25):
            writer.put([entry(f"row-{number}")], partial(durable.append, number))
        callers.start_soon(answer_to, writer, "call", answers)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()

    assert durable == list(range(25))
    assert answers == {"call": "call done"}
    assert not writer.put([entry("too late")])


@pytest.mark.parametrize("way", ["close", "cancel"])
async def test_the_end_is_not_held_for_ever_by_a_database_that_is_down(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, metrics: Metrics, way: str
):
    inline.before_commit = fails(DatabaseDown)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        writer.put([entry("row")] * 3)
        await trio.sleep(10)
        began = trio.current_time()
        if way == "close":
            writer.close()
        else:
            nursery.cancel_scope.cancel()

    assert trio.current_time() - began == pytest.approx(5.0)
    assert count_of(metrics, "storage_rows_lost_total") == "3.0"
    assert writer.rows_waiting == 0


async def test_closed_while_the_database_is_down_it_ends_as_soon_as_all_is_written(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter
):
    began = trio.current_time()
    inline.before_commit = down_until(began + 12)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        writer.put([entry("row")])
        await trio.sleep(10)
        writer.close()

    assert trio.current_time() - began < 13
    assert await subjects(inline) == ["row"]


async def test_whenever_its_caller_is_cancelled_a_work_is_done_once_or_never_asked(autojump_clock: Any):
    """Cancel at the n-th step of the clockwork, n = 0, 1, 2… until the caller is done first."""
    outcomes: list[tuple[bool, list[str]]] = []
    for steps in range(20):
        database = InlineDatabase()
        writer = BatchWriter(database, SETTINGS, Metrics())
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_after, steps, scope)
                await writer.call(partial(insert_entry, subject="call"))
            await trio.sleep(1)
            writer.close()
        kept = await subjects(database)
        database.close()
        assert kept in ([], ["call"])
        assert kept or scope.cancelled_caught
        outcomes.append((scope.cancelled_caught, kept))

    assert outcomes[-1] == (False, ["call"])
    assert (True, ["call"]) in outcomes


async def cancel_after(steps: int, scope: trio.CancelScope) -> None:
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    scope.cancel()
