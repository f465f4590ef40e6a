"""The bus inside one process, and the contract that every bus keeps (DESIGN.md §2).

Subscribers are called at once, in the order in which they subscribed; what they publish meanwhile is queued behind, so every
subscriber sees events in the order in which they were published. A subscriber never waits. One that raises is counted and logged, and
hinders nobody.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics

E = TypeVar("E")

log = logger("device")


class Bus(Protocol):
    """Who publishes knows nobody; who subscribes names the class of event."""

    def publish(self, event: object) -> None:
        """Tell every subscriber of exactly this event's class. Never blocks, never raises."""
        ...

    def subscribe(self, event_type: type[E], subscriber: Callable[[E], None]) -> Callable[[], None]:
        """Call `subscriber` with each event of this class from now on. Returns the function that ends it."""
        ...


class LocalBus:
    """The bus of a single process: a table of callables."""

    def __init__(self, metrics: Metrics) -> None:
        self._subscribers: dict[type, tuple[tuple[Callable[[Any], None]], ...]] = {}
        self._queue: deque[object] = deque()
        self._delivering = False
        self._errors = metrics.errors
        metrics.gauge("bus_queue_events", "Events published by subscribers and not yet delivered.", lambda: len(self._queue))

    def publish(self, event: object) -> None:
        """See Bus.publish."""
        if self._delivering:
            self._queue.append(event)
            return
        subscribers = self._subscribers.get(type(event))
        if not subscribers:
            return  # nobody to tell, and nothing under way that might subscribe first
        queue = self._queue
        self._delivering = True
        try:
            while True:
                for (subscriber,) in subscribers:
                    try:
                        subscriber(event)
                    except Exception:
                        self._failed(event)
                if not queue:
                    break
                event = queue.popleft()
                subscribers = self._subscribers.get(type(event), ())
        finally:
            self._delivering = False

    def subscribe(self, event_type: type[E], subscriber: Callable[[E], None]) -> Callable[[], None]:
        """See Bus.subscribe."""
        subscription = (subscriber,)  # its own object, so that who subscribed twice ends one at a time
        self._subscribers[event_type] = (*self._subscribers.get(event_type, ()), subscription)

        def unsubscribe() -> None:
            left = tuple(one for one in self._subscribers.get(event_type, ()) if one is not subscription)
            self._subscribers[event_type] = left

        return unsubscribe

    def _failed(self, event: object) -> None:
        self._errors.add("subscriber")
        log.exception("a subscriber failed", event_type=type(event).__name__)
