"""Our credentials at a real TURN server, started with the configuration that the docs show (H35)."""

import re
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from signal_gateway.domain.turn import turn_credentials
from signal_gateway.services.turn import IceServers, MediaSettings
from tests.e2e.ports import free_ports
from tests.e2e.turn_client import NoRelay, allocate, is_up

ROOT = Path(__file__).parents[2]
SECRET, NEXT_SECRET = "a-secret-of-this-test", "another-secret-of-this-test"
STARTS, START_S = 4, 10
RELAY_PORTS = range(49_152, 65_536)
pytestmark = [pytest.mark.slow, pytest.mark.tool("coturn")]


def shown_configuration() -> str:
    """`turnserver.conf` of the operations page."""
    (shown,) = re.findall(r"<!-- turnserver.conf -->\n```ini\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    return shown


@contextmanager
def turn_server(folder: Path, port: int) -> Generator[subprocess.Popen[bytes]]:
    """A server as shown, on loopback, with `port` and secrets of this test, and without the certificate that nobody has here."""
    lines = [line for line in shown_configuration().splitlines() if not line.startswith(("tls-", "cert=", "pkey=", "static-auth-secret="))]
    lines += [f"static-auth-secret={SECRET}", f"static-auth-secret={NEXT_SECRET}", "no-tls", "no-dtls"]
    lines += ["listening-ip=127.0.0.1", "relay-ip=127.0.0.1", f"pidfile={folder}/pid", f"userdb={folder}/db", "log-file=stdout"]
    settings = "\n".join(lines).replace("listening-port=3478", f"listening-port={port}")
    (folder / "turnserver.conf").write_text(settings)
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(["turnserver", "-c", str(folder / "turnserver.conf")], stdout=log, stderr=log, cwd=folder)
        try:
            yield server
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture(scope="module")
def turn_port(tmp_path_factory: pytest.TempPathFactory) -> Generator[int]:
    """Where the server listens. It waits for ever for a port that somebody took before it did, so it is started anew elsewhere."""
    folder = tmp_path_factory.mktemp("coturn")
    for _ in range(STARTS):
        (port,) = free_ports(1)
        with turn_server(folder, port) as server:
            ends_at = time.monotonic() + START_S
            while not (answers := is_up(port)) and time.monotonic() < ends_at:
                assert server.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
            if answers:
                yield port
                return
    pytest.fail((folder / "log").read_text())


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def credentials(client_id: str = "robot", secret: str = SECRET, wall_ms: Callable[[], int] = now_ms) -> tuple[str, str]:
    """What a client is told at the time of `wall_ms`, with a time to live of 60 s."""
    settings = MediaSettings(turn_urls=("turn:127.0.0.1:3478",), turn_secret=secret, turn_ttl_s=60)
    (server,) = IceServers(settings, "", wall_ms).of(client_id)
    return server["username"], server["credential"]


@pytest.mark.parametrize("client_id", ["robot", "a:b:c", "x" * 128, "._:-"])
def test_whoever_has_credentials_gets_a_relay(turn_port: int, client_id: str):
    assert allocate(turn_port, *credentials(client_id)) in RELAY_PORTS


def refusal(port: int, username: str, password: str) -> int:
    with pytest.raises(NoRelay) as refused:
        allocate(port, username, password)
    return refused.value.code


def test_nobody_gets_one_by_a_wrong_secret_by_a_name_with_another_end_or_after_the_end(turn_port: int):
    username, password = credentials()
    end, _, client_id = username.partition(":")
    assert refusal(turn_port, *credentials(secret="a-wrong-secret")) == 401
    assert refusal(turn_port, f"{int(end) + 3600}:{client_id}", password) == 401
    assert refusal(turn_port, f"{end}:drone", password) == 401
    past = turn_credentials(SECRET, "robot", int(time.time()) - 1)
    assert refusal(turn_port, past.username, past.password) == 401
    assert refusal(turn_port, *credentials(wall_ms=lambda: now_ms() - 62_000)) == 401


def test_while_a_secret_is_changed_the_old_one_and_the_new_one_both_hold(turn_port: int):
    relays = [allocate(turn_port, *credentials(secret=secret)) for secret in (SECRET, NEXT_SECRET)]
    assert all(port in RELAY_PORTS for port in relays)


def test_one_client_takes_twelve_relays_and_no_more(turn_port: int):
    """The quota of the page: a client cannot take the ports of all others, however often it comes for new credentials."""
    for number in range(12):
        allocate(turn_port, *credentials("greedy", wall_ms=lambda number=number: now_ms() + 1000 * number))
    assert refusal(turn_port, *credentials("greedy")) == 486
    assert allocate(turn_port, *credentials("modest")) in RELAY_PORTS
