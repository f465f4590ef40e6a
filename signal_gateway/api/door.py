"""What every request passes before a route sees it: bounds on its body, headers of every answer, numbers, and the border of faults.

A plain ASGI application around another one: what it adds to each request is counted in microseconds.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import trio

from signal_gateway.api.http_settings import HttpSettings
from signal_gateway.api.problems import WORDS, BodyRefused, problem
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Counter, Metrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
"""The label of a path that is no route: a peer's text is never one."""
PAGE_POLICY = b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
STRICT_POLICY = b"default-src 'none'; frame-ancestors 'none'"
PAGES = "/docs"
CALLS = "/call"
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_OF_ANSWERS = [*SECURITY_HEADERS, (b"cache-control", b"no-store"), (b"content-security-policy", STRICT_POLICY)]
_OF_PAGES = [*SECURITY_HEADERS, (b"cache-control", b"no-cache"), (b"content-security-policy", PAGE_POLICY)]

_OF_CALLS = [*SECURITY_HEADERS, (b"cache-control", b"no-cache")]
"""The page of calls names its WebSocket's address in a policy of its own."""

log = logger("api")


class ApiDoor:
    """The ASGI application that the server runs."""

    def __init__(self, app: App, settings: HttpSettings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._limits = metrics.limits
        self._errors = metrics.errors
        self._requests = metrics.counter(
            "http_requests_total", "Requests of the operator's API, by route, method and status.", ("route", "method", "status")
        )
        self._seconds = metrics.histogram("http_request_seconds", "From the head of a request to the end of its answer, waiting included.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Whatever goes wrong in it stays here."""
        if scope["type"] != "http":
            await _refuse_other(scope, receive, send)
            return
        method = scope["method"]
        if method == "HEAD":  # the server leaves the body of the answer out
            scope = {**scope, "method": "GET"}
        exchange = _Exchange(scope, receive, send, self._settings, self._limits)
        begun_at = trio.current_time()
        try:
            exchange.refuse_too_much()
            await self._app(scope, exchange.receive, exchange.send)
        except BodyRefused as refused:  # by its head alone; what reading it comes to, the application answers
            await exchange.answer(problem(refused.status_code, WORDS[refused.status_code], refused.detail, refused.headers))
        except Exception as error:  # the border of one request: a fault of ours is counted, and ends nobody else
            self._errors.add("api")
            log.exception("a request failed", route=_route_of(scope), method=method, error=type(error).__name__)
            await exchange.answer(problem(500, "internal", "Internal server error"))
        told = method if method in METHODS else "other"
        self._requests.add(_route_of(scope), told, str(exchange.status))
        self._seconds.observe(trio.current_time() - begun_at)
        log.debug("request", method=told, path=scope["path"], status=exchange.status)


class _Exchange:
    """One request's body on its way in, bounded, and its answer on its way out, with the headers that every answer has."""

    __slots__ = (
        "_bytes_left",
        "_client_receive",
        "_client_send",
        "_ends_at_s",
        "_headers",
        "_is_whole",
        "_limits",
        "_scope",
        "_settings",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: HttpSettings, limits: Counter) -> None:
        self._scope = scope
        self._client_receive = receive
        self._client_send = send
        self._settings = settings
        self._limits = limits
        self._ends_at_s: float | None = None
        self._bytes_left = settings.body_bytes_max
        self._is_whole = False
        self._headers = _headers_of(scope["path"])
        self.status = 0
        """0 until the answer begins."""

    def refuse_too_much(self) -> None:
        """Raise BodyRefused when the head says already that the body is too large."""
        for name, value in self._scope["headers"]:
            if name == b"content-length" and int(value) > self._bytes_left:
                raise self._too_large()

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._client_receive()  # what comes now is that the client has gone
        if self._ends_at_s is None:  # from when it is asked for: who waits to be proved is not slow
            self._ends_at_s = trio.current_time() + self._settings.body_seconds_max
        with trio.move_on_at(self._ends_at_s) as patience:
            message = await self._client_receive()
            if message["type"] == "http.request":
                self._bytes_left -= len(message.get("body", b""))
                self._is_whole = not message.get("more_body", False)
            if self._bytes_left < 0:
                raise self._too_large()
            return message
        assert patience.cancelled_caught  # noqa: S101 - there is no other way out
        self._limits.add("http.body_seconds_max")
        raise BodyRefused(408, "The body did not come in time")

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._headers]
        await self._client_send(message)

    async def answer(self, response: Any) -> None:
        """Answer in place of the application, unless it has begun to."""
        if not self.status:
            await response(self._scope, self._client_receive, self.send)

    def _too_large(self) -> BodyRefused:
        self._limits.add("http.body_bytes_max")
        return BodyRefused(413, f"A body may have {self._settings.body_bytes_max} bytes")


async def _refuse_other(scope: Scope, receive: Receive, send: Send) -> None:
    """Lifespan has nothing to do here, and WebSockets have a door of their own."""
    message = await receive()
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete" if message["type"] == "lifespan.startup" else "lifespan.shutdown.complete"})
    else:
        await problem(404, WORDS[404], "WebSockets have a door of their own: /ws of [server]")(scope, receive, send)


def _headers_of(path: str) -> list[tuple[bytes, bytes]]:
    if path.startswith(PAGES):
        return _OF_PAGES
    return _OF_CALLS if path == CALLS or path.startswith(f"{CALLS}/") else _OF_ANSWERS


def _route_of(scope: Scope) -> str:
    """The template of the route, such as `/api/devices/{device_id}`."""
    return getattr(scope.get("route"), "path", UNMATCHED)
