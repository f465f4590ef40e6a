"""One WebSocket connection below its messages: opened, read, written and closed (RFC 6455; DESIGN.md §4).

What is plain is done here, by the frame parser, the outbox and the closing handshake below; for everything else trio-websocket is called
in, which from then on has the last word, the close included. `Link` knows what the messages mean, and nothing of frames.
"""

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import trio

from signal_gateway.domain.rate_limit import Rate
from signal_gateway.observe.metrics import Metrics
from signal_gateway.websocket.frame_parser import CLOSE, PING, PONG, FrameParser, close_code, close_frame, data_frame
from signal_gateway.websocket.lane import Lane
from signal_gateway.websocket.library import LOST, Library
from signal_gateway.websocket.outbox import Outbox, OutboxSettings
from signal_gateway.websocket.stream import LinkStream
from signal_gateway.websocket.turn import Turn

CLOSED_BY_PEER = "closed by the peer"
CONNECTION_LOST = "connection lost"

Heard = TypeVar("Heard")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one connection may take, of its rate, its memory and its time."""

    outbox: OutboxSettings
    frames: Rate
    """Frames, whatever is in them."""
    fragments_max: int
    message_bytes_max: int
    read_bytes_max: int
    """Bytes of one read."""
    close_s: float
    """Seconds that a peer has for its answer to our close."""
    close_bytes_max: int
    """Bytes that are read meanwhile."""


class Hearer(Protocol):
    """Who is told what the connection hears."""

    def hear_data(self, is_text: bool, payload: bytes) -> bool:
        """A whole message. Returns False when it must be waited for: `Connection.hear_on_after` is called with what."""
        ...

    def hear_late(self, is_text: bool, payload: bytes) -> Coroutine[Any, Any, None] | None:
        """A whole message that trio-websocket put together. What is returned is awaited before the next one."""
        ...

    def hear_pong(self) -> None:
        """A sign of life."""
        ...

    def refuse_size(self, limit: str) -> None:
        """A message is larger than the setting `limit` allows; nothing more is heard. To be closed with 1009."""
        ...

    def ended(self, code: int, reason: str) -> None:
        """The peer has closed with this code, or is gone without one (1006). Not called after a close of ours."""
        ...

    def too_slow(self, limit: str) -> None:
        """The peer does not read what is sent, up to the setting `limit` (H14)."""
        ...


class Connection:
    """Made of a transport whose upgrade was read; `answer` is what accepts it, `rest` what came behind it."""

    __slots__ = (
        "_answer",
        "_bounds",
        "_hearer",
        "_is_closing",
        "_library",
        "_metrics",
        "_nursery",
        "_over",
        "_turn",
        "hear_data",
        "hear_pong",
        "outbox",
        "parser",
        "stream",
    )

    def __init__(
        self, hearer: Hearer, transport: trio.abc.Stream, answer: bytes, rest: bytes, bounds: Bounds, metrics: Metrics, turn: Turn
    ) -> None:
        self._hearer = hearer
        self.hear_data = hearer.hear_data
        self.hear_pong = hearer.hear_pong
        self._answer = answer
        self._bounds = bounds
        self._metrics = metrics
        self._turn = turn
        self._nursery: trio.Nursery | None = None
        self._library: Library | None = None
        self._over = trio.Event()
        self._is_closing = False  # by us or by the peer; nothing but the rest of a close is said any more
        self.outbox = Outbox(bounds.outbox, transport, metrics, turn, self._spawn, hearer.too_slow)
        """What the peer is to be sent."""
        self.parser = FrameParser(self, bounds.fragments_max)
        """What it says, in frames."""
        self.stream = LinkStream(
            transport, self.outbox, self.parser, rest, bounds.frames, metrics, turn, self._spawn, self._lost, bounds.read_bytes_max
        )
        """Its bytes."""

    async def serve(self, nursery: trio.Nursery, lane: Lane | None, opened: Callable[[], None]) -> None:
        """Accept the upgrade, call `opened` once, and read until peer or we have ended it; then cancel `nursery`, which is its own.

        Whoever leaves this, be it by the cancellation of one who takes its place, says and hears nothing more: the nursery may be closed a
        moment before those who knew of the connection hear of its end.
        """
        self._nursery = nursery
        try:
            await self._serve(lane, opened)
        finally:
            self._nursery = None
            self.parser.stop()
            self._lost()
        nursery.cancel_scope.cancel()

    async def _serve(self, lane: Lane | None, opened: Callable[[], None]) -> None:

        def open_it() -> None:
            self.outbox.put(self._answer)
            self._answer = b""
            opened()

        self._in_turn(open_it)  # the answer and a greeting are one write
        self.stream.begin(lane)
        await self._over.wait()
        await (self.stream.aclose() if self._library is None else self._library.aclose())

    def close(self, code: int, reason: str) -> None:
        """Say goodbye, and end when the peer has answered, or `close_s` is over. Once; after the peer's own close it does nothing."""
        if self._is_closing:
            return
        self._is_closing = True
        self.stream.read_at_most(self._bounds.close_bytes_max)
        if self._library is not None:
            self._spawn(partial(self._close_by_library, self._library, code, reason))
            return
        self.outbox.put(close_frame(code, reason), is_last_word=True)
        if self.parser.is_stopped:  # not even its answer is heard
            self._over.set()
        else:
            self._spawn(self._give_up_waiting)

    def hear_on_after(self, waiting: Coroutine[Any, Any, None]) -> None:
        """A message must be waited for; those behind it are heard afterwards."""
        self._spawn(partial(self._hear_on, waiting))

    def ping(self) -> None:
        """Ask the peer for a sign of life."""
        self.outbox.put(data_frame(PING, b""))
        self._metrics.messages.add("out", "ping")

    def let_go(self) -> None:
        """Cut what its parts know of each other, so that its memory is free at once: nothing collects cycles often (DESIGN.md §4)."""
        self.parser.stop()
        self.outbox.end()
        self.stream.forget()
        if self._library is not None:
            self._library.let_go()
        self._library = self._nursery = None
        del self._hearer, self.hear_data, self.hear_pong

    # called by the frame parser; what carries data it gives to the hearer without a way round

    def hear_pings(self, payload: bytes, count: int) -> None:
        """See FrameHearer."""
        self._metrics.messages.add("in", "ping", by=count)
        if not self._is_closing:
            self.outbox.put(data_frame(PONG, payload))
            self._metrics.messages.add("out", "pong")

    def hear_close(self, payload: bytes) -> bool:
        """See FrameHearer: the peer closes, or answers our close."""
        if self._library is not None or (code := close_code(payload)) is None:
            return False
        if not self._is_closing:
            self._is_closing = True
            self.outbox.put(data_frame(CLOSE, payload), is_last_word=True)
            self._hearer.ended(code, CLOSED_BY_PEER)
        self._over.set()
        return True

    def refuse_size(self, limit: str) -> None:
        """See FrameHearer. Of one who was told that we close, no answer is heard now."""
        was_told = self._is_closing
        self._hearer.refuse_size(limit)
        if was_told:
            self._over.set()

    def pass_on(self, data: bytes) -> bool:
        """See FrameHearer. Who was told that we close is not heard any more, save for his own close."""
        nursery = self._nursery
        if self._library is None:
            if self._is_closing or nursery is None:
                return False
            self._library = self.stream.library = Library(self.outbox, self._bounds.message_bytes_max, self.stream.aclose)
            nursery.start_soon(self._hear_library, self._library, nursery)
        self._library.pass_on(data, self.parser.is_passing)
        return True

    # inside

    def _spawn(self, task: Callable[[], Awaitable[None]]) -> None:
        """Start a task of this connection: one that is idle has none but the link's own."""
        if self._nursery is not None:
            self._nursery.start_soon(task)

    def _lost(self) -> None:
        """The stream has ended."""
        if not self._is_closing:
            self._is_closing = True
            self._hearer.ended(LOST, CONNECTION_LOST)
        self._over.set()

    async def _give_up_waiting(self) -> None:
        await trio.sleep(self._bounds.close_s)
        self._cancel()

    async def _close_by_library(self, library: Library, code: int, reason: str) -> None:
        with trio.move_on_after(self._bounds.close_s):
            await library.close(code, reason)
        self._cancel()

    def _cancel(self) -> None:
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def _hear_library(self, library: Library, nursery: trio.Nursery) -> None:
        code = await library.hear(nursery, self._hear_late)
        if not self._is_closing:
            self._is_closing = True
            self._hearer.ended(code, CONNECTION_LOST if code == LOST else CLOSED_BY_PEER)
            self._over.set()
        elif self.parser.is_stopped:
            self._over.set()  # else `_close_by_library` waits for the peer's answer, and ends it

    async def _hear_late(self, is_text: bool, payload: bytes) -> None:
        if (waiting := self._in_turn(partial(self._hearer.hear_late, is_text, payload))) is not None:
            await waiting
        self._in_turn(self.parser.library_gave_message)
        self.stream.go_on()

    async def _hear_on(self, waiting: Coroutine[Any, Any, None]) -> None:
        await waiting
        self._in_turn(self.parser.resume)
        self.stream.go_on()

    def _in_turn(self, hear: Callable[[], Heard]) -> Heard:
        """Hear what was kept while something was waited for."""
        turn = self._turn
        turn.begin(trio.current_time())
        try:
            return hear()
        finally:
            turn.end()
