"""A database in memory that works inline, without a thread: for virtual clocks, over which threads would be jumped (STYLE.md §7)."""

from collections.abc import Callable
from typing import Any, TypeVar

import trio
from sqlalchemy import Connection, StaticPool, create_engine

from signal_gateway.storage.engine import ENGINE_OPTIONS, begin_explicitly, set_pragmas
from signal_gateway.storage.faults import OutcomeUnknown, StorageBroken, refusal_of
from signal_gateway.storage.tables import metadata

T = TypeVar("T")
CommitHook = Callable[[int], None]


def _nothing(_number: int) -> None:
    pass


class InlineDatabase:
    """Keeps the contract of `Database` on an in-memory SQLite with every table made.

    The hooks fail commits on purpose. They are given the number of the commit, from 1. What `before_commit` raises undoes the
    transaction; what `after_commit` raises comes too late for that, as when a connection is lost while the answer travels. They may be
    replaced while the database is used.
    """

    jobs_outstanding = 0

    def __init__(self, before_commit: CommitHook = _nothing, after_commit: CommitHook = _nothing, schema: bool = True) -> None:
        self.before_commit = before_commit
        self.after_commit = after_commit
        self.commits = 0
        """Transactions that reached their commit, whether it held or not."""
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"isolation_level": None}, **ENGINE_OPTIONS)
        begin_explicitly(self.engine, "BEGIN IMMEDIATE")
        set_pragmas(self.engine, {"foreign_keys": "ON"})
        self._broken: StorageBroken | None = None
        self._when_broken: list[Callable[[StorageBroken], None]] = []
        self._committed: set[str] = set()
        if schema:
            metadata.create_all(self.engine)

    async def read(self, work: Callable[[Connection], T], *, timeout_s: float | None = None) -> T:
        """See Database.read."""
        return await self._inline(lambda: self._read(work))

    async def look_up(self, work: Callable[[Connection], T]) -> T:
        """See Database.look_up."""
        return await self.read(work)

    async def write(self, work: Callable[[Connection], T], *, timeout_s: float | None = None) -> T:
        """See Database.write."""
        return await self._inline(lambda: self._write(work))

    async def committed(self, transaction: str) -> bool:
        """See Database.committed."""
        await trio.lowlevel.checkpoint()
        return transaction in self._committed

    def when_broken(self, listener: Callable[[StorageBroken], None]) -> None:
        """See Database.when_broken."""
        self._when_broken.append(listener)

    def close(self) -> None:
        """Forget every row."""
        self.engine.dispose()

    async def _inline(self, job: Callable[[], T]) -> T:
        """As on the island: what is cancelled before it began does nothing, later only its answer is lost."""
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            result = job()
        except Exception as error:
            refusal = refusal_of(error)
            await trio.lowlevel.cancel_shielded_checkpoint()
            if refusal is None or refusal is error:
                raise
            raise refusal from error
        await trio.lowlevel.checkpoint()
        return result

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self.engine.connect() as connection:
            connection.begin()  # before it may not write: BEGIN IMMEDIATE counts as writing
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA query_only=ON")
            try:
                return work(connection)
            finally:
                driver.execute("PRAGMA query_only=OFF")

    def _write(self, work: Callable[[Connection], T]) -> T:
        if self._broken is not None:
            raise self._broken
        try:
            with self.engine.connect() as connection, connection.begin():
                result = work(connection)
                self.commits += 1
                number = self.commits
                self.before_commit(number)
        except Exception as error:
            self._note_broken(error)
            raise
        self._committed.add(str(number))
        try:
            self.after_commit(number)
        except OutcomeUnknown as unknown:
            raise OutcomeUnknown(str(number), result) from unknown
        return result

    def _note_broken(self, error: Exception) -> None:
        refusal = refusal_of(error)
        if isinstance(refusal, StorageBroken):
            self._broken = refusal
            for listener in self._when_broken:
                listener(refusal)
