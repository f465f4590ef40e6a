"""Every number the gateway tells of itself: plain integers in the loop, read by one collector at scrape time (DESIGN.md §10).

Counting costs an addition; no lock, no label look-up by string formatting. Gauges are never counted up and down: they are asked
of whoever holds the truth when somebody scrapes. Label values are words of ours, never of a peer (H30).
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

NAMESPACE = "signal_gateway"
SECONDS_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
COUNT_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)

Labels = tuple[str, ...]


class Counter:
    """How often something happened, by label values: `counter["in", "heartbeat"] += 1`. Without labels the key is `()`."""

    __slots__ = ("help", "labels", "name", "values")

    def __init__(self, name: str, help_text: str, labels: Labels = ()) -> None:
        self.name = f"{NAMESPACE}_{name}"
        self.help = help_text
        self.labels = labels
        self.values: defaultdict[Labels, float] = defaultdict(float)
        if not labels:
            self.values[()] = 0

    def add(self, *label_values: str, by: float = 1) -> None:
        """Count `by` more for these label values, in the order of `labels`."""
        self.values[label_values] += by

    def value(self, *label_values: str) -> float:
        """What was counted so far for these label values; 0 when nothing was."""
        return self.values.get(label_values, 0)

    @property
    def total(self) -> float:
        """What was counted so far for all label values together."""
        return sum(self.values.values())

    def family(self) -> Metric:
        """As Prometheus wants it."""
        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for label_values, value in self.values.items():
            family.add_metric(label_values, value)
        return family


class Histogram:
    """How large or long something was. `observe` costs a bisection and three additions."""

    __slots__ = ("_bounds", "_counts", "help", "name", "total")

    def __init__(self, name: str, help_text: str, bounds: tuple[float, ...] = SECONDS_BUCKETS) -> None:
        self.name = f"{NAMESPACE}_{name}"
        self.help = help_text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value, in the unit that the name ends with."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self._counts)

    def family(self) -> Metric:
        """As Prometheus wants it: cumulative counts."""
        family = HistogramMetricFamily(self.name, self.help)
        seen = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip([*map(str, self._bounds), "+Inf"], self._counts, strict=True):
            seen += count
            buckets.append((bound, seen))
        family.add_metric([], buckets, sum_value=self.total)
        return family


class Gauge:
    """What is so right now: asked at scrape time of whoever knows, through a function that returns a number or one per label."""

    __slots__ = ("_ask", "help", "label", "name")

    def __init__(self, name: str, help_text: str, ask: Callable[[], float | Mapping[str, float]], label: str | None = None) -> None:
        self.name = f"{NAMESPACE}_{name}"
        self.help = help_text
        self.label = label
        self._ask = ask

    def family(self) -> Metric:
        """As Prometheus wants it."""
        family = GaugeMetricFamily(self.name, self.help, labels=[self.label] if self.label else [])
        answer = self._ask()
        values = answer.items() if isinstance(answer, Mapping) else [(None, answer)]
        for label_value, value in values:
            family.add_metric([] if label_value is None else [label_value], value)
        return family


F = TypeVar("F", Counter, Histogram, Gauge)


class Metrics(Collector):
    """All numbers of one gateway. Given to whoever counts; `counter`, `histogram` and `gauge` add one and return it."""

    def __init__(self) -> None:
        self._families: list[Counter | Histogram | Gauge] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        counter, histogram = self.counter, self.histogram
        self.messages = counter("messages_total", "Messages heard and said, by direction and type.", ("direction", "type"))
        self.bytes = counter("bytes_total", "Payload bytes of WebSocket messages, by direction.", ("direction",))
        self.socket_bytes = counter("socket_bytes_total", "Bytes of WebSocket frames and upgrades, by direction.", ("direction",))
        self.refusals = counter("refusals_total", "What was refused, by stable reason.", ("reason",))
        self.limits = counter("limits_reached_total", "Times a limit took effect, by the name of its setting.", ("limit",))
        self.errors = counter("errors_total", "Faults of ours that were contained, by the border that held them.", ("border",))
        self.handle_seconds = histogram(
            "handle_seconds",
            "From a whole message to the end of its handler, without waiting; what is heard the short way is not in it.",
        )

    def counter(self, name: str, help_text: str, labels: Labels = ()) -> Counter:
        """A new counter; its name ends with `_total`."""
        return self._keep(Counter(name, help_text, labels))

    def histogram(self, name: str, help_text: str, bounds: tuple[float, ...] = SECONDS_BUCKETS) -> Histogram:
        """A new histogram; its name ends with its unit."""
        return self._keep(Histogram(name, help_text, bounds))

    def gauge(self, name: str, help_text: str, ask: Callable[[], float | Mapping[str, float]], label: str | None = None) -> Gauge:
        """A new gauge, asked at scrape time; with `label`, `ask` returns one number per label value."""
        return self._keep(Gauge(name, help_text, ask, label))

    def register(self, collector: Collector) -> None:
        """Let the numbers of another collector, of the process for example, stand on the same page."""
        self._registry.register(collector)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry, once per scrape."""
        for family in self._families:
            yield family.family()

    def describe(self) -> Iterable[Metric]:
        """Nothing to say before the first scrape."""
        return ()

    def text(self) -> bytes:
        """The page of `/metrics`, in Prometheus text format 0.0.4."""
        return generate_latest(self._registry)

    def _keep(self, family: F) -> F:
        self._families.append(family)
        return family
