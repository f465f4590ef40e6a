"""A small WebSocket client: says what it is told to, hears what comes, within deadlines. For the command line and for tests."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    wrap_client_stream,
)

MESSAGE_BYTES_MAX = 2_097_152
CLOSE_SECONDS_MAX = 2.0


class NoLink(Exception):
    """The server gave no link. `status` is its HTTP answer, where it gave one; `retry_after_s` when it asks to come back, where it does."""

    def __init__(self, message: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class LinkClosed(Exception):
    """The link has ended; `code` and `reason` as the server said, 1006 when it said nothing."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the link was closed: {code}{f' {reason}' if reason else ''}")
        self.code = code
        self.reason = reason


Note = Callable[[str, Any], None]
"""Is told what becomes of a link: `sent` and `heard` with the message, `closed` with the code."""


def note_nothing(_what: str, _about: Any) -> None:
    """For who wants to know nothing."""


class Client:
    """One open link."""

    def __init__(self, connection: WebSocketConnection, note: Note = note_nothing) -> None:
        self._connection = connection
        self._note = note

    async def send(self, message: bytes | str) -> None:
        """Send bytes as a binary message, str as a text message. Raises LinkClosed."""
        self._note("sent", message)  # before: the answer may come while this waits
        try:
            await self._connection.send_message(message)
        except ConnectionClosed as closed:
            raise self._told(closed) from None

    async def receive(self, deadline_s: float) -> bytes | str:
        """The next message. Raises LinkClosed, or trio.TooSlowError when none comes within `deadline_s` seconds."""
        with trio.fail_after(deadline_s):
            try:
                message = await self._connection.get_message()
            except ConnectionClosed as closed:
                raise self._told(closed) from None
        self._note("heard", message)
        return message

    def _told(self, closed: ConnectionClosed) -> LinkClosed:
        told = _link_closed(closed)
        self._note("closed", told.code)
        return told


@asynccontextmanager
async def open_client(url: str, headers: Mapping[str, str] | None = None, deadline_s: float = 5.0) -> AsyncGenerator[Client, None]:
    """A link to `url` (ws:// or wss://, with its query) that is closed at the end. Raises NoLink, or ValueError for what is no such URL."""
    stream, host, resource = await dial(url, deadline_s)
    async with open_client_over(stream, resource, headers, deadline_s, host) as client:
        yield client


async def dial(url: str, deadline_s: float) -> tuple[trio.abc.Stream, str, str]:
    """A connection on which nothing is said yet; the host with its port, and path with query. Raises as `open_client` does."""
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL of a WebSocket: it begins with ws:// or wss://")
    where = f"{parts.scheme}://{parts.netloc}{parts.path}"  # without the query, which may hold a key
    try:
        with trio.fail_after(deadline_s):
            stream = await _dial(parts.hostname, parts.port, is_tls=parts.scheme == "wss")
    except trio.TooSlowError:
        raise NoLink(f"{where} cannot be reached within {deadline_s:g} s") from None
    except OSError as error:
        raise NoLink(f"{where} cannot be reached: {error.strerror or error}") from None
    return stream, parts.netloc, f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


@asynccontextmanager
async def open_client_over(
    stream: trio.abc.Stream,
    resource: str,
    headers: Mapping[str, str] | None = None,
    deadline_s: float = 5.0,
    host: str = "localhost",
    note: Note = note_nothing,
) -> AsyncGenerator[Client, None]:
    """A link over any stream, which is closed at the end; `resource` is path and query. Raises NoLink."""
    where = f"{host}{resource.partition('?')[0]}"
    try:
        async with trio.open_nursery() as nursery:
            upgrade = partial(
                wrap_client_stream, nursery, cast("Any", stream), host, resource
            )  # its types name sockets; it takes any stream
            connection = await _upgrade(upgrade, where, headers or {}, deadline_s)
            try:
                yield Client(connection, note)
            finally:
                with trio.move_on_after(CLOSE_SECONDS_MAX, shield=True):
                    await connection.aclose()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:  # the nursery's; whoever uses the link wants what was raised
        raise _told(_sole(group), where) from None
    finally:
        await trio.aclose_forcefully(stream)  # trio-websocket leaves it open when the peer was the first to close


async def _dial(host: str, port: int | None, is_tls: bool) -> trio.abc.Stream:
    if is_tls:
        return await trio.open_ssl_over_tcp_stream(host, port or 443, https_compatible=True)
    return await trio.open_tcp_stream(host, port or 80)


async def _upgrade(
    upgrade: Callable[..., Awaitable[WebSocketConnection]], where: str, headers: Mapping[str, str], deadline_s: float
) -> WebSocketConnection:
    try:
        with trio.fail_after(deadline_s):
            lines = [(name.encode(), value.encode()) for name, value in headers.items()]
            return await upgrade(extra_headers=lines, max_message_size=MESSAGE_BYTES_MAX)
    except trio.TooSlowError:
        raise NoLink(f"{where} gave no link within {deadline_s:g} s") from None
    except (OSError, trio.BrokenResourceError, HandshakeError, ConnectionClosed) as error:
        raise NoLink(f"{where} gave no link: {error or type(error).__name__}") from None


def _told(error: BaseException, where: str) -> BaseException:
    """A refused upgrade in our words; trio-websocket tells it from a task of its own. Anything else stays what it is."""
    if not isinstance(error, ConnectionRejected):
        return error
    body = (error.body or b"").decode("utf-8", "replace").strip()
    after = next((value for name, value in error.headers if name.lower() == b"retry-after"), b"")
    retry_after_s = float(after) if after.isdigit() else None
    return NoLink(f"{where} refused: {error.status_code}{f' {body}' if body else ''}", error.status_code, retry_after_s)


def _sole(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception in nested groups, or the group when there are several."""
    only, *others = group.exceptions
    if others:
        return group
    return _sole(cast("BaseExceptionGroup[BaseException]", only)) if isinstance(only, BaseExceptionGroup) else only


def _link_closed(closed: ConnectionClosed) -> LinkClosed:
    if closed.reason is None:
        return LinkClosed(1006, "")
    return LinkClosed(closed.reason.code, closed.reason.reason or "")
