"""What the service for commands bears: SMS accepted, each on disk before its caller hears so, from 64 callers at once.

SQLite in a new temporary folder (TMPDIR says on which disk). The phones are known and offline, so that what is measured is the acceptance:
checks, id, the write that a crash cannot undo, and the place in line.
"""

import tempfile
import time
from pathlib import Path

import trio
from sqlalchemy import Connection

from bench.load import Figures
from bench.storage import Durability, running
from signal_gateway.app import Gateway
from signal_gateway.bus.local import LocalBus
from signal_gateway.config import Config
from signal_gateway.domain.access import Operator, Role
from signal_gateway.domain.command import CommandKind, CommandRequest, Target
from signal_gateway.lifecycle import stage
from signal_gateway.observe.collector import collector_settled
from signal_gateway.observe.metrics import Metrics
from signal_gateway.observe.nap import Nap
from signal_gateway.services.commands import Commands
from signal_gateway.storage import devices
from signal_gateway.storage.database import open_database
from signal_gateway.storage.migrate import migrate
from signal_gateway.storage.settings import StorageSettings

CALLERS = 64
PHONES = 1000
WARM_UP_S = 0.5
OPERATOR = Operator("bench", Role.OPERATOR)


def _request(number: int) -> CommandRequest:
    data = {"phone_number": f"+9055{number % 10**8:08d}", "message": f"Your code is {number:06d}. It is valid for ten minutes."}
    return CommandRequest(kind=CommandKind.SEND_SMS, target=Target(f"phone-{number % PHONES}"), data=data, sim_slot=0)


def enrol_phones(connection: Connection) -> None:
    """Make the phones known that the commands are for."""
    for number in range(PHONES):
        devices.enrol(connection, devices.new_device(f"phone-{number}", "phone", None), None, 1)


async def _submit(commands: Commands, seconds: float) -> list[float]:
    """How many seconds each call took, from callers that ask again at once."""
    took_s: list[float] = []
    number = 0
    until = time.perf_counter() + seconds

    async def ask() -> None:
        nonlocal number
        while (begun_at := time.perf_counter()) < until:
            number += 1
            await commands.submit(_request(number), OPERATOR)
            took_s.append(time.perf_counter() - begun_at)

    async with trio.open_nursery() as nursery:
        for _ in range(CALLERS):
            nursery.start_soon(ask)
    return took_s


async def _measure(durability: Durability, folder: Path, seconds: float) -> Figures:
    metrics = Metrics()
    settings = StorageSettings(durability=durability)
    async with open_database(settings, folder, metrics) as database:
        await migrate(database)
        await database.write(enrol_phones)
        async with running(database, settings, metrics) as writer:
            gateway = Gateway(Config(storage=settings), database, writer, LocalBus(metrics), metrics, bytes(32), "bench" * 8)
            nap = Nap(lambda: database.jobs_outstanding, lambda: database.jobs_answered, metrics)  # as in the real server
            with nap.installed():
                async with stage(*gateway.service_loops):
                    await _submit(gateway.commands, WARM_UP_S)
                    begun_at = time.perf_counter()
                    took_s = sorted(await _submit(gateway.commands, seconds))
                    lasted_s = time.perf_counter() - begun_at
    return {
        "per_second": len(took_s) / lasted_s,
        "each_us": 1e6 * lasted_s / len(took_s),
        "p50_ms": 1000 * took_s[len(took_s) // 2],
        "p99_ms": 1000 * took_s[int(0.99 * len(took_s))],
    }


def send_sms(durability: Durability, seconds: float) -> Figures:
    """Commands accepted a second, and how long a caller waits."""
    with tempfile.TemporaryDirectory() as folder, collector_settled():
        return trio.run(_measure, durability, Path(folder), seconds)
