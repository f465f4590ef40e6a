"""SQLite: one connection that writes and a few that only read, each in a thread of its own, in which a whole transaction is one trip.

aiosqlite owns the threads. Statement by statement, through SQLAlchemy's asynchronous side, each of them would wake two threads and cost
50 to 100 µs, and more while the event loop is busy: a thread that comes back from another has to wait for the interpreter each time. So
what runs in the thread is the work itself, over a synchronous Connection, with its BEGIN and COMMIT (docs/decisions.md).
"""

import asyncio
import os
import sqlite3
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
from sqlalchemy import Connection, Engine, StaticPool, create_engine, event

from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.storage.direct import begin_by
from signal_gateway.storage.engine import ENGINE_OPTIONS
from signal_gateway.storage.faults import StorageUnusable
from signal_gateway.storage.settings import StorageSettings

T = TypeVar("T")
Work = Callable[[Connection], T]

SYNCHRONOUS = {"power": "FULL", "process": "NORMAL"}
WAL_BYTES_KEPT = 64 * 1024 * 1024  # a write-ahead log that once grew larger is cut back to this
STATEMENTS_KEPT = 512
"""Statements that a connection keeps made out: a few dozen kinds, those that write in five sizes (`prepared.ROWS_TOGETHER`)."""
INTERRUPT_AGAIN_S = 0.05
"""A statement is stopped when its time is up; so is each that the same work begins after it, this often."""


class SqliteTransactions:
    """See IslandDatabase, of which this is the part that knows SQLite. Everything here runs on the island."""

    dialect = "sqlite"

    def __init__(self, path: Path, settings: StorageSettings) -> None:
        _make_file(path)
        self.path = path
        wait_ms = round(settings.busy_timeout_s * 1000)
        written: dict[str, str | int] = {
            "busy_timeout": wait_ms,  # first: the next one may have to wait
            "journal_mode": "WAL",
            "synchronous": SYNCHRONOUS[settings.durability],
            "foreign_keys": "ON",
            "journal_size_limit": WAL_BYTES_KEPT,
        }
        self.writer = ThreadedConnection(path, "BEGIN IMMEDIATE", written)
        self._readers = [ThreadedConnection(path, "BEGIN", {"busy_timeout": wait_ms, "query_only": "ON"}) for _ in range(settings.readers)]
        self._writing = _Free([self.writer])
        self._reading = _Free(self._readers)

    async def read(self, work: Work[T], timeout_s: float) -> T:
        """The result of `work`, whose transaction is undone afterwards."""
        async with self._reading.one(timeout_s) as connection:
            return await connection.transact(work, timeout_s, commits=False)

    async def write(self, work: Work[T], timeout_s: float) -> T:
        """The result of `work`, after its commit. A file answers truly or not at all: what a COMMIT takes is waited for."""
        async with self._writing.one(timeout_s) as connection:
            return await connection.transact(work, timeout_s, commits=True)

    async def committed(self, transaction: str) -> bool:
        """Nobody asks: the answer to a commit cannot be lost on the way."""
        raise DatabaseDown

    async def close(self) -> None:
        """Close every connection and end its thread."""
        for connection in (self.writer, *self._readers):
            await connection.close()


class ThreadedConnection:
    """A connection in its thread. `engine` is SQLAlchemy's side of it, for that thread alone. One transaction at a time."""

    def __init__(self, path: Path, begin: str, pragmas: dict[str, str | int]) -> None:
        self._path = path
        self._driver: _Driver | None = None
        self._connection: Connection | None = None
        self._may_be_interrupted = False
        self.engine = create_engine("sqlite://", creator=self._raw, poolclass=StaticPool, **ENGINE_OPTIONS)
        begin_explicitly(self.engine, begin)
        set_pragmas(self.engine, pragmas)

    async def transact(self, work: Work[T], timeout_s: float, *, commits: bool) -> T:
        """The result of `work` in a transaction of its own. Raises what SQLAlchemy makes of `interrupted` when its time is up."""
        driver = self._driver
        if driver is None:
            driver = self._driver = await _Driver(self._path)
        loop = asyncio.get_running_loop()
        clock: list[asyncio.TimerHandle] = []

        def interrupt() -> None:
            if self._may_be_interrupted:
                driver.raw.interrupt()  # may be called from any thread
            clock[:] = [loop.call_later(INTERRUPT_AGAIN_S, interrupt)]

        clock.append(loop.call_later(timeout_s, interrupt))
        try:
            return await driver.in_thread(lambda: self._transact(work, commits))
        finally:
            clock[0].cancel()

    async def close(self) -> None:
        """End the thread, if it was begun."""
        if self._driver is not None:
            driver, self._driver = self._driver, None
            await driver.close()

    # What follows runs in the connection's thread.

    def _raw(self) -> sqlite3.Connection:
        if self._driver is None:
            raise sqlite3.ProgrammingError("the connection is closed")
        return self._driver.raw

    def _transact(self, work: Work[T], commits: bool) -> T:
        connection = self._connection
        if connection is None:
            connection = self._connection = self.engine.connect()
        try:
            self._may_be_interrupted = True
            try:
                result = work(connection)
            finally:
                self._may_be_interrupted = False
            if commits:
                connection.commit()
            else:
                connection.rollback()
        except BaseException:
            # SQLite may have undone the transaction by itself, of which SQLAlchemy knows nothing: it begins anew, the connection stays.
            self._connection = None
            connection.close()
            raise
        return result


class _Driver(aiosqlite.Connection):
    """aiosqlite's connection and thread; what is given to it runs there as it is. Await it once."""

    def __init__(self, path: Path) -> None:
        # We begin transactions ourselves: see begin_explicitly.
        super().__init__(lambda: sqlite3.connect(path, isolation_level=None, cached_statements=STATEMENTS_KEPT), iter_chunk_size=1)
        self._thread.daemon = True  # a thread that hangs in a dead disk must not hold the end of the process

    def __await__(self) -> Generator[Any, None, "_Driver"]:
        yield from super().__await__()
        return self

    @property
    def raw(self) -> sqlite3.Connection:
        """The connection itself."""
        return self._conn

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of `work`. Whoever stops waiting does not stop it."""
        return await self._execute(work)


class _Free:
    """Connections that nobody uses; who comes when there is none waits, first come first served."""

    def __init__(self, connections: list[ThreadedConnection]) -> None:
        self._free = deque(connections)
        self._places = asyncio.Semaphore(len(connections))

    @asynccontextmanager
    async def one(self, timeout_s: float) -> AsyncGenerator[ThreadedConnection]:
        """A connection for as long as the context lasts. Raises TimeoutError when none was free in time."""
        async with asyncio.timeout(timeout_s):
            await self._places.acquire()
        connection = self._free.popleft()
        try:
            yield connection
        finally:
            self._free.append(connection)
            self._places.release()


def begin_explicitly(engine: Engine, statement: str) -> None:
    """Make `engine`, whose connections have `isolation_level=None`, begin its transactions with `statement`.

    Python's sqlite3 would begin them itself, and only at the first INSERT: a SAVEPOINT before it then stands outside, and a read that
    turns into a write fails at once when another process writes. This is the recipe of SQLAlchemy's page on SQLite.
    """

    def begin(connection: Connection) -> None:
        begin_by(connection, statement)

    event.listen(engine, "begin", begin)


def set_pragmas(engine: Engine, pragmas: dict[str, str | int]) -> None:
    """Say these to every new SQLite connection, in this order."""

    def say(dbapi_connection: Any, _record: object) -> None:
        cursor = dbapi_connection.cursor()
        for name, value in pragmas.items():
            cursor.execute(f"PRAGMA {name}={value}")
        cursor.close()

    event.listen(engine, "connect", say)


def _make_file(path: Path) -> None:
    """Create the file for its owner alone; SQLite gives its log and index the same mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StorageUnusable(f"cannot open the database {path}: {error.strerror}") from error
