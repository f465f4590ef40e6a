"""Metrics and health over HTTP/1.1, for scrapers and probes: one small answer a connection, within bounds (S-57).

First up and last down, so that "draining" stays visible. It has no authentication: it tells numbers and words of ours, never a secret,
and listens on loopback unless it is told otherwise.
"""

import errno
import json
from collections.abc import Callable
from functools import partial
from typing import Annotated

import h11
import msgspec
import trio

from signal_gateway.observe.health import Health
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics

log = logger("server")

READ_BYTES = 4096
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain; charset=utf-8"


class MetricsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where metrics and health are told."""

    enabled: bool = True
    """Whether /metrics and /health are served at all."""
    host: str = "127.0.0.1"
    """Address to listen on. Nobody signs in here: keep it to networks that you trust."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 9090
    """Port to listen on; 0 lets the system choose one."""
    connection_stats_interval: Annotated[int, msgspec.Meta(ge=1)] = 60
    """Seconds; of seed 003, without effect: numbers are read at each scrape."""
    message_stats_interval: Annotated[int, msgspec.Meta(ge=1)] = 30
    """Seconds; of seed 003, without effect: numbers are read at each scrape."""
    head_bytes_max: Annotated[int, msgspec.Meta(ge=256)] = 8192
    """Bytes of a request's head."""
    seconds_max: Annotated[float, msgspec.Meta(gt=0)] = 5.0
    """Seconds for a whole request and its answer."""
    connections_max: Annotated[int, msgspec.Meta(ge=1)] = 64
    """Connections at once; more are closed at once."""


Answer = tuple[int, str, bytes]
"""Status, content type, body."""


class PlainHttp:
    """Answers GET and HEAD of `/metrics`, `/health` (= ready), `/health/live` and `/health/ready`."""

    def __init__(self, settings: MetricsSettings, metrics: Metrics, health: Health) -> None:
        self._settings = settings
        self._metrics = metrics
        self._open = 0
        self._pages: dict[str, Callable[[], Answer]] = {
            "/metrics": lambda: (200, METRICS_TYPE, metrics.text()),
            "/health": partial(_ready, health),
            "/health/ready": partial(_ready, health),
            "/health/live": lambda: (200, JSON_TYPE, b'{"status":"live"}\n'),
        }

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled; started with the port. Raises OSError with a sentence that names the setting when it cannot listen."""
        listeners = await self._listen()
        async with trio.open_nursery() as connections:
            serve = partial(trio.serve_listeners, self.answer, listeners, handler_nursery=connections)
            await connections.start(serve)
            task_status.started(listeners[0].socket.getsockname()[1])

    async def _listen(self) -> list[trio.SocketListener]:
        settings = self._settings
        try:
            return await trio.open_tcp_listeners(settings.port, host=settings.host)
        except OSError as error:
            why = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise OSError(
                error.errno, f"cannot serve metrics and health on {settings.host}:{settings.port}: {why} (metrics.host, metrics.port)"
            ) from error

    async def answer(self, stream: trio.abc.Stream) -> None:
        """One connection: one question, one answer, closed. What goes wrong here stays here, counted."""
        if self._open >= self._settings.connections_max:
            self._metrics.limits.add("metrics.connections_max")
            await trio.aclose_forcefully(stream)
            return
        self._open += 1
        try:
            with trio.move_on_after(self._settings.seconds_max) as deadline:
                await self._converse(stream)
            if deadline.cancelled_caught:
                self._metrics.limits.add("metrics.seconds_max")
        except (OSError, trio.BrokenResourceError):  # the asker went away: nothing to tell anybody
            pass
        except Exception:  # the border of one request: a check or a gauge of ours is faulty, the gateway goes on
            self._metrics.errors.add("plain_http")
            log.exception("metrics or health could not be told")
        finally:
            self._open -= 1
            await trio.aclose_forcefully(stream)

    async def _converse(self, stream: trio.abc.Stream) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            request = await _read_request(connection, stream, self._settings.head_bytes_max)
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            if status == 431:
                self._metrics.limits.add("metrics.head_bytes_max")
            answer, is_head = (status, TEXT_TYPE, b"this is not a request that is answered here\n"), False
        else:
            if request is None:
                return
            answer, is_head = self._answer_to(request), request.method == b"HEAD"
        await stream.send_all(_response(connection, answer, is_head))
        if isinstance(stream, trio.abc.HalfCloseableStream):
            await stream.send_eof()

    def _answer_to(self, request: h11.Request) -> Answer:
        page = self._pages.get(request.target.partition(b"?")[0].decode("ascii", "replace"))
        if page is None:
            return 404, TEXT_TYPE, f"there is {', '.join(self._pages)} here\n".encode()
        if request.method not in (b"GET", b"HEAD"):
            return 405, TEXT_TYPE, b"GET or HEAD\n"
        return page()


async def _read_request(connection: h11.Connection, stream: trio.abc.ReceiveStream, bytes_max: int) -> h11.Request | None:
    """The head of a request, or None when the peer closed before it was whole. Raises RemoteProtocolError with a status."""
    bytes_read = 0
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        data = bytes(await stream.receive_some(READ_BYTES))
        bytes_read += len(data)
        if bytes_read > bytes_max:
            raise h11.RemoteProtocolError("the request is too large", error_status_hint=431)
        connection.receive_data(data)


def _response(connection: h11.Connection, answer: Answer, is_head: bool) -> bytes:
    status, content_type, body = answer
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
        *([("Allow", "GET, HEAD")] if status == 405 else []),
    ]
    head = connection.send(h11.Response(status_code=status, headers=headers)) or b""
    return head if is_head else head + (connection.send(h11.Data(data=body)) or b"")


def _ready(health: Health) -> Answer:
    ready, report = health.report()
    return 200 if ready else 503, JSON_TYPE, json.dumps(report).encode() + b"\n"
