"""How bodies are read: JSON in which every key stands once (H12). Where one stands twice, two readers see two different commands."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from signal_gateway.domain.errors import BadRequest

DUPLICATE_KEY = "A key stands twice in one object of the body"
KEY_HEADER = b"idempotency-key"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class _StrictRequest(Request):
    async def json(self) -> Any:
        """The body, read once. Raises json.JSONDecodeError, of which the framework makes a refusal."""
        body = await self.body()
        try:
            return json.loads(body, object_pairs_hook=_object, parse_constant=_no_number)
        except (UnicodeDecodeError, RecursionError):
            raise json.JSONDecodeError("not UTF-8, or too deep", "", 0) from None


class StrictRoute(APIRoute):
    """A route whose body is read so; and of what says that it may come again, there is one."""

    def get_route_handler(self) -> Handler:
        """What answers the route's requests."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def strictly(request: Request) -> Response:
            if sum(name == KEY_HEADER for name, _ in request.scope["headers"]) > 1:
                raise BadRequest("Idempotency-Key stands twice among the headers", "invalid_field")
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise json.JSONDecodeError(DUPLICATE_KEY, "", 0)
    return made


def _no_number(name: str) -> None:
    raise json.JSONDecodeError(f"{name} is no JSON", "", 0)
