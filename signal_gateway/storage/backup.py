"""A copy of the database of a running server, in one file (SQLite). PostgreSQL brings its own tools."""

import os
import sqlite3
from pathlib import Path

from signal_gateway.storage.engine import database_url
from signal_gateway.storage.faults import StorageUnusable
from signal_gateway.storage.settings import StorageSettings

WAIT_S = 30.0


def back_up(settings: StorageSettings, data_dir: Path, target: Path) -> int:
    """Copy the database as it is at one moment into the new file `target`, for nobody else to read. Returns its bytes.

    The server goes on meanwhile. The copy is checked, and on disk under its name only when it is whole.

    Raises StorageUnusable, with a sentence for the operator.
    """
    url = database_url(settings, data_dir)
    if url.get_backend_name() != "sqlite":
        raise StorageUnusable("the database is PostgreSQL: use pg_dump, which copies a running database in one moment, too")
    source = Path(url.database or "")
    if not source.is_file():
        raise StorageUnusable(f"there is no database at {source}")
    if target.exists():
        raise StorageUnusable(f"{target} exists already: name a new file")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        _copy(source, draft)
        _check(draft)
        _sync(draft)
        try:
            target.hardlink_to(draft)  # unlike a rename, this never replaces a file that has just come
        except FileExistsError:
            raise StorageUnusable(f"{target} exists already: name a new file") from None
        _sync(target.parent)
        return target.stat().st_size
    except sqlite3.Error as error:
        raise StorageUnusable(f"cannot copy {source}: {error}") from error
    except OSError as error:
        raise StorageUnusable(f"cannot write {target}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _copy(source: Path, draft: Path) -> None:
    connection = sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=WAIT_S, isolation_level=None)
    try:
        connection.execute("VACUUM INTO ?", (str(draft),))  # one read transaction: it neither waits for writers nor begins anew for them
    finally:
        connection.close()


def _check(draft: Path) -> None:
    connection = sqlite3.connect(f"file:{draft}?mode=ro", uri=True)
    try:
        ((found,),) = connection.execute("PRAGMA integrity_check(1)").fetchall()
    finally:
        connection.close()
    if found != "ok":
        raise StorageUnusable(f"the copy is not sound, and so may be the database: {found}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
