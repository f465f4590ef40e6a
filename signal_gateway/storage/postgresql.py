"""PostgreSQL through asyncpg: a connection that writes and a few that only read, and commits whose answer was lost on the way."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.observe.logs import logger
from signal_gateway.storage.engine import ENGINE_OPTIONS
from signal_gateway.storage.faults import OutcomeUnknown, refusal_of
from signal_gateway.storage.settings import StorageSettings

T = TypeVar("T")
Work = Callable[[Connection], T]

SYNCHRONOUS_COMMIT = {"power": "on", "process": "off"}
DOUBT_PAUSE_S = 0.1
NAME_TRANSACTION = text("SELECT CAST(pg_current_xact_id() AS text)")
STATUS_OF_TRANSACTION = text("SELECT pg_xact_status(CAST(CAST(:transaction AS text) AS xid8))")

log = logger("storage")


class PostgresqlTransactions:
    """See IslandDatabase, of which this is the part that knows PostgreSQL. Everything here runs on the island."""

    dialect = "postgresql"

    def __init__(self, url: URL, settings: StorageSettings) -> None:
        self._timeout_s = settings.job_timeout_s
        self.writer = _engine(url, settings, 1, synchronous_commit=SYNCHRONOUS_COMMIT[settings.durability])
        self._reader = _engine(url, settings, settings.readers, default_transaction_read_only="on")

    async def read(self, work: Work[T], timeout_s: float) -> T:
        """The result of `work`."""
        async with asyncio.timeout(timeout_s), self._reader.connect() as connection:
            return await connection.run_sync(work)

    async def write(self, work: Work[T], timeout_s: float) -> T:
        """The result of `work`, after its commit, whose outcome is asked for when its answer does not come."""
        doubt: OutcomeUnknown | None = None
        try:
            async with asyncio.timeout(timeout_s) as clock, self.writer.connect() as connection:
                transaction = str((await connection.execute(NAME_TRANSACTION)).scalar_one())
                result = await connection.run_sync(work)
                doubt = OutcomeUnknown(transaction, result)
                await connection.commit()
                doubt = None
                clock.reschedule(None)
                return result
        except Exception as error:
            if doubt is None or refusal_of(error) is None:
                raise
        return await self._resolve(doubt, timeout_s)

    async def committed(self, transaction: str) -> bool:
        """See Database.committed."""

        def ask(connection: Connection) -> str | None:
            return connection.execute(STATUS_OF_TRANSACTION, {"transaction": transaction}).scalar_one()

        try:
            status = await self.read(ask, self._timeout_s)
        except Exception as error:
            refusal = refusal_of(error)
            raise error if refusal is None else refusal from error
        if status == "in progress":
            raise DatabaseDown
        return status == "committed"

    async def close(self) -> None:
        """Close every connection."""
        await self.writer.dispose()
        await self._reader.dispose()

    async def _resolve(self, doubt: OutcomeUnknown, patience_s: float) -> Any:
        """The result, if the transaction was committed after all. Raises DatabaseDown if it was undone, `doubt` if nobody can tell yet."""
        log.warning("the answer to a commit was lost: asking for its outcome")
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + patience_s
        while True:
            try:
                held = await self.committed(doubt.transaction)
            except DatabaseDown:
                if loop.time() >= give_up_at:
                    raise doubt from None
                await asyncio.sleep(DOUBT_PAUSE_S)
                continue
            if held:
                return doubt.result
            raise DatabaseDown


def _engine(url: URL, settings: StorageSettings, connections: int, **session: str) -> AsyncEngine:
    return create_async_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=settings.job_timeout_s,
        pool_pre_ping=True,  # one round trip; after a restart of the server nobody is told of a stale connection
        connect_args={"timeout": settings.job_timeout_s, "server_settings": {"application_name": "signal-gateway", **session}},
        **ENGINE_OPTIONS,
    )
