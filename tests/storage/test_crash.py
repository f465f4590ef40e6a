"""The process dies, or its disk does: what was acknowledged is there, and nothing is called written that is not (H17, H18)."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio
from sqlalchemy import insert

from signal_gateway.domain.errors import DiskFull
from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import open_database
from signal_gateway.storage.migrate import migrate
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.storage.tables import audit

from .rows_kept import entry, insert_entry, subjects
from .rows_kept import subjects_in as subjects_in_order

PROGRAM = Path(__file__).with_name("writes_until_killed.py")
ROOT = Path(__file__).parents[2]
KILLS = 8

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def start(folder: Path, run: str, *before: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [*before, sys.executable, "-B", str(PROGRAM), str(folder), run]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def subjects_in(folder: Path) -> list[str]:
    """What is in the file, which must be whole."""
    with closing(sqlite3.connect(folder / "gateway.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [subject for (subject,) in connection.execute("SELECT subject FROM audit")]


def test_killed_at_any_moment_it_has_lost_nothing_that_it_acknowledged(tmp_path: Path):
    """The same file through fifteen lives, each ended by SIGKILL after a random time and number of acknowledgements."""
    acknowledged: list[str] = []
    moments = random.Random(18)
    for life in range(KILLS):
        process = start(tmp_path, f"life{life}")
        assert process.stdout is not None
        for _ in range(moments.randrange(1, 120)):
            acknowledged.append(process.stdout.readline().strip())
        time.sleep(moments.uniform(0, 0.01))  # to a moment that its own output does not choose
        process.send_signal(signal.SIGKILL)
        said, errors = process.communicate(timeout=20)
        assert process.returncode == -signal.SIGKILL, errors
        acknowledged += [line for line in said.splitlines(keepends=False) if line]

        kept = subjects_in(tmp_path)
        assert len(kept) == len(set(kept))
        assert set(acknowledged) <= set(kept)
    assert len(acknowledged) > KILLS


@pytest.mark.parametrize("failing", [5, 9, 20, 21])
@pytest.mark.tool("strace")
def test_when_an_fsync_fails_the_process_ends_and_what_it_acknowledged_is_there(tmp_path: Path, failing: int):
    """The n-th fdatasync says EIO, all later ones succeed: whoever tried again would be told that rows are safe which are not."""
    inject = f"inject=fdatasync:error=EIO:when={failing}"
    process = start(tmp_path, "run", "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", inject)
    said, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "StorageBroken: the database or its disk is damaged: disk I/O error (SQLITE_IOERR_FSYNC)" in errors
    if failing >= 9:  # before, the tables are being made
        assert set(said.splitlines()) <= set(subjects_in(tmp_path))
        assert said


@contextmanager
def small_disk(folder: Path, size: str) -> Generator[None, None, None]:
    """A disk of its own in memory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(ballast: Path) -> None:
    """Write until nothing fits any more."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.tool("tmpfs")
async def test_on_a_full_disk_rows_wait_and_reads_go_on_until_there_is_room(tmp_path: Path):
    """A disk of 4 MiB that something else fills (H17)."""
    settings = StorageSettings(retry_max_s=0.05)
    with small_disk(tmp_path, "4m"):
        async with open_database(settings, tmp_path, Metrics()) as database, trio.open_nursery() as nursery:
            await migrate(database)
            writer = BatchWriter(database, settings, Metrics())
            await nursery.start(writer.run)
            await writer.call(partial(insert_entry, subject="before"))
            fill(tmp_path / "ballast")

            durable: list[str] = []
            large = entry("put", detail="x" * 400_000)
            writer.put([large], partial(durable.append, "put"))
            with pytest.raises(DiskFull):
                await writer.call(lambda connection: connection.execute(insert(audit), [large.values]))
            assert await subjects(database) == ["before"]
            assert durable == []

            await trio.Path(tmp_path / "ballast").unlink()
            assert await writer.call(subjects_in_order) == ["before", "put"]
            assert durable == ["put"]
            writer.close()
        assert subjects_in(tmp_path) == ["before", "put"]
