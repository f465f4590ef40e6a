"""A gateway in memory for the tests of its door. A test takes `autojump_clock`, too: pytest-trio looks for it only there."""

from collections.abc import AsyncIterator
from typing import Literal

import msgspec
import pytest

from signal_gateway.config import Config
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.testing.world import Transport, World, open_world

DEMO_AUTH = AuthSettings(
    api_keys=("test_client_1:test_token_1", "test_client_2:test_token_2"), enrolment_keys=("demo:demo-enrolment-key", "other:other-key")
)


@pytest.fixture
def config() -> Config:
    """Settings of the world; a test may override this fixture's values by a fixture of its own name."""
    return Config(auth=DEMO_AUTH)


Pump = Literal["epoll", "task"]
TRANSPORT_NAMES = ("memory", "lane", "task", "tls-lane", "tls-task")
TRANSPORTS: tuple[tuple[Transport, Pump], ...] = (
    ("memory", "epoll"),  # there is nothing for epoll in memory: a task per link reads it
    ("sockets", "epoll"),
    ("sockets", "task"),
    ("tls", "epoll"),
    ("tls", "task"),
)


@pytest.fixture(params=TRANSPORTS, ids=TRANSPORT_NAMES)
async def world(config: Config, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Every test of the door runs with either pump, plain and on TLS."""
    transport, pump = request.param
    server = msgspec.structs.replace(config.server, pump=pump)
    async with open_world(msgspec.structs.replace(config, server=server), transport=transport) as world:
        yield world
