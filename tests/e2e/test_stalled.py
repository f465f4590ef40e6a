"""Peers that ask and never read, beside peers that do (H14): those lose their links, these lose nothing."""

import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import trio

from signal_gateway.testing.crowd import connect_from, source_address
from signal_gateway.testing.hostile import KINDS, HostileClient
from tests.e2e.fleet import living
from tests.e2e.server import Server, running
from tests.e2e.test_story import rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STALLED = int(os.environ.get("STALLED", "50"))
"""And as many healthy ones."""
MORE = "[limits]\nframes_per_s = 0\n[security]\nmax_unauthenticated = 20000"
STALLED_BYTES_MAX = 1_048_576
"""What one of them may cost the process (H09)."""


async def stall(server: Server, number: int, ends: Counter[str]) -> None:
    """One peer that asks and never reads, until the server has had enough."""
    kind = KINDS["slow_reader"]
    connect = partial(connect_from, source_address(number), "127.0.0.1", server.port, kind)
    ends[await HostileClient(kind, number, connect, ends, "demo-enrolment-key").attack()] += 1


async def test_who_never_reads_is_closed_with_4001_and_who_does_loses_nothing(tmp_path: Path):
    with running(tmp_path, more=MORE, server="max_connections = 20000") as server:
        async with living(server, STALLED, gap_s=0.5) as fleet:
            before_bytes = server.metric("process_resident_memory_bytes")
            ends: Counter[str] = Counter()
            async with trio.open_nursery() as stalled:
                for number in range(STALLED):
                    stalled.start_soon(stall, server, number, ends)
            assert ends == {"cut": STALLED}
            assert server.metric("process_resident_memory_bytes") - before_bytes < STALLED * STALLED_BYTES_MAX
            assert server.metric('signal_gateway_limits_reached_total{limit="outbox.bytes_max"}') == STALLED
            await fleet.wait_for_acknowledged(STALLED)
            assert fleet.numbers.links == STALLED
            assert not fleet.numbers.failures
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert rows(tmp_path, "select count(*) from connection_logs where close_code = 4001") == [(STALLED,)]
    kept = {text for (text,) in rows(tmp_path, "select json_extract(data, '$.message') from reports where type = 'sms_message'")}
    assert fleet.acknowledged <= kept
