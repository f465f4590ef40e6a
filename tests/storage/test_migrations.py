"""From nothing to the tables of today, and no further than we know."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.database import Database, InlineDatabase, open_database
from signal_gateway.storage.faults import StorageUnusable
from signal_gateway.storage.migrate import SCRIPTS, migrate, pending
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.storage.tables import metadata

from .rows_kept import insert_entry, subjects


def revisions() -> list[str]:
    """All revisions there are, oldest first."""
    return [script.revision for script in ScriptDirectory(str(SCRIPTS)).walk_revisions()][::-1]


@pytest.fixture(params=["inline", "sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> StorageSettings | None:
    if request.param == "inline":
        return None
    if request.param == "sqlite":
        return StorageSettings(url=f"sqlite:///{tmp_path}/gateway.db")
    return StorageSettings(url=request.getfixturevalue("empty_postgresql"))


@pytest.fixture
async def empty(settings: StorageSettings | None) -> AsyncIterator[Database]:
    """A database without tables."""
    if settings is None:
        memory = InlineDatabase(schema=False)
        yield memory
        memory.close()
        return
    async with open_database(settings, Path(), Metrics()) as opened:
        yield opened


def differences(connection: Connection) -> list[object]:
    """What alembic would have to change to make the database like our tables."""
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


async def test_an_empty_database_gets_exactly_the_tables_of_today(empty: Database):
    assert await pending(empty) == revisions()
    assert await migrate(empty) == revisions()

    assert await empty.read(differences) == []
    await empty.write(lambda connection: insert_entry(connection, "a"))
    assert await subjects(empty) == ["a"]


async def test_the_comparison_sees_a_missing_column(empty: Database):
    await migrate(empty)
    await empty.write(lambda connection: connection.execute(text("ALTER TABLE audit DROP COLUMN detail")))

    (difference,) = await empty.read(differences)
    assert str(difference).startswith("('add_column', None, 'audit'")


async def test_a_database_of_today_is_left_alone(empty: Database):
    await migrate(empty)
    await empty.write(lambda connection: insert_entry(connection, "kept"))

    assert await pending(empty) == []
    assert await migrate(empty) == []
    assert await subjects(empty) == ["kept"]


async def test_a_database_of_a_newer_version_is_refused_in_a_sentence(empty: Database):
    await migrate(empty)
    await empty.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))

    with pytest.raises(StorageUnusable, match=r"^the database is at revision 9999, this program only knows up to \d{4}: start the newer"):
        await migrate(empty)


async def test_a_migration_that_fails_leaves_the_database_as_it_was(empty: Database):
    """A table is in the way, so the last steps fail: the first ones are undone with them."""
    await empty.write(lambda connection: connection.execute(text("CREATE TABLE reports (id INTEGER)")))
    with pytest.raises(Exception, match="reports"):
        await migrate(empty)

    assert await empty.read(lambda connection: inspect(connection).get_table_names()) == ["reports"]
    await empty.write(lambda connection: connection.execute(text("DROP TABLE reports")))
    assert await migrate(empty) == revisions()


@pytest.mark.parametrize("settings", ["sqlite", pytest.param("postgresql", marks=pytest.mark.service("postgresql"))], indirect=True)
async def test_two_that_start_together_migrate_once(settings: StorageSettings, empty: Database):
    applied: list[list[str]] = []

    async def start(database: Database) -> None:
        applied.append(await migrate(database))

    async with open_database(settings, Path(), Metrics()) as other, trio.open_nursery() as nursery:
        nursery.start_soon(start, empty)
        nursery.start_soon(start, other)

    assert sorted(applied) == [[], revisions()]
    assert await empty.read(differences) == []


def test_the_scripts_are_part_of_the_package():
    """A wheel has what lies under signal_gateway/: no alembic.ini is needed."""
    assert SCRIPTS.parts[-3:] == ("signal_gateway", "storage", "migrations")
    assert (SCRIPTS / "env.py").is_file()
    assert not list(SCRIPTS.rglob("*.ini"))
