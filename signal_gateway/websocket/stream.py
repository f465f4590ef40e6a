"""What a link reads, and when: every byte of it passes here (DESIGN.md §4).

There are two pumps for one frame parser: the lane, which reads all sockets in one task, TLS or not, and a task of the link's own (for
memory streams, and systems without epoll).
"""

import os
import ssl
from collections.abc import Awaitable, Callable
from math import inf

import trio

from signal_gateway.domain.rate_limit import Rate, TokenBucket
from signal_gateway.observe.metrics import Metrics
from signal_gateway.websocket.frame_parser import FrameParser
from signal_gateway.websocket.lane import Lane
from signal_gateway.websocket.library import Library
from signal_gateway.websocket.outbox import Outbox, Spawn
from signal_gateway.websocket.tls import OWN_BYTES_FREE, TlsSession, descriptor_of, unwrapped
from signal_gateway.websocket.turn import Turn

LAST_WORD_S = 1.0
"""Seconds in which a peer may read what was said last before its socket is closed."""
SMALL_READ_BYTES, MIDDLE_READ_BYTES = 448, 960
"""Who says less at a time is asked for so much: Python and the C library make small byte strings for less."""
SMALL_READS = 16
"""So many in a row, and a link is one that says little: the others say small things now and then, too."""
COUNTED_AT_ONCE = 16
"""Frames of which the bucket hears together, if that is little of its burst: one at a time is a twentieth of what a heartbeat costs."""


class LinkStream:
    """One connection's bytes after the head of its upgrade was read. `on_end` is called once, when no more come or go.

    `library` is what the parser's other bytes go to, where it was called in: then the end is told to it alone, for it may still have
    messages to give.
    """

    __slots__ = (
        "_count_at",
        "_counted",
        "_counted_at_once",
        "_ended",
        "_frames",
        "_lane",
        "_left_bytes",
        "_limits",
        "_may_feed",
        "_on_end",
        "_outbox",
        "_parser",
        "_raw",
        "_read_bytes",
        "_read_bytes_max",
        "_refusals",
        "_rest",
        "_small_reads",
        "_spawn",
        "_tls",
        "_transport",
        "_turn",
        "descriptor",
        "heard_at",
        "library",
        "read_not_before",
    )

    def __init__(
        self,
        transport: trio.abc.Stream,
        outbox: Outbox,
        parser: FrameParser,
        rest: bytes,
        frames: Rate,
        metrics: Metrics,
        turn: Turn,
        spawn: Spawn,
        on_end: Callable[[], None],
        read_bytes_max: int,
    ) -> None:
        self._transport = transport
        self._raw, self._tls = unwrapped(transport)
        self._outbox = outbox
        self._parser = parser
        self._rest = rest
        self._frames = TokenBucket(frames, trio.current_time())
        self._limits = metrics.limits
        self._refusals = metrics.refusals
        self._turn = turn
        self._spawn = spawn
        self._on_end = on_end
        self._read_bytes_max = read_bytes_max
        self._read_bytes = read_bytes_max  # of the next read, by what the last ones gave
        self._small_reads = 0
        self._may_feed: trio.Event | None = None
        self._counted = 0  # frames that the bucket knows of
        self._counted_at_once = self._count_at = max(1, min(COUNTED_AT_ONCE, int(frames.burst // 8)))
        self._left_bytes = inf  # to be read
        self._ended = False
        self._lane: Lane | None = None
        self.library: Library | None = None
        """Set when it is called in."""
        self.descriptor = descriptor_of(self._raw)
        """Of the socket; -1 where there is none."""
        self.read_not_before = 0.0
        """Trio seconds until which the socket is not read: the frames of this link are over their rate."""
        self.heard_at = trio.current_time()
        """When the peer was last heard, in Trio seconds. The clock stands still while we do not read."""

    async def aclose(self, last_word: bytes | None = None) -> None:
        """Close the socket, once the peer has taken what was said, or LAST_WORD_S is over."""
        try:
            if not self._ended:
                if last_word is not None:
                    self._outbox.put(last_word, is_last_word=True)
                if self._outbox.messages_waiting:
                    with trio.move_on_after(LAST_WORD_S):
                        await self._outbox.drain()
        finally:
            self.end()
            await self._transport.aclose()

    def read_at_most(self, size: int) -> None:
        """Read so many bytes more, and then no more: the peer was told that we close, and shall not make us read for nothing (H09)."""
        self._left_bytes = size

    def go_on(self) -> None:
        """What held the reading up may be over: a handler has ended, the library has read or spoken, and frames were heard on."""
        self._count_frames()
        self._wake()

    def begin(self, lane: Lane | None) -> None:
        """Read the socket and feed the parser from now on: by the lane where there is one, and a socket."""
        if lane is None or self.descriptor < 0:
            self._spawn(self._pump_by_task)
            return
        self._lane = lane
        self._hear_rest()
        self._read_on_or_wait()

    # called by the lane

    def read_now(self, now: float) -> None:
        """See Readable.read_now: one read, as large as the settings allow, so that no link holds the lane up."""
        lane = self._lane
        if lane is None:
            return
        try:
            data = os.read(self.descriptor, self._read_bytes)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        size = len(data)
        if size >= SMALL_READ_BYTES or self._read_bytes != SMALL_READ_BYTES:
            self._fit_reads(size)
        self._hear(data, now)
        parser = self._parser
        if (parser.is_paused or self.read_not_before > now or self.library is not None) and not self._ended and not self._is_welcome(now):
            lane.leave(self)
            self._spawn(self._wait_and_read_on)

    def _fit_reads(self, size: int) -> None:
        """How much the next read asks for. One that was filled up has a rest, which says nothing of what comes after it."""
        if size < SMALL_READ_BYTES:
            self._small_reads += 1
            if self._small_reads >= SMALL_READS:
                self._read_bytes = SMALL_READ_BYTES
            return
        self._small_reads = 0
        is_filled = size >= self._read_bytes
        self._read_bytes = self._read_bytes_max if is_filled or size >= MIDDLE_READ_BYTES else MIDDLE_READ_BYTES

    def fail(self) -> None:
        """See Readable.fail."""
        self.end()

    def end(self) -> None:
        """No more bytes either way."""
        if self._ended:
            return
        self._ended = True
        if self._lane is not None:
            self._lane.leave(self)
        self._outbox.end()
        self._wake()
        if self.library is not None:
            self.library.end()
        else:
            self._on_end()

    def forget(self) -> None:
        """The link has ended: nothing of it is kept in memory for this stream's sake."""
        self._on_end = _nobody_minds
        self.end()
        self._spawn = _nobody_starts
        self.library = None

    def _wake(self) -> None:
        if self._may_feed is not None:
            self._may_feed.set()

    def _read_on_or_wait(self) -> None:
        if self._lane is None or self._ended:
            return
        if self._is_welcome(trio.current_time()):
            self._lane.enter(self)
        else:
            self._spawn(self._wait_and_read_on)

    async def _wait_and_read_on(self) -> None:
        """The lane has let this link go: a task of its own waits for whatever holds the reading up."""
        await self._wait_until_more_is_welcome()
        self._read_on_or_wait()

    async def _pump_by_task(self) -> None:
        turn = self._turn
        try:
            self._hear_rest()
            while True:
                await self._wait_until_more_is_welcome()
                if self._ended or not (data := bytes(await self._raw.receive_some(self._read_bytes_max))):
                    break
                turn.begin(trio.current_time())
                try:
                    self._hear(data, turn.now)
                finally:
                    turn.end()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer is gone, or we closed the socket: both end the link, and who ended it said why
        finally:
            self.end()

    def _hear_rest(self) -> None:
        """What came right behind the head of the upgrade."""
        data, self._rest = self._rest, b""
        if not data:
            return
        turn = self._turn
        turn.begin(trio.current_time())
        try:
            self.heard_at = turn.now
            turn.socket_bytes_in += len(data)
            self._feed(data)
        finally:
            turn.end()

    def _hear(self, data: bytes, now: float) -> None:
        """What the socket gave, in a turn that began at `now`."""
        self.heard_at = now
        self._turn.socket_bytes_in += len(data)
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self._limits.add("link.close_bytes_max")
            self.read_not_before = inf
            return
        tls = self._tls
        if tls is None:
            self._feed(data)
            return
        if said := self._opened(tls, data):
            self._feed(said)
        if tls.own_bytes > OWN_BYTES_FREE:
            self._count_frames()
        if tls.is_over:
            self.end()

    def _opened(self, tls: TlsSession, data: bytes) -> bytes:
        try:
            said = tls.opened(data)
        except ssl.SSLError:
            self._refusals.add("bad_tls")
            self._outbox.put_sealed(tls.to_say())  # the alert that says so
            self.end()
            return b""
        if to_say := tls.to_say():
            self._outbox.put_sealed(to_say)
        return said

    def _feed(self, data: bytes) -> None:
        parser = self._parser
        parser.feed(data)
        if parser.frames >= self._count_at:
            self._count_frames()

    def _count_frames(self) -> None:
        """Over the rate of frames the socket is read later, and nothing is answered (CONTRACT.md §8)."""
        frames, self._counted = self._parser.frames - self._counted, self._parser.frames
        self._count_at = self._counted + self._counted_at_once
        if self._tls is not None:
            frames += self._tls.frames_owed(frames)
        if (owed_s := self._frames.spend(self.heard_at, frames)) > 0:
            if self.read_not_before <= self.heard_at:
                self._limits.add("limits.frames_per_s")
            self.read_not_before = max(self.read_not_before, self.heard_at + owed_s)

    def _is_welcome(self, now: float) -> bool:
        """Whether the socket may be read now."""
        return not (self._parser.is_paused or self.read_not_before > now or (self.library is not None and self.library.is_full))

    async def _wait_until_more_is_welcome(self) -> None:
        """A handler waits, the library has a message to give or bytes to read, or the rate of frames is used up."""
        while not self._ended and not self._is_welcome(trio.current_time()):
            if self._parser.is_paused:
                self._may_feed = trio.Event()
                await self._may_feed.wait()
            elif self.library is not None and self.library.is_full:
                await self.library.wait_for_room()
            else:
                await trio.sleep_until(self.read_not_before)
            self.heard_at = trio.current_time()


def _nobody_minds() -> None:
    """Who has let it go knows that it ends."""


def _nobody_starts(task: Callable[[], Awaitable[None]]) -> None:
    """After the end no task is started."""
