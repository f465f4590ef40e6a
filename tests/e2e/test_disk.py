"""The real process on a disk that is full or fails (H17): what was acknowledged is kept, what cannot be kept is refused, links live on."""

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Thread

import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from protocol.frame import FrameType
from tests.e2e.server import Server, running
from tests.e2e.test_story import ask, phone, register
from tests.websocket.test_agents import SEED_HEARTBEAT

pytestmark = pytest.mark.slow

SMS = {"phone_number": "+905551234567", "message": "x" * 1000, "direction": "received"}
REPORTS = 60
FAULTS = range(1, 61, int(os.environ.get("DISK_FAULTS_STEP", "25")))
"""Which write or fsync fails; with DISK_FAULTS_STEP=1 each of the first sixty."""
MORE = """
[storage]
high_water_rows = 20
retry_max_s = 0.1
[logging]
level = "warning"
"""


@contextmanager
def small_disk(folder: Path) -> Generator[Path]:
    """A disk of 1 MiB for the server's data; the file that fills it."""
    (folder / "data").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder / "data")], check=True)
    try:
        yield folder / "data" / "ballast"
    finally:
        subprocess.run(["umount", "-l", str(folder / "data")], check=True)


def fill(ballast: Path) -> None:
    """Write until nothing fits any more."""
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def report(link: ClientConnection, reports: int) -> None:
    """So many SMS came in, each with an answer asked for."""
    for number in range(reports):
        link.send(json.dumps({"type": "sms_message", "request_id": str(number), "data": SMS}))


def beat(link: ClientConnection) -> None:
    """A heartbeat, answered."""
    link.send(SEED_HEARTBEAT)
    assert isinstance(link.recv(10), bytes)


def registers(server: Server, until: int, prefix: str) -> list[str]:
    """REGISTER for new ids until the answer is `until`, 200 or 507: the ids that got a 200."""
    registered: list[str] = []
    for number in count():
        with connect(server.url) as agent:
            answer = register(agent, f"{prefix}-{number}")
        if answer["status"] == 200:
            registered.append(f"{prefix}-{number}")
        else:
            assert (answer["status"], answer["client_id"], answer["session_id"]) == (507, None, None)
        if answer["status"] == until:
            return registered
    raise AssertionError


def kept(folder: Path, query: str) -> set[str]:
    with closing(sqlite3.connect(folder / "data" / "gateway.db")) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        return {str(value) for (value,) in connection.execute(query)}


@pytest.mark.tool("tmpfs")
def test_on_a_full_disk_nothing_is_acknowledged_and_links_live_on_until_there_is_room(tmp_path: Path):
    """REGISTER is refused with 507; reports wait. Above the high-water mark their links are not read, and readiness tells."""
    with small_disk(tmp_path) as ballast, running(tmp_path, more=MORE) as server:
        with connect(server.url) as agent, phone(server) as handset:
            handset.recv(5)
            assert register(agent, "unit-before")["status"] == 200
            fill(ballast)
            registered = ["unit-before", *registers(server, 507, "unit")]

            report(handset, REPORTS)
            while not server.metric('signal_gateway_limits_reached_total{limit="storage.high_water_rows"}'):
                beat(agent)
            status, body = server.get("/health/ready")
            assert (status, json.loads(body)["checks"]["storage"]) == (503, "the database takes no rows")
            with connect(server.url) as other:  # a token that is known is compared in memory, and only its log entry waits
                payload = {"client_id": "test_client_2", "auth_token": "test_token_2"}
                assert ask(other, FrameType.CONNECT, payload)[1]["status"] == 200
            assert server.metric('signal_gateway_storage_batches_failed_total{reason="disk_full"}') > 0
            assert server.metric('signal_gateway_refusals_total{reason="disk_full"}') == 1
            with pytest.raises(TimeoutError):
                handset.recv(0)

            ballast.unlink()
            acknowledged = [json.loads(handset.recv(20)) for _ in range(REPORTS)]
            assert acknowledged == [{"type": "ack", "request_id": str(number)} for number in range(REPORTS)]
            beat(agent)
        assert server.get("/health/ready")[0] == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert kept(tmp_path, "select device_id from registrations") == set(registered)
        assert len(kept(tmp_path, "select id from reports where type = 'sms_message'")) == REPORTS


@contextmanager
def faulty(server: Server, fault: str) -> Generator[None]:
    """System calls of the running process fail as strace's `inject` says, until the context ends."""
    call = fault.partition(":")[0]
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={fault}", "-p", str(server.process.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        while " attached" not in (line := tracer.stderr.readline()):
            assert line, "strace ended"
        reader = Thread(target=tracer.stderr.read)  # threads that come and go are told there, too
        reader.start()
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)  # lets the process go on without it
            tracer.wait(10)
            reader.join(10)


@pytest.mark.tool("strace")
def test_when_the_nth_write_and_all_after_it_find_no_room_what_was_acknowledged_is_kept_and_nothing_else(tmp_path: Path):
    registered: list[str] = []
    with running(tmp_path, more="[storage]\nretry_max_s = 0.1") as server:
        for nth in FAULTS:
            with faulty(server, f"pwrite64:error=ENOSPC:when={nth}+"):
                registered += registers(server, 507, f"full-at-{nth}")
            registered += registers(server, 200, f"after-{nth}")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert kept(tmp_path, "select device_id from registrations") == set(registered)


@pytest.mark.tool("strace")
@pytest.mark.parametrize("nth", FAULTS)
def test_when_the_nth_fsync_fails_the_process_ends_and_what_was_acknowledged_is_kept(tmp_path: Path, nth: int):
    """All later ones would succeed: a second try would be told that rows are safe which are not."""
    registered: list[str] = []
    with running(tmp_path) as server, faulty(server, f"fdatasync:error=EIO:when={nth}"):
        with suppress(WebSocketException, OSError, EOFError):
            for number in range(nth + 100):
                with connect(server.url) as agent:
                    if register(agent, f"unit-{number}")["status"] == 200:
                        registered.append(f"unit-{number}")
        assert server.wait() == 2
    assert len(registered) < nth + 100
    assert set(registered) <= kept(tmp_path, "select device_id from registrations")
    assert "disk I/O error (SQLITE_IOERR_FSYNC)" in (tmp_path / "stderr.txt").read_text()
