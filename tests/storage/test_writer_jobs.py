"""Jobs of the batch writer: done together, behind the rows, tried again until the database has them."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import trio
from sqlalchemy import Connection

from signal_gateway.domain.errors import DatabaseDown, DiskFull
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.faults import OutcomeUnknown
from signal_gateway.storage.settings import StorageSettings

from .rows_kept import entry, insert_entry, subjects, subjects_in

SETTINGS = StorageSettings(batch_rows_max=10, batch_wait_s=0.002, high_water_rows=30, rows_max=40, retry_first_s=0.05, retry_max_s=1.0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def inline() -> Iterator[InlineDatabase]:
    database = InlineDatabase()
    yield database
    database.close()


@pytest.fixture
def writer(inline: InlineDatabase, metrics: Metrics) -> BatchWriter:
    return BatchWriter(inline, SETTINGS, metrics)


class Work:
    """Writes a line for each item, and remembers which came together."""

    def __init__(self) -> None:
        self.together: list[list[str]] = []

    def __call__(self, connection: Connection, items: Sequence[str]) -> Sequence[str]:
        self.together.append(list(items))
        for item in items:
            if item == "bad":
                raise ValueError("bad")
            insert_entry(connection, item)
        return [f"{item} done" for item in items]


async def test_who_has_a_job_done_waits_for_it_and_is_told_what_came_of_it(writer: BatchWriter, nursery: trio.Nursery):
    await nursery.start(writer.run)
    told: list[str] = []
    work = Work()
    assert await writer.have_done(work, "a", told.append) == "a done"
    with pytest.raises(ValueError, match="bad"):
        await writer.have_done(work, "bad", told.append)
    with trio.CancelScope() as scope:
        scope.cancel()
        await writer.have_done(work, "b", told.append)
    await writer.call(lambda connection: None)
    assert told == ["a done", "b done"]
    writer.close()
    with pytest.raises(DatabaseDown):
        await writer.have_done(work, "c", told.append)


def failing(error: Callable[[], BaseException], numbers: set[int]) -> Callable[[int], None]:
    def hook(number: int) -> None:
        if number in numbers:
            raise error()

    return hook


async def test_jobs_of_one_work_are_done_at_once_and_answered_in_order(autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter):
    work, told = Work(), []
    for number in range(5):
        assert writer.post(work, f"job {number}", told.append)
    writer.close()
    await writer.run()
    assert work.together == [[f"job {number}" for number in range(5)]]
    assert told == [f"job {number} done" for number in range(5)]
    assert inline.commits == 1


async def test_a_job_sees_the_rows_that_were_put_around_it(autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter):
    seen: list[Any] = []

    def look(connection: Connection, items: Sequence[str]) -> Sequence[list[str]]:
        return [subjects_in(connection) for _ in items]

    writer.put([entry("before")])
    writer.post(look, None, seen.append)
    writer.put([entry("behind")])
    writer.close()
    await writer.run()
    assert seen == [["before", "behind"]]


async def test_a_job_that_fails_fails_alone_and_is_told_of_it(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, metrics: Metrics
):
    work, told = Work(), []
    for item in ("one", "bad", "two"):
        writer.post(work, item, told.append)
    writer.close()
    await writer.run()
    assert [str(each) for each in told] == ["one done", "bad", "two done"]
    assert await subjects(inline) == ["one", "two"]
    assert metrics.errors.value("job") == 1


async def test_while_the_database_is_down_a_job_lasts_and_one_that_does_not_is_told(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery
):
    work, lasting, asking = Work(), [], []
    inline.before_commit = failing(DatabaseDown, {1, 2})
    await nursery.start(writer.run)
    writer.post(work, "lasts", lasting.append)
    writer.post(work, "asks", asking.append, lasts=False)
    await trio.sleep(5)
    assert lasting == ["lasts done"]
    assert [type(each) for each in asking] == [DatabaseDown]
    assert await subjects(inline) == ["lasts"]


async def test_a_full_disk_is_told_as_such(autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery):
    told: list[Any] = []
    inline.before_commit = failing(DiskFull, {1})
    await nursery.start(writer.run)
    writer.post(Work(), "asks", told.append, lasts=False)
    await trio.sleep(5)
    assert [type(each) for each in told] == [DiskFull]
    assert writer.rows_waiting == 0


async def test_after_a_commit_of_unknown_outcome_that_held_the_result_comes_behind_the_error(
    autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter, nursery: trio.Nursery
):
    work, lasting, asking = Work(), [], []
    inline.after_commit = failing(lambda: OutcomeUnknown("1", None), {1})
    await nursery.start(writer.run)
    writer.post(work, "lasts", lasting.append)
    writer.post(work, "asks", asking.append, lasts=False)
    await trio.sleep(5)
    assert lasting == ["lasts done"]
    assert [each if isinstance(each, str) else type(each) for each in asking] == [DatabaseDown, "asks done"]
    assert await subjects(inline) == ["lasts", "asks"]


async def test_without_room_a_job_is_not_taken(autojump_clock: Any, writer: BatchWriter, metrics: Metrics):
    told: list[Any] = []
    assert all(writer.post(Work(), str(number), told.append) for number in range(40))
    assert not writer.post(Work(), "one too many", told.append)
    assert metrics.limits.value("storage.rows_max") == 1


async def test_jobs_that_the_end_leaves_are_counted_as_lost(autojump_clock: Any, inline: InlineDatabase, writer: BatchWriter):
    inline.before_commit = lambda _: (_ for _ in ()).throw(DatabaseDown())
    asking: list[Any] = []
    writer.post(Work(), "lasts", lambda _: None)
    writer.post(Work(), "asks", asking.append, lasts=False)
    writer.close()
    await writer.run()
    assert writer.rows_lost == 1
    assert [type(each) for each in asking] == [DatabaseDown]


async def test_what_makes_something_is_done_before_what_may_be_about_it(writer: BatchWriter, nursery: trio.Nursery, inline: InlineDatabase):
    seen: list[list[str]] = []

    def look(connection: Connection, items: Sequence[str]) -> Sequence[str]:
        seen.append(subjects_in(connection))
        return items

    writer.post(look, "earlier", lambda _: None)
    writer.post(Work(), "made", lambda _: None, lasts=False, makes=True)
    writer.post(look, "later", lambda _: None)
    await nursery.start(writer.run)
    await writer.call(lambda _: None)
    assert seen == [["made"]]
