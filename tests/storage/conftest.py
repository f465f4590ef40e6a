"""Databases to test on: in memory and inline, a real SQLite file, a real PostgreSQL."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.database import Database, InlineDatabase, IslandDatabase, open_database
from signal_gateway.storage.migrate import migrate
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.storage.tables import metadata

SERVER = "postgresql://postgres@127.0.0.1:5432"


async def say_to_server(statement: str) -> None:
    connection = await asyncpg.connect(f"{SERVER}/postgres", timeout=5)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
def empty_postgresql() -> Iterator[str]:
    """The address of a new PostgreSQL database without tables, which is gone afterwards."""
    name = f"test_empty_{os.getpid()}"
    asyncio.run(say_to_server(f"CREATE DATABASE {name}"))
    yield f"{SERVER}/{name}"
    asyncio.run(say_to_server(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def kept_postgresql() -> Iterator[str]:
    """The address of a PostgreSQL database of this run of the tests."""
    name = f"test_{os.getpid()}"
    asyncio.run(say_to_server(f"CREATE DATABASE {name}"))
    yield f"{SERVER}/{name}"
    asyncio.run(say_to_server(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(params=["inline", "sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StorageSettings | None:
    """Where the database of a test lies; None for memory."""
    if request.param == "inline":
        return None
    if request.param == "sqlite":
        return StorageSettings(url=f"sqlite:///{tmp_path}/gateway.db")
    return StorageSettings(url=request.getfixturevalue("kept_postgresql"))


@pytest.fixture
async def database(place: StorageSettings | None) -> AsyncIterator[Database]:
    """Each of our databases, with empty tables."""
    if place is None:
        memory = InlineDatabase()
        yield memory
        memory.close()
        return
    async with open_database(place, Path(), Metrics()) as opened:
        await migrate(opened)
        if opened.dialect == "postgresql":
            tables = ", ".join(table.name for table in metadata.sorted_tables)
            await opened.write(lambda connection: connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY")))
        yield opened


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[IslandDatabase]:
    """A SQLite file alone."""
    async with open_database(StorageSettings(), tmp_path, Metrics()) as opened:
        await migrate(opened)
        yield opened


@pytest.fixture
def inline() -> Iterator[InlineDatabase]:
    """Memory alone."""
    memory = InlineDatabase()
    yield memory
    memory.close()
