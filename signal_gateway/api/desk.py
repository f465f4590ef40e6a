"""What all routes share: the services that requests end in, and how their answers are written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from fastapi import Response

from signal_gateway.api.http_settings import HttpSettings
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.domain.proxies import TrustedProxies
from signal_gateway.observe.health import Health
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.alarms import Alarms
from signal_gateway.services.commands import Commands
from signal_gateway.services.credentials import Credentials
from signal_gateway.services.devices import Devices
from signal_gateway.services.operators import Operators
from signal_gateway.services.report_feed import ReportFeed
from signal_gateway.services.room_desk import RoomDesk

JSON_TYPE = "application/json"


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Handed to every group of routes; made once, in `app.py`."""

    settings: HttpSettings
    operators: Operators
    devices: Devices
    commands: Commands
    alarms: Alarms
    feed: ReportFeed
    credentials: Credentials
    rooms: RoomDesk
    health: Health
    metrics: Metrics
    phone_settings: PhoneSettings
    proxies: TrustedProxies
    public_url: str
    """Where phones find `/ws` from outside; empty: at the host that was asked."""
    websocket_port: Callable[[], int]
    speaks_tls: bool
    token_expiry_s: int
    is_demo: bool
    """Whether this is the shipped configuration with its demo credentials, for this machine alone."""
    page_rooms_per_min: float
    wall_ms: Callable[[], int]


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A body of builtins, Structs or dataclasses as JSON. Its shape is declared beside the route, and compared by the tests."""
    return Response(msgspec.json.encode(body), status, headers, JSON_TYPE)
