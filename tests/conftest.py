"""What all tests share: services that may be missing."""

import os
import socket

import pytest

SERVICE_PORTS = {"postgresql": 5432, "redis": 6379, "rabbitmq": 5672, "mosquitto": 1883, "nats": 4222}


def is_up(service: str) -> bool:
    """Whether something listens on the service's port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", SERVICE_PORTS[service]), timeout=1):
            return True
    except OSError:
        return False


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose service is missing, with a word; fail it where services are required."""
    for mark in item.iter_markers("service"):
        name = str(mark.args[0])
        if is_up(name):
            continue
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(f"needs {name} on 127.0.0.1:{SERVICE_PORTS[name]}, and REQUIRE_SERVICES=1")
        pytest.skip(f"needs {name} on 127.0.0.1:{SERVICE_PORTS[name]}")
