"""Hazards cross several parts, so they are tried on a whole gateway in memory: the fixtures of the door's tests."""

from tests.websocket.conftest import config, world

__all__ = ["config", "world"]
