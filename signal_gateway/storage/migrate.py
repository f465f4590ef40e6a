"""Brings a database to the version of this program, by alembic, wherever the program is installed (DESIGN.md §5)."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from signal_gateway.observe.logs import logger
from signal_gateway.storage.database import Database
from signal_gateway.storage.faults import StorageUnusable

SCRIPTS = Path(__file__).parent / "migrations"
MIGRATION_S = 3600.0
"""How long the changes may take: a large table may have to be written anew."""
MIGRATION_LOCK = 0x51674D16
"""PostgreSQL: the advisory lock that makes nodes that start together migrate one after the other. Any number of our own."""

log = logger("storage")


async def migrate(database: Database) -> list[str]:
    """Make every change that the database has not seen, all in one transaction. Returns the revisions applied, oldest first.

    Raises StorageUnusable for a database that a newer version of this program has changed.
    """
    if not await pending(database):
        return []
    applied = await database.write(upgrade, timeout_s=MIGRATION_S)
    for revision in applied:
        log.info("the database was migrated", revision=revision)
    return applied


async def pending(database: Database) -> list[str]:
    """The revisions that the database has not seen, oldest first. Raises StorageUnusable as `migrate` does."""
    return await database.read(pending_revisions)


def upgrade(connection: Connection) -> list[str]:
    """What `migrate` does, inside the transaction of `connection`."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    revisions = pending_revisions(connection)
    if revisions:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return revisions


def pending_revisions(connection: Connection) -> list[str]:
    """What `pending` does, over one connection."""
    scripts = ScriptDirectory.from_config(_config())
    known = [script.revision for script in scripts.walk_revisions()][::-1]
    current = MigrationContext.configure(connection).get_current_revision()
    if current is None:
        return known
    if current not in known:
        raise StorageUnusable(
            f"the database is at revision {current}, this program only knows up to {known[-1]}: "
            "start the newer version that changed it, or restore a backup"
        )
    return known[known.index(current) + 1 :]


def _config() -> Config:
    """Alembic's configuration, without a file: the scripts lie in the package."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    return config
