"""The server runs out of file descriptors (H16): it stops accepting, lets open links live, and takes up again."""

import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.e2e.server import Server, running
from tests.e2e.test_story import register
from tests.websocket.test_agents import SEED_HEARTBEAT

pytestmark = pytest.mark.slow

DESCRIPTORS = 128
CONNECTS = 500
RECOVERS_S = 10.0
"""The bound of this test. What H16 asks, 2 s, is seen on a machine that does nothing else."""
MORE = """
[handshake]
seconds_max = 600
[security]
max_connections_per_ip = 0
max_unauthenticated = 1000
[limits]
data_per_s = 0
frames_per_s = 0
"""


def beat(link: ClientConnection) -> None:
    """A heartbeat, answered."""
    link.send(SEED_HEARTBEAT)
    assert isinstance(link.recv(10), bytes)


def descriptors(server: Server) -> int:
    """How many the process has open, as the kernel says: it may not answer a scrape now."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def log_says(server: Server) -> list[str]:
    """Lines about connections that could not be accepted."""
    return [str(line["event"]) for line in server.log_lines() if line.get("logger") == "trio.serve_listeners"]


@pytest.mark.tool("prlimit")
def test_without_descriptors_open_links_live_on_and_when_they_are_free_all_come_in(tmp_path: Path):
    limit = ("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}")
    with running(tmp_path, more=MORE, before=limit) as server, ExitStack() as stack:
        link = stack.enter_context(connect(server.url))
        assert register(link, "unit-before")["status"] == 200
        with ExitStack() as crowd:
            for _ in range(CONNECTS):
                crowd.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            while descriptors(server) < DESCRIPTORS or not log_says(server):
                beat(link)
            exhausted_at = time.monotonic()
            while time.monotonic() - exhausted_at < 1:  # the server tries to accept ten times
                beat(link)
            assert register(link, "unit-before")["status"] == 200  # the database needs no new descriptor
        begun_at = time.monotonic()
        with connect(server.url, open_timeout=RECOVERS_S) as late:
            assert register(late, "unit-after")["status"] == 200
            beat(link)
        print(f"\nrecovered in {time.monotonic() - begun_at:.2f} s")

        assert server.metric('signal_gateway_limits_reached_total{limit="process.open_files"}') >= 5
        assert server.metric("signal_gateway_connections_total") >= DESCRIPTORS // 2
        while server.metric("process_open_fds") >= 40:  # of those who left in the queue some are still being accepted
            beat(link)
        # One line in ten seconds, however often accepting failed; none of them has a traceback.
        assert 1 <= len(log_says(server)) <= 1 + (time.monotonic() - exhausted_at) / 10
        assert "Traceback" not in (tmp_path / "stderr.txt").read_text()


def test_the_program_takes_as_many_descriptors_as_the_system_lets_it(tmp_path: Path):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with running(tmp_path, before=("prlimit", f"--nofile=64:{hard}")) as server:
        assert server.metric("process_max_fds") == hard
