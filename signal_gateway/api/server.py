"""The server: listens, gives each connection to Hypercorn's HTTP/1.1, contains what goes wrong with one, and ends in order (H31, H33).

Hypercorn's own `serve` lets an exception of one connection end all, speaks HTTP/2 to whoever asks, and knows no bound on connections.
So the loop around its connections is ours; their protocol is Hypercorn's.
"""

import errno
import ssl
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import h11
import msgspec
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Closed, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from signal_gateway.api.door import ApiDoor
from signal_gateway.api.http_settings import HttpSettings
from signal_gateway.api.problems import PROBLEM_TYPE
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics

BACKLOG_CONNECTIONS = 256
TLS_HANDSHAKE_S = 5.0
FIELD_EXTRA_BYTES = 4
"""Of each field of a head, beside its name and its value: the colon, a space, the end of the line."""

log = logger("api")


class _Logger:
    """Hypercorn tells of requests and faults here; the door does so itself, so only faults are passed on."""

    def __init__(self, config: HypercornConfig) -> None:
        del config

    async def access(self, *_: Any) -> None:
        """Told by the door."""

    async def exception(self, message: str, *_: Any, **__: Any) -> None:
        """A fault outside of any request."""
        log.exception("the http server failed", about=message)

    async def nothing(self, *_: Any, **__: Any) -> None:
        """Not worth a line."""

    info = debug = warning = error = critical = log = nothing


class _Http1(H11Protocol):
    """HTTP/1.1 and nothing else: nobody is led to HTTP/2 by an upgrade or by its preface, whose streams have bounds of their own."""

    async def _check_protocol(self, event: h11.Request) -> None:
        del event

    async def _create_stream(self, request: h11.Request) -> None:
        """Refuse a head that came whole and is too large: h11 bounds only what it must keep until there is more."""
        fields = sum(len(name) + len(value) + FIELD_EXTRA_BYTES for name, value in request.headers)
        if len(request.target) + fields <= self.config.h11_max_incomplete_size:
            await super()._create_stream(request)
            return
        await self._send_error_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        await self.send(Closed())

    async def _send_error_response(self, status_code: int) -> None:
        title = HTTPStatus(status_code).phrase
        detail = (
            "The head of the request is too large" if status_code == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE else "This is no HTTP/1.1"
        )
        code = "head_too_large" if status_code == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE else "bad_request"
        body = msgspec.json.encode(
            {"type": "about:blank", "title": title, "status": status_code, "detail": detail, "code": code, "error": detail}
        )
        headers = [(b"content-type", PROBLEM_TYPE.encode()), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
        answer = (h11.Response(status_code=status_code, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        # At once: a request whose body breaks off may have begun already, and its answer must not come in between.
        await self.send(RawData(data=b"".join(self.connection.send(event) or b"" for event in answer)))


class _TlsListener(trio.abc.Listener[trio.SSLStream[trio.SocketStream]]):
    """Trio's SSLListener, but with the context of its time for each connection: the certificate may be exchanged meanwhile."""

    def __init__(self, sockets: trio.SocketListener, context: Callable[[], ssl.SSLContext]) -> None:
        self._sockets = sockets
        self._context = context

    async def accept(self) -> trio.SSLStream[trio.SocketStream]:
        """The next connection; its handshake is yet to come, in its own task."""
        return trio.SSLStream(await self._sockets.accept(), self._context(), server_side=True, https_compatible=True)

    async def aclose(self) -> None:
        """Listen no more."""
        await self._sockets.aclose()


class _Connection(TCPServer):
    """One connection, from its handshake to its end."""

    _is_read_out = False
    """Whether there is no more to come on it."""

    async def run(self) -> None:
        """Serve it. Raises what a fault of ours raises; a peer that goes away is none."""
        stream: Any = self.stream
        is_tls = isinstance(stream, trio.SSLStream)
        socket: Any = stream.transport_stream.socket if is_tls else stream.socket
        try:
            if is_tls:
                with trio.fail_after(TLS_HANDSHAKE_S):
                    await stream.do_handshake()
            client = parse_socket_addr(socket.family, socket.getpeername())
            server = parse_socket_addr(socket.family, socket.getsockname())
            async with TaskGroup() as tasks:
                self._task_group = tasks
                state = ConnectionState(self.state)
                self.protocol = _Http1(  # type: ignore[assignment]
                    self.app, self.config, self.context, tasks, state, is_tls, client, server, self.protocol_send
                )
                await self.idle_task.restart(tasks, self._idle_timeout)
                await self._read_data()
                self._is_read_out = True
                await self.idle_task.stop()
        except (OSError, trio.BrokenResourceError, trio.TooSlowError):
            return
        finally:
            with trio.move_on_after(self.config.ssl_handshake_timeout, shield=True):
                await self._close()

    async def _idle_timeout(self) -> None:
        if not self._is_read_out:  # else it would stay, and be counted, until its time is over
            await super()._idle_timeout()

    async def _close(self) -> None:
        """The end of the connection, however often it comes. While an answer is being sent there is no orderly one.

        Both the reader, where the peer goes away, and an answer that has been sent end it. Trio lets only one of them use the stream.
        """
        if self.send_lock.locked():
            await self.stream.aclose()
            return
        async with self.send_lock:
            await super()._close()


class ApiServer:
    """The operator's HTTP door. `run` listens until cancelled; `drain` lets what is under way end first."""

    def __init__(self, app: ApiDoor, settings: HttpSettings, metrics: Metrics, tls: Callable[[], ssl.SSLContext] | None = None) -> None:
        self._settings = settings
        self._metrics = metrics
        self._tls = tls
        self.app = app
        """What it serves."""
        self._app = ASGIWrapper(app)  # type: ignore[arg-type]
        self._config = self._hypercorn(settings)
        self._context = WorkerContext(None)
        self._open: set[trio.abc.Stream] = set()
        self._empty = trio.Event()
        self._accepting = trio.CancelScope()
        self._is_draining = False
        metrics.gauge("http_connections", "Open connections of the operator's API.", lambda: len(self._open))

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled; started with the port. Raises OSError with a sentence that names the setting when it cannot listen."""
        listeners = await self._listen()
        async with trio.open_nursery() as connections:
            with self._accepting:
                wrapped = [_TlsListener(each, self._tls) for each in listeners] if self._tls else listeners
                serve = partial(trio.serve_listeners, self.serve_connection, wrapped, handler_nursery=connections)  # type: ignore[arg-type]
                async with trio.open_nursery() as accepting:
                    await accepting.start(serve)
                    task_status.started(listeners[0].socket.getsockname()[1])
            await trio.sleep_forever()

    async def drain(self) -> None:
        """Accept nothing more, let requests under way end within `http.drain_s`, then end them."""
        self._is_draining = True
        self._accepting.cancel()
        await self._context.terminated.set()
        with trio.move_on_after(self._settings.drain_s) as patience:
            while self._open:
                self._empty = trio.Event()
                await self._empty.wait()
        if patience.cancelled_caught:
            self._metrics.limits.add("http.drain_s")
            for stream in list(self._open):
                await trio.aclose_forcefully(stream)

    async def serve_connection(self, stream: trio.abc.Stream) -> None:
        """One connection. What goes wrong with it stays here, counted."""
        if len(self._open) >= self._settings.connections_max or self._is_draining:
            self._metrics.limits.add("http.connections_max")
            await trio.aclose_forcefully(stream)
            return
        self._open.add(stream)
        try:
            await _Connection(self._app, self._config, self._context, ConnectionState({}), stream).run()  # type: ignore[arg-type]
        except Exception as error:  # the border of one connection
            if not _is_gone(error):
                self._metrics.errors.add("api_connection")
                log.exception("a connection of the api failed", error=type(error).__name__)
        finally:
            self._open.discard(stream)
            if not self._open:
                self._empty.set()

    async def _listen(self) -> list[trio.SocketListener]:
        settings = self._settings
        try:
            return await trio.open_tcp_listeners(settings.port, host=settings.host, backlog=BACKLOG_CONNECTIONS)
        except OSError as error:
            why = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
            raise OSError(error.errno, f"cannot serve the API on {settings.host}:{settings.port}: {why} (http.host, http.port)") from error

    def _hypercorn(self, settings: HttpSettings) -> HypercornConfig:
        config = HypercornConfig()
        config.logger_class = _Logger  # type: ignore[assignment]
        config.accesslog = config.errorlog = None
        config.include_server_header = False
        config.h11_max_incomplete_size = settings.head_bytes_max
        config.keep_alive_timeout = settings.keep_alive_s  # type: ignore[assignment]
        config.keep_alive_max_requests = settings.requests_per_connection_max
        config.ssl_handshake_timeout = TLS_HANDSHAKE_S  # type: ignore[assignment]
        return config


def _is_gone(error: BaseException) -> bool:
    """Whether this is how a peer that went away looks: nobody's fault."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_gone(each) for each in error.exceptions)  # pyright: ignore[reportUnknownVariableType]
    return isinstance(error, OSError | trio.BrokenResourceError | trio.ClosedResourceError)
