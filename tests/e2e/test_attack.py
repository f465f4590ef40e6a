"""A fleet under attack on the real process: whoever is honest comes in and is answered, and of the others nothing is left."""

import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import trio

from signal_gateway.testing.crowd import connect_from, source_address
from signal_gateway.testing.hostile import KINDS, HostileClient
from tests.e2e.fleet import Fleet
from tests.e2e.server import Server, command, running
from tests.e2e.test_story import rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LORISES = 512
"""As many as there may be strangers in all."""
HANDSHAKE_S = 5.0
GOOD = 100
CHURN = int(os.environ.get("CHURN_CONNECTS", "2000"))
CHURN_AT_ONCE = 100
CHURNED = {0: "garbage", 1: "oversize", 2: "fragment_flood", 3: "header_bomb"}
"""Which kind comes at every tenth place; at the others, one that resets its connection."""
STRANGERS = "signal_gateway_connections_unauthenticated"
EVICTED = 'signal_gateway_limits_reached_total{limit="security.max_unauthenticated"}'
TIMED_OUT = 'signal_gateway_refusals_total{reason="handshake.seconds_max"}'


async def insist(server: Server, number: int) -> None:
    """A client that never ends its request, and comes again at once when it is turned away: evenly spread over time."""
    await trio.sleep(HANDSHAKE_S * number / LORISES)
    connect = partial(connect_from, source_address(number), "127.0.0.1", server.port)
    loris = HostileClient(KINDS["slow_handshake"], number, connect, Counter(), "")
    while True:
        await loris.attack()


async def test_while_512_clients_never_end_their_request_a_hundred_good_ones_all_come_in(tmp_path: Path):
    """H07: where all 512 places of strangers are taken, the oldest of them goes for each newcomer."""
    with running(tmp_path) as server:
        async with trio.open_nursery() as nursery:
            for number in range(LORISES):
                nursery.start_soon(insist, server, number)
            while not await trio.to_thread.run_sync(server.metric, TIMED_OUT):  # from now on one goes and comes every 10 ms
                await trio.lowlevel.checkpoint()
            fleet = Fleet(server.port, GOOD)
            begun_at = trio.current_time()
            with trio.fail_after(120):
                await fleet.come(nursery)
            took_s = trio.current_time() - begun_at
            evicted = await trio.to_thread.run_sync(server.metric, EVICTED)
            print(f"\n{GOOD} in after {took_s:.1f} s, {dict(fleet.numbers.failures)}, max_unauthenticated reached {evicted:.0f} times")
            assert fleet.numbers.links == GOOD
            assert evicted > 0
            nursery.cancel_scope.cancel()


async def come_and_go(server: Server, number: int, ends: Counter[str]) -> None:
    """One connection: most are reset in the middle of their upgrade, others break a rule before or after they are known."""
    name = CHURNED.get(number % 10, "reset_churn")
    connect = partial(connect_from, source_address(number), "127.0.0.1", server.port)
    end = await HostileClient(KINDS[name], number % 200, connect, ends, "demo-enrolment-key").attack()
    ends[f"{name} {end}"] += 1


async def test_after_a_churn_of_2000_connections_no_descriptor_and_no_task_is_left(tmp_path: Path):
    """A soak of a few seconds: what one of them left behind would be left two thousand times."""
    more = "[security]\nmax_malformed_per_minute = 1\n[link]\nclose_s = 0.2\n[storage]\nreaders = 1"  # no more are opened later
    with running(tmp_path, more=more) as server:
        ends: Counter[str] = Counter()
        descriptors, tasks = 0.0, server.metric("signal_gateway_loop_tasks")
        for connects in (100, CHURN):  # the first hundred open what is opened on demand, once and for all
            at_once = trio.CapacityLimiter(CHURN_AT_ONCE)

            async def come_in_turn(number: int, at_once: trio.CapacityLimiter = at_once) -> None:
                async with at_once:
                    await come_and_go(server, number, ends)

            async with trio.open_nursery() as nursery:
                for number in range(connects):
                    nursery.start_soon(come_in_turn, number)
            server.wait_for_metric("signal_gateway_loop_tasks", tasks)
            server.wait_for_metric("process_open_fds", descriptors or server.metric("process_open_fds"))
            descriptors = server.metric("process_open_fds")
        assert server.metric("signal_gateway_connections_total") >= CHURN
        assert server.metric('signal_gateway_errors_total{border="connection"}') == 0
        print(f"\n{dict(ends)}")
        assert ends["garbage closed 4503"] >= CHURN // 10 * 0.9
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert rows(tmp_path, "select count(*) from connection_logs where disconnected_at is null") == [(0,)]


def test_a_simulated_fleet_beside_hostile_clients_of_each_kind_is_answered_and_the_table_shows_both(tmp_path: Path):
    with running(tmp_path, more='[logging]\nlevel = "debug"') as server:
        asked = ("--phones", "20", "--agents", "5", "--seconds", "12", "--hostile", "2")
        ran = command(tmp_path, "simulate", "--url", server.url, *asked)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "most: 25" in ran.stdout
        assert [kind for kind in KINDS if f"2 {kind} " not in ran.stdout] == []
        assert "closed 4503" in ran.stdout
        assert "refused 431" in ran.stdout
        assert "signal_gateway_errors_total{" not in server.get("/metrics")[1]
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    log = (tmp_path / "stderr.txt").read_text()
    assert "Traceback" not in log
    assert "guess-" not in log  # the tokens that hostile clients try (H02)
