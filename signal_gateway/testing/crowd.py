"""A crowd of hostile clients, so many of each kind, against a server on this machine: a process of its own, told to end by itself.

    SIMULATE_ENROLMENT_KEY=… python -m signal_gateway.testing.crowd ws://127.0.0.1:8080/ws --each 100 --seconds 60

Its own process, so that the fleet beside it measures the server and not the work of being hostile. It prints what became of its
clients as one JSON object a second: `{kind: {how an attempt ended: how often}}`. Their addresses are 127.0.0.2 to 127.0.0.250, so
that what the server holds against an address is never held against 127.0.0.1.
"""

import argparse
import json
import os
import resource
import socket
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from urllib.parse import urlsplit

import trio

from signal_gateway.testing.hostile import KINDS, HostileClient, Kind

EACH_MAX = 500
"""Hostile clients of one kind, at the most."""
SECONDS_MAX = 3600.0
SOURCES = 249
"""Addresses they come from: 127.0.0.2 to 127.0.0.250."""
SOCKET_BYTES = 65_536
"""Bytes that the kernel keeps for one of them on its way out: a flood is bounded in memory, too."""
DEAF_SEGMENT_BYTES = 536
DEAF_SOCKET_BYTES = 4096
"""A client that never reads makes the server wait soon, not after megabytes of the kernel's buffers."""
TELL_EVERY_S = 1.0
NICE = 5
"""The crowd yields the processor to the fleet beside it: what is measured is the server, not who of its clients got the other core."""
KEY_VARIABLE = "SIMULATE_ENROLMENT_KEY"


class CrowdRefused(Exception):
    """What was asked is not done. The text is for people."""


@dataclass(frozen=True, slots=True)
class CrowdPlan:
    """Where, how many of each kind, and for how long."""

    url: str
    """`ws://` on a loopback address: nobody else is ever attacked."""
    each: int
    seconds: float
    kinds: tuple[str, ...] = tuple(KINDS)


def check(plan: CrowdPlan) -> tuple[str, int]:
    """Host and port of the server. Raises CrowdRefused for a server that is not on this machine, and for what has no bound."""
    parts = urlsplit(plan.url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    try:
        address = ip_address(host)
        port = parts.port or 80
    except ValueError:
        address, port = None, 0
    if address is None or address.version != 4 or not address.is_loopback:
        raise CrowdRefused(f"hostile clients attack servers on 127.0.0.0/8 alone, which {host or plan.url!r} is not")
    if parts.scheme != "ws":
        raise CrowdRefused("hostile clients speak plain ws:// only")
    if not 0 < plan.seconds <= SECONDS_MAX:
        raise CrowdRefused(f"hostile clients need an end: say for how many seconds, {SECONDS_MAX:g} at the most")
    if not 0 < plan.each <= EACH_MAX:
        raise CrowdRefused(f"there may be 1 to {EACH_MAX} hostile clients of each kind")
    return host, port


def allow_open_files() -> None:
    """Take as many descriptors as the system lets us: each client holds one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def source_address(place: int) -> str:
    """The address of the client at this place of the crowd."""
    return f"127.0.0.{2 + place % SOURCES}"


async def connect_from(source: str, host: str, port: int, kind: Kind | None = None) -> trio.SocketStream:
    """A connection whose other end sees `source`. This end has small buffers, as the kind of client wants them. Raises OSError."""
    sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        if kind is not None and not kind.reads:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DEAF_SOCKET_BYTES)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, DEAF_SEGMENT_BYTES)
        await sock.bind((source, 0))
        await sock.connect((host, port))
        return trio.SocketStream(sock)
    except BaseException:
        sock.close()
        raise


async def run(plan: CrowdPlan, ends: dict[str, Counter[str]], enrolment_key: str) -> None:
    """Be hostile as planned. How attempts ended is counted in `ends`, by kind and in words. Raises CrowdRefused."""
    host, port = check(plan)
    with trio.move_on_after(plan.seconds):
        async with trio.open_nursery() as nursery:
            for place in range(plan.each * len(plan.kinds)):
                number, which = divmod(place, len(plan.kinds))
                kind = KINDS[plan.kinds[which]]
                counts = ends.setdefault(kind.name, Counter())
                connect = partial(connect_from, source_address(place), host, port, kind)
                nursery.start_soon(HostileClient(kind, number, connect, counts, enrolment_key).live)


async def run_beside(
    plan: CrowdPlan, ends: dict[str, Counter[str]], enrolment_key: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """The same in a process of its own, which ends with this call. Raises CrowdRefused, before anything is started."""
    check(plan)
    command = [sys.executable, "-m", __name__, plan.url, "--each", str(plan.each), "--seconds", str(plan.seconds)]
    environ = {**os.environ, KEY_VARIABLE: enrolment_key}
    async with trio.open_nursery() as nursery:
        run_process = partial(trio.run_process, [*command, "--kinds", *plan.kinds], env=environ, stdout=-1)
        process: trio.Process = await nursery.start(run_process)
        task_status.started()
        assert process.stdout is not None  # noqa: S101 - asked for above
        rest = b""
        async for data in process.stdout:
            *lines, rest = (rest + bytes(data)).split(b"\n")
            if lines:
                ends.update({kind: Counter(counts) for kind, counts in json.loads(lines[-1]).items()})


async def _tell_and_watch(ends: dict[str, Counter[str]], parent: int) -> None:
    """Say now and then what became of them; end when whoever started us is gone."""
    while os.getppid() == parent:
        await trio.sleep(TELL_EVERY_S)
        print(json.dumps(ends), flush=True)


async def _main(plan: CrowdPlan, enrolment_key: str) -> None:
    ends: dict[str, Counter[str]] = {}
    async with trio.open_nursery() as nursery:

        async def attack() -> None:
            await run(plan, ends, enrolment_key)
            nursery.cancel_scope.cancel()

        nursery.start_soon(attack)
        await _tell_and_watch(ends, os.getppid())
        nursery.cancel_scope.cancel()
    print(json.dumps(ends), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the plan and carry it out. A server beyond this machine is refused with a sentence."""
    parser = argparse.ArgumentParser(prog="python -m signal_gateway.testing.crowd")
    parser.add_argument("url")
    parser.add_argument("--each", type=int, default=10, help="Clients of each kind.")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--kinds", nargs="+", choices=tuple(KINDS), default=tuple(KINDS))
    asked = parser.parse_args(arguments)
    plan = CrowdPlan(asked.url, asked.each, asked.seconds, tuple(asked.kinds))
    allow_open_files()
    os.nice(NICE)
    try:
        with suppress(KeyboardInterrupt, BrokenPipeError):
            trio.run(_main, plan, os.environ.get(KEY_VARIABLE, "demo-enrolment-key"))
    except CrowdRefused as refused:
        sys.exit(f"error: {refused}")


if __name__ == "__main__":
    main()
