"""The lane: one task that reads every socket through one epoll set, TLS or not (DESIGN.md §4).

A Trio task is woken for every socket that has bytes, and re-arms epoll each time; here one task is woken for all of them. An epoll set is a
file descriptor itself, so Trio can wait for it like for a socket. What is read goes to the same parser as with a task per link.
"""

import select
import time
from collections import deque
from typing import Protocol

import trio

from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import COUNT_BUCKETS, Metrics
from signal_gateway.websocket.turn import Turn

EVENTS_MAX = 512
"""Sockets looked at in one wake."""
WAKE_SECONDS_MAX = 0.002
"""A wake ends after so long, so that other tasks get their turn; what it has not read is read in the next one."""

HAS_EPOLL = hasattr(select, "epoll")
_READ = select.EPOLLIN | select.EPOLLRDHUP if HAS_EPOLL else 0

log = logger("websocket")


class Readable(Protocol):
    """What the lane must know of a link's stream."""

    @property
    def descriptor(self) -> int:
        """The socket's file descriptor."""
        ...

    def read_now(self, now: float) -> None:
        """Read what is there, and hear it; `now` is in Trio seconds."""
        ...

    def fail(self) -> None:
        """A fault of ours in the middle of hearing: end this link alone."""
        ...


class Lane:
    """Owns the epoll set. A stream is in it while it may be read; one that is paused is taken out, for a hang-up cannot be masked."""

    def __init__(self, metrics: Metrics, turn: Turn) -> None:
        self._turn = turn
        self._epoll = select.epoll()
        self._streams: dict[int, Readable] = {}
        # Named by epoll and not read yet. Asked again, epoll would put them behind all others: under load some would never have their turn.
        self._readable: deque[int] = deque()
        self._errors = metrics.errors
        self._wake_seconds = metrics.histogram("lane_wake_seconds", "How long one wake of the lane took, all its messages handled.")
        self._wake_links = metrics.histogram("lane_wake_links", "Links that one wake of the lane read.", COUNT_BUCKETS)
        metrics.gauge(
            "lane_links", "Links that the lane reads; the others are paused, or have a task of their own.", lambda: len(self._streams)
        )

    def __len__(self) -> int:
        return len(self._streams)

    def enter(self, stream: Readable) -> None:
        """Read this stream from now on."""
        descriptor = stream.descriptor
        if descriptor >= 0 and self._streams.get(descriptor) is not stream:
            self._streams[descriptor] = stream
            self._epoll.register(descriptor, _READ)

    def leave(self, stream: Readable) -> None:
        """Read it no more: paused, or about to close. Its number may be another's by now, who stays."""
        descriptor = stream.descriptor
        if self._streams.get(descriptor) is stream:
            del self._streams[descriptor]
            self._epoll.unregister(descriptor)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read whatever has bytes, until cancelled."""
        task_status.started()
        try:
            while True:
                if self._readable:  # of the last wake, whose time was up
                    await trio.lowlevel.checkpoint()
                else:  # comes back at once while there is more: one pass of Trio's loop for a wake, not two
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                    self._readable.extend(descriptor for descriptor, _ in self._epoll.poll(0, EVENTS_MAX))
                self._wake()
        finally:
            self._streams.clear()  # where everything is cancelled at once, links end after the lane
            self._epoll.close()

    def _wake(self) -> None:
        begun_at = time.perf_counter()
        turn = self._turn
        turn.begin(trio.current_time())
        try:
            read = self._read(turn.now, begun_at + WAKE_SECONDS_MAX)
        finally:
            turn.end()
        self._wake_seconds.observe(time.perf_counter() - begun_at)
        self._wake_links.observe(read)

    def _read(self, now: float, ends_at: float) -> int:
        """Read those that epoll named, until time is up; how many were read."""
        readable, streams, clock = self._readable, self._streams, time.perf_counter
        read = 0
        while readable:
            stream = streams.get(readable.popleft())
            if stream is None:  # paused, or ended, since epoll named it
                continue
            try:
                stream.read_now(now)
            except Exception:
                self._errors.add("link")
                log.exception("a link failed in the lane")
                stream.fail()
            read += 1
            if clock() >= ends_at:
                break
        return read
