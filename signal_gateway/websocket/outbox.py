"""What a link is to send: bounded, in order, written by one hand (DESIGN.md §4, H14).

`put` never waits. During a turn of hearing it only takes note, and the turn writes at its end; otherwise it writes to the socket at
once. What the socket does not take, and all for streams that are no sockets, stays here, and a task that is started for it writes it
when it can. A peer that reads too slowly for the bounds, or not at all for `write_deadline_s`, loses its link.
"""

import os
import ssl
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec
import trio

from signal_gateway.observe.metrics import Metrics
from signal_gateway.websocket.tls import TlsSession, descriptor_of, unwrapped
from signal_gateway.websocket.turn import Turn

BATCH_MESSAGES_MAX = 64
"""So many messages of one turn become one write, so that a burst of short answers never counts as a slow peer."""
_OUT = ("out",)


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much may wait for one peer to read it."""

    messages_max: int = 256
    """Messages that may wait; one more ends the link with 4001."""
    bytes_max: int = 262_144
    """Bytes that may wait; one more ends the link with 4001."""
    write_deadline_s: float = 10.0
    """Seconds in which a peer must take something of what waits, else the link ends with 4001."""


Spawn = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a task in the nursery of a link."""


class Outbox:
    """The bytes on their way to one peer.

    `spawn` starts a task of the link, for what cannot be written at once. `on_slow` is called once, with the setting that was reached,
    when the peer is too slow.
    """

    __slots__ = (
        "_batch",
        "_blocked",
        "_bytes",
        "_bytes_max",
        "_bytes_out",
        "_chunks",
        "_drained",
        "_ended",
        "_fd",
        "_first",
        "_in_flight",
        "_is_marked",
        "_is_over",
        "_joined",
        "_limits",
        "_on_slow",
        "_raw",
        "_settings",
        "_spawn",
        "_tls",
        "_turn",
        "_unsent",
        "_writes_on",
        "sent_at",
    )

    def __init__(
        self,
        settings: OutboxSettings,
        transport: trio.abc.Stream,
        metrics: Metrics,
        turn: Turn,
        spawn: Spawn,
        on_slow: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._bytes_max = settings.bytes_max
        self._raw, self._tls = unwrapped(transport)
        self._fd = descriptor_of(self._raw)
        self._limits = metrics.limits
        self._bytes_out = metrics.socket_bytes
        self._turn = turn
        self._on_slow = on_slow
        self._spawn = spawn
        self._writes_on = False
        self._first = b""  # put during this turn: nearly always all
        self._batch: list[bytes] = []  # what was put behind it
        self._is_marked = False
        self._chunks: deque[bytes] = deque()
        self._unsent = b""  # what the socket did not take, as it goes on the wire; chunks are still to be sealed
        self._bytes = 0
        self._blocked = False
        self._ended = False
        self._in_flight = 0  # chunks that send_all is writing
        self._joined = 0  # messages in the last chunk
        self._is_over = False
        self._drained: trio.Event | None = None
        self.sent_at = trio.current_time()
        """When something was last put, in seconds of Trio's clock: silence of ours for too long is broken by a ping."""

    @property
    def bytes_waiting(self) -> int:
        """Bytes that the peer has not taken."""
        return self._bytes

    @property
    def messages_waiting(self) -> int:
        """Writes that the peer has not taken: messages, short answers of one turn, or the rest of what was taken in part."""
        return len(self._chunks) + bool(self._unsent) + bool(self._first)

    def put(self, frame: bytes, is_last_word: bool = False) -> None:
        """Send one WebSocket frame (or the answer to the upgrade) after all that was put before it. Never waits.

        After the bounds were reached only a last word - a close frame - is still taken.
        """
        if self._ended or (self._is_over and not is_last_word):
            return
        self._bytes += len(frame)
        if self._is_marked:
            if self._first:
                self._batch.append(frame)
            else:
                self._first = frame
            if len(self._batch) >= BATCH_MESSAGES_MAX - 1 or self._bytes > self._bytes_max:
                self._write_batch()
        elif self._turn.is_on:
            self._is_marked = True
            self._turn.mark(self)
            self._first = frame
        else:
            self._append(frame)
            self._press()

    def put_sealed(self, data: bytes) -> None:
        """Send what TLS itself has to say, behind what was sealed before."""
        if self._ended:
            return
        if self._is_over:  # no more may wait; and what followed could not be opened without it
            self.end()
            return
        if self._unsent:
            self._unsent += data
            self._bytes += len(data)
        else:
            waiting = self._bytes  # of this turn; not sealed yet
            self._write(data)
            if self._ended:
                return
            self._bytes += waiting
        self._check_bounds()

    def flush(self) -> None:
        """See Flushable: the turn has ended."""
        self._is_marked = False
        if not self._first:
            return
        if self._fd < 0 or self._blocked:
            self._write_batch()
            return
        data = self._take_batch() if self._batch else self._first
        self._first = b""
        self.sent_at = self._turn.now
        self._write(data if self._tls is None else self._seal(self._tls, data))
        if self._bytes:
            self._check_bounds()

    async def drain(self) -> None:
        """Wait until the peer's side of the socket has taken everything, or the link has ended."""
        while (self._chunks or self._unsent or self._first) and not self._ended:
            if self._drained is None:
                self._drained = trio.Event()
            await self._drained.wait()
        await trio.lowlevel.checkpoint()

    def end(self) -> None:
        """Nothing more is written: the socket is about to close, and its number may soon be another's."""
        self._ended = True
        self._on_slow = _nobody_minds
        self._spawn = _nobody_writes
        self._chunks.clear()
        self._batch.clear()
        self._first = self._unsent = b""
        self._bytes = 0
        self._tell_if_drained()

    def _append(self, frame: bytes) -> None:
        """Behind the others. Where another task writes, frames are joined, or many answers at once would look like a slow peer."""
        if self._fd < 0 and len(self._chunks) > self._in_flight and self._joined < BATCH_MESSAGES_MAX:
            self._chunks[-1] += frame
            self._joined += 1
        else:
            self._chunks.append(frame)
            self._joined = 1

    def _write_batch(self) -> None:
        if not self._ended:
            self._chunks.append(self._take_batch())
            self._press()

    def _take_batch(self) -> bytes:
        """What was put during this turn, of which nothing is left."""
        data = b"".join((self._first, *self._batch))
        self._first = b""
        self._batch.clear()
        return data

    def _press(self) -> None:
        """Write what can be written now, then see whether too much is left."""
        self.sent_at = self._turn.now if self._turn.is_on else trio.current_time()
        if self._fd < 0:
            self._need_writer()
        elif not self._blocked:
            self._write(self._sealed())
        self._check_bounds()

    def _check_bounds(self) -> None:
        if len(self._chunks) + bool(self._unsent) > self._settings.messages_max:
            self._over("outbox.messages_max")
        elif self._bytes > self._bytes_max:
            self._over("outbox.bytes_max")

    def _sealed(self) -> bytes:
        """All chunks, as they go on the wire; there are none afterwards."""
        if not self._chunks:
            return b""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        return data if self._tls is None else self._seal(self._tls, data)

    def _seal(self, tls: TlsSession, data: bytes) -> bytes:
        try:
            return tls.sealed(data)
        except ssl.SSLError:  # it failed before, and the reading side has seen it
            self.end()
            return b""

    def _write(self, data: bytes) -> None:
        if self._ended:
            return
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the reading side sees the same, and tells it
            self.end()
            return
        if self._turn.is_on:
            self._turn.socket_bytes_out += sent
        else:
            self._bytes_out.values[_OUT] += sent
        if sent < len(data):
            self._unsent = data[sent:]
            self._bytes = len(self._unsent)
            self._blocked = True
            self._need_writer()
        else:
            self._unsent = b""
            self._bytes = 0
            if self._drained is not None:
                self._tell_if_drained()

    async def _write_on(self) -> None:
        """Write what could not be written at once, until nothing waits."""
        try:
            while (self._chunks or self._unsent) and not self._ended:
                with trio.move_on_after(self._settings.write_deadline_s) as deadline:
                    await (self._send_chunks() if self._fd < 0 else self._write_when_writable())
                if deadline.cancelled_caught:
                    self._over("outbox.write_deadline_s")  # the link ends soon; until then its last word may still go out
                    if self._fd < 0:
                        self.end()  # how much of it was sent nobody knows: what followed would stand inside a frame
        finally:
            self._writes_on = False

    def _need_writer(self) -> None:
        if not self._writes_on:
            self._writes_on = True
            self._spawn(self._write_on)

    async def _write_when_writable(self) -> None:
        await trio.lowlevel.wait_writable(self._fd)
        self._blocked = False
        if not self._ended:
            self._write(self._unsent + self._sealed())

    async def _send_chunks(self) -> None:
        data = b"".join(self._chunks)
        written = self._in_flight = len(self._chunks)
        try:
            await self._raw.send_all(data)
        finally:
            self._in_flight = 0
        self._bytes_out.values[_OUT] += len(data)
        for _ in range(min(written, len(self._chunks))):
            self._bytes -= len(self._chunks.popleft())
        self._tell_if_drained()

    def _tell_if_drained(self) -> None:
        if self._drained is not None and not (self._chunks or self._unsent or self._first):
            self._drained.set()
            self._drained = None

    def _over(self, limit: str) -> None:
        if not self._is_over and not self._ended:
            self._is_over = True
            self._limits.add(limit)
            self._on_slow(limit)


def _nobody_writes(task: Callable[[], Awaitable[None]]) -> None:
    """After the end nothing is written."""


def _nobody_minds(limit: str) -> None:
    """After the end nobody is slow."""
