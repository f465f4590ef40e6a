"""The load side, driven: `bench/load_side` is its program, in C, on a core of its own."""

import json
import os
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bench import build
from bench.build import Unmeasured
from bench.messages import CONNECT, HEARTBEAT, HEARTBEAT_ACK_BEGINS, HEARTBEAT_BEGINS, PHONE_HEADERS
from bench.processes import Disturbance, cores, resident_bytes
from bench.servers import Server

Figures = dict[str, float]
"""What one run measured, by name: `cpu_us`, `per_second`, `p50_ms`, `p99_ms`, `link_kib`…"""
SETTLE_S = 2.0
"""Before and after many links open, so that what is only passing is not measured."""
NUMBERS_MAX = 100_000
"""Links are told apart by five digits."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked of a server. A link says `first`, hears `greetings` messages, and then asks."""

    links: int = 0
    in_flight: int = 1
    pace_s: float = 0.0
    """Seconds between two questions of a link, which has one in flight; 0: it asks when it is answered."""
    idle: int = 0
    deaf: int = 0
    headers: tuple[str, ...] = ()
    first: bytes = b""
    greetings: int = 0
    questions: tuple[bytes, ...] = ()
    """Sent together; the last one is answered."""
    is_text: bool = False
    expected: bytes = b""
    """How an answer begins."""
    storm: int = 0
    """Connects all the time instead, so many at once."""
    numbers: int = NUMBERS_MAX
    sources: int = 1
    """Addresses from 127.0.0.1 on; one has ports for about 28,000 connections."""

    @property
    def clients(self) -> int:
        """Links in all."""
        return self.links + self.idle + self.deaf

    def arguments(self) -> list[str]:
        """As the program wants them."""
        names = ("links", "in_flight", "idle", "deaf", "greetings", "numbers", "sources")
        said = [f"--{name.replace('_', '-')}={getattr(self, name)}" for name in names]
        said += [f"--header={header}" for header in self.headers]
        said += [f"--{'text' if self.is_text else 'binary'}={question.hex()}" for question in self.questions]
        if self.pace_s:
            said.append(f"--pace={self.pace_s}")
        if self.first:
            said.append(f"--first={self.first.hex()}")
        if self.storm:
            said += ["--storm", f"--concurrent={self.storm}"]
        return [*said, f"--expect={self.expected.hex()}"]


def heartbeats_echoed(links: int, in_flight: int) -> Load:
    """The 48 bytes of a HEARTBEAT, to an echo."""
    return Load(links=links, in_flight=in_flight, questions=(HEARTBEAT,), expected=HEARTBEAT_BEGINS)


def heartbeats_heard(links: int, in_flight: int) -> Load:
    """HEARTBEATs of authenticated agents, to the gateway."""
    return replace(heartbeats_echoed(links, in_flight), first=CONNECT, greetings=1, expected=HEARTBEAT_ACK_BEGINS)


def phones(links: int, *questions: bytes, expected: bytes = b"") -> Load:
    """Phones that report in JSON."""
    return Load(links=links, headers=PHONE_HEADERS, greetings=1, questions=questions, is_text=True, expected=expected)


def measure(server: Server, load: Load, seconds: float, warm_up_s: float) -> Figures:
    """Open the links, warm up, and measure one window."""
    before = resident_bytes(server.process_id)
    with _running(server, load, seconds, warm_up_s) as process:
        opened = resident_bytes(server.process_id)
        disturbance = Disturbance(server.process_id, process.pid)
        seen: dict[str, Any] = json.loads(_say(process, "go"))
        others = disturbance.cores()
        grown = resident_bytes(server.process_id) - opened
    if seen.pop("wrong"):
        raise Unmeasured("the server answered otherwise than expected")
    figures = {name: float(value) for name, value in seen.items()}
    figures |= {"others_cores": others, "grown_mib": grown / 2**20}
    if load.clients:
        figures["link_kib"] = (opened - before) / load.clients / 1024
    return figures


def measure_memory(server: Server, load: Load) -> Figures:
    """Open so many links that say nothing more, and see what each costs in resident memory."""
    time.sleep(SETTLE_S)
    before = resident_bytes(server.process_id)
    begun_at = time.perf_counter()
    with _running(server, load, 0, 0):
        took_s = time.perf_counter() - begun_at
        time.sleep(SETTLE_S)
        held = resident_bytes(server.process_id) - before
    return {"link_kib": held / load.clients / 1024, "opened_per_s": load.clients / took_s}


@contextmanager
def beside(server: Server, load: Load, seconds: float) -> Generator[None]:
    """This load goes on beside another one that is measured, for at most so long."""
    with _running(server, load, seconds, 0) as process:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        yield


def visit(server: Server, load: Load) -> None:
    """Open every link and hang up: afterwards the server knows who came."""
    with _running(server, load, 0, 0):
        pass


@contextmanager
def _running(server: Server, load: Load, seconds: float, warm_up_s: float) -> Generator[subprocess.Popen[str]]:
    """The load side with every link open; killed at the end."""
    command = [
        str(build.load(server.is_tls)),
        f"--port={server.port}",
        f"--path={server.path}",
        f"--server={server.process_id}",
        f"--seconds={seconds}",
        f"--warm-up={warm_up_s}",
        *load.arguments(),
        *(["--tls"] if server.is_tls else []),
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            os.sched_setaffinity(process.pid, {cores()[1]})
            _read(process)
            yield process
        finally:
            process.kill()


def _say(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()
    return _read(process)


def _read(process: subprocess.Popen[str]) -> str:
    """The next line that the load side prints."""
    assert process.stdout is not None
    assert process.stderr is not None
    if line := process.stdout.readline():
        return line
    raise Unmeasured(process.stderr.read().strip()[-500:] or "the load side ended without a word")
