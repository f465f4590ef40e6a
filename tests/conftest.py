"""What all tests share: services and tools that may be missing."""

import gc
import os
import socket
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import settings

from signal_gateway.observe.logs import lines_told_to

settings.register_profile("untimed", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("untimed")

SERVICE_PORTS = {"postgresql": 5432, "redis": 6379, "rabbitmq": 5672, "mosquitto": 1883, "nats": 4222}
TOOLS = {
    "strace": ("strace -f -qq -o /dev/null -e trace=getpid true", "strace, and to be allowed to trace a process"),
    "prlimit": ("prlimit --nofile=64:64 true", "prlimit of util-linux"),
    "tmpfs": ("unshare --mount mount -t tmpfs -o size=64k tmpfs /tmp", "to be allowed to mount a small disk"),
    "coturn": ("turnserver --version", "turnserver of coturn"),
    "chromium": ("chromium --version", "Chromium"),
    "namespace": ("unshare --net ip link add first type veth peer name second", "ip, and to be allowed to make a network namespace"),
}
"""What some tests do to the system around the server: a command that changes nothing and tells whether it may be done, and words for it."""


def is_up(service: str) -> bool:
    """Whether something listens on the service's port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", SERVICE_PORTS[service]), timeout=1):
            return True
    except OSError:
        return False


@cache
def is_allowed(tool: str) -> bool:
    """Whether the tool is there, and may do here what tests need of it."""
    try:
        return subprocess.run(TOOLS[tool][0].split(), capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """The lines of info and above that are logged."""
    told: list[dict[str, Any]] = []

    def hear(_level: str, fields: Any) -> bool:
        told.append(dict(fields))
        return False

    with lines_told_to(hear):
        yield told


def pytest_collection_finish() -> None:
    """Let no collection look through thousands of collected tests again: as the server does with what it has at its start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose service or tool is missing, with a word; fail it where services are required."""
    missing = [
        f"{name} on 127.0.0.1:{SERVICE_PORTS[name]}"
        for name in (str(mark.args[0]) for mark in item.iter_markers("service"))
        if not is_up(name)
    ]
    missing += [TOOLS[name][1] for name in (str(mark.args[0]) for mark in item.iter_markers("tool")) if not is_allowed(name)]
    if missing and os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"needs {missing[0]}, and REQUIRE_SERVICES=1")
    if missing:
        pytest.skip(f"needs {missing[0]}")
