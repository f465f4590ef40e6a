"""What goes to SQLite's driver at once is in SQLAlchemy's transaction, and fails with SQLAlchemy's errors; PostgreSQL is told the same."""

import sqlite3

import pytest
from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from signal_gateway.storage.database import Database
from signal_gateway.storage.direct import run, sqlite_of, told
from signal_gateway.storage.faults import StorageBroken, refusal_of
from signal_gateway.storage.prepared import PreparedWrite
from signal_gateway.storage.tables import audit, devices

NAMES = ("device_id", "kind", "created_at", "updated_at")
WRITE = PreparedWrite(insert(devices).inline(), NAMES)


def row(device_id: str) -> dict[str, object]:
    return dict(zip(NAMES, (device_id, "phone", 1, 1), strict=True))


async def ids(database: Database) -> list[str]:
    query = select(devices.c.device_id).order_by(devices.c.device_id)
    return await database.read(lambda connection: list(connection.scalars(query)))


async def test_it_begins_the_transaction_and_is_undone_with_it(database: Database):
    def begin(connection: Connection) -> None:
        WRITE.run(connection, [row("kept")])

    def fail(connection: Connection) -> None:
        WRITE.run(connection, [row("undone")])
        connection.execute(insert(audit).values(at=1, actor="a", action="b", subject="c", outcome="ok"))
        raise LookupError

    await database.write(begin)
    with pytest.raises(LookupError):
        await database.write(fail)
    assert await ids(database) == ["kept"]


async def test_a_savepoint_by_its_text_holds_what_sqlalchemy_wrote(database: Database):
    def work(connection: Connection) -> None:
        connection.execute(insert(devices).values(row("before")))
        run(connection, "SAVEPOINT here")
        connection.execute(insert(devices).values(row("undone")))
        run(connection, "ROLLBACK TO SAVEPOINT here")
        run(connection, "RELEASE SAVEPOINT here")
        WRITE.run(connection, [row("later")])

    await database.write(work)
    assert await ids(database) == ["before", "later"]


async def test_what_breaks_a_rule_is_sqlalchemys_error_and_shows_no_value(database: Database):
    with pytest.raises(IntegrityError) as caught:
        await database.write(lambda connection: WRITE.run(connection, [row("twice-secret"), row("twice-secret")]))
    assert refusal_of(caught.value) is None
    assert "twice-secret" not in str(caught.value).replace("Key (device_id)=(twice-secret)", "")  # PostgreSQL's own words
    assert await ids(database) == []


async def test_a_failed_disk_is_told_as_one(database: Database):
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
    error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
    as_told = told("INSERT", error)
    assert isinstance(as_told, DBAPIError)
    assert isinstance(refusal_of(as_told), StorageBroken)


async def test_only_sqlite_has_a_driver_to_go_to(database: Database):
    found = await database.write(lambda connection: (connection.dialect.name, sqlite_of(connection) is not None))
    assert found[1] == (found[0] == "sqlite")
