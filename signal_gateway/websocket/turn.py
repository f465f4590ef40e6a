"""One turn of hearing: from the first byte that is read to the last answer that is written, without waiting (DESIGN.md §4).

A turn is a wake of the lane with all links in it, or one read of a link that has a task of its own. What is asked once for all messages
of it - the time, whether the writer has room - is asked when it begins. When it ends, what links have to say is written, in one write for
each, however many answers, and signals from other links, that is; and what is counted for every message goes to the metrics.
"""

from collections.abc import Callable
from typing import Protocol

from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics

log = logger("websocket")

_IN, _OUT = ("in",), ("out",)
_BEAT_IN, _BEAT_OUT = ("in", "heartbeat"), ("out", "heartbeat_ack")


class Flushable(Protocol):
    """What the turn must know of an outbox."""

    def flush(self) -> None:
        """Write what waits. Raises nothing."""
        ...


class Turn:
    """The present turn of a gateway; everything in it happens in one task, between two checkpoints."""

    __slots__ = (
        "_ask_room",
        "_bytes",
        "_errors",
        "_marked",
        "_messages",
        "_socket_bytes",
        "beat_bytes",
        "beats",
        "bytes_in",
        "bytes_out",
        "has_room",
        "is_on",
        "now",
        "socket_bytes_in",
        "socket_bytes_out",
    )

    def __init__(self, ask_room: Callable[[], bool], metrics: Metrics) -> None:
        self.is_on = False
        """Whether somebody is being heard: then what is put is written at the end."""
        self.now = 0.0
        """Trio seconds at which the turn began."""
        self.has_room = True
        """Whether the batch writer kept up when the turn began."""
        self.beats = 0
        """Plain heartbeats heard and answered in this turn."""
        self.beat_bytes = 0
        """Bytes of them; of their answers it is as many."""
        self.bytes_in = 0
        """Bytes of messages heard in this turn."""
        self.bytes_out = 0
        """Bytes of messages said in this turn."""
        self.socket_bytes_in = 0
        """Bytes read from sockets in this turn."""
        self.socket_bytes_out = 0
        """Bytes written to sockets in this turn."""
        self._ask_room = ask_room
        self._errors = metrics.errors
        self._messages = metrics.messages
        self._bytes = metrics.bytes
        self._socket_bytes = metrics.socket_bytes
        self._marked: list[Flushable] = []

    def begin(self, now: float) -> None:
        """Hear from now on. Turns do not nest."""
        self.is_on = True
        self.now = now
        self.has_room = self._ask_room()

    def mark(self, outbox: Flushable) -> None:
        """This outbox has something to write at the end of the turn."""
        self._marked.append(outbox)

    def end(self) -> None:
        """Write what was said, and count what was heard."""
        try:
            for outbox in self._marked:  # who is marked meanwhile - a goodbye to a slow peer - has its place at the end
                try:
                    outbox.flush()
                except Exception:  # all links share the turn: one that cannot be written to must not keep the others from it
                    self._errors.add("outbox")
                    log.exception("an outbox failed")
        finally:
            self._marked.clear()
            self.is_on = False
            self._tell()

    def _tell(self) -> None:
        if self.beats:
            self._messages.values[_BEAT_IN] += self.beats
            self._messages.values[_BEAT_OUT] += self.beats
            self.beats = 0
        self._bytes.values[_IN] += self.bytes_in + self.beat_bytes
        self._bytes.values[_OUT] += self.bytes_out + self.beat_bytes
        self._socket_bytes.values[_IN] += self.socket_bytes_in
        self._socket_bytes.values[_OUT] += self.socket_bytes_out
        self.bytes_in = self.bytes_out = self.beat_bytes = self.socket_bytes_in = self.socket_bytes_out = 0
