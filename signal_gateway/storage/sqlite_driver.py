"""aiosqlite with one trip to its thread per statement.

Each trip wakes two threads and costs 50 to 100 µs. A statement through SQLAlchemy's adapter makes three or four (make a cursor, execute,
fetch, close), a savepoint twice three around it. Here a statement makes one, and the brackets around it travel with it: three
times as many durable calls a second (`bench/storage.py`).
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

T = TypeVar("T")

ROWS_A_FETCH = 64
BRACKETS = ("SAVEPOINT ", "RELEASE SAVEPOINT ")


class QuickConnection(aiosqlite.Connection):
    """One SQLite connection and its thread, as SQLAlchemy's `async_creator` wants it."""

    def __init__(self, path: Path) -> None:
        # We begin transactions ourselves: see engine.begin_explicitly.
        super().__init__(lambda: sqlite3.connect(path, isolation_level=None), ROWS_A_FETCH)
        self._thread.daemon = True  # a thread that hangs in a dead disk must not hold the end of the process
        self._postponed: list[str] = []

    def cursor(self) -> "QuickCursor":  # pyright: ignore[reportIncompatibleMethodOverride] - made without a trip, so nothing to await
        """A cursor, made in its first statement."""
        return QuickCursor(self)

    async def commit(self) -> None:
        """Commit, closing the brackets that are still to be said."""
        await self.in_thread(lambda connection: connection.commit())

    async def rollback(self) -> None:
        """Undo everything; what was postponed is void."""
        self._postponed.clear()
        await super().rollback()

    def postpone(self, bracket: str) -> None:
        """Say `bracket` with the next statement: by itself it can do nothing that anybody would wait for."""
        self._postponed.append(bracket)

    async def in_thread(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The result of `work`, in one trip."""
        postponed, self._postponed = self._postponed, []

        def all_of_it() -> T:
            for bracket in postponed:
                self._conn.execute(bracket)
            return work(self._conn)

        return await self._execute(all_of_it)


class QuickCursor:
    """As much of an aiosqlite cursor as SQLAlchemy uses. It has all rows when `execute` returns."""

    def __init__(self, connection: QuickConnection) -> None:
        self._connection = connection
        self._rows: Sequence[Any] = ()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> "QuickCursor":
        return self

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run one statement and fetch what it returns."""
        if sql == "BEGIN" or sql.startswith(BRACKETS):
            self._connection.postpone(sql)
        else:
            await self._run(lambda connection: connection.execute(sql, parameters))

    async def executemany(self, sql: str, parameters: Sequence[Any]) -> None:
        """Run one statement with each of many parameters."""
        await self._run(lambda connection: connection.executemany(sql, parameters))

    async def fetchall(self) -> Sequence[Any]:
        """What the statement returned."""
        return self._rows

    async def close(self) -> None:
        """Nothing is held."""

    async def _run(self, statement: Callable[[sqlite3.Connection], sqlite3.Cursor]) -> None:
        def run_and_fetch(connection: sqlite3.Connection) -> tuple[Sequence[Any], Any, int, int | None]:
            cursor = statement(connection)
            rows = cursor.fetchall() if cursor.description else ()
            fetched = rows, cursor.description, cursor.rowcount, cursor.lastrowid
            cursor.close()
            return fetched

        self._rows, self.description, self.rowcount, self.lastrowid = await self._connection.in_thread(run_and_fetch)
