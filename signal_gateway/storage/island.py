"""The asyncio island: one thread with one asyncio loop, for libraries that need one, and the bridge to it from Trio (DESIGN.md §5)."""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVar

import outcome
import trio

from signal_gateway.observe.logs import logger

T = TypeVar("T")
Job = Callable[[], Coroutine[Any, Any, T]]

log = logger("storage")


class Island:
    """Runs coroutines of asyncio for tasks of Trio. `jobs_outstanding` counts on the Trio side: given and not yet answered."""

    def __init__(self, name: str) -> None:
        self.jobs_outstanding = 0
        self.jobs_answered = 0
        self._trio = trio.lowlevel.current_trio_token()
        self._loop = asyncio.new_event_loop()
        self._jobs: set[asyncio.Task[Any]] = set()  # asyncio keeps only weak references to its tasks
        self._thread = threading.Thread(target=self._run_loop, name=name, daemon=True)
        self._thread.start()

    async def run(self, job: Job[T]) -> T:
        """Run `job()` on the island and wait for its result. Who is cancelled stops waiting; the job goes on, its answer is dropped."""
        await trio.lowlevel.checkpoint_if_cancelled()
        waiting = [trio.lowlevel.current_task()]

        def answered(result: outcome.Outcome[T]) -> None:
            if waiting:
                trio.lowlevel.reschedule(waiting.pop(), result)

        def abandon(_: Callable[[], object]) -> trio.lowlevel.Abort:
            waiting.clear()
            return trio.lowlevel.Abort.SUCCEEDED

        self.start(job, answered)
        return await trio.lowlevel.wait_task_rescheduled(abandon)

    def start(self, job: Job[T], answered: Callable[[outcome.Outcome[T]], None]) -> None:
        """Run `job()` on the island, and call `answered` in the Trio thread when it has ended."""

        def counted(result: outcome.Outcome[T]) -> None:
            self.jobs_outstanding -= 1
            self.jobs_answered += 1
            answered(result)

        self.jobs_outstanding += 1
        self._loop.call_soon_threadsafe(self._start, job, counted, context=Context())

    async def close(self, last: Job[None], patience_s: float) -> None:
        """Let running jobs end, run `last`, end the thread; each is given up after `patience_s`. Shielded, so at most 3 of these."""
        with trio.CancelScope(shield=True):
            with trio.move_on_after(2 * patience_s) as scope:
                await self.run(lambda: self._finish(last, patience_s))
            if scope.cancelled_caught:
                log.error("the database thread did not finish its work", waited_s=2 * patience_s)
            self._loop.call_soon_threadsafe(self._loop.stop)
            await trio.to_thread.run_sync(self._thread.join, patience_s)
        if self._thread.is_alive():
            log.error("the database thread did not end", waited_s=patience_s)

    def tell(self, heard: Callable[[], None]) -> None:
        """From the island: call `heard` in the Trio thread, if that still runs."""
        try:
            self._trio.run_sync_soon(heard)
        except trio.RunFinishedError:
            return  # nobody is left to hear it

    def _run_loop(self) -> None:
        _give_way()
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    def _start(self, job: Job[T], answered: Callable[[outcome.Outcome[T]], None]) -> None:
        task = self._loop.create_task(job())
        self._jobs.add(task)

        def done(task: asyncio.Task[T]) -> None:
            self._jobs.discard(task)
            result = _outcome_of(task)
            self.tell(lambda: answered(result))

        task.add_done_callback(done)

    async def _finish(self, last: Job[None], patience_s: float) -> None:
        others = self._jobs - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=patience_s)
        await last()


def _give_way() -> None:
    """Have Linux let this thread, and those that it begins, take the processor from no other as it wakes.

    Where both have one core, each hand-over to the database would otherwise stop the event loop in the middle of a step for as long as
    the transaction computes. Its share of the processor stays the same.
    """
    if hasattr(os, "SCHED_BATCH"):
        with suppress(OSError):  # a sandbox may forbid it: then it is as without
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _outcome_of(task: asyncio.Task[T]) -> outcome.Outcome[T]:
    if task.cancelled():
        return outcome.Error(RuntimeError("a job of the island was cancelled from within"))
    error = task.exception()
    return outcome.Value(task.result()) if error is None else outcome.Error(error)
