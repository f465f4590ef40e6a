"""A SIM is switched when the database has room for it, not only when it is asked for (T-45)."""

from collections.abc import Callable
from typing import Any

from signal_gateway.bus.local import LocalBus
from signal_gateway.domain.events import SimSwitched
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.sim_switches import SimSwitches

KEY = ("phone-1", 0)


class FakeWriter:
    """Takes jobs while it has room; `answer` says what came of the oldest."""

    def __init__(self) -> None:
        self.has_room = True
        self.jobs: list[tuple[Any, Callable[[object], None]]] = []

    def post(self, work: object, item: Any, done: Callable[[object], None]) -> bool:
        if self.has_room:
            self.jobs.append((item, done))
        return self.has_room

    def answer(self, came: object = None) -> str | None:
        item, done = self.jobs.pop(0)
        done(came)
        return item.reason


def start() -> tuple[FakeWriter, SimSwitches, list[SimSwitched]]:
    writer, bus, told = FakeWriter(), LocalBus(Metrics()), list[SimSwitched]()
    bus.subscribe(SimSwitched, told.append)
    return writer, SimSwitches(writer, bus), told  # type: ignore[arg-type]


def test_what_a_full_writer_refused_is_asked_again():
    writer, switches, told = start()
    writer.has_room = False
    switches.switch(KEY, "sms_blocked")
    switches.again()
    assert writer.jobs == []
    writer.has_room = True
    switches.again()
    switches.again()
    assert len(writer.jobs) == 1
    assert writer.answer() == "sms_blocked"
    assert told == [SimSwitched(*KEY, "sms_blocked")]
    switches.again()
    assert writer.jobs == []


def test_what_the_database_refused_is_asked_again():
    writer, switches, told = start()
    switches.switch(KEY, "sms_blocked")
    writer.answer(ValueError("not today"))
    assert told == []
    switches.again()
    assert writer.answer() == "sms_blocked"
    assert len(told) == 1


def test_the_newest_wish_holds():
    writer, switches, told = start()
    switches.switch(KEY, "sms_blocked")
    switches.switch(KEY, None)
    assert len(writer.jobs) == 1
    assert [writer.answer(), writer.answer()] == ["sms_blocked", None]
    assert told[-1] == SimSwitched(*KEY, None)
    assert writer.jobs == []


def test_a_device_that_is_no_more_has_no_sims():
    writer, switches, told = start()
    writer.has_room = False
    switches.switch(KEY, "sms_blocked")
    switches.forget("phone-1")
    writer.has_room = True
    switches.again()
    assert writer.jobs == []
    assert told == []
