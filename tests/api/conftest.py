"""The operator's API over a gateway in memory: requests go straight into the application, and time is virtual."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from signal_gateway.app import operator_door
from signal_gateway.config import Config
from signal_gateway.domain.access import Role, Scope
from signal_gateway.observe.health import Health
from signal_gateway.testing.world import World, open_world
from tests.websocket.test_commands import patient


@dataclass
class Answered:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


class Api:
    """Calls the application of a world as a server would."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.server = operator_door(world.config, world.gateway, world.metrics, Health(), 8080, None)
        self.app: Any = self.server.app
        self.tokens: dict[str, str] = {}
        self.peer = "192.0.2.7"

    async def issue(self, name: str, role: Role, scope: Scope | None = None, seconds: int = 3600) -> str:
        """A token, and the caller of this name has it from now on."""
        self.tokens[name] = await self.world.gateway.operators.issue(name, role, scope or Scope(), seconds)
        return self.tokens[name]

    async def call(
        self, method: str, path: str, body: Any = None, who: str | None = "admin", headers: Mapping[str, str] | None = None
    ) -> Answered:
        """One request. `who` is the name of a token; None: no token; a text with a dot or sgk_ in it: itself."""
        path, _, query = path.partition("?")
        sent = {"host": "gateway.example:8081", "content-type": "application/json", **(headers or {})}
        if who is not None:
            sent["authorization"] = f"Bearer {self.tokens.get(who, who)}"
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
            "client": (self.peer, 40000),
            "server": ("gateway.example", 8081),
            "state": {},
        }
        events = [{"type": "http.request", "body": raw, "more_body": False}]
        said: list[Any] = []

        async def receive() -> Any:
            if not events:
                await trio.sleep_forever()
            return events.pop()

        async def send(message: Any) -> None:
            said.append(message)

        await self.app(scope, receive, send)
        start = next(message for message in said if message["type"] == "http.response.start")
        content = b"".join(message.get("body", b"") for message in said if message["type"] == "http.response.body")
        return Answered(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, content)


@pytest.fixture
def config() -> Config:
    return patient()


@pytest.fixture
async def world(config: Config) -> AsyncIterator[World]:
    async with open_world(config) as world:
        yield world


@pytest.fixture
async def api(world: World) -> Api:
    """With an admin, an operator and a viewer of the whole fleet, and one of the group `shop` alone."""
    api = Api(world)
    for role in Role:
        await api.issue(role.value, role)
    await api.issue("shopkeeper", Role.OPERATOR, Scope(groups=frozenset({"shop"})))
    return api
