"""What storage bears: durable calls a second from 64 askers, and rows a second through `put`.

    python -m bench.storage [seconds per figure]

SQLite in a new temporary folder (TMPDIR says on which disk), PostgreSQL on 127.0.0.1:5432 if one listens there, in a database of its
own that is dropped afterwards. What a commit costs is the disk's affair: compare lines of one run only.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal

import asyncpg
import trio
from sqlalchemy import Connection, insert

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


async def calls_per_s(writer: BatchWriter, seconds: float) -> tuple[float, float]:
    """Durable calls a second, each inserting one row, and the median milliseconds of one."""
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
    return len(took_s) / seconds, sorted(took_s)[len(took_s) // 2] * 1000


async def rows_per_s(writer: BatchWriter, seconds: float) -> float:
    """Rows a second through `put`, with a backlog that never runs out."""
    durable = 0

    def on_durable() -> None:
        nonlocal durable
        durable += ROWS_A_PUT

    until = time.perf_counter() + seconds
    data = {"battery_level": 80, "signal_strength": 4, "sim_cards": [{"slot": 0, "carrier": "Example", "number": "+4912345"}]}
    row = Insert(reports, {"device_id": "phone-1", "type": "heartbeat", "data": data, "received_at": 1})
    while time.perf_counter() < until:
        while writer.rows_waiting < BACKLOG_ROWS:
            writer.put([row] * ROWS_A_PUT, on_durable)
        await trio.sleep(0.001)
    return durable / seconds


async def measure(name: str, settings: StorageSettings, folder: Path, seconds: float) -> None:
    """Both figures of one database, on one line."""
    metrics = Metrics()
    async with open_database(settings, folder, metrics) as database:
        await migrate(database)
        async with running(database, settings, metrics) as writer:
            calls, median_ms = await calls_per_s(writer, seconds)
        async with running(database, settings, metrics) as writer:
            rows = await rows_per_s(writer, seconds)
    print(f"{name:28} {calls:8.0f} durable calls/s (median {median_ms:5.1f} ms) {rows:10.0f} rows/s")


@asynccontextmanager
async def running(database: Database, settings: StorageSettings, metrics: Metrics) -> AsyncGenerator[BatchWriter, None]:
    """A writer that has written all it was given when this ends."""
    async with trio.open_nursery() as nursery:
        writer = BatchWriter(database, settings, metrics)
        await nursery.start(writer.run)
        yield writer
        writer.close()


@contextmanager
def postgresql() -> Generator[str | None, None, None]:
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


def main(seconds: float = 0.8) -> None:
    """Measure every database there is."""
    durabilities: tuple[Literal["power", "process"], ...] = ("power", "process")
    for durability in durabilities:
        with tempfile.TemporaryDirectory() as folder:
            trio.run(measure, f"SQLite, {durability}", StorageSettings(durability=durability), Path(folder), seconds)
    with postgresql() as url:
        if url is None:
            print("PostgreSQL: none on 127.0.0.1:5432")
            return
        for durability in durabilities:
            trio.run(measure, f"PostgreSQL, {durability}", StorageSettings(url=url, durability=durability), Path(), seconds)


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
