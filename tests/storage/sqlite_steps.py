"""What a look-up costs SQLite, without a clock."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection


def steps(connection: Connection, look: Callable[[Connection], Any]) -> int:
    """Instructions of SQLite's machine that `look` takes."""
    taken = 0

    def step() -> int:
        nonlocal taken
        taken += 1
        return 0

    driver: Any = connection.connection.dbapi_connection
    driver.set_progress_handler(step, 1)
    look(connection)
    driver.set_progress_handler(None, 1)
    return taken
