"""What all routes share: the services that requests end in, and how their answers are written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from fastapi import Response

from signal_gateway.api.http_settings import HttpSettings
from signal_gateway.domain.access import Operator
from signal_gateway.domain.command import Command, CommandKind, CommandRequest, CommandState, CommandView
from signal_gateway.domain.errors import GatewayError
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.domain.proxies import TrustedProxies
from signal_gateway.observe.health import Health
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.credentials import Credentials
from signal_gateway.services.devices import Devices
from signal_gateway.services.operators import Operators
from signal_gateway.services.report_feed import ReportFeed

JSON_TYPE = "application/json"


class CommandService(Protocol):
    """What the routes of commands ask of services/commands.py."""

    async def submit(self, request: CommandRequest, operator: Operator) -> Command:
        """Accept one command: on disk when this returns."""
        ...

    async def submit_many(self, requests: Sequence[CommandRequest], operator: Operator) -> list[Command | GatewayError]:
        """The same for many: one result each, in order."""
        ...

    async def view(self, message_id: str, operator: Operator) -> CommandView:
        """One command with its timeline."""
        ...

    async def search(
        self,
        operator: Operator,
        *,
        device_id: str | None = None,
        state: CommandState | None = None,
        kind: CommandKind | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Command]:
        """Commands of an id below `before`, newest first."""
        ...

    async def cancel(self, message_id: str, operator: Operator) -> Command:
        """End a command that is not on its way yet."""
        ...

    async def requeue(self, message_id: str, operator: Operator) -> Command:
        """Let a command that ended without success go again."""
        ...


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Handed to every group of routes; made once, in `app.py`."""

    settings: HttpSettings
    operators: Operators
    devices: Devices
    commands: CommandService
    feed: ReportFeed
    credentials: Credentials
    health: Health
    metrics: Metrics
    phone_settings: PhoneSettings
    proxies: TrustedProxies
    public_url: str
    """Where phones find `/ws` from outside; empty: at the host that was asked."""
    websocket_port: Callable[[], int]
    speaks_tls: bool
    token_expiry_s: int
    wall_ms: Callable[[], int]


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A body of builtins, Structs or dataclasses as JSON. Its shape is declared beside the route, and compared by the tests."""
    return Response(msgspec.json.encode(body), status, headers, JSON_TYPE)
