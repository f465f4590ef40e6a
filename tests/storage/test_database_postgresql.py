"""What is particular to PostgreSQL: connections that are lost, at rest, in a statement, and in a commit (H24)."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import pytest
import trio
from sqlalchemy import Connection, event, text

from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import IslandDatabase, open_database
from signal_gateway.storage.faults import OutcomeUnknown, StorageUnusable
from signal_gateway.storage.migrate import migrate
from signal_gateway.storage.postgresql import PostgresqlTransactions
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.storage.tables import audit

from .rows_kept import entry, insert_entry, subjects

pytestmark = pytest.mark.service("postgresql")

END_OTHERS = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")


@pytest.fixture
async def postgresql(kept_postgresql: str) -> AsyncIterator[IslandDatabase]:
    async with open_database(StorageSettings(url=kept_postgresql, job_timeout_s=1.0), Path(), Metrics()) as database:
        await migrate(database)
        await database.write(lambda connection: connection.execute(audit.delete()))
        yield database


def end_others(connection: Connection) -> None:
    """As an administrator would, or a server that goes down: ends every other connection to this database."""
    connection.execute(END_OTHERS)


@pytest.mark.parametrize(("durability", "synchronous_commit"), [("power", "on"), ("process", "off")])
async def test_sessions_are_set_up_for_their_durability(kept_postgresql: str, durability: Any, synchronous_commit: str):
    async with open_database(StorageSettings(url=kept_postgresql, durability=durability), Path(), Metrics()) as database:
        assert await database.write(lambda c: c.execute(text("SHOW synchronous_commit")).scalar_one()) == synchronous_commit
        assert await database.read(lambda c: c.execute(text("SHOW transaction_read_only")).scalar_one()) == "on"


async def test_connections_that_were_lost_at_rest_are_replaced_without_a_word(postgresql: IslandDatabase):
    await postgresql.write(partial(insert_entry, subject="a"))
    await postgresql.read(end_others)
    await postgresql.write(partial(insert_entry, subject="b"))

    assert await subjects(postgresql) == ["a", "b"]


async def test_a_connection_that_is_lost_in_a_statement_is_a_database_that_is_down(postgresql: IslandDatabase):
    def work(connection: Connection) -> None:
        insert_entry(connection, "a")
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with pytest.raises(DatabaseDown):
        await postgresql.write(work)
    await postgresql.write(partial(insert_entry, subject="b"))
    assert await subjects(postgresql) == ["b"]


@pytest.mark.slow
async def test_a_statement_that_takes_too_long_is_stopped_and_its_connection_replaced(postgresql: IslandDatabase):
    with trio.fail_after(10), pytest.raises(DatabaseDown):
        await postgresql.write(lambda connection: connection.execute(text("SELECT pg_sleep(60)")))
    assert await postgresql.write(partial(insert_entry, subject="a")) == "a done"


def cut(database: IslandDatabase, after_commit: bool) -> None:
    """Lose the connection in the next commit: before it reaches the server, or when its answer is on the way back."""
    engine = cast(PostgresqlTransactions, database._transactions).writer.sync_engine

    def commit(connection: Connection) -> None:
        event.remove(engine, "commit", commit)
        if after_commit:
            connection.exec_driver_sql("COMMIT")
        else:
            connection.exec_driver_sql("ROLLBACK")
        raise ConnectionResetError

    event.listen(engine, "commit", commit)


async def test_a_commit_whose_answer_is_lost_is_found_to_be_committed(postgresql: IslandDatabase):
    cut(postgresql, after_commit=True)

    assert await postgresql.write(partial(insert_entry, subject="a")) == "a done"
    assert await subjects(postgresql) == ["a"]


async def test_a_commit_that_never_arrived_is_found_to_be_undone(postgresql: IslandDatabase):
    cut(postgresql, after_commit=False)

    with pytest.raises(DatabaseDown) as told:
        await postgresql.write(partial(insert_entry, subject="a"))
    assert not isinstance(told.value, OutcomeUnknown)
    assert await subjects(postgresql) == []


@pytest.mark.slow
async def test_an_outcome_that_nobody_can_tell_is_told_as_unknown_and_can_be_asked_for_later(
    postgresql: IslandDatabase, monkeypatch: pytest.MonkeyPatch
):
    """The server is away for longer than the job may take."""

    async def away(transaction: str) -> bool:
        raise DatabaseDown

    cut(postgresql, after_commit=True)
    monkeypatch.setattr(postgresql._transactions, "committed", away)
    with pytest.raises(OutcomeUnknown) as told:
        await postgresql.write(partial(insert_entry, subject="a"))
    monkeypatch.undo()

    assert await postgresql.committed(told.value.transaction)
    assert told.value.result == "a done"


async def test_a_transaction_that_still_runs_is_not_told_as_undone(postgresql: IslandDatabase):
    def name(connection: Connection) -> str:
        return str(connection.execute(text("SELECT CAST(pg_current_xact_id() AS text)")).scalar_one())

    url = str(cast(PostgresqlTransactions, postgresql._transactions).writer.url)
    async with open_database(StorageSettings(url=url), Path(), Metrics()) as other:
        running = SimpleQueue[str]()

        def work(connection: Connection) -> None:
            running.put(name(connection))
            connection.execute(text("SELECT pg_sleep(0.2)"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.write, work)
            transaction = await trio.to_thread.run_sync(running.get)
            with pytest.raises(DatabaseDown):
                await postgresql.committed(transaction)
        assert await postgresql.committed(transaction)


@pytest.mark.slow
async def test_while_the_server_ends_connections_every_row_is_written_once(postgresql: IslandDatabase):
    """300 puts while all connections are ended again and again: nothing is lost, nothing is there twice."""
    writer = BatchWriter(postgresql, StorageSettings(retry_first_s=0.01, batch_rows_max=10), Metrics())
    durable: list[int] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        for number in range(300):
            assert writer.put([entry(f"row-{number}")], partial(durable.append, number))
            if number % 30 == 15:
                await postgresql.read(end_others)
            await trio.sleep(0.001)
        writer.close()

    assert durable == list(range(300))
    assert await subjects(postgresql) == [f"row-{number}" for number in range(300)]


async def test_a_server_that_refuses_us_is_named_without_our_password(kept_postgresql: str):
    url = kept_postgresql.replace("postgres@", "postgres:secret@").replace("/test_", "/missing_")
    with pytest.raises(StorageUnusable, match=r"postgres:\*\*\*@.*does not exist") as told:
        async with open_database(StorageSettings(url=url), Path(), Metrics()):
            pass
    assert "secret" not in str(told.value)
