"""What a driver's error means: down, full, broken, or merely a fault of the statement.

The asker of a full or absent database is told so and may try again. A disk that lost a write is different: after a failed fsync the
system may have dropped the very pages, so that a second try would succeed without them. Such a database is never written again by
this process (RELIABILITY H17).
"""

import sqlite3
from typing import Any

from sqlalchemy import exc

from signal_gateway.domain.errors import DatabaseDown, DiskFull, GatewayError


class StorageBroken(Exception):
    """The disk failed under the database, or the file is damaged: nothing may be written any more, the process must end."""


class StorageUnusable(Exception):
    """The database cannot be opened, or is not for this version. The sentence is for the operator, at start."""


class OutcomeUnknown(DatabaseDown):
    """The connection was lost while the transaction committed. `transaction` is what `Database.committed` wants to be asked with;
    `result` is what the work returned, good only if it turns out to be committed."""

    def __init__(self, transaction: str, result: Any) -> None:
        super().__init__()
        self.transaction = transaction
        self.result = result


# Primary result codes of SQLite (https://www.sqlite.org/rescode.html): the low byte of the extended code.
SQLITE_FULL = sqlite3.SQLITE_FULL
SQLITE_BROKEN = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
SQLITE_DOWN = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOLFS,
    }
)
# The shared-memory index of the write-ahead log could not grow: on a full disk this comes before SQLITE_FULL does.
SQLITE_NO_ROOM = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE})

# Classes and codes of PostgreSQL (appendix A of its manual). A failed fsync makes that server restart by itself, so it is "down".
POSTGRESQL_FULL = "53100"
POSTGRESQL_DOWN = ("08", "28", "40", "53", "55P03", "57", "58", "25006", "3D000", "XX001", "XX002")


def refusal_of(error: BaseException) -> GatewayError | StorageBroken | None:
    """DatabaseDown, DiskFull or StorageBroken where the database is the cause; None where the statement or its values are."""
    if isinstance(error, StorageBroken):
        return error
    if isinstance(error, (OSError, exc.TimeoutError)):  # no connection could be made or had; TimeoutError is an OSError
        return DatabaseDown()
    if isinstance(error, exc.DBAPIError):
        if isinstance(error.orig, sqlite3.Error):
            return _refusal_of_sqlite(error.orig)
        return _refusal_of_postgresql(error)
    if isinstance(error, sqlite3.Error):
        return _refusal_of_sqlite(error)
    return None


def _refusal_of_sqlite(error: sqlite3.Error) -> GatewayError | StorageBroken | None:
    extended: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    primary = extended & 0xFF
    if primary == SQLITE_FULL or extended in SQLITE_NO_ROOM:
        return DiskFull()
    if primary in SQLITE_BROKEN:
        return StorageBroken(f"the database or its disk is damaged: {error} ({getattr(error, 'sqlite_errorname', 'no code')})")
    if primary in SQLITE_DOWN:
        return DatabaseDown()
    return None


def _refusal_of_postgresql(error: exc.DBAPIError) -> GatewayError | None:
    code = str(getattr(error.orig, "sqlstate", None) or "")
    if code == POSTGRESQL_FULL:
        return DiskFull()
    if error.connection_invalidated or code.startswith(POSTGRESQL_DOWN):
        return DatabaseDown()
    return None
