"""A copy of a database that is being written: whole, private, and never in the place of another file."""

import sqlite3
from pathlib import Path
from stat import S_IMODE

import pytest
import trio

from signal_gateway.cli import main
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.backup import back_up
from signal_gateway.storage.database import open_database
from signal_gateway.storage.faults import StorageUnusable
from signal_gateway.storage.migrate import migrate
from signal_gateway.storage.settings import StorageSettings

from .rows_kept import insert_entry, subjects

SETTINGS = StorageSettings()


def copies_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "copy" in path.name)


async def test_what_was_committed_is_in_the_copy_of_a_database_in_use(tmp_path: Path):
    target = tmp_path / "copy.db"
    async with open_database(SETTINGS, tmp_path, Metrics()) as database:
        await migrate(database)
        for number in range(20):
            await database.write(lambda connection: insert_entry(connection, f"entry {number}"))  # noqa: B023
        size = await trio.to_thread.run_sync(back_up, SETTINGS, tmp_path, target)
        await database.write(lambda connection: insert_entry(connection, "later"))
        assert len(await subjects(database)) == 21
    assert size == target.stat().st_size
    assert S_IMODE(target.stat().st_mode) == 0o600
    with sqlite3.connect(target) as copy:
        assert copy.execute("SELECT count(*) FROM audit").fetchone() == (20,)
    copy.close()
    assert copies_in(tmp_path) == ["copy.db"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (SETTINGS, "there is no database"),
        (StorageSettings(url="postgresql://nobody@127.0.0.1/nothing"), "pg_dump"),
    ],
)
def test_what_cannot_be_copied_is_refused_in_a_sentence(tmp_path: Path, settings: StorageSettings, words: str):
    with pytest.raises(StorageUnusable, match=words):
        back_up(settings, tmp_path, tmp_path / "copy.db")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    connection = sqlite3.connect(tmp_path / "gateway.db")
    connection.execute("CREATE TABLE some (one)")
    connection.executemany("INSERT INTO some VALUES (?)", [("x" * 3000,)] * 50)
    connection.commit()
    connection.close()
    return tmp_path / "gateway.db"


def test_no_file_is_replaced(tmp_path: Path, small: Path):
    target = tmp_path / "copy.db"
    target.write_text("mine")
    with pytest.raises(StorageUnusable, match="exists already"):
        back_up(SETTINGS, tmp_path, target)
    assert target.read_text() == "mine"
    with pytest.raises(StorageUnusable, match="cannot write"):
        back_up(SETTINGS, tmp_path, tmp_path / "no folder" / "copy.db")


def test_a_damaged_database_is_no_backup(tmp_path: Path, small: Path):
    whole = bytearray(small.read_bytes())
    whole[5000:9000] = bytes(4000)
    small.write_bytes(whole)
    with pytest.raises(StorageUnusable):
        back_up(SETTINGS, tmp_path, tmp_path / "copy.db")
    assert [path.name for path in tmp_path.iterdir()] == ["gateway.db"]


def test_the_command_says_what_it_made_and_what_must_lie_beside_it(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("SIGNAL_GATEWAY_SERVER__DATA_DIR", str(tmp_path))
    assert main(["backup", str(tmp_path / "copy.db")]) == 0
    assert "pepper" in capsys.readouterr().out
    assert main(["backup", str(tmp_path / "copy.db")]) == 2
    assert "exists already" in capsys.readouterr().err
