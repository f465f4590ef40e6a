"""The database as Trio sees it: a function over a Connection goes in, its result comes out (DESIGN.md §5).

SQLAlchemy's asynchronous side needs asyncio, so the work is done on an island of it, a thread of its own. Nobody above this file knows.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from sqlalchemy import URL, Connection, text
from sqlalchemy.exc import SQLAlchemyError

from signal_gateway.domain.errors import GatewayError
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.engine import database_url
from signal_gateway.storage.faults import StorageBroken, StorageUnusable, refusal_of
from signal_gateway.storage.inline import InlineDatabase
from signal_gateway.storage.island import Island
from signal_gateway.storage.look_ups import LookUps
from signal_gateway.storage.postgresql import PostgresqlTransactions
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.storage.sqlite import SqliteTransactions

__all__ = ["Database", "InlineDatabase", "IslandDatabase", "open_database"]

T = TypeVar("T")
Work = Callable[[Connection], T]

log = logger("storage")


class Database(Protocol):
    """Runs synchronous functions over a SQLAlchemy Connection.

    Where the database is the cause, DatabaseDown, DiskFull or StorageBroken is raised; whatever else the function raises travels as it
    is. Who is cancelled stops waiting; the work goes on.
    """

    @property
    def jobs_outstanding(self) -> int:
        """Work that was given and is not yet answered; while there is some, a busy loop should leave other threads a chance."""
        ...

    async def read(self, work: Work[T], *, timeout_s: float | None = None) -> T:
        """The result of `work`, which sees one moment of the database and cannot write. `timeout_s`: not `job_timeout_s` this once."""
        ...

    async def look_up(self, work: Work[T]) -> T:
        """The result of `work`, a read of a row or few. Those that are asked for together share one trip, so none may take long."""
        ...

    async def write(self, work: Work[T], *, timeout_s: float | None = None) -> T:
        """The result of `work` in one transaction, which is committed when this returns and undone when it raises.

        Only after OutcomeUnknown, which is a DatabaseDown, it is unknown which of the two happened.
        """
        ...

    async def committed(self, transaction: str) -> bool:
        """Whether the transaction of an OutcomeUnknown was committed. Raises DatabaseDown while that cannot be told."""
        ...

    def when_broken(self, listener: Callable[[StorageBroken], None]) -> None:
        """Call `listener`, in the Trio thread, once the disk has failed; from then on every write raises StorageBroken."""
        ...


class Transactions(Protocol):
    """One kind of database, as the island knows it: what it raises is still the driver's."""

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        ...

    async def read(self, work: Work[T], timeout_s: float) -> T:
        """The result of `work`, which cannot write."""
        ...

    async def write(self, work: Work[T], timeout_s: float) -> T:
        """The result of `work`, committed. Raises OutcomeUnknown where nobody can tell whether it was."""
        ...

    async def committed(self, transaction: str) -> bool:
        """See Database.committed."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class IslandDatabase:
    """The database of a real server, made by `open_database`."""

    def __init__(self, transactions: Transactions, settings: StorageSettings) -> None:
        self.dialect = transactions.dialect
        self._transactions = transactions
        self._timeout_s = settings.job_timeout_s
        self._flush_s = settings.flush_s
        self._island = Island("database")
        self._look_ups = LookUps(self._island, lambda work: self._read(work, self._timeout_s))
        self._broken: StorageBroken | None = None
        self._when_broken: list[Callable[[StorageBroken], None]] = []

    @property
    def jobs_outstanding(self) -> int:
        """See Database.jobs_outstanding."""
        return self._island.jobs_outstanding

    @property
    def jobs_answered(self) -> int:
        """Work that has come back so far: while this stands still, the island makes no headway."""
        return self._island.jobs_answered

    async def read(self, work: Work[T], *, timeout_s: float | None = None) -> T:
        """See Database.read."""
        return await self._island.run(lambda: self._read(work, timeout_s or self._timeout_s))

    async def look_up(self, work: Work[T]) -> T:
        """See Database.look_up."""
        return await self._look_ups.run(work)

    async def write(self, work: Work[T], *, timeout_s: float | None = None) -> T:
        """See Database.write."""
        return await self._island.run(lambda: self._write(work, timeout_s or self._timeout_s))

    async def committed(self, transaction: str) -> bool:
        """See Database.committed."""
        return await self._island.run(lambda: self._transactions.committed(transaction))

    def when_broken(self, listener: Callable[[StorageBroken], None]) -> None:
        """See Database.when_broken."""
        self._when_broken.append(listener)

    async def close(self) -> None:
        """Let running work end, close every connection, end the thread: all within bounds."""
        await self._island.close(self._transactions.close, self._flush_s)

    # What follows runs on the island.

    async def _read(self, work: Work[T], timeout_s: float) -> T:
        try:
            return await self._transactions.read(work, timeout_s)
        except Exception as error:
            self._raise_meaning_of(error)

    async def _write(self, work: Work[T], timeout_s: float) -> T:
        if self._broken is not None:
            raise self._broken
        try:
            return await self._transactions.write(work, timeout_s)
        except Exception as error:
            self._raise_meaning_of(error)

    def _raise_meaning_of(self, error: Exception) -> NoReturn:
        refusal = refusal_of(error)
        if isinstance(refusal, StorageBroken) and self._broken is None:
            self._broken = refusal
            self._island.tell(lambda: self._tell_broken(refusal))
        if refusal is None or refusal is error:
            raise error
        raise refusal from error

    def _tell_broken(self, broken: StorageBroken) -> None:
        log.critical("the database is broken: nothing is written any more", error=str(broken))
        for listener in self._when_broken:
            listener(broken)


@asynccontextmanager
async def open_database(settings: StorageSettings, data_dir: Path, metrics: Metrics) -> AsyncGenerator[IslandDatabase, None]:
    """The database of these settings, reached once before it is handed out, closed on the way out.

    Raises StorageUnusable, with a sentence for the operator, when it cannot be opened. Its tables may be missing: see `migrate`.
    """
    url = database_url(settings, data_dir)
    database = IslandDatabase(_transactions_of(url, settings), settings)
    try:
        await _try_out(database, url)
        metrics.gauge("storage_jobs", "Work given to the database and not yet answered.", lambda: database.jobs_outstanding)
        yield database
    finally:
        await database.close()


def _transactions_of(url: URL, settings: StorageSettings) -> Transactions:
    """Nothing is connected yet. Raises StorageUnusable where the driver is missing."""
    if url.get_backend_name() == "sqlite":
        return SqliteTransactions(Path(url.database or ""), settings)
    try:
        return PostgresqlTransactions(url, settings)
    except ModuleNotFoundError as error:
        raise StorageUnusable("storage.url names PostgreSQL; its driver is missing: pip install 'signal-gateway[postgresql]'") from error


async def _try_out(database: Database, url: URL) -> None:
    where = url.database if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)
    try:
        await database.write(lambda connection: connection.execute(text("SELECT 1")).scalar_one())
        await database.read(lambda connection: connection.execute(text("SELECT 1")).scalar_one())
    except StorageBroken as error:
        raise StorageUnusable(f"cannot use {where}: {error}") from error
    except (GatewayError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        said = str(getattr(cause, "orig", None) or cause).strip() or "no answer in time"
        raise StorageUnusable(f"cannot use the database {where}: {said}") from error
