"""A gateway in memory for the tests of its door. A test takes `autojump_clock`, too: pytest-trio looks for it only there."""

from collections.abc import AsyncIterator

import pytest

from signal_gateway.config import Config
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.testing.world import World, open_world

DEMO_AUTH = AuthSettings(
    api_keys=("test_client_1:test_token_1", "test_client_2:test_token_2"), enrolment_keys=("demo:demo-enrolment-key", "other:other-key")
)


@pytest.fixture
def config() -> Config:
    """Settings of the world; a test may override this fixture's values by a fixture of its own name."""
    return Config(auth=DEMO_AUTH)


@pytest.fixture(params=["a task per link, over memory", "the lane, over sockets"])
async def world(config: Config, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Every test of the door runs with either pump."""
    async with open_world(config, transport="sockets" if "sockets" in request.param else "memory") as world:
        yield world
