"""The lane alone: whom it reads, and whom not."""

import os
import socket
from collections.abc import Iterator

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from signal_gateway.observe.metrics import Metrics
from signal_gateway.websocket import lane as lane_module
from signal_gateway.websocket.lane import Lane
from signal_gateway.websocket.turn import Turn


class Reader:
    """A stream that keeps what it reads."""

    def __init__(self, raises: Exception | None = None) -> None:
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.socket = ours
        self.descriptor = ours.fileno()
        self.heard: list[bytes] = []
        self.failed = 0
        self.raises = raises

    def read_now(self, now: float) -> None:
        self.heard.append(os.read(self.descriptor, 100))
        if self.raises is not None:
            raise self.raises

    def fail(self) -> None:
        self.failed += 1

    def close(self) -> None:
        self.socket.close()
        self.peer.close()


@pytest.fixture
def readers() -> Iterator[list[Reader]]:
    some = [Reader() for _ in range(3)]
    yield some
    for reader in some:
        reader.close()


async def test_it_reads_who_entered_and_not_who_left(nursery: trio.Nursery, readers: list[Reader]):
    metrics = Metrics()
    lane = Lane(metrics, Turn(lambda: True, Metrics()))
    await nursery.start(lane.run)
    for reader in readers:
        lane.enter(reader)
        lane.enter(reader)
    assert b"signal_gateway_lane_links 3.0" in metrics.text()
    lane.leave(readers[1])
    lane.leave(readers[1])
    for reader in readers:
        reader.peer.send(b"x")
    while not (readers[0].heard and readers[2].heard):
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()
    assert [reader.heard for reader in readers] == [[b"x"], [], [b"x"]]
    lane.enter(readers[1])
    while not readers[1].heard:
        await trio.lowlevel.checkpoint()
    assert readers[1].heard == [b"x"]


async def test_a_paused_reader_whose_peer_hangs_up_wakes_nobody(nursery: trio.Nursery, readers: list[Reader]):
    metrics = Metrics()
    lane = Lane(metrics, Turn(lambda: True, Metrics()))
    await nursery.start(lane.run)
    lane.enter(readers[0])
    lane.leave(readers[0])
    readers[0].peer.close()
    await wait_all_tasks_blocked(0.01)
    assert b"signal_gateway_lane_wake_links_count 0.0" in metrics.text()


async def test_one_that_fails_is_told_and_the_others_are_read(nursery: trio.Nursery, readers: list[Reader]):
    metrics = Metrics()
    lane = Lane(metrics, Turn(lambda: True, Metrics()))
    readers[0].raises = RecursionError()
    for reader in readers:
        lane.enter(reader)
        reader.peer.send(b"y")
    with capture_logs() as logs:
        await nursery.start(lane.run)
        while not all(reader.heard for reader in readers):
            await trio.lowlevel.checkpoint()
    assert [reader.failed for reader in readers] == [1, 0, 0]
    assert metrics.errors.value("link") == 1
    assert [line["event"] for line in logs] == ["a link failed in the lane"]


async def test_a_number_that_belongs_to_another_by_now_stays(nursery: trio.Nursery, readers: list[Reader]):
    """File descriptors are used again as soon as they are closed: the late goodbye of the first must not take the second out."""
    lane = Lane(Metrics(), Turn(lambda: True, Metrics()))
    await nursery.start(lane.run)
    first, second = readers[0], readers[1]
    lane.enter(first)
    lane.leave(first)
    second.descriptor, number = first.descriptor, second.descriptor
    lane.enter(second)
    lane.leave(first)
    first.peer.send(b"for the second")
    while not second.heard:
        await trio.lowlevel.checkpoint()
    lane.leave(second)
    second.descriptor = number


async def test_a_wake_ends_in_time_and_the_rest_is_read_in_the_next_one(
    nursery: trio.Nursery, readers: list[Reader], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lane_module, "WAKE_SECONDS_MAX", 0.0)
    metrics = Metrics()
    lane = Lane(metrics, Turn(lambda: True, Metrics()))
    for reader in readers:
        lane.enter(reader)
        reader.peer.send(b"z")
    await nursery.start(lane.run)
    while not all(reader.heard for reader in readers):
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()
    assert b"signal_gateway_lane_wake_links_count 3.0" in metrics.text()


async def test_all_have_their_turn_however_short_a_wake_is(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch):
    """Each reader always has more to read, and a wake reads one: nobody is read twice before all were read once."""
    monkeypatch.setattr(lane_module, "WAKE_SECONDS_MAX", 0.0)
    lane, order = Lane(Metrics(), Turn(lambda: True, Metrics())), list[int]()

    class Endless(Reader):
        def read_now(self, now: float) -> None:
            order.append(self.descriptor)
            self.heard.append(os.read(self.descriptor, 1))

    readers = [Endless() for _ in range(20)]
    for reader in readers:
        reader.peer.send(b"x" * 5)
        lane.enter(reader)
    await nursery.start(lane.run)
    while len(order) < 100:
        await trio.lowlevel.checkpoint()
    for turn in range(5):
        assert len(set(order[20 * turn : 20 * turn + 20])) == 20
    for reader in readers:
        reader.close()
