"""TLS in memory: bytes of a socket in, bytes of the link out, and back, without waiting for anything (RFC 8446; DESIGN.md §4).

trio.SSLStream waits for its socket itself, for a task each; here whoever reads the sockets - the lane, or a task of the link - gives
what came to the link's `TlsSession`, which is nothing but OpenSSL between two buffers. What must wait, the handshake and the plain HTTP
before an upgrade, goes through `TlsStream`, a Trio stream over the same session.
"""

import os
import ssl
from collections.abc import Callable
from contextlib import suppress

import trio

RECORD_BYTES_MAX = 16_384
"""Bytes of the link that one TLS record carries at most."""
READ_BYTES = 16_384
"""Bytes read from a socket at once during the handshake."""
OWN_BYTES_FREE = 32_768
"""Bytes of TLS's own that any peer may have said: a record that is not whole yet counts as such, and has up to 18,437."""
OWN_BYTES_A_FRAME = 128
"""Beyond that so many count as a frame. What is around a record is 22 to 60, so who says a frame in one or two owes nothing; and a peer
that asks for new keys all the time, which costs us 25 µs for 27 bytes, takes 3 % of a core at 200 frames a second."""

Contexts = Callable[[], ssl.SSLContext]
"""By what the next connection speaks TLS: its certificate may be exchanged while others are open."""


class TlsSession:
    """The TLS state of one connection, the server's side of it."""

    __slots__ = ("_incoming", "_object", "_outgoing", "is_over", "own_bytes")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.is_over = False
        """Whether the peer has said that nothing more will come."""
        self.own_bytes = 0
        """Bytes since the handshake that carried nothing of the link, and are not settled: new keys, alerts, what is around records."""

    def is_shaken(self, data: bytes = b"") -> bool:
        """Go on with the handshake with what came; whether it is done. Raises ssl.SSLError for a peer that we cannot speak with."""
        if data:
            self._incoming.write(data)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def opened(self, data: bytes) -> bytes:
        """What the peer said in `data` and in what was kept of a record before; b"" while a record is not whole.

        Raises ssl.SSLError for what is no TLS, or was tampered with: the connection must end.
        """
        incoming, tls = self._incoming, self._object
        if data:
            incoming.write(data)
        bytes_max = min(len(data), RECORD_BYTES_MAX) or RECORD_BYTES_MAX  # a record has less in it than on it
        said = self._read(bytes_max)
        # A want that is raised costs more than the record: it is looked for only where something is left.
        if not said or (len(said) < bytes_max and not incoming.pending):
            self.own_bytes += len(data) - len(said)
            return said
        parts = [said]
        while said and (incoming.pending or tls.pending()):
            said = self._read(RECORD_BYTES_MAX)
            parts.append(said)
        said = b"".join(parts)
        self.own_bytes += len(data) - len(said)
        return said

    def frames_owed(self, frames: int) -> int:
        """How many frames the peer has said in TLS's own words, beside `frames` that it said in the link's. They are settled by that."""
        own_bytes = max(0, self.own_bytes - OWN_BYTES_A_FRAME * frames)
        owed = max(0, own_bytes - OWN_BYTES_FREE) // OWN_BYTES_A_FRAME
        self.own_bytes = own_bytes - OWN_BYTES_A_FRAME * owed
        return owed

    def sealed(self, data: bytes) -> bytes:
        """The bytes for the socket that carry `data`, behind whatever TLS itself had to say."""
        written = self._object.write(data)
        while written < len(data):  # OpenSSL takes a record at a time
            written += self._object.write(memoryview(data)[written:])
        return self._outgoing.read()

    def to_say(self) -> bytes:
        """What TLS itself has to say: its part of the handshake, tickets, new keys, an alert."""
        return self._outgoing.read() if self._outgoing.pending else b""

    @property
    def is_waited_for(self) -> bool:
        """Whether the peer cannot speak before it has what TLS says at the end of the handshake.

        From TLS 1.3 on only tickets come there (RFC 8446 §4.6.1), for a connection to come.
        """
        return self._object.version() != "TLSv1.3"

    def farewell(self) -> bytes:
        """What tells the peer that nothing more will come; b"" where TLS has nothing to say any more."""
        with suppress(ssl.SSLError):  # the peer has not said the same yet, and nobody waits for it
            self._object.unwrap()
        return self.to_say()

    def _read(self, bytes_max: int) -> bytes:
        """Python makes room for `bytes_max`, however little is there: large room is dear."""
        try:
            said = self._object.read(bytes_max)
        except ssl.SSLWantReadError:
            return b""
        if not said:
            self.is_over = True
        return said


class TlsStream(trio.abc.HalfCloseableStream):
    """A connection until its upgrade is answered. The handshake comes with the first byte that is asked for or sent.

    One task uses it at a time. From the upgrade on the link takes `raw` and `session` into its own hands.
    """

    def __init__(self, raw: trio.SocketStream, context: ssl.SSLContext) -> None:
        self.raw = raw
        """The socket under it."""
        self.session = TlsSession(context)
        """What opens and seals the bytes of the socket."""
        self._is_shaken = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """All that is there, however much was asked for; b"" when the peer has ended. Raises BrokenResourceError."""
        await self._shake()
        try:
            said = self.session.opened(b"")
            while not said and not self.session.is_over:
                if not (data := bytes(await self.raw.receive_some(READ_BYTES))):
                    return b""  # without a farewell; what it said is whole, or whoever reads it will say that it is not
                said = self.session.opened(data)
                if self.session.own_bytes > OWN_BYTES_FREE:
                    raise trio.BrokenResourceError("TLS has more to say than the head of a request is worth")
        except ssl.SSLError as error:
            raise trio.BrokenResourceError from error
        return said

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it. Raises BrokenResourceError."""
        await self._shake()
        try:
            sealed = self.session.sealed(bytes(data))
        except ssl.SSLError as error:
            raise trio.BrokenResourceError from error
        await self.raw.send_all(sealed)

    async def wait_send_all_might_not_block(self) -> None:
        """See trio.abc.SendStream."""
        await self.raw.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """Tell the peer that nothing more will come, and go on hearing it."""
        await self._shake()
        await self.raw.send_all(self.session.farewell())
        await self.raw.send_eof()

    async def aclose(self) -> None:
        """Say farewell, if the socket takes it at once, and close."""
        if self._is_shaken and (farewell := self.session.farewell()):
            with suppress(OSError):  # closed before, full, or gone: nobody waits for a farewell
                os.write(self.raw.socket.fileno(), farewell)
        await self.raw.aclose()

    async def _shake(self) -> None:
        if self._is_shaken:
            return
        data = b""
        try:
            while not self.session.is_shaken(data):
                await self.raw.send_all(self.session.to_say())
                if not (data := bytes(await self.raw.receive_some(READ_BYTES))):
                    raise trio.BrokenResourceError("the peer hung up during the TLS handshake")
        except ssl.SSLError as error:
            await self.raw.send_all(self.session.to_say())  # the alert says what is wrong
            raise trio.BrokenResourceError("the TLS handshake failed") from error
        if self.session.is_waited_for:
            await self.raw.send_all(self.session.to_say())
        # Else the tickets go out before the first answer, in its packet. Sent alone they would reach the peer while it asks: a client that
        # reads in one thread and writes in another, as Python's do, then waits in both, as OpenSSL writes nothing in the midst of a ticket.
        self._is_shaken = True


class TlsListener(trio.abc.Listener[TlsStream]):
    """Accepts connections that speak TLS, each by the context of its time."""

    def __init__(self, sockets: trio.abc.Listener[trio.SocketStream], context: Contexts) -> None:
        self.sockets = sockets
        """What listens on the port."""
        self._context = context

    async def accept(self) -> TlsStream:
        """The next connection; its handshake is yet to come, in its own task."""
        return TlsStream(await self.sockets.accept(), self._context())

    async def aclose(self) -> None:
        """Listen no more."""
        await self.sockets.aclose()


def unwrapped(transport: trio.abc.Stream) -> tuple[trio.abc.Stream, TlsSession | None]:
    """The stream whose bytes are on the wire, and what opens and seals them where they are TLS."""
    return (transport.raw, transport.session) if isinstance(transport, TlsStream) else (transport, None)


def descriptor_of(stream: trio.abc.Stream) -> int:
    """The file descriptor of a socket's stream; -1 where there is no socket."""
    return stream.socket.fileno() if isinstance(stream, trio.SocketStream) else -1
