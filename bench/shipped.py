"""A gateway with the limits that it ships with, for what shows how they hold: `bench.abuse` and `bench.soak`."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONFIG = """
[server]
port = 0
max_connections = 20000
[metrics]
port = 0
[http]
port = 0
[auth]
enrolment_keys = ["bench:bench-enrolment-key"]
[logging]
console_output = false
"""


@dataclass(frozen=True)
class Shipped:
    """The running process, where it listens, and where it tells of itself."""

    process: subprocess.Popen[str]
    url: str
    metrics_url: str


@contextmanager
def shipped_gateway() -> Generator[Shipped]:
    """Start one in a folder of its own; kill it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.toml").write_text(CONFIG)
        command = [sys.executable, "-m", "signal_gateway", "serve", "--config", "config.toml"]
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = ""
            while not (metrics := re.search(r"http://\S+/metrics", said)) or not (url := re.search(r"ws://\S+/ws", said)):
                if not (line := process.stdout.readline()):
                    raise RuntimeError("the gateway did not start")
                said += line
            try:
                yield Shipped(process, url[0], metrics[0])
            finally:
                process.kill()
