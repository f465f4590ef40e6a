"""How the process itself fares: lateness of the event loop, pauses of the garbage collector, memory, CPU, open files, version."""

import gc
import platform
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import trio
from prometheus_client import ProcessCollector
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from signal_gateway.observe.metrics import Counter, Metrics

LAG_INTERVAL_S = 0.25
"""Seconds between two measurements of the loop's lateness: 4 wakes a second cost nothing, and a scrape sees 60 of them."""

COLLECT_EVERY_S = 300.0
COLLECT_AT_LATEST_S = 1800.0
QUIET_MESSAGES_PER_S = 50
"""Messages, heard and said, of a second in which a pause of the collector hurts nobody much."""


class LoopHealth:
    """Measures how late the event loop wakes a task: the time that every message waits on top of its own work."""

    def __init__(self, metrics: Metrics, interval_s: float = LAG_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._worst_s = 0.0
        self._lag = metrics.histogram("loop_lag_seconds", "How late the event loop woke a task that slept.")
        metrics.gauge("loop_lag_worst_seconds", "The longest lateness of the event loop since the last scrape.", self._take_worst)
        metrics.gauge("loop_tasks", "Tasks of the event loop.", lambda: trio.lowlevel.current_statistics().tasks_living)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Measure until cancelled."""
        task_status.started()
        while True:
            due_at = trio.current_time() + self._interval_s
            await trio.sleep_until(due_at)
            self.slept(due_at, trio.current_time())

    def slept(self, due_at: float, woke_at: float) -> None:
        """A sleep that was to end at `due_at` ended at `woke_at`; both in seconds of the same clock."""
        late_s = max(0.0, woke_at - due_at)
        self._lag.observe(late_s)
        self._worst_s = max(self._worst_s, late_s)

    def _take_worst(self) -> float:
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s


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


class _Build(Collector):
    """`signal_gateway_build_info{version, python}`."""

    def __init__(self) -> None:
        self._words = {"version": version("signal-gateway"), "python": platform.python_version()}

    def collect(self) -> Iterator[Metric]:
        """Called by the registry, once per scrape."""
        yield InfoMetricFamily("signal_gateway_build", "Which version runs, on which Python.", value=self._words)


def tell_process(metrics: Metrics) -> None:
    """Add the process's memory, CPU, open files and start time, and the version, to what is scraped."""
    metrics.register(ProcessCollector(registry=None))
    metrics.register(_Build())
