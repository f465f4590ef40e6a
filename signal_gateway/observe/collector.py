"""Python's garbage collector in a process of many links: how seldom it looks, when it may take long, and what it took (DESIGN §4)."""

import gc
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import trio

from signal_gateway.observe.metrics import Counter, Metrics

THRESHOLDS = 10_000, 100, 100
"""New container objects between two runs of the youngest generation, and runs of a generation between two of the next older one.

A link makes about a hundred objects, and messages make none that last. A run of the youngest takes as long as there are such
objects: 50,000 that links of an attack left behind held up the loop for 15 to 50 ms. A run of the oldest takes as long as all that
lives, 45 ms for a process that does nothing yet: QuietCollector chooses when.
"""
COLLECT_EVERY_S = 300.0
COLLECT_AT_LATEST_S = 1800.0
QUIET_MESSAGES_PER_S = 50
"""Messages, heard and said, of a second in which a pause of the collector hurts nobody much."""


def settle_collector() -> None:
    """What stands at the start stands for ever: keep it out of every later collection."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


@contextmanager
def collector_settled() -> Generator[None]:
    """Look for garbage as seldom as the server does, while the context lasts: for what runs in the process of something else."""
    before = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)


class QuietCollector:
    """Runs full collections of garbage when few messages are heard and said: with many links one takes long, and everything waits for it.

    A link that ends cuts its own cycles, so there is little to find; this is for what others leave behind.
    """

    def __init__(self, messages: Counter, collect: Callable[[], object] = gc.collect) -> None:
        self._messages = messages
        self._collect = collect

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Collect in the first quiet second after COLLECT_EVERY_S, and after COLLECT_AT_LATEST_S in any case."""
        task_status.started()
        counted, collected_at = self._messages.total, trio.current_time()
        while True:
            await trio.sleep(1.0)
            before, counted = counted, self._messages.total
            waited_s = trio.current_time() - collected_at
            is_quiet = counted - before <= QUIET_MESSAGES_PER_S
            if waited_s >= COLLECT_AT_LATEST_S or (waited_s >= COLLECT_EVERY_S and is_quiet):
                self._collect()
                collected_at = trio.current_time()


@contextmanager
def collector_watched(metrics: Metrics, clock: Callable[[], float] = time.perf_counter) -> Generator[None]:
    """Count the garbage collector's runs by generation, and the pauses they make, while the context lasts."""
    pauses = metrics.histogram("gc_pause_seconds", "How long a run of the garbage collector held everything.")
    runs = metrics.counter("gc_runs_total", "Runs of the garbage collector, by generation.", ("generation",))
    began_at = 0.0

    def watch(phase: str, info: dict[str, Any]) -> None:
        nonlocal began_at
        if phase == "start":
            began_at = clock()
        else:
            pauses.observe(clock() - began_at)
            runs.add(str(info["generation"]))

    gc.callbacks.append(watch)
    try:
        yield
    finally:
        gc.callbacks.remove(watch)
