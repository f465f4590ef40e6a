"""One connection of the operator's API: Hypercorn's HTTP/1.1, with what it does for each request made cheap (docs/decisions.md).

Hypercorn starts and ends a task for every request to notice that a connection is idle, writes each part of an answer by itself, and
hands a body to the application through a channel that goes through Trio's loop for each part. Here one task waits for as long as the
connection lives, an answer that is known whole is one write, and what has come of a body is taken at once.
"""

import math
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import h11
import msgspec
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.typing import AppWrapper, ConnectionState
from hypercorn.utils import parse_socket_addr

from signal_gateway.api.problems import PROBLEM_TYPE

TLS_HANDSHAKE_S = 5.0
FIELD_EXTRA_BYTES = 4
"""Of each field of a head, beside its name and its value: the colon, a space, the end of the line."""


class Inbox:
    """What one request's application has yet to hear, in order: parts of its body, and that its peer has gone.

    Bounded by the number of parts: who puts more in waits until some were taken, or nobody takes any more.
    """

    __slots__ = ("_is_closed", "_parts", "_parts_max", "_taken", "_there")

    def __init__(self, parts_max: int) -> None:
        self._parts: deque[dict[str, Any]] = deque()
        self._parts_max = parts_max
        self._is_closed = False
        self._there = trio.Event()
        self._taken = trio.Event()

    async def put(self, part: Any) -> None:
        """Say it. The end of a body is said with its last part where that was not taken yet.

        That the request is over waits for nothing: whoever answers before they have heard all says so themselves, and takes no more.
        """
        parts = self._parts
        if part["type"] == "http.disconnect":
            self._is_closed = True
            self._taken.set()
        elif parts and not part["body"]:
            parts[-1]["more_body"] = part["more_body"]
            return
        while len(parts) >= self._parts_max and not self._is_closed:
            self._taken = trio.Event()
            await self._taken.wait()
        parts.append(part)
        self._there.set()

    async def take(self) -> Any:
        """The next of it, once there is one."""
        while not self._parts:
            self._there = trio.Event()
            await self._there.wait()
        self._taken.set()
        return self._parts.popleft()


class _Requests(TaskGroup):
    """The tasks of one connection."""

    async def spawn_app(
        self, app: AppWrapper, config: Config, scope: Any, send: Callable[[Any], Awaitable[None]]
    ) -> Callable[[Any], Awaitable[None]]:
        """Begin to answer a request; what is returned takes the parts of its body. The application has no threads to ask for."""
        inbox = Inbox(config.max_app_queue_size)
        self.spawn(_answer, app, scope, inbox.take, send)
        return inbox.put


async def _answer(app: Any, scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """One request. The door has its own border of faults: nothing comes out of it but that the peer's end of the connection failed."""
    try:
        await app(scope, receive, send, None, None)
    finally:
        await send(None)


class _Http1(H11Protocol):
    """HTTP/1.1 and nothing else: nobody is led to HTTP/2 by an upgrade or by its preface, whose streams have bounds of their own."""

    _head = b""
    """Of an answer: it is written with the first part of what follows."""

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

    async def _send_h11_event(self, event: Any) -> None:
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            self._head = data or b""
        elif data := self._head + (data or b""):
            self._head = b""
            await self.send(RawData(data=data))

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


class Connection(TCPServer):
    """One connection, from its handshake to its end."""

    _is_read_out = False
    """Whether there is no more to come on it."""
    _is_busy = False
    """Whether a request is under way on it."""

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
            self._idle = trio.CancelScope(deadline=trio.current_time() + self.config.keep_alive_timeout)
            async with _Requests() as tasks:
                state = ConnectionState(self.state)
                self.protocol = _Http1(  # type: ignore[assignment]
                    self.app, self.config, self.context, tasks, state, is_tls, client, server, self.protocol_send
                )
                tasks.spawn(self._end_when_idle)
                await self._read_data()
                self._is_read_out = True
                self._idle.cancel()  # else it would stay, and be counted, until its time is over
        except (OSError, trio.BrokenResourceError, trio.TooSlowError):
            return
        finally:
            with trio.move_on_after(self.config.ssl_handshake_timeout, shield=True):
                await self._close()

    async def protocol_send(self, event: Event) -> None:
        """What the protocol has for the connection: bytes, its end, or whether a request is under way."""
        if isinstance(event, Updated):
            self._is_busy = not event.idle
            self._idle.deadline = trio.current_time() + self.config.keep_alive_timeout if event.idle else math.inf
        elif isinstance(event, RawData):
            await self._write(event.data)
        else:
            await self._close()
            await self.protocol.handle(Closed())

    async def _write(self, data: bytes) -> None:
        try:
            self.send_lock.acquire_nowait()  # where nobody holds it, there is no need to go through Trio's loop
        except trio.WouldBlock:
            await self.send_lock.acquire()
        is_gone = False
        try:
            with trio.CancelScope(shield=True):
                await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            is_gone = True
        finally:
            self.send_lock.release()
        if is_gone:
            await self.protocol.handle(Closed())

    async def _read_data(self) -> None:
        try:
            while data := await self.stream.receive_some(MAX_RECV):
                await self.protocol.handle(RawData(bytes(data)))
            await self.protocol.handle(RawData(b""))
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            pass
        await self.protocol.handle(Closed())

    async def _end_when_idle(self) -> None:
        """End the connection when nothing was asked for a while, or when the server ends; an answer that is under way is the last then."""
        while True:
            with self._idle:
                await self.context.terminated.wait()
            if self._is_read_out:
                return
            if not self._is_busy:
                with trio.CancelScope(shield=True):
                    await self._initiate_server_close()
                return
            if self.context.terminated.is_set():
                return
            self._idle = trio.CancelScope()  # a request came in the very moment in which it was to end

    async def _close(self) -> None:
        """The end of the connection, however often it comes. While an answer is being sent there is no orderly one.

        Both the reader, where the peer goes away, and an answer that has been sent end it. Trio lets only one of them use the stream.
        """
        if self.send_lock.locked():
            await self.stream.aclose()
            return
        async with self.send_lock:
            await super()._close()
