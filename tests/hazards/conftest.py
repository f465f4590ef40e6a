"""Hazards cross several parts, so they are tried on a whole gateway in memory and over sockets: the fixtures of the door's tests."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from signal_gateway.config import Config
from signal_gateway.testing.world import World, open_world
from tests.websocket.conftest import TRANSPORT_NAMES, TRANSPORTS, config

__all__ = ["config"]

HERE = [(name, place) for name, place in zip(TRANSPORT_NAMES, TRANSPORTS, strict=True) if name in ("memory", "lane", "tls-lane")]


@pytest.fixture(params=[place for _, place in HERE], ids=[name for name, _ in HERE])
async def world(config: Config, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Either pump, and TLS; the door's own suite has the other pairs, too."""
    transport, pump = request.param
    server = msgspec.structs.replace(config.server, pump=pump)
    async with open_world(msgspec.structs.replace(config, server=server), transport=transport) as world:
        yield world
