"""A backlog: commands wait for phones that are away; then all come at once. Beside them agents go on to beat.

Each phone must send what was accepted for it in that order, the server's memory must stay bounded, and the others must not feel it.
"""

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from statistics import median

import trio

from bench.build import Unmeasured
from bench.http_client import open_http
from bench.load import Figures, heartbeats_heard, measure
from bench.operated import Operated, living, on_the_other_core, operated_gateway, phones_of
from bench.processes import resident_bytes

COMMANDS, PHONES = 100_000, 1000
QUICK_COMMANDS, QUICK_PHONES = 2000, 50
BEATING, PACE_S = 200, 0.1
"""Agents that beat all the time, and their pause between two beats: as many as 60,000 devices that beat each half minute."""
A_CALL = 1000
"""Commands posted at once."""
SENT_WITHIN_S = 900.0
WINDOW_S = 3.0
WINDOWS_ALONE = 5
"""One alone says 0.24 to 0.55 ms."""


def _beats(server: Operated, warm_up_s: float) -> float:
    """The 99th percentile of a window of heartbeats, in milliseconds."""
    with _scheduled(os.SCHED_OTHER):
        return measure(server, replace(heartbeats_heard(BEATING, 1), pace_s=PACE_S), WINDOW_S, warm_up_s)["p99_ms"]


@contextmanager
def _scheduled(policy: int) -> Generator[None]:
    """This thread, and what it starts, under another policy of the operating system."""
    before = os.sched_getscheduler(0)
    os.sched_setscheduler(0, policy, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))


async def _queue(server: Operated, device_ids: list[str], commands: int) -> None:
    """Post them all, in turn for each phone."""
    async with open_http(server.http_port, server.token) as http:
        for first in range(0, commands, A_CALL):
            items = [
                {
                    "to": {"device": device_ids[number % len(device_ids)]},
                    "kind": "send_sms",
                    "data": {"phone_number": "+905551234567", "message": f"{number}"},
                    "sim_slot": 0,
                    "message_id": f"m{number}",
                }
                for number in range(first, min(first + A_CALL, commands))
            ]
            status, told = await http.call("POST", "/api/commands", items)
            if status >= 300 or any("error" in each for each in told):
                raise Unmeasured(f"the commands were answered {status}")


async def _drain(server: Operated, commands: int, phone_count: int) -> Figures:
    phones = phones_of(lambda: server.url, phone_count)
    async with living(phones):  # they become known
        pass
    alone = median([await trio.to_thread.run_sync(_beats, server, 0.5) for _ in range(WINDOWS_ALONE)])
    before = resident_bytes(server.process_id)
    await _queue(server, [phone.device_id for phone in phones], commands)
    queued_mib = (resident_bytes(server.process_id) - before) / 2**20
    begun_at = time.perf_counter()
    beside: list[float] = []

    async def beat() -> None:
        while True:
            beside.append(await trio.to_thread.run_sync(_beats, server, 0.0))

    async with living(phones), trio.open_nursery() as nursery:
        nursery.start_soon(beat)
        with trio.move_on_after(SENT_WITHIN_S):
            while sum(len(phone.sent) for phone in phones) < commands:  # noqa: ASYNC110 - nothing tells
                await trio.sleep(0.1)
        lasted_s = time.perf_counter() - begun_at
        nursery.cancel_scope.cancel()
    sent = [[int(sms.text) for sms in phone.sent] for phone in phones]
    return {
        "per_second": sum(map(len, sent)) / lasted_s,
        "lost": float(commands - len({number for numbers in sent for number in numbers})),
        "doubled": float(sum(map(len, sent)) - len({number for numbers in sent for number in numbers})),
        "misplaced": float(sum(one > other for numbers in sent for one, other in pairwise(numbers))),
        "grown_mib": max(queued_mib, (resident_bytes(server.process_id) - before) / 2**20),
        "p99_ms": median(beside),
        "times_alone": median(beside) / alone,
    }


def drained(seconds: float) -> Figures:
    """Windows of less than 2 s: a small backlog, for development."""
    commands, phone_count = (COMMANDS, PHONES) if seconds >= 2 else (QUICK_COMMANDS, QUICK_PHONES)
    # Whoever measures the heartbeats must not wait for the phones, which share that core.
    with operated_gateway(agents=BEATING) as server, _scheduled(os.SCHED_IDLE):
        return on_the_other_core(lambda: _drain(server, commands, phone_count))
