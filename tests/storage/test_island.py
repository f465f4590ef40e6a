"""The bridge between Trio and a thread with an asyncio loop."""

import asyncio
import threading

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from signal_gateway.storage.island import Island


async def nothing() -> None:
    pass


async def test_results_and_errors_come_back_and_the_thread_ends():
    island = Island("test")

    async def answer() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    async def fail() -> None:
        raise LookupError("here")

    assert await island.run(answer) == "test"
    with pytest.raises(LookupError, match="here"):
        await island.run(fail)
    assert island.jobs_outstanding == 0

    await island.close(nothing, 5)
    assert "test" not in {thread.name for thread in threading.enumerate()}


async def test_jobs_are_counted_until_they_are_answered_even_if_nobody_waits():
    island = Island("test")
    go_on = asyncio.Event()

    async def wait() -> None:
        await go_on.wait()

    async def release() -> None:
        go_on.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(island.run, wait)
        nursery.start_soon(island.run, wait)
        await trio.testing.wait_all_tasks_blocked()
        assert island.jobs_outstanding == 2
        nursery.cancel_scope.cancel()
    assert island.jobs_outstanding == 2

    await island.run(release)
    while island.jobs_outstanding:
        await trio.lowlevel.checkpoint()
    await island.close(nothing, 5)


async def test_it_closes_after_the_jobs_that_run_though_its_closer_is_cancelled():
    island = Island("test")
    order: list[str] = []

    async def slow() -> None:
        await asyncio.sleep(0.02)
        order.append("job")

    async def last() -> None:
        order.append("last")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(island.run, slow)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        await island.close(last, 5)

    assert order == ["job", "last"]


async def test_a_job_that_never_ends_does_not_hold_the_end():
    island = Island("test")
    stuck = threading.Event()

    async def block() -> None:
        stuck.wait(20)

    with capture_logs() as lines, trio.fail_after(10):
        with trio.move_on_after(0.02):
            await island.run(block)
        await island.close(nothing, 0.02)
    stuck.set()
    island._thread.join(5)

    assert [line["event"] for line in lines] == ["the database thread did not finish its work", "the database thread did not end"]
    assert not island._thread.is_alive()


def test_an_answer_that_comes_after_the_end_of_the_run_is_dropped():
    """The run is gone when the job ends; the thread says nothing of it (pytest would tell)."""
    go_on = threading.Event()
    ended: list[str] = []
    islands: list[Island] = []

    async def slow() -> None:
        await asyncio.get_running_loop().run_in_executor(None, go_on.wait, 10)
        ended.append("job")

    async def crash() -> None:
        islands.append(Island("test"))
        with trio.move_on_after(0.02):
            await islands[0].run(slow)

    trio.run(crash)
    go_on.set()
    island = islands[0]
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), island._loop).result(10)
    island._loop.call_soon_threadsafe(island._loop.stop)
    island._thread.join(10)

    assert ended == ["job"]
    assert not island._thread.is_alive()
