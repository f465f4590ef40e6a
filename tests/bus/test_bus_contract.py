"""What every bus promises, whichever carries the events (DESIGN.md §2). A new bus adds its factory to `BUSES`."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from signal_gateway.bus.local import Bus, LocalBus
from signal_gateway.observe.metrics import Metrics

BUSES: list[Callable[[Metrics], Bus]] = [LocalBus]


@dataclass(frozen=True)
class Seen:
    device_id: str


@dataclass(frozen=True)
class SeenAgain(Seen):
    pass


@dataclass(frozen=True)
class Lost:
    device_id: str


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture(params=BUSES)
def bus(request: pytest.FixtureRequest, metrics: Metrics) -> Bus:
    return request.param(metrics)


def queued(metrics: Metrics) -> str:
    """Events that wait, as the metrics page tells."""
    (line,) = [line for line in metrics.text().decode().splitlines() if line.startswith("signal_gateway_bus_queue_events ")]
    return line.split()[1]


def test_a_subscriber_hears_every_event_of_its_class_once_and_in_order(bus: Bus):
    heard: list[Seen] = []
    bus.subscribe(Seen, heard.append)
    for number in range(100):
        bus.publish(Seen(f"device-{number}"))

    assert heard == [Seen(f"device-{number}") for number in range(100)]


def test_an_event_is_heard_before_publish_returns_and_by_whoever_subscribed_first_first(bus: Bus):
    heard: list[str] = []
    for name in ("first", "second", "third"):
        bus.subscribe(Seen, lambda event, name=name: heard.append(f"{name} {event.device_id}"))
    bus.publish(Seen("a"))

    assert heard == ["first a", "second a", "third a"]


def test_only_the_exact_class_is_heard(bus: Bus):
    heard: list[object] = []
    bus.subscribe(Seen, heard.append)
    bus.publish(SeenAgain("a"))
    bus.publish(Lost("a"))
    assert heard == []

    bus.subscribe(SeenAgain, heard.append)
    bus.publish(SeenAgain("b"))
    assert heard == [SeenAgain("b")]


def test_an_event_that_nobody_wants_is_gone(bus: Bus):
    heard: list[Seen] = []
    bus.publish(Seen("a"))
    bus.subscribe(Seen, heard.append)

    assert heard == []


def test_what_a_subscriber_publishes_waits_until_all_have_heard_the_first(bus: Bus, metrics: Metrics):
    """So every subscriber hears events in the order in which they were published."""
    heard: list[str] = []
    waiting: list[str] = []

    def answer(event: Seen) -> None:
        bus.publish(Lost(event.device_id))
        bus.publish(Lost(f"{event.device_id} again"))
        waiting.append(queued(metrics))
        heard.append("first hears seen")

    bus.subscribe(Seen, answer)
    bus.subscribe(Lost, lambda event: heard.append(f"first hears lost {event.device_id}"))
    bus.subscribe(Seen, lambda event: heard.append("second hears seen"))
    bus.subscribe(Lost, lambda event: heard.append(f"second hears lost {event.device_id}"))
    bus.publish(Seen("a"))

    assert heard == [
        "first hears seen",
        "second hears seen",
        "first hears lost a",
        "second hears lost a",
        "first hears lost a again",
        "second hears lost a again",
    ]
    assert (waiting, queued(metrics)) == (["2.0"], "0.0")


def test_a_chain_of_events_is_as_long_as_it_likes_without_growing_the_stack(bus: Bus):
    heard: list[int] = []

    def count(event: Seen) -> None:
        heard.append(int(event.device_id))
        if heard[-1] < 5000:
            bus.publish(Seen(str(heard[-1] + 1)))

    bus.subscribe(Seen, count)
    bus.publish(Seen("1"))

    assert heard == list(range(1, 5001))


def test_who_unsubscribed_hears_no_more_and_may_do_so_twice(bus: Bus):
    heard: list[str] = []
    end_first = bus.subscribe(Seen, lambda event: heard.append("first"))
    bus.subscribe(Seen, lambda event: heard.append("second"))
    end_first()
    end_first()
    bus.publish(Seen("a"))

    assert heard == ["second"]


def test_who_subscribes_twice_hears_twice_and_unsubscribes_one_at_a_time(bus: Bus):
    heard: list[Seen] = []
    hear = heard.append
    end = bus.subscribe(Seen, hear)
    bus.subscribe(Seen, hear)
    bus.publish(Seen("a"))
    end()
    bus.publish(Seen("b"))

    assert heard == [Seen("a"), Seen("a"), Seen("b")]


def test_whoever_unsubscribes_while_hearing_hinders_nobody(bus: Bus):
    heard: list[str] = []
    ends: list[Callable[[], None]] = []

    def once(event: Seen) -> None:
        heard.append(f"once {event.device_id}")
        ends[0]()

    ends.append(bus.subscribe(Seen, once))
    bus.subscribe(Seen, lambda event: heard.append(f"always {event.device_id}"))
    bus.publish(Seen("a"))
    bus.publish(Seen("b"))

    assert heard == ["once a", "always a", "always b"]


def test_who_subscribes_while_an_event_is_delivered_hears_the_next_one(bus: Bus):
    heard: list[Seen] = []

    def bring_a_friend(event: Seen) -> None:
        if event.device_id == "a":
            bus.subscribe(Seen, heard.append)

    bus.subscribe(Seen, bring_a_friend)
    bus.publish(Seen("a"))
    bus.publish(Seen("b"))

    assert heard == [Seen("b")]


def test_a_subscriber_that_fails_is_counted_and_hinders_neither_the_others_nor_the_publisher(bus: Bus, metrics: Metrics):
    heard: list[str] = []

    def fail(event: Seen) -> None:
        bus.publish(Lost(event.device_id))
        raise LookupError

    bus.subscribe(Seen, fail)
    bus.subscribe(Seen, lambda event: heard.append("seen"))
    bus.subscribe(Lost, lambda event: heard.append("lost"))
    with capture_logs() as lines:
        bus.publish(Seen("a"))
        bus.publish(Seen("b"))

    assert heard == ["seen", "lost"] * 2
    assert metrics.errors.value("subscriber") == 2
    assert [line["event_type"] for line in lines] == ["Seen", "Seen"]


def test_what_is_no_exception_of_a_subscriber_travels_up_and_leaves_the_bus_usable(bus: Bus):
    """Ctrl-C in a subscriber must end the process, not be counted; what was queued behind is heard with the next event."""

    def interrupted(event: Seen) -> None:
        raise KeyboardInterrupt

    heard: list[Lost] = []
    end = bus.subscribe(Seen, interrupted)
    bus.subscribe(Lost, heard.append)
    with pytest.raises(KeyboardInterrupt):
        bus.publish(Seen("a"))
    end()
    bus.publish(Lost("b"))

    assert heard == [Lost("b")]
