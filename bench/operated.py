"""The gateway as an operator has it: started as its users start it, with a token for its API, and phones that obey."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import trio

from bench.build import Unmeasured
from bench.messages import ENROLMENT_KEY
from bench.processes import cores
from bench.servers import CONFIG, ROOT, Server
from signal_gateway.testing.behaviour import FLAWLESS, Behaviour
from signal_gateway.testing.client import Client, open_client
from signal_gateway.testing.phone import PhoneProfile, SimulatedPhone

MORE = """
[http]
requests_per_s = 1000000
requests_burst = 1000000
[phones]
sim1_guard_interval = 0
sim2_guard_interval = 0
[commands]
dispatched_s = {dispatched_s}
backoff_first_s = 0.2
sim_park_s = 2
"""
"""Where one SMS in twenty fails, three do in a row in every run of `kill`, and a SIM would then rest for five minutes."""
QUIET = replace(FLAWLESS, delivery_chance=0.0, names_message_chance=1.0)
"""Phones that are asked for no delivery report, and give none."""
STARTS_WITHIN_S = 20.0
CALLER_NUMBER = "+905551234567"


@dataclass(frozen=True)
class Operated(Server):
    """A running gateway and the key to its API."""

    http_port: int
    token: str


def prepare(folder: Path, dispatched_s: float = 120.0, agents: int = 0) -> str:
    """Write the configuration into an empty folder and issue a token. So many agents are known, as `bench.messages.CONNECT` has them."""
    keys = json.dumps([f"bench-{number:05}:bench-token-{number:05}" for number in range(agents)])
    text = CONFIG.format(api_keys=keys, enrolment_key=ENROLMENT_KEY, server="").replace("[http]\nport = 0\n", "")
    (folder / "config.toml").write_text(text + MORE.format(dispatched_s=dispatched_s).replace("[http]", "[http]\nport = 0"))
    command = [sys.executable, "-m", "signal_gateway", "token", "issue", "--subject", "bench", "--role", "admin"]
    done = subprocess.run([*command, "--config", "config.toml"], cwd=folder, env=_environ(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unmeasured(f"no token: {done.stderr.strip()[-300:]}")
    return done.stdout.splitlines()[-1]


@contextmanager
def started(folder: Path, token: str, *before: str) -> Generator[tuple[Operated, subprocess.Popen[str]]]:
    """The gateway in a folder that was prepared, on its core; `before` stands in front of its command. Killed at the end."""
    command = [*before, sys.executable, "-m", "signal_gateway", "serve", "--config", "config.toml"]
    with (
        (folder / "stderr.txt").open("ab") as stderr,
        subprocess.Popen(
            command, cwd=folder, env=_environ(), stdout=subprocess.PIPE, stderr=stderr, text=True, start_new_session=True
        ) as process,
    ):
        try:
            os.sched_setaffinity(process.pid, {cores()[0]})
            websocket = _found(process, r"ws://127\.0\.0\.1:\d+/ws")
            http = _found(process, r"http://127\.0\.0\.1:(\d+)/api")
            yield Operated(process.pid, websocket, int(http), token), process
        finally:
            process.kill()


@contextmanager
def operated_gateway(agents: int = 0) -> Generator[Operated]:
    """One in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with started(folder, prepare(folder, agents=agents)) as (server, _):
            yield server


class TimedPhone(SimulatedPhone):
    """Knows when the server told it that what it had done is kept."""

    kept_at: Mapping[str, float] = {}

    async def hear(self, client: Client, message: bytes | str) -> None:
        """See SimulatedPhone.hear."""
        known = len(self.acknowledged)
        await super().hear(client, message)
        if len(self.acknowledged) > known:
            now = time.perf_counter()
            self.kept_at = {**self.kept_at, str(self.acknowledged[-1].data.get("message_id")): now}


def phones_of(url: Callable[[], str], count: int, behaviour: Behaviour = QUIET) -> list[TimedPhone]:
    """Phones `phone-00000` to…, each with one SIM; they dial whatever `url` says at the time."""

    def dial(resource: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Client]:
        return open_client(url().removesuffix("/ws") + resource, headers)

    return [TimedPhone(_profile(number), ENROLMENT_KEY, dial, random=Random(number), behaviour=behaviour) for number in range(count)]


@asynccontextmanager
async def living(phones: Sequence[SimulatedPhone], at_once: int = 32) -> AsyncGenerator[trio.Nursery]:
    """They are linked when this begins, and gone when it ends."""
    dialling = trio.CapacityLimiter(at_once)

    async def begin(phone: SimulatedPhone) -> None:
        async with dialling:
            await nursery.start(phone.live)

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as beginning:
            for phone in phones:
                beginning.start_soon(begin, phone)
        yield nursery
        nursery.cancel_scope.cancel()


def sms(message_id: str, number: int = 0) -> dict[str, Any]:
    """The body of one `send-sms`."""
    return {"sim_slot": 0, "phone_number": CALLER_NUMBER, "message": f"Your code is {number:06d}.", "message_id": message_id}


def on_the_other_core(work: Callable[[], Awaitable[dict[str, float]]]) -> dict[str, float]:
    """Run this beside the server, on the core that it does not have."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores()[1]})
    try:
        return trio.run(work)
    finally:
        os.sched_setaffinity(0, before)


def ranked(took_s: Sequence[float], share: float) -> float:
    """Milliseconds that this share of the times stayed below."""
    ordered = sorted(took_s)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _profile(number: int) -> PhoneProfile:
    card = {"slot_index": 0, "carrier_name": "Turkcell", "phone_number": f"+90555{number:07d}", "is_active": True}
    return PhoneProfile(f"phone-{number:05d}", f"queue-{number:04d}", sim_cards=[card])


def _environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _found(process: subprocess.Popen[str], pattern: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found[found.lastindex or 0]
    raise Unmeasured("the gateway did not start")
