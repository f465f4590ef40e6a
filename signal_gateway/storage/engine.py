"""Engines for SQLite and PostgreSQL: how each is reached, kept safe on disk, and made to begin a transaction properly."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import aiosqlite
import msgspec
from sqlalchemy import URL, Connection, Engine, event, exc, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from signal_gateway.storage.faults import StorageUnusable
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.storage.sqlite_driver import QuickConnection

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
SYNCHRONOUS = {"power": "FULL", "process": "NORMAL"}
SYNCHRONOUS_COMMIT = {"power": "on", "process": "off"}
WAL_BYTES_KEPT = 64 * 1024 * 1024  # a write-ahead log that once grew larger is cut back to this


class Engines(NamedTuple):
    """One connection that writes, and a few that only read."""

    writer: AsyncEngine
    reader: AsyncEngine


def write_json(value: Any) -> str:
    """JSON columns, compact. msgspec says null for NaN, which PostgreSQL would refuse."""
    return msgspec.json.encode(value).decode()


ENGINE_OPTIONS: dict[str, Any] = {
    "json_serializer": write_json,
    "json_deserializer": msgspec.json.decode,
    "hide_parameters": True,  # an error that is logged shows the statement, never the values of a row
}


def database_url(settings: StorageSettings, data_dir: Path) -> URL:
    """The database that the settings mean, with its driver. Raises StorageUnusable, never showing a password."""
    if not settings.url:
        return URL.create(DRIVERS["sqlite"], database=str(data_dir / "gateway.db"))
    try:
        url = make_url(settings.url)
    except exc.ArgumentError as error:
        raise StorageUnusable('storage.url must be like "sqlite:///gateway.db" or "postgresql://user@host/name"') from error
    name = url.drivername.partition("+")[0]
    if name not in DRIVERS:
        raise StorageUnusable(f'storage.url begins with "{name}"; known are "sqlite" and "postgresql"')
    if name == "sqlite" and url.database in (None, "", ":memory:"):
        raise StorageUnusable('storage.url names no file; write "sqlite:///gateway.db"')
    return url.set(drivername=DRIVERS[name])


def make_engines(url: URL, settings: StorageSettings) -> Engines:
    """Both engines of this database. Nothing is connected yet. Raises StorageUnusable where the driver is missing."""
    if url.get_backend_name() == "sqlite":
        return _sqlite_engines(url, settings)
    try:
        return _postgresql_engines(url, settings)
    except ModuleNotFoundError as error:
        raise StorageUnusable("storage.url names PostgreSQL; its driver is missing: pip install 'signal-gateway[postgresql]'") from error


def begin_explicitly(engine: Engine, statement: str) -> None:
    """Make `engine`, whose connections have `isolation_level=None`, begin its transactions with `statement`.

    Python's sqlite3 would begin them itself, and only at the first INSERT: a SAVEPOINT before it then stands outside, and a read that
    turns into a write fails at once when another process writes. This is the recipe of SQLAlchemy's page on SQLite.
    """

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    event.listen(engine, "begin", begin)


def set_pragmas(engine: Engine, pragmas: dict[str, str | int]) -> None:
    """Say these to every new SQLite connection, in this order."""

    def say(dbapi_connection: Any, _record: object) -> None:
        cursor = dbapi_connection.cursor()
        for name, value in pragmas.items():
            cursor.execute(f"PRAGMA {name}={value}")
        cursor.close()

    event.listen(engine, "connect", say)


def _sqlite_engines(url: URL, settings: StorageSettings) -> Engines:
    path = Path(url.database or "")
    _make_file(path)
    wait_ms = round(settings.busy_timeout_s * 1000)
    pragmas: dict[str, str | int] = {
        "busy_timeout": wait_ms,  # first: the next one may have to wait
        "journal_mode": "WAL",
        "synchronous": SYNCHRONOUS[settings.durability],
        "foreign_keys": "ON",
        "journal_size_limit": WAL_BYTES_KEPT,
    }

    async def connect() -> aiosqlite.Connection:
        return await QuickConnection(path)

    def engine(connections: int) -> AsyncEngine:
        timeout_s = settings.job_timeout_s
        return create_async_engine(
            url, async_creator=connect, pool_size=connections, max_overflow=0, pool_timeout=timeout_s, **ENGINE_OPTIONS
        )

    writer, reader = engine(1), engine(settings.readers)
    begin_explicitly(writer.sync_engine, "BEGIN IMMEDIATE")
    begin_explicitly(reader.sync_engine, "BEGIN")
    set_pragmas(writer.sync_engine, pragmas)
    set_pragmas(reader.sync_engine, {"busy_timeout": wait_ms, "query_only": "ON"})
    return Engines(writer, reader)


def _make_file(path: Path) -> None:
    """Create the file for its owner alone; SQLite gives its log and index the same mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StorageUnusable(f"cannot open the database {path}: {error.strerror}") from error


def _postgresql_engines(url: URL, settings: StorageSettings) -> Engines:
    def engine(connections: int, **session: str) -> AsyncEngine:
        return create_async_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=settings.job_timeout_s,
            pool_pre_ping=True,  # one round trip; after a restart of the server nobody is told of a stale connection
            connect_args={"timeout": settings.job_timeout_s, "server_settings": {"application_name": "signal-gateway", **session}},
            **ENGINE_OPTIONS,
        )

    return Engines(
        writer=engine(1, synchronous_commit=SYNCHRONOUS_COMMIT[settings.durability]),
        reader=engine(settings.readers, default_transaction_read_only="on"),
    )
