"""Rows for the tests, and what the database kept of them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table, insert, select

from signal_gateway.storage.database import Database
from signal_gateway.storage.rows import Insert, Update, Upsert
from signal_gateway.storage.tables import audit, device_status


def entry(subject: str, **values: Any) -> Insert:
    """A row of the audit table: no key but the id that the database gives, so its order shows."""
    return Insert(audit, {"at": 1, "actor": "test", "action": "put", "subject": subject, "outcome": "ok", **values})


POISON = Insert(audit, {"at": 1, "actor": "test", "action": "put", "subject": None, "outcome": "ok"})
"""Refused by the database: subject may not be null."""


def status(device_id: str, **values: Any) -> Upsert:
    return Upsert(device_status, ("device_id",), {"device_id": device_id, "linked": True, "updated_at": 1, **values})


def status_change(device_id: str, **values: Any) -> Update:
    return Update(device_status, {"device_id": device_id}, values)


def insert_entry(connection: Connection, subject: str) -> str:
    """What a caller's work does."""
    connection.execute(insert(audit), [entry(subject).values])
    return f"{subject} done"


def subjects_in(connection: Connection) -> list[str]:
    return list(connection.execute(select(audit.c.subject).order_by(audit.c.id)).scalars())


async def subjects(database: Database) -> list[str]:
    return await database.read(subjects_in)


async def rows_of(database: Database, table: Table) -> list[Mapping[str, Any]]:
    key = next(iter(table.primary_key))
    return await database.read(lambda connection: [dict(row) for row in connection.execute(select(table).order_by(key)).mappings()])
