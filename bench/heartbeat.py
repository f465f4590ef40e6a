"""HEARTBEAT -> HEARTBEAT_ACK through the whole gateway: CPU of the server process per message, from the operating system.

python -m bench.heartbeat [--links 100] [--in-flight 1] [--seconds 5]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

CONFIG = """
[server]
port = 0
max_connections = 20000
[metrics]
port = 0
[auth]
api_keys = {keys}
[limits]
data_per_s = 1000000
data_burst = 1000000
frames_per_s = 1000000
frames_burst = 1000000
[security]
max_connections_per_ip = 20000
max_unauthenticated = 20000
[logging]
level = "warning"
"""


def cpu_s(process_id: int) -> float:
    """User and system seconds of a process."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(process_id: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def gateway(links: int) -> Generator[tuple[subprocess.Popen[str], str]]:
    """A gateway that knows so many bench clients: its process and its URL."""
    with tempfile.TemporaryDirectory() as folder:
        keys = json.dumps([f"bench-{number}:bench-token-{number}" for number in range(links)])
        (Path(folder) / "config.toml").write_text(CONFIG.format(keys=keys))
        command = [sys.executable, "-m", "signal_gateway", "serve", "--config", "config.toml"]
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        with subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = ""
            while not url:
                line = process.stdout.readline()
                if not line:
                    raise RuntimeError("the gateway did not start")
                if found := re.search(r"ws://\S+/ws", line):
                    url = found[0]
            try:
                yield process, url
            finally:
                process.kill()


def measure(links: int, in_flight: int, seconds: float) -> dict[str, float]:
    """One run: what the load side saw, and what the server paid."""
    with gateway(links) as (process, url):
        before_bytes = resident_bytes(process.pid)
        command = [
            sys.executable,
            "-m",
            "bench.fleet",
            url,
            f"--links={links}",
            f"--in-flight={in_flight}",
            f"--seconds={seconds}",
            "--wait",
        ]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout is not None
            assert load.stdin is not None
            if load.stdout.readline().strip() != "READY":
                raise RuntimeError("the load side did not connect")
            link_bytes = (resident_bytes(process.pid) - before_bytes) / links
            before_s = cpu_s(process.pid)
            load.stdin.write("\n")
            load.stdin.flush()
            seen: dict[str, float] = json.loads(load.stdout.readline())
            spent_s = cpu_s(process.pid) - before_s
    return {**seen, "server_us": 1e6 * spent_s / seen["messages"], "link_kib": link_bytes / 1024}


def main() -> None:
    """Measure once and print a line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--links", type=int, default=100)
    parser.add_argument("--in-flight", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    asked = parser.parse_args()
    figures = measure(asked.links, asked.in_flight, asked.seconds)
    print(
        f"{asked.links} links x {asked.in_flight}: server {figures['server_us']:.1f} us a message, {figures['per_second']:.0f} messages/s, "
        f"p50 {figures['p50_ms']:.2f} ms, p99 {figures['p99_ms']:.2f} ms, {figures['link_kib']:.1f} KiB a link, "
        f"load side {100 * figures['load_share']:.0f} % of its core"
    )


if __name__ == "__main__":
    main()
