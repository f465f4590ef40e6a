"""Run by the crash tests: writes rows through the batch writer and says the number of each that was acknowledged, until killed."""

import sys
from functools import partial
from pathlib import Path

import trio
from sqlalchemy import Connection, insert

from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import open_database
from signal_gateway.storage.migrate import migrate
from signal_gateway.storage.rows import Insert
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.storage.tables import audit

CALLERS = 8


def row(subject: str) -> Insert:
    return Insert(audit, {"at": 1, "actor": "test", "action": "write", "subject": subject, "outcome": "ok", "detail": "x" * 200})


def write(connection: Connection, subject: str) -> None:
    connection.execute(insert(audit), [row(subject).values])


def say(subject: str) -> None:
    sys.stdout.write(f"{subject}\n")
    sys.stdout.flush()


async def ask(writer: BatchWriter, name: str) -> None:
    for number in range(1_000_000):
        await writer.call(partial(write, subject=f"{name}-{number}"))
        say(f"{name}-{number}")
        writer.put([row(f"{name}-put-{number}")], partial(say, f"{name}-put-{number}"))


async def main(folder: str, run: str) -> None:
    settings = StorageSettings()
    async with open_database(settings, Path(folder), Metrics()) as database:
        await migrate(database)
        writer = BatchWriter(database, settings, Metrics())
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            for caller in range(CALLERS):
                nursery.start_soon(ask, writer, f"{run}-{caller}")


trio.run(main, sys.argv[1], sys.argv[2])
