"""The one hand that writes: the rows and calls of many in one transaction every few milliseconds (DESIGN.md §5).

Rows are written in the order in which they were given, and calls in theirs (`batch_queue`). A row that the database refuses is cut out of
its batch by halving; the others are written. A database that is down or full is asked again, ever less often; what may wait meanwhile is
bounded.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any, TypeVar

import outcome
import trio
from sqlalchemy import Connection

from signal_gateway.domain.errors import DatabaseDown, DiskFull, GatewayError
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import COUNT_BUCKETS, Metrics
from signal_gateway.storage.batch import Call, Entry, Job, JobWork, Put, Written, write_batch
from signal_gateway.storage.batch_queue import BatchQueue, size_of
from signal_gateway.storage.database import Database
from signal_gateway.storage.faults import OutcomeUnknown, StorageBroken
from signal_gateway.storage.rows import Row
from signal_gateway.storage.settings import StorageSettings

T = TypeVar("T")

COMPANY_PASSES = 2
"""Passes of the event loop in which a caller waits for company: whoever was just answered has run by then, whatever their order."""
TOLD_AT_ONCE = 16
"""Whoever hears that a batch is durable may have much to do: all five hundred at once would hold up the loop for tens of milliseconds."""

log = logger("storage")


class BatchWriter:
    """Takes rows from everywhere and makes nobody wait who does not want to. `run` is the one loop that writes them.

    Every row that `put` accepted is written exactly once, or counted as refused or lost. All methods belong to the Trio thread.
    """

    def __init__(self, database: Database, settings: StorageSettings, metrics: Metrics) -> None:
        self._database = database
        self._settings = settings
        self._queue = BatchQueue()
        self._rows_waiting = 0
        self._in_flight: Sequence[Entry] = ()
        self._doubt: OutcomeUnknown | None = None
        self._broken: StorageBroken | None = None
        self._pause_s = 0.0
        self._is_closed = False
        self._flush = trio.CancelScope()
        self._woken = trio.Event()
        self._wake_at_rows = inf
        self._without_room = trio.lowlevel.ParkingLot()
        self._limits = metrics.limits
        self._errors = metrics.errors
        counter = metrics.counter
        self._rows_written = counter("storage_rows_written_total", "Rows that became durable.")
        self._rows_refused = counter("storage_rows_refused_total", "Rows that the database refused, by table.", ("table",))
        self._rows_lost = counter("storage_rows_lost_total", "Rows given up because the process ended before they could be written.")
        self._failures = counter("storage_batches_failed_total", "Batches that could not be written and are tried again.", ("reason",))
        self._batch_rows = metrics.histogram("storage_batch_rows", "Rows and calls of one transaction.", COUNT_BUCKETS)
        self._batch_seconds = metrics.histogram("storage_batch_seconds", "From the beginning of a batch to the end of its commit.")
        metrics.gauge("storage_rows_waiting", "Rows and calls given and not yet durable.", lambda: self.rows_waiting)
        metrics.gauge("storage_oldest_row_age_seconds", "How long the oldest of them has been waiting.", lambda: self.oldest_row_age_s)
        database.when_broken(self._hear_broken)

    @property
    def rows_waiting(self) -> int:
        """Rows and calls that were given and are not yet durable."""
        return self._rows_waiting

    @property
    def oldest_row_age_s(self) -> float:
        """Seconds that the oldest of them has been waiting; 0 when there is none."""
        oldest_at = min((entry.at for entry in self._in_flight), default=self._queue.oldest_at)
        return 0.0 if oldest_at is None else trio.current_time() - oldest_at

    @property
    def above_high_water(self) -> bool:
        """Whether so much waits that doors should hear less."""
        return self._rows_waiting >= self._settings.high_water_rows

    def has_room(self) -> bool:
        """Whether doors may hear everything."""
        return not self.above_high_water

    async def wait_for_room(self) -> None:
        """Return as soon as doors may hear everything. In order: whoever goes on lets the next one go on in the next pass of the loop.

        All at once they would hold up the loop, and the writer that has just caught up would be behind again.
        """
        while self.above_high_water:
            await self._without_room.park()
        self._without_room.unpark()

    @property
    def rows_lost(self) -> int:
        """Rows given up because the process ended before they could be written."""
        return int(self._rows_lost.value())

    @property
    def trouble(self) -> str | None:
        """Why the gateway should get no new traffic, in words; None while all is well."""
        if self._pause_s:
            return "the database takes no rows"
        return "the writer is behind" if self.above_high_water else None

    def put(self, rows: Sequence[Row], on_durable: Callable[[], None] | None = None, on_failed: Callable[[], None] | None = None) -> bool:
        """Write these rows soon. Never waits, never raises.

        Returns False, and nothing of it is kept or called, when too many rows wait already (counted as the limit `storage.rows_max`) or
        the writer has been closed. After the commit `on_durable` is called, in the order of the puts; or `on_failed` instead, if the
        database refused one of the rows as such: the others are written all the same.
        """
        if not self._has_room_for(len(rows)):
            return False
        self._queue.add(Put(rows, trio.current_time(), on_durable, on_failed))
        self._rows_waiting += len(rows)
        if self._rows_waiting >= self._wake_at_rows or not rows:
            self._woken.set()
        return True

    def post(self, work: JobWork, item: Any, on_done: Callable[[Any], None], *, lasts: bool = True, makes: bool = False) -> bool:
        """Have `work` see to `item` soon, in one go with the items that others posted for it. Never waits, never raises.

        It runs behind all rows and calls that were given before it. After the commit `on_done` is called with what came of this item, in
        the order of the posts; or with the error that `work` raised for it, which is counted and logged. One that `lasts` is tried again
        until the database has taken it; for another `on_done` hears the DatabaseDown or DiskFull, and, should a commit of unknown outcome
        turn out to have held, the result later. One that `makes` something is done before the others of its batch, which may be about that.
        Returns False, and nothing of it is kept, as `put` does.
        """
        if not self._has_room_for(1):
            return False
        self._queue.add(Job(work, item, trio.current_time(), on_done, lasts, makes))
        self._rows_waiting += 1
        self._woken.set()
        return True

    async def have_done(self, work: JobWork, item: Any, on_done: Callable[[Any], None]) -> Any:
        """What came of `item`, posted as one that does not last. `on_done` hears of it, too, as soon as it is on disk, whoever still waits.

        Raises DatabaseDown or DiskFull, and what `work` raised for it; then `on_done` hears nothing.
        """
        came: list[Any] = []
        is_there = trio.Event()

        def tell(result: Any) -> None:
            came.append(result)
            is_there.set()
            if not isinstance(result, Exception):
                on_done(result)

        if not self.post(work, item, tell, lasts=False):
            raise DatabaseDown
        await is_there.wait()
        if isinstance(came[0], Exception):
            raise came[0]
        return came[0]

    async def call(self, work: Callable[[Connection], T]) -> T:
        """The result of `work`, after the commit of the transaction in which it ran, behind all that was put before. What is put while
        it waits may be written before it.

        What `work` raises undoes its own doing alone and is raised here, after the commit too. Raises DatabaseDown or DiskFull when the
        transaction was not committed. Who is cancelled stops waiting; the work is done all the same.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._has_room_for(1):
            raise DatabaseDown
        call = Call(work, trio.current_time(), trio.lowlevel.current_task())
        self._queue.add(call)
        self._rows_waiting += 1
        self._woken.set()

        def abandon(_: Callable[[], object]) -> trio.lowlevel.Abort:
            call.waiting = None
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(abandon)

    def close(self) -> None:
        """Take nothing more; `run` writes what waits, for `flush_s` at most, and returns."""
        if not self._is_closed:
            self._is_closed = True
            self._flush.deadline = trio.current_time() + self._settings.flush_s
            self._woken.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write until closed and empty. Cancelled, it closes itself and still writes for `flush_s`. Raises StorageBroken."""
        task_status.started()
        try:
            with self._flush:
                await self._write_on()
        except trio.Cancelled:
            self.close()
            with trio.CancelScope(shield=True, deadline=self._flush.deadline):
                await self._write_on()
            raise
        finally:
            self._give_up()

    async def _write_on(self) -> None:
        while True:
            if self._broken is not None:
                raise self._broken
            if self._pause_s:
                await trio.sleep(self._pause_s)
            if self._doubt is not None:
                await self._ask_again(self._doubt)
            elif self._queue:
                await self._gather()
                await self._write_next()
            elif self._is_closed:
                return
            else:
                await self._sleep_until(rows=1)

    async def _gather(self) -> None:
        """Rows wait a little for company; somebody who waits only for those who were answered a moment ago and may ask again.

        Without that, one caller out of step with many others would for ever have commits of its own between theirs.
        """
        if self._queue.askers:
            for _ in range(COMPANY_PASSES):
                await trio.lowlevel.checkpoint()
        alone = not self._queue.askers and self._rows_waiting < self._settings.batch_rows_max
        if alone and not self._is_closed and not self._pause_s:
            with trio.move_on_after(self._settings.batch_wait_s):
                await self._sleep_until(self._settings.batch_rows_max)

    async def _sleep_until(self, rows: int) -> None:
        """Until so many rows wait, or anything else happens."""
        self._woken = trio.Event()
        self._wake_at_rows = rows
        try:
            await self._woken.wait()
        finally:
            self._wake_at_rows = inf

    async def _write_next(self) -> None:
        entries = self._in_flight = self._take()
        begun_at = trio.current_time()
        # Shielded, because a cancelled wait would not tell whether the rows are written. The database bounds it.
        with trio.CancelScope(shield=True):
            try:
                written = await self._database.write(partial(write_batch, entries))
            except OutcomeUnknown as doubt:
                self._doubt = doubt
                self._fail(doubt)
            except (DatabaseDown, DiskFull) as error:
                self._fail(error)
                self._give_back()
            else:
                self._batch_rows.observe(sum(map(size_of, entries)))
                self._batch_seconds.observe(trio.current_time() - begun_at)
                await self._settle(written)

    async def _ask_again(self, doubt: OutcomeUnknown) -> None:
        """The connection was lost in a commit: nothing else is written before it is known whether that held."""
        with trio.CancelScope(shield=True):
            try:
                held = await self._database.committed(doubt.transaction)
            except DatabaseDown as error:
                self._fail(error)
                return
            self._doubt = None
            if held:
                await self._settle(doubt.result)
            else:
                self._give_back()

    def _take(self) -> list[Entry]:
        entries = self._queue.take(self._settings.batch_rows_max, self._settings.batch_calls_max)
        if self._queue.is_held_up():
            self._limits.add("storage.batch_calls_max")
        return entries

    async def _settle(self, written: Written) -> None:
        """The transaction is durable: tell everybody, in order, a few between two looks at everything else that goes on."""
        entries, self._in_flight = self._in_flight, ()
        if self._pause_s:
            self._pause_s = 0.0
            log.info("the database takes rows again")
        for (table, kind), rows in written.poison.items():
            self._rows_refused.add(table, by=rows)
            log.error("the database refused rows", table=table, error=kind, rows=rows)
        self._rows_written.add(by=sum(len(entry.rows) for entry in entries if isinstance(entry, Put)) - written.poison.total())
        for place, entry in enumerate(entries, 1):
            if place % TOLD_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            self._rows_waiting -= size_of(entry)
            if isinstance(entry, Call):
                _answer(entry, written.answers[entry])
            elif isinstance(entry, Job):
                self._tell_done(entry, written.done[entry])
            else:
                self._tell(entry.on_failed if entry in written.failed else entry.on_durable)
        self._tell_of_room()

    def _tell_of_room(self) -> None:
        """Fewer rows wait than did."""
        if not self.above_high_water:
            self._without_room.unpark()

    def _tell(self, callback: Callable[[], None] | None) -> None:
        if callback is None:
            return
        try:
            callback()
        except Exception:
            self._errors.add("on_durable")
            log.exception("a callback of the writer failed")

    def _tell_done(self, job: Job, result: outcome.Outcome[Any]) -> None:
        if isinstance(result, outcome.Error):
            self._errors.add("job")
            log.error("a job of the writer failed", exc_info=result.error)
            self._tell(partial(job.on_done, result.error))
        else:
            self._tell(partial(job.on_done, result.unwrap()))

    def _give_back(self) -> None:
        """Nothing of the batch was written: its rows and lasting jobs are first in line again. The others have been told."""
        entries, self._in_flight = self._in_flight, ()
        kept = [entry for entry in entries if not isinstance(entry, Call) and _lasts(entry)]
        self._rows_waiting -= len(entries) - len(kept)
        self._queue.give_back(kept)
        self._tell_of_room()

    def _fail(self, error: GatewayError) -> None:
        """The database could not: whoever waits for an answer is told, and the next try is later."""
        self._failures.add(error.reason)
        if not self._pause_s:
            log.warning("the database takes no rows: trying again", reason=error.reason, rows_waiting=self._rows_waiting)
        self._pause_s = min(max(2 * self._pause_s, self._settings.retry_first_s), self._settings.retry_max_s)
        calls = self._queue.take_calls()
        self._rows_waiting -= len(calls)
        self._refuse_waiting([*self._in_flight, *calls], error)

    def _give_up(self) -> None:
        """`run` ends: nobody waits for ever, and what is lost is counted."""
        self._is_closed = True
        left = [*self._in_flight, *self._queue.clear()]
        self._in_flight = ()
        self._rows_waiting = 0
        self._refuse_waiting(left, self._broken)
        lost = sum(size_of(entry) for entry in left if _lasts(entry))
        if lost:
            self._rows_lost.add(by=lost)
            log.error("rows were lost at the end", rows=lost)
        self._tell_of_room()

    def _refuse_waiting(self, entries: Sequence[Entry], cause: Exception | None) -> None:
        """Each asker gets an error of its own: one object raised in many tasks would gather all their tracebacks."""
        for entry in entries:
            if _lasts(entry):
                continue
            refusal = DiskFull() if isinstance(cause, DiskFull) else DatabaseDown()
            refusal.__cause__ = cause
            if isinstance(entry, Call):
                _answer(entry, outcome.Error(refusal))
            elif isinstance(entry, Job):
                self._tell(partial(entry.on_done, refusal))

    def _has_room_for(self, rows: int) -> bool:
        if self._is_closed:
            self._rows_lost.add(by=rows)
            return False
        if self._rows_waiting + rows > self._settings.rows_max:
            self._limits.add("storage.rows_max", by=rows)
            return False
        return True

    def _hear_broken(self, broken: StorageBroken) -> None:
        self._broken = broken
        self._woken.set()


def _answer(call: Call, result: outcome.Outcome[Any]) -> None:
    if call.waiting is not None:
        task, call.waiting = call.waiting, None
        trio.lowlevel.reschedule(task, result)


def _lasts(entry: Entry) -> bool:
    """Whether it waits for a database that is away."""
    return entry.lasts if isinstance(entry, Job) else isinstance(entry, Put)
