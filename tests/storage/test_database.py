"""The database on its island: a real SQLite file, real threads, real time."""

import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio
from sqlalchemy import Connection, event, insert, text
from sqlalchemy.exc import IntegrityError, OperationalError

from signal_gateway.domain.errors import ClientIdTaken, DatabaseDown, DiskFull
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import Database, IslandDatabase, open_database
from signal_gateway.storage.faults import StorageBroken, StorageUnusable
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.storage.sqlite import SqliteTransactions
from signal_gateway.storage.tables import audit

from .rows_kept import POISON, entry, insert_entry, subjects, subjects_in

ENDLESS = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n")


def pragma(name: str) -> Callable[[Connection], Any]:
    return lambda connection: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


# Every database


async def test_a_write_is_there_when_it_returns(database: Database):
    assert await database.write(partial(insert_entry, subject="a")) == "a done"
    assert await subjects(database) == ["a"]


async def test_a_write_that_raises_leaves_nothing_and_raises_the_same(database: Database):
    taken = ClientIdTaken()

    def refuse(connection: Connection) -> None:
        insert_entry(connection, "a")
        raise taken

    with pytest.raises(ClientIdTaken) as told:
        await database.write(refuse)
    assert told.value is taken
    assert await subjects(database) == []


async def test_a_refused_row_is_the_statements_fault_not_the_databases(database: Database):
    with pytest.raises(IntegrityError):
        await database.write(lambda connection: connection.execute(insert(audit), [POISON.values]))
    assert await database.write(partial(insert_entry, subject="a")) == "a done"


async def test_a_savepoint_undoes_what_is_inside_it_and_no_more(database: Database):
    def work(connection: Connection) -> None:
        savepoint = connection.begin_nested()  # before any other statement, where sqlite3 alone would leave it outside
        insert_entry(connection, "inside")
        savepoint.rollback()
        insert_entry(connection, "outside")

    await database.write(work)
    assert await subjects(database) == ["outside"]


async def test_a_work_that_leaves_a_savepoint_open_leaves_nothing_to_the_next_one(database: Database):
    def leave_open(connection: Connection) -> None:
        connection.begin_nested()
        raise ClientIdTaken

    for job in (database.read, database.write):
        with pytest.raises(ClientIdTaken):
            await job(leave_open)
        assert await job(subjects_in) == []
    assert await database.write(partial(insert_entry, subject="a")) == "a done"
    assert await subjects(database) == ["a"]


async def test_a_read_cannot_write(database: Database):
    with pytest.raises((DatabaseDown, OperationalError)):
        await database.read(partial(insert_entry, subject="a"))
    assert await subjects(database) == []


async def test_many_tasks_read_and_write_at_once(database: Database):
    seen: list[int] = []

    async def look() -> None:
        seen.append(len(await subjects(database)))

    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(database.write, partial(insert_entry, subject=f"{number}"))
            nursery.start_soon(look)

    assert len(await subjects(database)) == 40
    assert len(seen) == 40
    assert database.jobs_outstanding == 0


async def test_who_is_cancelled_before_asking_leaves_no_trace(database: Database):
    with trio.CancelScope() as scope:
        scope.cancel()
        await database.write(partial(insert_entry, subject="a"))
    assert scope.cancelled_caught
    assert await subjects(database) == []


# The island


async def test_who_is_cancelled_while_waiting_stops_waiting_and_the_work_is_done(sqlite: IslandDatabase):
    reached, go_on = threading.Event(), threading.Event()

    def work(connection: Connection) -> str:
        insert_entry(connection, "a")
        reached.set()
        go_on.wait(10)
        return "nobody hears this"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sqlite.write, work)
        await trio.to_thread.run_sync(reached.wait, 10)
        assert sqlite.jobs_outstanding == 1
        nursery.cancel_scope.cancel()
    go_on.set()

    await sqlite.write(lambda connection: None)  # behind the other, since one connection writes
    assert await subjects(sqlite) == ["a"]
    assert sqlite.jobs_outstanding == 0


async def test_a_statement_that_takes_too_long_is_stopped_and_its_connection_works_on(tmp_path: Path):
    settings = StorageSettings(job_timeout_s=0.1, readers=1)
    async with open_database(settings, tmp_path, Metrics()) as database:
        for job in (database.read, database.write):
            with trio.fail_after(5), pytest.raises(DatabaseDown):
                await job(lambda connection: connection.execute(ENDLESS).scalar_one())
            assert await job(pragma("foreign_keys")) in (0, 1)


async def test_a_work_that_has_its_own_time_is_given_it(tmp_path: Path):
    async with open_database(StorageSettings(job_timeout_s=0.1), tmp_path, Metrics()) as database:
        long = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500000) SELECT count(*) FROM n")
        assert await database.write(lambda connection: connection.execute(long).scalar_one(), timeout_s=60) == 1_500_000


async def test_jobs_outstanding_are_on_the_metrics_page(tmp_path: Path):
    metrics = Metrics()
    async with open_database(StorageSettings(), tmp_path, metrics):
        assert b"signal_gateway_storage_jobs 0.0" in metrics.text()


# SQLite as we want it


@pytest.mark.parametrize(("durability", "synchronous"), [("power", 2), ("process", 1)])
async def test_sqlite_is_set_up_for_its_durability(tmp_path: Path, durability: Any, synchronous: int):
    async with open_database(StorageSettings(durability=durability), tmp_path, Metrics()) as database:
        assert await database.write(pragma("synchronous")) == synchronous
        assert await database.write(pragma("journal_mode")) == "wal"
        assert await database.write(pragma("foreign_keys")) == 1
        assert await database.write(pragma("busy_timeout")) == 2000
        assert await database.read(pragma("busy_timeout")) == 2000
        assert await database.read(pragma("query_only")) == 1


async def test_the_files_are_for_their_owner_alone(sqlite: IslandDatabase, tmp_path: Path):
    await sqlite.write(partial(insert_entry, subject="a"))

    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(tmp_path)}
    assert modes == {"gateway.db": 0o600, "gateway.db-wal": 0o600, "gateway.db-shm": 0o600}


async def test_readers_do_not_wait_for_the_writer_nor_see_half_of_its_work(sqlite: IslandDatabase):
    reached, go_on = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        insert_entry(connection, "half")
        reached.set()
        go_on.wait(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sqlite.write, work)
        await trio.to_thread.run_sync(reached.wait, 10)
        assert await subjects(sqlite) == []
        go_on.set()
    assert await subjects(sqlite) == ["half"]


async def test_another_process_that_holds_the_lock_too_long_is_a_database_that_is_down(tmp_path: Path):
    async with open_database(StorageSettings(busy_timeout_s=0.05), tmp_path, Metrics()) as database:
        await database.write(audit.create)
        other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseDown):
            await database.write(partial(insert_entry, subject="a"))
        assert await subjects(database) == []
        other.execute("ROLLBACK")
        other.close()
        await database.write(partial(insert_entry, subject="b"))
        assert await subjects(database) == ["b"]


async def test_a_writer_waits_for_a_lock_that_is_given_back_in_time(tmp_path: Path):
    async with open_database(StorageSettings(busy_timeout_s=5), tmp_path, Metrics()) as database:
        await database.write(audit.create)
        other = sqlite3.connect(tmp_path / "gateway.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.write, partial(insert_entry, subject="a"))
            await trio.sleep(0.02)
            other.execute("COMMIT")
        other.close()
        assert await subjects(database) == ["a"]


# A disk that is full, a disk that is broken


async def test_a_full_disk_refuses_rows_and_takes_them_when_there_is_room_again(sqlite: IslandDatabase, nursery: trio.Nursery):
    """As many pages as there are now are all there may be; then more (H17)."""
    metrics = Metrics()
    writer = BatchWriter(sqlite, StorageSettings(retry_max_s=0.05), metrics)
    await nursery.start(writer.run)
    await sqlite.write(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1"))  # = as many as it has
    durable: list[str] = []
    large = "x" * 20_000
    writer.put([entry("put", detail=large)], lambda: durable.append("put"))
    with pytest.raises(DiskFull):
        await writer.call(lambda connection: connection.execute(insert(audit), [entry("call", detail=large).values]))
    with pytest.raises(DiskFull):
        await sqlite.write(lambda connection: connection.execute(insert(audit), [entry("write", detail=large).values]))
    assert (durable, await subjects(sqlite)) == ([], [])

    await sqlite.write(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1000000"))
    assert await writer.call(subjects_in) == ["put"]
    assert durable == ["put"]
    writer.close()


def fail_statement(database: IslandDatabase, beginning: str, code: int) -> Callable[[], None]:
    """Make statements that begin so fail with this result code of SQLite. Returns what ends it."""

    def fail(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(beginning):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = code
            error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
            raise error

    engine = cast(SqliteTransactions, database._transactions).writer.engine
    event.listen(engine, "before_cursor_execute", fail)
    return lambda: event.remove(engine, "before_cursor_execute", fail)


async def test_after_a_failed_fsync_nothing_is_written_any_more(sqlite: IslandDatabase):
    told: list[StorageBroken] = []
    sqlite.when_broken(told.append)
    await sqlite.write(partial(insert_entry, subject="before"))
    mend = fail_statement(sqlite, "INSERT", sqlite3.SQLITE_IOERR_FSYNC)
    with pytest.raises(StorageBroken, match="SQLITE_IOERR_FSYNC"):
        await sqlite.write(partial(insert_entry, subject="broken"))
    mend()

    with pytest.raises(StorageBroken):
        await sqlite.write(partial(insert_entry, subject="after"))
    assert await subjects(sqlite) == ["before"]
    assert len(told) == 1


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (sqlite3.SQLITE_FULL, DiskFull),
        (sqlite3.SQLITE_IOERR_SHMSIZE, DiskFull),
        (sqlite3.SQLITE_BUSY, DatabaseDown),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, DatabaseDown),
        (sqlite3.SQLITE_READONLY_DBMOVED, DatabaseDown),
        (sqlite3.SQLITE_CANTOPEN, DatabaseDown),
        (sqlite3.SQLITE_IOERR_WRITE, StorageBroken),
        (sqlite3.SQLITE_CORRUPT, StorageBroken),
        (sqlite3.SQLITE_ERROR, OperationalError),
    ],
)
async def test_each_result_code_of_sqlite_has_its_meaning(sqlite: IslandDatabase, code: int, meaning: type[Exception]):
    mend = fail_statement(sqlite, "INSERT", code)
    with pytest.raises(meaning):
        await sqlite.write(partial(insert_entry, subject="a"))
    mend()


async def test_a_disk_that_fails_ends_the_writer_that_has_nothing_to_write(sqlite: IslandDatabase):
    writer = BatchWriter(sqlite, StorageSettings(), Metrics())
    fail_statement(sqlite, "INSERT", sqlite3.SQLITE_IOERR_FSYNC)
    with trio.fail_after(5), pytest.RaisesGroup(StorageBroken):
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            with pytest.raises(StorageBroken):
                await sqlite.write(partial(insert_entry, subject="a"))
            await trio.sleep_forever()


# At start


async def test_a_file_that_is_no_database_is_named(tmp_path: Path):
    (tmp_path / "gateway.db").write_text("Dear diary, " * 100)
    with pytest.raises(StorageUnusable, match=r"gateway\.db: the database or its disk is damaged: file is not a database"):
        async with open_database(StorageSettings(), tmp_path, Metrics()):
            pass


async def test_a_folder_where_the_file_should_be_is_named(tmp_path: Path):
    (tmp_path / "gateway.db").mkdir()
    with pytest.raises(StorageUnusable, match=r"cannot open the database .*gateway\.db: Is a directory"):
        async with open_database(StorageSettings(), tmp_path, Metrics()):
            pass


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://me:secret@host/db", 'storage.url begins with "mysql"; known are "sqlite" and "postgresql"'),
        ("sqlite://", 'storage.url names no file; write "sqlite:///gateway.db"'),
        ("secret words", 'storage.url must be like "sqlite:///gateway.db" or "postgresql://user@host/name"'),
    ],
)
async def test_an_address_that_cannot_be_used_is_refused_without_showing_it(tmp_path: Path, url: str, said: str):
    with pytest.raises(StorageUnusable) as told:
        async with open_database(StorageSettings(url=url), tmp_path, Metrics()):
            pass
    assert str(told.value) == said


async def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path):
    with pytest.raises(StorageUnusable) as told:
        async with open_database(StorageSettings(url="postgresql://me:secret@127.0.0.1:1/db"), tmp_path, Metrics()):
            pass
    assert str(told.value).startswith("cannot use the database postgresql+asyncpg://me:***@127.0.0.1:1/db: ")
    assert "secret" not in str(told.value)


async def test_the_folder_of_the_file_is_made(tmp_path: Path):
    async with open_database(StorageSettings(), tmp_path / "data" / "here", Metrics()):
        assert (tmp_path / "data" / "here" / "gateway.db").exists()
