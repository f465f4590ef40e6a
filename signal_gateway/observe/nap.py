"""A chance for other threads while the event loop is never idle (DESIGN.md §5).

A thread of Python that wants the interpreter asks for it, and waits until the one that has it lets go. The loop lets go in each system
call, for microseconds, and takes it back before the other has woken: kept busy by small slices of work, it can starve the thread of the
database for minutes. So a busy loop sleeps for a tenth of a millisecond now and then, and only while somebody waits for another thread.
"""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import trio

from signal_gateway.observe.metrics import Metrics

NAP_EVERY_S = 0.0005
"""Seconds of a loop that was not idle, after which it naps: a batch of 500 rows asks for the interpreter some forty times."""
NAP_S = 0.0001
"""Seconds of a nap, at least: it ends when the other thread lets go again."""


class Nap(trio.abc.Instrument):
    """`is_awaited` tells whether another thread has work that somebody waits for.

    Trio calls it once for each pass of its loop, however many tasks run in that.
    """

    def __init__(self, is_awaited: Callable[[], bool], metrics: Metrics) -> None:
        self._is_awaited = is_awaited
        self._naps = metrics.counter("loop_naps_total", "Naps of a busy event loop, for threads that somebody waits for.")
        self._rested_at = time.perf_counter()

    @contextmanager
    def installed(self) -> Generator[None]:
        """Nap in this run of Trio while the context lasts."""
        trio.lowlevel.add_instrument(self)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        """A loop that is about to wait lets the others have the interpreter anyway."""
        if timeout > 0:
            self._rested_at = float("inf")

    def after_io_wait(self, timeout: float) -> None:
        """The loop has looked for events: nap, if it has not waited for them for too long."""
        now = time.perf_counter()
        if self._rested_at > now:
            self._rested_at = now
        elif now - self._rested_at >= NAP_EVERY_S:
            if self._is_awaited():
                time.sleep(NAP_S)
                self._naps.add()
                now = time.perf_counter()
            self._rested_at = now
