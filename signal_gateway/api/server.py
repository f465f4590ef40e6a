"""The server: listens, gives each connection to Hypercorn's HTTP/1.1, contains what goes wrong with one, and ends in order (H31, H33).

Hypercorn's own `serve` lets an exception of one connection end all, speaks HTTP/2 to whoever asks, and knows no bound on connections.
So the loop around its connections is ours; their protocol is Hypercorn's.
"""

import errno
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState

from signal_gateway.api.connection import TLS_HANDSHAKE_S, Connection
from signal_gateway.api.door import ApiDoor
from signal_gateway.api.http_settings import HttpSettings
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics

BACKLOG_CONNECTIONS = 256

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
            await Connection(self._app, self._config, self._context, ConnectionState({}), stream).run()  # type: ignore[arg-type]
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
