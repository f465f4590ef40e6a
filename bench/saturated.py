"""How long a batch waits for the disk while the event loop is never idle: another thread writes, and must get its turn (DESIGN §5)."""

import os
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import median

import trio

from bench.load import Figures
from bench.processes import Disturbance
from bench.storage import report_row, running
from signal_gateway.observe.collector import collector_settled
from signal_gateway.observe.logs import LoggingSettings, logging_running
from signal_gateway.observe.metrics import Metrics
from signal_gateway.observe.nap import Nap
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import open_database
from signal_gateway.storage.migrate import migrate
from signal_gateway.storage.settings import StorageSettings

SLICE_S = 0.0001
TASKS = 8
BATCH_ROWS = 500
BETWEEN_S = 0.02
BATCH_SECONDS_MAX = 20.0
"""A batch that is not on disk by then is reported as having taken so long, and the run ends."""
WINDOW_FACTOR = 3
"""A window has to see many batches."""

SLICES, IDLE = "slices of 0.1 ms of pure Python", "an idle loop, to compare with"


def batches(tasks: int, seconds: float) -> Figures:
    """Median and worst time from `put` to `on_durable`, with so many tasks that never wait."""
    with tempfile.TemporaryDirectory() as folder, collector_settled():
        disturbance = Disturbance(os.getpid())
        took_s = trio.run(_measure, Path(folder), tasks, seconds * WINDOW_FACTOR)
    ranked = sorted(took_s)
    return {
        "others_cores": disturbance.cores(),
        "p50_ms": 1000 * median(took_s),
        "p99_ms": 1000 * ranked[int(0.99 * len(ranked))],
        "worst_ms": 1000 * ranked[-1],
        "per_second": BATCH_ROWS * len(took_s) / (seconds * WINDOW_FACTOR),
    }


async def _measure(folder: Path, tasks: int, seconds: float) -> list[float]:
    async with _writer(folder) as writer, trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(_burn)
        took_s: list[float] = []
        ends_at = time.perf_counter() + seconds
        while time.perf_counter() < ends_at:
            took_s.append(await _write_one(writer))
            if took_s[-1] >= BATCH_SECONDS_MAX:
                break
            await trio.sleep(BETWEEN_S)
        nursery.cancel_scope.cancel()
    return took_s


async def _write_one(writer: BatchWriter) -> float:
    durable, begun_at = trio.Event(), time.perf_counter()
    writer.put([report_row()] * BATCH_ROWS, durable.set)
    with trio.move_on_after(BATCH_SECONDS_MAX):
        await durable.wait()
    return time.perf_counter() - begun_at


async def _burn() -> None:
    """Work for a slice, let the others have theirs, for ever."""
    while True:
        ends_at = time.perf_counter() + SLICE_S
        while time.perf_counter() < ends_at:
            pass
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def _writer(folder: Path) -> AsyncGenerator[BatchWriter]:
    """SQLite in a file, every commit on the disk. Logs go to their thread and file, as in the gateway."""
    settings, metrics = StorageSettings(durability="power"), Metrics()
    with logging_running(LoggingSettings(console_output=False), folder, metrics):
        async with open_database(settings, folder, metrics) as database:
            await migrate(database)
            async with running(database, settings, metrics) as writer:
                with Nap(lambda: database.jobs_outstanding, lambda: database.jobs_answered, metrics).installed():
                    yield writer


CASES = {SLICES: partial(batches, TASKS), IDLE: partial(batches, 0)}
