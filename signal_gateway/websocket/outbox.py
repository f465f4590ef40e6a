"""What a link is to send: bounded, in order, written by one hand (DESIGN.md §4, H14).

`put` never waits. Outside of a batch it writes to a plain socket at once; what the socket does not take, and all for other streams, stays
here, and a task that is started for it writes it when it can. A peer that reads too slowly for the bounds, or not at all for
`write_deadline_s`, loses its link.
"""

import os
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec
import trio

from signal_gateway.observe.metrics import Metrics

BATCH_MESSAGES_MAX = 64
"""So many messages of a batch become one write, so that a burst of short answers never counts as a slow peer."""


class OutboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much may wait for one peer to read it."""

    messages_max: int = 256
    """Messages that may wait; one more ends the link with 4001."""
    bytes_max: int = 262_144
    """Bytes that may wait; one more ends the link with 4001."""
    write_deadline_s: float = 10.0
    """Seconds in which a peer must take something of what waits (over TLS: all of it), else the link ends with 4001."""


Spawn = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a task in the nursery of a link."""


class Outbox:
    """The bytes on their way to one peer.

    `spawn` starts a task of the link, for what cannot be written at once. `on_slow` is called once, with the setting that was reached,
    when the peer is too slow.
    """

    __slots__ = (
        "_batch",
        "_batching",
        "_blocked",
        "_bytes",
        "_bytes_out",
        "_chunks",
        "_drained",
        "_ended",
        "_fd",
        "_in_flight",
        "_is_over",
        "_joined",
        "_limits",
        "_on_slow",
        "_settings",
        "_spawn",
        "_transport",
        "_writes_on",
        "sent_at",
    )

    def __init__(
        self, settings: OutboxSettings, transport: trio.abc.SendStream, metrics: Metrics, spawn: Spawn, on_slow: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._fd = transport.socket.fileno() if isinstance(transport, trio.SocketStream) else -1
        self._limits = metrics.limits
        self._bytes_out = metrics.socket_bytes
        self._on_slow = on_slow
        self._spawn = spawn
        self._writes_on = False
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._batch: list[bytes] = []
        self._batching = False
        self._blocked = False
        self._ended = False
        self._in_flight = 0  # chunks that send_all is writing
        self._joined = 0  # messages in the last chunk
        self._is_over = False
        self._drained = trio.Event()
        self.sent_at = trio.current_time()
        """When something was last put, in seconds of Trio's clock: silence of ours for too long is broken by a ping."""

    @property
    def bytes_waiting(self) -> int:
        """Bytes that the peer has not taken."""
        return self._bytes

    @property
    def messages_waiting(self) -> int:
        """Writes that the peer has not taken: messages, or batches of short answers."""
        return len(self._chunks) + bool(self._batch)

    def put(self, frame: bytes, is_last_word: bool = False) -> None:
        """Send one WebSocket frame (or the answer to the upgrade) after all that was put before it. Never waits.

        After the bounds were reached only a last word - a close frame - is still taken.
        """
        if self._ended or (self._is_over and not is_last_word):
            return
        self._bytes += len(frame)
        if self._batching:
            self._batch.append(frame)
            if len(self._batch) >= BATCH_MESSAGES_MAX:
                self._write_batch()
        else:
            self._append(frame)
            if not self._blocked:
                self._flush()
        if len(self._chunks) > self._settings.messages_max:
            self._over("outbox.messages_max")
        elif self._bytes > self._settings.bytes_max:
            self._over("outbox.bytes_max")

    def begin_batch(self) -> None:
        """Keep what is put from now on together, for one write at `end_batch`."""
        self._batching = True

    def end_batch(self) -> None:
        """Write what was put since `begin_batch`."""
        self._batching = False
        if self._batch:
            self._write_batch()

    async def drain(self) -> None:
        """Wait until the peer's side of the socket has taken everything, or the link has ended."""
        while (self._chunks or self._batch) and not self._ended:
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
        self._bytes = 0
        self._drained.set()

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
            self._chunks.append(b"".join(self._batch))
            self._batch.clear()
            if not self._blocked:
                self._flush()

    async def _write_on(self) -> None:
        """Write what could not be written at once, until nothing waits."""
        try:
            while self._chunks and not self._ended:
                with trio.move_on_after(self._settings.write_deadline_s) as deadline:
                    await self._write_some()
                if deadline.cancelled_caught:
                    self._over("outbox.write_deadline_s")  # the link ends soon; until then its last word may still go out
        finally:
            self._writes_on = False

    def _need_writer(self) -> None:
        if not self._writes_on:
            self._writes_on = True
            self._spawn(self._write_on)

    async def _write_some(self) -> None:
        if self._fd >= 0:
            await trio.lowlevel.wait_writable(self._fd)
            self._blocked = False
            if not self._ended:
                self._flush()
            return
        data = b"".join(self._chunks)
        written = self._in_flight = len(self._chunks)
        try:
            await self._transport.send_all(data)
        finally:
            self._in_flight = 0
        self._bytes_out.add("out", by=len(data))
        for _ in range(min(written, len(self._chunks))):
            self._bytes -= len(self._chunks.popleft())
        self._told_if_drained()

    def _flush(self) -> None:
        self.sent_at = trio.current_time()
        if self._fd < 0:
            self._need_writer()
            return
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the reading side sees the same, and tells it
            self.end()
            return
        self._bytes_out.add("out", by=sent)
        self._chunks.clear()
        self._bytes -= sent
        if sent < len(data):
            self._chunks.append(data[sent:])
            self._blocked = True
            self._need_writer()
        self._told_if_drained()

    def _told_if_drained(self) -> None:
        if not self._chunks:
            self._drained.set()

    def _over(self, limit: str) -> None:
        if not self._is_over and not self._ended:
            self._is_over = True
            self._limits.add(limit)
            self._on_slow(limit)


def _nobody_writes(task: Callable[[], Awaitable[None]]) -> None:
    """After the end nothing is written."""


def _nobody_minds(limit: str) -> None:
    """After the end nobody is slow."""
