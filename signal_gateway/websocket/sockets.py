"""The listening sockets: TCP options that a fleet needs, and TLS over them."""

import errno
import os
import select
import socket
from collections import deque
from collections.abc import Sequence

import trio

from signal_gateway.websocket.server_settings import ServerSettings
from signal_gateway.websocket.tls import Contexts, TlsListener, descriptor_of, unwrapped

BACKLOG_CONNECTIONS = 1024
"""Connections that the kernel keeps for us while we are busy: a fleet comes back all at once (H25)."""
USER_TIMEOUT_MS = 30_000
"""Milliseconds that sent data may stay unacknowledged before the kernel gives a connection up (H15)."""

ACCEPTS_MAX = 64
"""Connections accepted in one pass of the loop."""
GONE_BEFORE_ACCEPTED = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPERM,  # by a firewall
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENONET,
    }
)
"""What accept says of a connection that ended in the queue, or that its network failed (accept(2)): the next one may be well."""


class EagerListener(trio.abc.Listener[trio.SocketStream]):
    """Accepts all who wait, at most ACCEPTS_MAX, whenever it looks.

    Trio's own listener accepts one connection in each pass of the loop. While passes are long - a fleet comes back, somebody attacks -
    the others would stand in the kernel's queue, which is short.
    """

    def __init__(self, listener: trio.SocketListener) -> None:
        self.listener = listener
        """What listens on the port."""
        self._socket = socket.socket(fileno=os.dup(listener.socket.fileno()))
        self._socket.setblocking(False)
        self._accepted: deque[trio.SocketStream] = deque()

    async def accept(self) -> trio.SocketStream:
        """The next connection. Raises OSError when none can be accepted, as without file descriptors."""
        while not self._accepted:
            await trio.lowlevel.wait_readable(self._socket)
            self._accept_waiting()
        return self._accepted.popleft()

    async def aclose(self) -> None:
        """Listen no more."""
        self._socket.close()
        for stream in self._accepted:
            stream.socket.close()
        await self.listener.aclose()

    def _accept_waiting(self) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                accepted, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in GONE_BEFORE_ACCEPTED:
                    continue
                if self._accepted:  # they first; then it is asked again
                    return
                raise
            self._accepted.append(trio.SocketStream(trio.socket.from_stdlib_socket(accepted)))


async def open_listeners(settings: ServerSettings, tls: Contexts | None) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
    """Listen on `server.host` and `server.port`. Raises OSError that names them when the port is taken or the address is not ours."""
    try:
        listeners = await trio.open_tcp_listeners(settings.port, host=settings.host, backlog=BACKLOG_CONNECTIONS)
    except OSError as error:
        why = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise OSError(error.errno, f"cannot listen on {settings.host}:{settings.port}: {why} (server.host, server.port)") from error
    for listener in listeners:
        # Accepted sockets inherit it.
        listener.socket.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    eager = [EagerListener(listener) for listener in listeners]
    return eager if tls is None else [TlsListener(listener, tls) for listener in eager]


def is_closed(transport: trio.abc.Stream) -> bool:
    """Whether we have closed it. False where there is no socket that could tell."""
    raw, _ = unwrapped(transport)
    return isinstance(raw, trio.SocketStream) and raw.socket.fileno() < 0


def has_hung_up(transport: trio.abc.Stream) -> bool:
    """Whether the peer has closed its side, whatever it said before and nobody has read yet. False where there is no socket."""
    descriptor = descriptor_of(unwrapped(transport)[0])
    if descriptor < 0:
        return False
    asked = select.poll()
    asked.register(descriptor, select.POLLRDHUP)
    return bool(asked.poll(0))


def port_of(listeners: Sequence[trio.abc.Listener[trio.abc.Stream]]) -> int:
    """The TCP port that the first of these listens on."""
    first = listeners[0]
    inner = first.sockets if isinstance(first, TlsListener) else first
    if not isinstance(inner, EagerListener):
        raise TypeError(f"{type(inner).__name__} has no port")
    return int(inner.listener.socket.getsockname()[1])
