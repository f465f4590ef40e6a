"""How the process itself fares: lateness of the event loop, memory, CPU, open files, version."""

import platform
from collections.abc import Iterator
from importlib.metadata import version

import trio
from prometheus_client import ProcessCollector
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from signal_gateway.observe.metrics import Metrics

LAG_INTERVAL_S = 0.25
"""Seconds between two measurements of the loop's lateness: 4 wakes a second cost nothing, and a scrape sees 60 of them."""


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
