"""The servers that are measured, each one process on one core: the gateway as its users start it, and its peers."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench import build
from bench.build import Unmeasured
from bench.messages import ENROLMENT_KEY, greeting_bytes
from bench.processes import cores
from signal_gateway.testing.localhost import CERTIFICATE_PATH

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
INSTALLED = Path(__file__).parent / ".peers"
CONFIG = """
[server]
port = 0
max_connections = 30000
{server}
[metrics]
port = 0
[http]
port = 0
[auth]
api_keys = {api_keys}
enrolment_keys = ["bench:{enrolment_key}"]
[limits]
data_per_s = 1000000
data_burst = 1000000
control_per_min = 1000000
control_burst = 1000000
signal_per_min = 100000000
signal_burst = 1000000
frames_per_s = 1000000
frames_burst = 1000000
[security]
max_connections_per_ip = 30000
max_unauthenticated = 30000
[reports]
repeats_known_s = 1e-6
[logging]
level = "warning"
"""
"""Every limit is in force and counted, at a height that the load does not reach. The load tells one and the same report again and again:
each is to be filed."""
TLS = """
tls_enabled = true
tls_cert_path = "{certificate}"
tls_key_path = "{certificate}"
"""


@dataclass(frozen=True)
class Server:
    """One running server."""

    process_id: int
    url: str

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return urlsplit(self.url).port or 0

    @property
    def path(self) -> str:
        """What it serves."""
        return urlsplit(self.url).path

    @property
    def is_tls(self) -> bool:
        """Whether it speaks TLS."""
        return self.url.startswith("wss:")


@contextmanager
def gateway(clients: int = 0, tls: bool = False, more: str = "") -> Generator[Server]:
    """The gateway, in an empty folder; it knows `bench-00000` to `bench-<clients - 1>` with their tokens. `more` goes into its settings."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        keys = json.dumps([f"bench-{number:05}:bench-token-{number:05}" for number in range(clients)])
        text = CONFIG.format(api_keys=keys, enrolment_key=ENROLMENT_KEY, server=TLS.format(certificate=CERTIFICATE_PATH) if tls else "")
        (folder / "config.toml").write_text(text + more)
        command = [sys.executable, "-m", "signal_gateway", "serve", "--config", "config.toml"]
        with _running(command, folder, {"PYTHONPATH": str(ROOT)}) as server:
            yield server


@contextmanager
def wire_echo() -> Generator[Server]:
    """The gateway's handshake, parser, outbox and lane with nothing behind them: what is left is what the messages cost."""
    with _peer([sys.executable, "-m", "signal_gateway.testing.echo", "--port", "0"], {"PYTHONPATH": str(ROOT)}) as server:
        yield server


@contextmanager
def epoll_echo() -> Generator[Server]:
    """The floor: a minimal echo in C."""
    with _peer([str(build.epoll_echo())]) as server:
        yield server


@contextmanager
def python_peer(program: str, *arguments: str) -> Generator[Server]:
    """One of the Python peers, in their environment: `picows_echo.py`, `websockets_echo.py`, `trio_echo.py`."""
    python = INSTALLED / "bin" / "python"
    if not python.exists():
        raise Unmeasured("the Python peers are not installed: make bench does it")
    with _peer([str(python), str(PEERS / program), *arguments]) as server:
        yield server


@contextmanager
def greeter() -> Generator[Server]:
    """A bare trio-websocket that says one message, as long as the gateway's first one to a phone, and waits for the close."""
    with python_peer("trio_echo.py", str(greeting_bytes())) as server:
        yield server


@contextmanager
def node_ws() -> Generator[Server]:
    """`ws` on Node."""
    if (node := shutil.which("node")) is None:
        raise Unmeasured("there is no Node.js, node")
    modules = INSTALLED / "node" / "node_modules"
    if not (modules / "ws").exists():
        raise Unmeasured("the peer ws is not installed: make bench does it, with npm")
    with _peer([node, str(PEERS / "ws_echo.js")], {"NODE_PATH": str(modules)}) as server:
        yield server


@contextmanager
def _peer(command: Sequence[str], environ: Mapping[str, str] | None = None) -> Generator[Server]:
    with tempfile.TemporaryDirectory() as folder, _running(command, Path(folder), environ or {}) as server:
        yield server


@contextmanager
def running_peer(
    command: Sequence[str], url_of: Callable[[str], str | None], environ: Mapping[str, str] | None = None, *, reads_errors: bool = False
) -> Generator[Server]:
    """A peer that tells by one of its lines that it listens: `url_of` makes its URL of that. `reads_errors`: a line of stderr."""
    pipe, other = subprocess.PIPE, subprocess.DEVNULL
    out, err = (other, pipe) if reads_errors else (pipe, other)
    with subprocess.Popen(command, env={**os.environ, **(environ or {})}, text=True, stdout=out, stderr=err) as process:
        try:
            os.sched_setaffinity(process.pid, {cores()[0]})
            lines = process.stderr if reads_errors else process.stdout
            for line in lines or ():
                if (url := url_of(line)) is not None:
                    yield Server(process.pid, url)
                    return
            raise Unmeasured("the peer did not start")
        finally:
            process.kill()


@contextmanager
def _running(command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> Generator[Server]:
    """Start it, put it on its core, read its URL from what it prints; kill it at the end."""
    errors = folder / "stderr.txt"
    with (
        errors.open("wb") as stderr,
        subprocess.Popen(command, cwd=folder, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        try:
            os.sched_setaffinity(process.pid, {cores()[0]})  # before it has threads; they stay where it is
            yield Server(process.pid, _url_of(process, errors))
        finally:
            process.kill()


def _url_of(process: subprocess.Popen[str], errors: Path) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"wss?://127\.0\.0\.1:\d+\S*", line):
            return found[0]
    raise Unmeasured(f"the server did not start: {errors.read_text().strip()[-500:]}")
