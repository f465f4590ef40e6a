"""What an operator waits for: an SMS posted over HTTP, and one that a phone has sent and the gateway knows of; beside an empty handler."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import trio

from bench.build import Unmeasured
from bench.http_client import HttpClient, open_http
from bench.load import Figures
from bench.operated import Operated, TimedPhone, living, on_the_other_core, operated_gateway, phones_of, ranked, sms
from bench.processes import cores, cpu_s
from bench.servers import ROOT

CALLERS = 32
TRIP_CALLERS = 8
PHONES = 200
WARM_UP_S = 0.5
SETTLE_S = 20.0
"""In which the last of what was posted comes to its end."""


@contextmanager
def empty_api() -> Generator[Operated]:
    """The empty handler in a process of its own, on the server's core."""
    command = [sys.executable, "-m", "bench.empty_api"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            os.sched_setaffinity(process.pid, {cores()[0]})
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:(\d+)", process.stdout.readline())
            if found is None:
                raise Unmeasured("the empty handler did not start")
            yield Operated(process.pid, "", int(found[1]), "")
        finally:
            process.kill()


async def post(server: Operated, device_id: str, callers: int, seconds: float) -> Figures:
    """Callers with a connection each, who post one after the other."""
    took_s: list[float] = []
    number = wrong = 0

    async def call(until: float) -> None:
        nonlocal number, wrong
        async with open_http(server.http_port, server.token) as http:
            while (begun_at := time.perf_counter()) < until:
                number += 1
                status, _ = await http.call("POST", f"/api/devices/{device_id}/send-sms", sms(f"m{number}", number))
                wrong += status != 202
                took_s.append(time.perf_counter() - begun_at)

    async def all_call(lasts_s: float) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(callers):
                nursery.start_soon(call, time.perf_counter() + lasts_s)

    await all_call(WARM_UP_S)
    took_s.clear()
    cpu_before, begun_at = cpu_s(server.process_id), time.perf_counter()
    await all_call(seconds)
    lasted_s = time.perf_counter() - begun_at
    if wrong:
        raise Unmeasured(f"{wrong} answers were no 202")
    return {
        "per_second": len(took_s) / lasted_s,
        "cpu_us": 1e6 * (cpu_s(server.process_id) - cpu_before) / len(took_s),
        "each_us": 1e6 * lasted_s / len(took_s),
        "p50_ms": ranked(took_s, 0.5),
        "p99_ms": ranked(took_s, 0.99),
        "trip_ms": ranked(took_s, 0.5),
    }


def posted(seconds: float) -> Figures:
    """To the gateway, for a phone that is known and away."""
    with operated_gateway() as server:

        async def work() -> Figures:
            phones = phones_of(lambda: server.url, 1)
            async with living(phones):
                pass
            return await post(server, phones[0].device_id, CALLERS, seconds)

        return on_the_other_core(work)


def posted_to_nothing(callers: int, seconds: float) -> Figures:
    """To the empty handler. `trip_ms` is its median: what a round trip is compared with."""
    with empty_api() as server:

        async def work() -> Figures:
            return await post(server, "nobody", callers, seconds)

        return on_the_other_core(work)


async def _travel(server: Operated, seconds: float) -> Figures:
    begun_at: dict[str, float] = {}
    phones = phones_of(lambda: server.url, PHONES)

    async def send(http: HttpClient, message_id: str, phone: TimedPhone) -> None:
        begun_at[message_id] = time.perf_counter()
        await http.call("POST", f"/api/devices/{phone.device_id}/send-sms", sms(message_id))

    async def warm_up(caller: int) -> None:
        """The empty handler is warm when it is measured, too: each phone has had a message, and its lane is in memory."""
        async with open_http(server.http_port, server.token) as http:
            for number in range(caller, PHONES, TRIP_CALLERS):
                await send(http, f"w{number}", phones[number])

    async def call(caller: int) -> None:
        until, turn = time.perf_counter() + seconds, 0
        async with open_http(server.http_port, server.token) as http:
            while time.perf_counter() < until:
                turn += 1
                await send(http, f"m{caller}-{turn}", phones[(caller + TRIP_CALLERS * turn) % PHONES])

    async def all_do(work: Callable[[int], Awaitable[None]]) -> None:
        async with trio.open_nursery() as nursery:
            for caller in range(TRIP_CALLERS):
                nursery.start_soon(work, caller)
        with trio.move_on_after(SETTLE_S):
            while sum(len(phone.kept_at) for phone in phones) < len(begun_at):  # noqa: ASYNC110 - nothing tells
                await trio.sleep(0.05)

    async with living(phones):
        await all_do(warm_up)
        await all_do(call)
        lost = 0
        async with open_http(server.http_port, server.token) as http:
            for message_id in begun_at:
                _, told = await http.call("GET", f"/api/commands/{message_id}")
                lost += told.get("state") != "sent"
        kept_at = {message_id: at for phone in phones for message_id, at in phone.kept_at.items()}
    took_s = [at - begun_at[message_id] for message_id, at in kept_at.items() if message_id.startswith("m")]
    if not took_s:
        raise Unmeasured("no phone has sent anything")
    figures = {"per_second": len(took_s) / seconds, "p50_ms": ranked(took_s, 0.5), "p99_ms": ranked(took_s, 0.99)}
    return {**figures, "trip_ms": ranked(took_s, 0.99), "lost": float(lost)}


def travelled(seconds: float) -> Figures:
    """POST, phone, `sms_log`, its acknowledgement: which comes when `sent` is on disk. `trip_ms` is the 99th percentile."""
    with operated_gateway() as server:
        return on_the_other_core(lambda: _travel(server, seconds))
