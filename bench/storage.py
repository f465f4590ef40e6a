"""What storage bears: durable calls a second from 64 askers, and rows a second through `put`.

SQLite in a new temporary folder (TMPDIR says on which disk), PostgreSQL on 127.0.0.1:5432 if one listens there, in a database of its
own that is dropped afterwards. What a commit costs is the disk's affair: compare lines of one run only.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import asyncpg
import trio
from sqlalchemy import Connection, insert

from bench.build import Unmeasured
from bench.load import Figures
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import Database, open_database
from signal_gateway.storage.migrate import migrate
from signal_gateway.storage.rows import Insert
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.storage.tables import audit, reports

CALLERS = 64
ROWS_A_PUT = 10
BACKLOG_ROWS = 10_000

Durability = Literal["power", "process"]
Bearing = Callable[[BatchWriter, float], Awaitable[Figures]]


def report_row() -> Insert:
    """One filed report, as a row."""
    data = {"battery_level": 80, "signal_strength": 4, "sim_cards": [{"slot": 0, "carrier": "Example", "number": "+4912345"}]}
    return Insert(reports, {"device_id": "phone-1", "type": "heartbeat", "data": data, "received_at": 1})


async def durable_calls(writer: BatchWriter, seconds: float) -> Figures:
    """Calls a second, each inserting one row, and how long one takes."""
    took_s: list[float] = []
    values = {"at": 1, "actor": "bench", "action": "register", "subject": "agent-1", "outcome": "ok"}

    def work(connection: Connection) -> None:
        connection.execute(insert(audit).inline(), values)

    async def ask(until: float) -> None:
        while (begun_at := time.perf_counter()) < until:
            await writer.call(work)
            took_s.append(time.perf_counter() - begun_at)

    async with trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(ask, time.perf_counter() + seconds)
    ranked = sorted(took_s)
    return {
        "per_second": len(took_s) / seconds,
        "p50_ms": 1000 * ranked[len(ranked) // 2],
        "p99_ms": 1000 * ranked[int(0.99 * len(ranked))],
    }


async def rows(writer: BatchWriter, seconds: float) -> Figures:
    """Rows a second through `put`, with a backlog that never runs out."""
    durable = 0

    def on_durable() -> None:
        nonlocal durable
        durable += ROWS_A_PUT

    until = time.perf_counter() + seconds
    row = report_row()
    while time.perf_counter() < until:
        while writer.rows_waiting < BACKLOG_ROWS:
            writer.put([row] * ROWS_A_PUT, on_durable)
        await trio.sleep(0.001)
    return {"per_second": durable / seconds}


async def _measure(bear: Bearing, settings: StorageSettings, folder: Path, seconds: float) -> Figures:
    metrics = Metrics()
    async with open_database(settings, folder, metrics) as database:
        await migrate(database)
        async with running(database, settings, metrics) as writer:
            return await bear(writer, seconds)


@asynccontextmanager
async def running(database: Database, settings: StorageSettings, metrics: Metrics) -> AsyncGenerator[BatchWriter]:
    """A writer that has written all it was given when this ends."""
    async with trio.open_nursery() as nursery:
        writer = BatchWriter(database, settings, metrics)
        await nursery.start(writer.run)
        yield writer
        writer.close()


@contextmanager
def postgresql() -> Generator[str | None]:
    """The address of a new database; None where no PostgreSQL answers."""
    name = f"bench_{os.getpid()}"
    try:
        asyncio.run(say_to_postgresql(f"CREATE DATABASE {name}"))
    except OSError:
        yield None
        return
    try:
        yield f"postgresql://postgres@127.0.0.1:5432/{name}"
    finally:
        asyncio.run(say_to_postgresql(f"DROP DATABASE {name} WITH (FORCE)"))


async def say_to_postgresql(statement: str) -> None:
    """One statement outside of any transaction."""
    connection = await asyncpg.connect("postgresql://postgres@127.0.0.1:5432/postgres", timeout=2)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def on_sqlite(bear: Bearing, durability: Durability, seconds: float) -> Figures:
    """One figure, on SQLite in a file."""
    with tempfile.TemporaryDirectory() as folder:
        return trio.run(_measure, bear, StorageSettings(durability=durability), Path(folder), seconds)


def on_postgresql(bear: Bearing, durability: Durability, seconds: float) -> Figures:
    """The same on PostgreSQL."""
    with postgresql() as url:
        if url is None:
            raise Unmeasured("no PostgreSQL listens on 127.0.0.1:5432")
        return trio.run(_measure, bear, StorageSettings(url=url, durability=durability), Path(), seconds)


DURABILITIES: tuple[Durability, ...] = ("power", "process")
CASES: dict[str, Callable[[float], Figures]] = {
    f"{name}, {durability}: {bear.__name__.replace('_', ' ')}": partial(on, bear, durability)
    for name, on in (("SQLite", on_sqlite), ("PostgreSQL", on_postgresql))
    for durability in DURABILITIES
    for bear in (durable_calls, rows)
}
OPTIONAL = {name for name in CASES if name.startswith("PostgreSQL")}
"""Not every machine has one."""
