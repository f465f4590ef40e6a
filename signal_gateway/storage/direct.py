"""Statements that SQLite's driver is handed as they are.

SQLAlchemy takes 25 to 30 µs over each execution, for contexts, events, a cursor and a result of its own; SQLite takes 2 to 10. A
transaction of ours has a dozen statements, so that is half of its time. What is known by its text goes to the driver at once, in
SQLAlchemy's connection and transaction, and raises SQLAlchemy's errors; elsewhere, as with PostgreSQL, it takes the common way.
"""

import os
import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

sched_yield = getattr(os, "sched_yield", lambda: None)
Parameters = Sequence[Any]


def sqlite_of(connection: Connection) -> sqlite3.Connection | None:
    """SQLite's own connection under this one, which has begun its transaction; None where it is not SQLite's."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        return None
    if not connection.in_transaction():
        connection.begin()
    return driver


def run(connection: Connection, sql: str, rows: Sequence[Parameters] = ()) -> None:
    """Run what gives no rows: with each of these parameters; with none of them, once without any."""
    driver = sqlite_of(connection)
    if driver is None:
        connection.exec_driver_sql(sql, list(rows) or None)
        return
    try:
        if rows:
            driver.executemany(sql, rows)
        else:
            driver.execute(sql)
    except sqlite3.Error as error:
        raise told(sql, error) from error
    # Where both have one core, the event loop need not wait for the whole transaction: a quarter of a microsecond when nobody waits.
    sched_yield()


def fetch(driver: sqlite3.Connection, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    """The rows of a SELECT, as the driver gives them."""
    try:
        found = driver.execute(sql, parameters).fetchall()
    except sqlite3.Error as error:
        raise told(sql, error) from error
    sched_yield()  # as above
    return found


def begin_by(connection: Connection, sql: str) -> None:
    """Begin the transaction that SQLAlchemy is about to take for begun."""
    driver: Any = connection.connection.driver_connection
    try:
        driver.execute(sql)
    except sqlite3.Error as error:
        raise told(sql, error) from error


def told(sql: str, error: sqlite3.Error) -> BaseException:
    """The error as SQLAlchemy tells it: never with the values of a row."""
    return DBAPIError.instance(sql, None, error, sqlite3.Error, hide_parameters=True)
