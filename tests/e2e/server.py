"""The real process, started as a user starts it, in a folder of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_S = 30
ROOT = Path(__file__).parents[2]
CONFIG = """
[server]
port = {port}
drain_s = {drain_s}
{server}
[metrics]
port = 0
[http]
port = {http_port}
[auth]
api_keys = ["test_client_1:test_token_1", "test_client_2:test_token_2"]
enrolment_keys = ["demo:demo-enrolment-key"]
registration = "{registration}"
{more}
"""


class Server:
    """One running process. Its ports are read from what it prints."""

    def __init__(self, folder: Path, environ: Mapping[str, str], before: Sequence[str]) -> None:
        self.folder = folder
        self._errors = (folder / "stderr.txt").open("ab")
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "signal_gateway", "serve", "--config", "config.toml"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.printed = ""
        self.url = self._find(r"wss?://[\d.]+:\d+/ws")
        self.metrics_url = self._find(r"http://127\.0\.0\.1:\d+/metrics").removesuffix("/metrics")
        threading.Thread(target=self._read_on, daemon=True).start()

    @property
    def port(self) -> int:
        """The port of `/ws`."""
        return int(self.url.rpartition(":")[2].partition("/")[0])

    def get(self, path: str) -> tuple[int, str]:
        """GET from the port of metrics and health: status and body."""
        try:
            with urllib.request.urlopen(self.metrics_url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, line: str) -> float:
        """The value of one metric, named with its labels as the page prints it."""
        for each in self.get("/metrics")[1].splitlines():
            if each.startswith(line + " "):
                return float(each.rpartition(" ")[2])
        return 0.0

    def wait_for_metric(self, line: str, value: float, seconds: float = 30) -> None:
        """Ask again and again until a metric has this value."""
        ends_at = time.monotonic() + seconds
        while (now := self.metric(line)) != value:
            assert time.monotonic() < ends_at, f"{line} is {now:g}, not {value:g}, after {seconds:g} s"
            time.sleep(0.05)

    def log_lines(self) -> list[dict[str, Any]]:
        """What the log file says, line by line."""
        text = (self.folder / "data" / "logs" / "gateway.log").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 30) -> int:
        """The exit code."""
        code = self.process.wait(seconds)
        self._errors.close()
        return code

    def _find(self, pattern: str) -> str:
        assert self.process.stdout is not None
        while (found := re.search(pattern, self.printed)) is None:
            line = self.process.stdout.readline()
            if not line:
                errors = (self.folder / "stderr.txt").read_text()
                raise AssertionError(f"the server ended with {self.process.wait(5)} before it listened:\n{self.printed}{errors}")
            self.printed += line
        return found[0]

    def _read_on(self) -> None:
        assert self.process.stdout is not None
        self.printed += self.process.stdout.read()


@contextmanager
def running(
    folder: Path,
    registration: str = "enrolment",
    drain_s: float = 0.5,
    more: str = "",
    server: str = "",
    environ: Mapping[str, str] | None = None,
    port: int = 0,
    http_port: int = 0,
    before: Sequence[str] = (),
) -> Generator[Server]:
    """A server in `folder`, which keeps its data for the next one; killed at the end if it still runs.

    `before` is what its command line begins with: a program that runs it under other conditions, as the same process.
    """
    folder.mkdir(exist_ok=True)
    told = {"port": port, "http_port": http_port, "registration": registration, "drain_s": drain_s, "more": more, "server": server}
    (folder / "config.toml").write_text(CONFIG.format(**told))
    process = Server(folder, environ or {}, before)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.process.kill()
            process.wait()
        if process.process.stdout is not None:
            process.process.stdout.close()


def command(folder: Path, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run `signal-gateway` with these arguments in `folder`."""
    return subprocess.run(
        [sys.executable, "-m", "signal_gateway", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
