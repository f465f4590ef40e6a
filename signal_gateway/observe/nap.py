"""A chance for other threads while the event loop is never idle (DESIGN.md §5).

A thread of Python that wants the interpreter asks for it, and waits until the one that has it lets go. The loop lets go in each system
call, for microseconds, and takes it back before the other has woken: kept busy by small slices of work, it can starve the thread of the
database for minutes. So a busy loop sleeps for a tenth of a millisecond now and then, while somebody waits for another
thread and nothing comes back from it.
"""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import trio

from signal_gateway.observe.metrics import Metrics

NAP_AFTER_S = 0.003
"""Seconds in which nothing came back from the other thread, after which the loop believes that it starves it."""
NAP_EVERY_S = 0.0005
"""Seconds between two naps from then on: a batch of 500 rows asks for the interpreter some forty times."""
NAP_S = 0.0001
"""Seconds of a nap, at least: it ends when the other thread lets go again."""
LONGER_EVERY_S = 0.005
LONGEST_NAPS = 4
"""For each LONGER_EVERY_S without an answer a nap more may be taken in a row, at most so many: what takes long has much to ask."""
USED_S = 0.00002
"""Seconds of CPU that other threads took in a nap which was of use to them: where the disk is waited for, another one is not."""


class Nap(trio.abc.Instrument):
    """`waiting` tells how many jobs of another thread somebody waits for, `answered` how many have come back so far.

    Trio calls it once for each pass of its loop, however many tasks run in that.
    """

    def __init__(self, waiting: Callable[[], int], answered: Callable[[], int], metrics: Metrics) -> None:
        self._waiting = waiting
        self._answered = answered
        self._answered_before = 0
        self._naps = metrics.counter("loop_naps_total", "Naps of a busy event loop, for threads that somebody waits for.")
        self._looked_at = self._well_at = time.perf_counter()
        self._has_waited = False

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
        self._has_waited = timeout > 0

    def after_io_wait(self, timeout: float) -> None:
        """The loop has looked for events: nap, if it starves the other thread."""
        now = time.perf_counter()
        if self._has_waited:
            self._looked_at = self._well_at = now
        elif now - self._looked_at >= NAP_EVERY_S:
            self._looked_at = now
            answered, before = self._answered(), self._answered_before
            self._answered_before = answered
            if answered != before or not self._waiting():
                self._well_at = now
            elif (starved_s := now - self._well_at) >= NAP_AFTER_S:
                self._nap(min(LONGEST_NAPS, 1 + int(starved_s / LONGER_EVERY_S)))

    def _nap(self, times: int) -> None:
        """The other thread gets the interpreter once in each: one long sleep would give it no more turns than a short one."""
        used_s = _cpu_of_others()
        for _ in range(times):
            time.sleep(NAP_S)
            self._naps.add()
            before_s, used_s = used_s, _cpu_of_others()
            if used_s - before_s < USED_S:
                break
        self._looked_at = time.perf_counter()


def _cpu_of_others() -> float:
    """Seconds of CPU that all threads of this process but the calling one have had."""
    return time.process_time() - time.thread_time()
