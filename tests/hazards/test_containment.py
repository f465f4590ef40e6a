"""A fault in one place ends what cannot live without it, and nothing else; whoever is cancelled is cancelled (H33)."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio_websocket
from trio.testing import MockClock

from protocol.agent import Heartbeat
from protocol.frame import FrameType
from protocol.phone_reports import PhoneReport
from signal_gateway.config import Config
from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.domain.events import DeviceLinked, DeviceUnlinked, ReportFiled
from signal_gateway.testing.client import Client, LinkClosed, NoLink
from signal_gateway.testing.world import Transport, World, open_world
from signal_gateway.websocket.agents import AGENT_EARS
from signal_gateway.websocket.ears import Ears
from signal_gateway.websocket.link import Link
from tests.storage.reports_filed import filed
from tests.websocket.talk import closing, connect, frame, hear, phone_headers

BYSTANDERS = 99
BEAT = frame(FrameType.HEARTBEAT, {"timestamp": 1})
FAILURES: dict[str, Callable[[], Exception]] = {
    "ValueError": lambda: ValueError("bad"),
    "KeyError": lambda: KeyError("missing"),
    "AssertionError": AssertionError,
    "AttributeError": lambda: AttributeError("none"),
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
    "OSError": lambda: OSError(9, "bad descriptor"),
    "StopIteration": StopIteration,
    "UnicodeDecodeError": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
    "BrokenResourceError": trio.BrokenResourceError,
    "ClosedResourceError": trio.ClosedResourceError,
    "BusyResourceError": trio.BusyResourceError,
    "TooSlowError": trio.TooSlowError,
    "WouldBlock": trio.WouldBlock,
    "ConnectionClosed": lambda: trio_websocket.ConnectionClosed(None),
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError(), ExceptionGroup("inner", [KeyError(), MemoryError()])]),
}


@asynccontextmanager
async def bystanders(world: World) -> AsyncGenerator[list[Client]]:
    """99 phones that must not notice."""
    clients: list[Client] = []

    async def stay(number: int, task_status: trio.TaskStatus[None]) -> None:
        async with world.dial("/ws", phone_headers(f"bystander-{number}")) as phone:
            await hear(phone)
            clients.append(phone)
            task_status.started()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for number in range(BYSTANDERS):
            await nursery.start(lambda task_status, number=number: stay(number, task_status))
        yield clients
        nursery.cancel_scope.cancel()


async def all_answer(clients: list[Client]) -> bool:
    for number, phone in enumerate(clients):
        await phone.send(json.dumps({"type": "heartbeat", "request_id": f"r{number}", "data": {}}))
        if await hear(phone) != {"type": "ack", "request_id": f"r{number}"}:
            return False
    return True


def link_of(world: World, client_id: str = "test_client_1") -> Link:
    link = world.gateway.hub.link_of(client_id)
    assert isinstance(link, Link)
    return link


async def fail_at_once(link: Link, failure: Exception) -> None:
    raise failure


async def fail_later(link: Link, failure: Exception) -> None:
    await trio.sleep(0.1)
    raise failure


async def fail_in_a_nursery(link: Link, failure: Exception) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(fail_later, link, failure)


async def fail_while_tidying_up(link: Link, failure: Exception) -> None:
    try:
        await trio.sleep(0.1)
        raise KeyError("first")
    finally:
        raise failure


POINTS: dict[str, Callable[[Link, Exception], Any] | None] = {
    "a plain handler": None,
    "a handler that waits, before it does": fail_at_once,
    "a handler that waits, after": fail_later,
    "a task of a handler": fail_in_a_nursery,
    "the end of a handler that failed": fail_while_tidying_up,
}


def ears_that_fail(point: Callable[[Link, Exception], Any] | None, failure: Exception) -> Ears:
    def hear_badly(link: Link, message: object, question: object) -> Any:
        if point is None:
            raise failure
        return point(link, failure)

    return Ears(AGENT_EARS.before, {**AGENT_EARS.after, Heartbeat: hear_badly})


@pytest.mark.slow
async def test_whatever_is_raised_at_any_point_of_a_handler_ends_its_link_and_the_other_99_go_on(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
):
    """Sixteen kinds of exception at five points: eighty links end with 1011, each told, each counted once."""
    faults = 0
    async with bystanders(world) as others:
        for point in POINTS.values():
            for make in FAILURES.values():
                async with world.dial() as agent:
                    await connect(agent)
                    monkeypatch.setattr(link_of(world), "_ears", ears_that_fail(point, make()))
                    await agent.send(BEAT)
                    answer_type, _, _, answer = await hear(agent)
                    assert (answer_type, answer["status"], answer["message"]) == (FrameType.ERROR, 500, "Internal server error")
                    assert await closing(agent) == 1011
                faults += 1
                assert world.metrics.errors.value("link") == faults
                bystander = others[faults % BYSTANDERS]
                assert await all_answer([bystander])
        assert await all_answer(others)
        assert len(world.gateway.hub) == BYSTANDERS
    assert faults == 80
    assert world.metrics.errors.value("connection") == 0


@pytest.mark.parametrize("make", FAILURES.values(), ids=FAILURES.keys())
async def test_a_subscriber_that_fails_costs_no_link_and_no_other_subscriber_anything(
    autojump_clock: MockClock, world: World, make: Callable[[], Exception]
):
    told: list[str] = []

    def fail(event: object) -> None:
        raise make()

    for event_type in (DeviceLinked, ReportFiled, DeviceUnlinked):
        world.bus.subscribe(event_type, fail)
        world.bus.subscribe(event_type, lambda event: told.append(type(event).__name__))
    async with world.dial("/ws", phone_headers()) as phone:
        assert (await hear(phone))["type"] == "connection_established"
        assert await all_answer([phone, phone])
    await trio.sleep(5)
    assert told == ["DeviceLinked", "ReportFiled", "DeviceUnlinked"]
    assert world.metrics.errors.value("subscriber") == 3
    assert world.metrics.errors.value("link") == world.metrics.errors.value("connection") == 0


@pytest.mark.parametrize("make", FAILURES.values(), ids=FAILURES.keys())
async def test_a_callback_of_the_writer_that_fails_costs_no_row_and_no_other_callback_anything(
    autojump_clock: MockClock, world: World, make: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch
):
    """The same for the acknowledgement of a report: it is one."""
    written_before = len(await filed(world.database))
    async with world.dial("/ws", phone_headers("poor")) as poor, world.dial("/ws", phone_headers("rich")) as rich:
        await hear(poor)
        await hear(rich)

        def fail(*_: object) -> None:
            raise make()

        monkeypatch.setattr(link_of(world, "poor"), "acknowledge", fail)
        alarm = {"type": "alarm", "request_id": "a", "data": {"alarm_type": "offline"}}
        await poor.send(json.dumps(alarm))
        await rich.send(json.dumps(alarm))
        assert await hear(rich) == {"type": "ack", "request_id": "a"}
        assert len(await filed(world.database)) == written_before + 2
        assert world.metrics.errors.value("on_durable") == 1
        monkeypatch.undo()
        assert await all_answer([poor])
    assert world.metrics.errors.value("link") == 0


@pytest.mark.parametrize("make", FAILURES.values(), ids=FAILURES.keys())
async def test_a_greeting_that_fails_ends_its_own_connection_alone(
    autojump_clock: MockClock, world: World, make: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch
):
    """What fails outside of any handler: contained where the connection ends."""
    async with world.dial() as bystander:
        await connect(bystander)

        def fail(*_: object) -> None:
            raise make()

        with monkeypatch.context() as patch:
            patch.setattr(world.gateway.presence, "link_opened", fail)
            with pytest.raises((NoLink, LinkClosed)):  # the answer to its upgrade may not be on its way yet
                async with world.dial("/ws", phone_headers()) as phone:
                    await phone.receive(5)
        await bystander.send(BEAT)
        assert (await hear(bystander))[0] is FrameType.HEARTBEAT_ACK
        assert len(world.gateway.hub) == 1


# Cancelled


class Seen:
    """What a handler saw of its end."""

    def __init__(self) -> None:
        self.began = trio.Event()
        self.cancelled = False
        self.went_on = False


def ears_that_wait(seen: Seen) -> Ears:
    async def wait(link: Link, message: object, question: object) -> None:
        seen.began.set()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            seen.cancelled = True
            raise
        seen.went_on = True

    return Ears(AGENT_EARS.before, {**AGENT_EARS.after, Heartbeat: wait})


@pytest.mark.parametrize("end", ["the peer hangs up", "a newer link comes", "the deadline of a handler"])
async def test_a_handler_that_waits_is_cancelled_with_its_link_or_at_its_deadline_and_nothing_is_counted_as_a_fault(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch, end: str
):
    seen = Seen()
    async with world.dial() as agent, world.dial() as newer:
        await connect(agent)
        monkeypatch.setattr(link_of(world), "_ears", ears_that_wait(seen))
        await agent.send(BEAT)
        await seen.began.wait()
        if end == "the peer hangs up":
            await trio.aclose_forcefully(agent._connection._stream)
        elif end == "a newer link comes":
            await connect(newer)
        await trio.sleep(15)
    assert (seen.cancelled, seen.went_on) == (True, False)
    assert not any(world.metrics.errors.values.values())


async def test_a_task_that_fails_beside_a_cancelled_handler_is_counted_and_the_cancellation_goes_on(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
):
    """Cancelled and another exception in one group: neither hides the other, and the server goes on."""
    began = trio.Event()

    async def fail_when_cancelled() -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while cancelled")

    async def wait(link: Link, message: object, question: object) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.start_soon(fail_when_cancelled)

    async with world.dial() as agent, world.dial("/ws", phone_headers()) as bystander:
        await hear(bystander)
        await connect(agent)
        monkeypatch.setattr(link_of(world), "_ears", Ears(AGENT_EARS.before, {**AGENT_EARS.after, Heartbeat: wait}))
        await agent.send(BEAT)
        await began.wait()
        link_of(world).close_soon(1011, "ends now")
        await trio.sleep(5)
        assert await all_answer([bystander])
    assert world.metrics.errors.values[("connection",)] + world.metrics.errors.values[("link",)] == 1


@pytest.mark.parametrize("transport", ["memory", "sockets", "tls"])
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
async def test_a_whole_gateway_can_be_cancelled_while_its_links_fail(
    autojump_clock: MockClock, config: Config, monkeypatch: pytest.MonkeyPatch, point: Any, transport: Transport
):
    """No border takes the cancellation for a fault of its own: at once all is over, and the handler with it."""
    begun_at = trio.current_time()
    with trio.move_on_after(0.05) as whole:
        async with open_world(config, transport=transport) as world, world.dial() as agent:
            await connect(agent)
            monkeypatch.setattr(link_of(world), "_ears", ears_that_fail(point, ValueError("late")))
            await agent.send(BEAT)
            await trio.sleep_forever()
    assert whole.cancelled_caught
    assert trio.current_time() - begun_at <= 3


@pytest.mark.parametrize("error", [DatabaseDown(), ValueError("a bug")])
async def test_a_report_whose_filing_fails_ends_nothing_but_its_own_link_at_most(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    """A refusal is told and the link stays; a bug ends it."""

    def fail(*_: object) -> None:
        raise error

    async with bystanders_few(world) as others, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        with monkeypatch.context() as patch:
            patch.setattr(link_of(world, "phone-1"), "_ears", Ears({}, {PhoneReport: fail}))
            await phone.send(json.dumps({"type": "alarm", "request_id": "a", "data": {"alarm_type": "offline"}}))
            answer = await hear(phone)
        assert answer["data"]["status"] == (503 if isinstance(error, DatabaseDown) else 500)
        if isinstance(error, DatabaseDown):
            assert await all_answer([phone])
        else:
            assert await closing(phone) == 1011
        assert await all_answer(others)


@asynccontextmanager
async def bystanders_few(world: World) -> AsyncGenerator[list[Client]]:
    async with world.dial("/ws", phone_headers("bystander-1")) as one, world.dial("/ws", phone_headers("bystander-2")) as other:
        await hear(one)
        await hear(other)
        yield [one, other]
