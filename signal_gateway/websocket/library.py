"""trio-websocket, called in where a link needs it (RFC 6455; DESIGN.md §4).

It is the authority on everything that is not plain: messages in fragments, large ones, and whatever breaks the rules. Most links never
say such a thing in their lives, so it is made for the first one that is heard, and not before: at the door it would cost more than all
else together. Then it is shown an upgrade that it would accept, its answer to that goes nowhere, for the peer has had ours, and from there
on it is given what the frame parser passes on.
"""

from collections.abc import Awaitable, Callable

import trio
import trio_websocket

from protocol.close_codes import CloseCode
from signal_gateway.websocket.frame_parser import CLOSE, data_frame
from signal_gateway.websocket.outbox import Outbox

BYTES_MAX = 262_144
"""Bytes that may wait for the library to read them; above, the socket is read later."""
PIECE_BYTES = 4096
"""Bytes of a frame under way for which the library is woken before its end."""
LOST = 1006
"""The code of a connection that ended without a close frame; it never travels (RFC 6455 §7.4.1)."""
_CLOSE_BYTE = bytes((CLOSE,))
_VIOLATIONS = (CloseCode.PROTOCOL_ERROR, CloseCode.BAD_DATA)
_UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Library(trio.abc.Stream):
    """One trio-websocket connection, and the stream under it: what it reads was passed on, what it says goes into the link's outbox.

    `close_socket` closes the socket, with what it is given as the last word on it.
    """

    def __init__(self, outbox: Outbox, message_bytes_max: int, close_socket: Callable[[bytes | None], Awaitable[None]]) -> None:
        self._outbox = outbox
        self._message_bytes_max = message_bytes_max
        self._close_socket = close_socket
        self._unread = bytearray()
        self._may_read = trio.Event()
        self._has_asked = False
        self._has_read = trio.Event()
        self._is_ready = trio.Event()
        self._has_ended = self._has_answered = self._has_said_close = False
        self._websocket: trio_websocket.WebSocketConnection | None = None

    # what the link sees

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be read that the socket should be read later."""
        return len(self._unread) > BYTES_MAX

    def pass_on(self, data: bytes, is_under_way: bool) -> None:
        """Give it bytes. Of a frame that comes in small pieces, `is_under_way`, many at once: it keeps each with an object around it."""
        self._unread += data
        if len(self._unread) >= PIECE_BYTES or not is_under_way:
            self._may_read.set()

    async def hear(self, nursery: trio.Nursery, heard: Callable[[bool, bytes], Awaitable[None]]) -> int:
        """Call `heard` with each message, in order. Returns the close code at the end; LOST where there was none."""
        proposal = await trio_websocket.wrap_server_stream(nursery, self, max_message_size=self._message_bytes_max)
        websocket = self._websocket = await proposal.accept()
        self._is_ready.set()
        try:
            while True:
                message = await websocket.get_message()
                is_text = isinstance(message, str)
                await heard(is_text, message.encode() if isinstance(message, str) else message)
        except trio_websocket.ConnectionClosed as closed:
            return LOST if closed.reason is None else closed.reason.code

    async def close(self, code: int, reason: str) -> None:
        """Close by RFC 6455 §7: returns when the peer has answered, and the socket is closed."""
        await self._is_ready.wait()
        if self._websocket is not None:
            await self._websocket.aclose(code, reason)

    async def wait_for_room(self) -> None:
        """Until it has read something."""
        self._has_read = trio.Event()
        await self._has_read.wait()

    def end(self) -> None:
        """Nothing more will come: it reads the end of the stream."""
        self._has_ended = True
        self._may_read.set()
        self._has_read.set()

    def let_go(self) -> None:
        """The link has ended: the two keep each other in memory no more."""
        self.end()
        self._websocket = None
        del self._close_socket

    # what trio-websocket sees

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The upgrade, alone; then what was passed on; b"" when the link has ended."""
        if not self._has_asked:
            self._has_asked = True
            await trio.lowlevel.checkpoint()
            return _UPGRADE
        if not self._has_ended:
            await self._may_read.wait()
            self._may_read = trio.Event()
        data = bytes(self._unread)
        self._unread.clear()
        self._has_read.set()
        await trio.lowlevel.checkpoint()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send what it says, behind what we said; returns when the socket has taken it. Its answer to the upgrade is not sent."""
        if not self._has_answered:
            self._has_answered = True
            return
        if self._has_ended:
            raise trio.ClosedResourceError
        frame = bytes(data)
        self._has_said_close = frame[:1] == _CLOSE_BYTE
        self._outbox.put(frame, is_last_word=True)
        await self._outbox.drain()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until everything said before is on the socket."""
        await self._outbox.drain()

    async def aclose(self) -> None:
        """Close the socket. It hangs up on a client that breaks the protocol; RFC 6455 §7.1.7 would have it told the code first."""
        await self._close_socket(self._last_word())

    def _last_word(self) -> bytes | None:
        closed = None if self._websocket is None else self._websocket.closed
        if closed is None or closed.code not in _VIOLATIONS or self._has_said_close:
            return None
        self._has_said_close = True
        return data_frame(CLOSE, int(closed.code).to_bytes(2, "big"))
