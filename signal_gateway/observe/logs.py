"""Logs of the gateway."""

from typing import Any

import structlog


def logger(category: str) -> Any:
    """A logger whose lines carry `category`: websocket, sms, device, alarm (T-55), auth, storage or server."""
    return structlog.get_logger().bind(category=category)
