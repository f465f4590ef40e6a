"""A database in memory that works inline, without a thread: for virtual clocks, over which threads would be jumped (STYLE.md §7)."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import trio
from sqlalchemy import Connection, Engine, StaticPool, create_engine
from sqlalchemy.exc import OperationalError

from signal_gateway.storage.engine import ENGINE_OPTIONS
from signal_gateway.storage.faults import OutcomeUnknown, StorageBroken, refusal_of
from signal_gateway.storage.sqlite import set_pragmas
from signal_gateway.storage.tables import metadata

T = TypeVar("T")
CommitHook = Callable[[int], None]
CommitListener = Callable[[int, Sequence[str]], None]


class Image(NamedTuple):
    """What a disk would hold: every commit, nothing else."""

    pages: bytes
    commits: int


def _nothing(_number: int) -> None:
    pass


def _at_once() -> float:
    return 0.0


class InlineDatabase:
    """Keeps the contract of `Database` on an in-memory SQLite with every table made.

    The hooks fail commits on purpose. They are given the number of the commit, from 1. What `before_commit` raises undoes the
    transaction; what `after_commit` raises comes too late for that, as when a connection is lost while the answer travels.
    `answers_after` says how many seconds each answer takes; it shows what was so when it was asked. All may be replaced while the
    database is used. `image` is that of an earlier one, from which this one goes on.
    """

    jobs_outstanding = 0

    def __init__(
        self,
        before_commit: CommitHook = _nothing,
        after_commit: CommitHook = _nothing,
        answers_after: Callable[[], float] = _at_once,
        schema: bool = True,
        image: Image | None = None,
    ) -> None:
        self.before_commit = before_commit
        self.after_commit = after_commit
        self.answers_after = answers_after
        self.commits = 0 if image is None else image.commits
        """Transactions that reached their commit, whether it held or not."""
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"isolation_level": None}, **ENGINE_OPTIONS)
        set_pragmas(self.engine, {"foreign_keys": "ON"})
        self._connection = self.engine.connect()
        self._driver = _driver_of(self._connection)
        self._writes = _Writes(self.engine, self._driver)
        self._broken: StorageBroken | None = None
        self._when_broken: list[Callable[[StorageBroken], None]] = []
        self._committed: set[str] = set()
        self._commit_listeners: list[CommitListener] = []
        if image is not None:
            self._driver.deserialize(image.pages)
        elif schema:
            self._driver.deserialize(_tables())

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

    def image(self) -> Image:
        """What a crash in this moment would leave."""
        return Image(self._driver.serialize(), self.commits)

    def tell_commits(self, listener: CommitListener) -> Callable[[], None]:
        """Call `listener` after each commit that held, with its number and the statements that wrote, their values in them.

        Returns the function that ends it.
        """
        self._commit_listeners.append(listener)
        self._writes.note()
        return lambda: self._commit_listeners.remove(listener)

    def rows(self, table: str) -> list[tuple[tuple[str, Any], ...]]:
        """Every row of a table, oldest first: its columns, each with its value as SQLite has it."""
        cursor = self._driver.execute(f"SELECT * FROM {metadata.tables[table].name} ORDER BY rowid")  # noqa: S608 - a name of ours
        names = [column[0] for column in cursor.description]
        return [tuple(zip(names, row, strict=True)) for row in cursor]

    def close(self) -> None:
        """Forget every row."""
        self._connection.close()
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
        if seconds := self.answers_after():
            await trio.sleep(seconds)
        else:
            await trio.lowlevel.checkpoint()
        return result

    def _read(self, work: Callable[[Connection], T]) -> T:
        """`query_only` as on the island would have every statement prepared anew, each time: whoever wrote is told of it afterwards."""
        transaction = self._connection.begin()
        before = self._driver.total_changes
        try:
            result = work(self._connection)
            if self._driver.total_changes != before:
                raise OperationalError("", {}, sqlite3.OperationalError("attempt to write a readonly database"))
            return result
        finally:
            transaction.rollback()

    def _write(self, work: Callable[[Connection], T]) -> T:
        if self._broken is not None:
            raise self._broken
        self._writes.begin()
        try:
            with self._connection.begin():
                result = work(self._connection)
                self.commits += 1
                number = self.commits
                self.before_commit(number)
        except Exception as error:
            self._note_broken(error)
            raise
        self._committed.add(str(number))
        for listener in list(self._commit_listeners):
            listener(number, tuple(self._writes.made))
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


@cache
def _tables() -> bytes:
    """A database with every table and no row. To make them takes twenty times as long as to copy them."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    with engine.connect() as connection:
        pages: bytes = _driver_of(connection).serialize()
    engine.dispose()
    return pages


def _driver_of(connection: Connection) -> Any:
    return connection.connection.driver_connection


class _Writes:
    """What the transaction under way has written; what a savepoint undoes is taken out again.

    Transactions and savepoints begin and end by the driver itself, see begin_explicitly: a simulated hour has thousands of them, and by
    way of SQLAlchemy a SAVEPOINT takes as long as the insert inside it.
    """

    def __init__(self, engine: Engine, driver: Any) -> None:
        self.made: list[str] = []
        self._driver = driver
        self._begun_at: dict[str, int] = {}
        dialect: Any = engine.dialect
        dialect.do_begin = self._do("BEGIN IMMEDIATE")
        dialect.do_savepoint = self._do("SAVEPOINT")
        dialect.do_rollback_to_savepoint = self._do("ROLLBACK TO SAVEPOINT")
        dialect.do_release_savepoint = self._do("RELEASE SAVEPOINT")

    def begin(self) -> None:
        """Nothing is written yet."""
        self.made.clear()
        self._begun_at.clear()

    def note(self) -> None:
        """From now on, note what each statement writes: SQLite tells each as it runs, its values filled in."""
        self._driver.set_trace_callback(self._note)

    def _note(self, statement: str) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            self.made.append(statement)
        elif statement.startswith("SAVEPOINT"):
            self._begun_at[_name_in(statement)] = len(self.made)
        elif statement.startswith("ROLLBACK TO"):
            del self.made[self._begun_at[_name_in(statement)] :]

    def _do(self, words: str) -> Callable[..., None]:
        def do(_connection: object, *name: str) -> None:
            self._driver.execute(" ".join((words, *name)))

        return do


def _name_in(statement: str) -> str:
    return statement.rpartition(" ")[2]
