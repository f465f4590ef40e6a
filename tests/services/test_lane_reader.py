"""How much of the queues is read into memory: large pages while there is room, small ones when there is none."""

from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.command_lanes import Lane
from signal_gateway.services.device_directory import KnownDevice
from signal_gateway.services.lane_reader import COUNTED_S, PAGE, PAGE_WHEN_FULL, LaneReader
from signal_gateway.storage.lanes import LaneContents


class Asked:
    """Stands for the database and the directory, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.pages: list[int] = []
        self.known: list[bool] = []

    async def find(self, device_id: str) -> KnownDevice:
        return KnownDevice(device_id, "phone", None, PhoneSettings())

    async def look_up(self, work: Any) -> LaneContents:
        assert isinstance(work, partial)
        self.pages.append(work.keywords["page"])
        self.known.append(work.keywords["is_known"])
        return LaneContents([], [], {}, None, None, is_all=True)


def lane() -> Lane:
    return Lane(KnownDevice("phone-1", "phone", None, PhoneSettings()), lambda *_: pytest.fail("no SIM has rules here"))


async def test_pages_are_small_where_memory_holds_as_much_as_it_may(autojump_clock: MockClock, nursery: trio.Nursery):
    asked, metrics, rooms = Asked(), Metrics(), iter([2 * PAGE + 5, 0, PAGE])
    reader = LaneReader(asked, asked, lambda: 0, lambda: next(rooms), metrics)  # type: ignore[arg-type]
    reader.nursery = nursery
    for pause_s in (0, 0, 0, COUNTED_S, COUNTED_S):
        await trio.sleep(pause_s)
        reader.read(lane(), lambda *_: None)
        await trio.testing.wait_all_tasks_blocked()
    assert asked.pages == [PAGE, PAGE, PAGE_WHEN_FULL, PAGE_WHEN_FULL, PAGE]
    assert metrics.limits.value("commands.in_memory_max") == 2


async def test_of_a_lane_in_memory_its_queue_alone_is_read(autojump_clock: MockClock, nursery: trio.Nursery):
    asked = Asked()
    reader = LaneReader(asked, asked, lambda: 0, lambda: PAGE, Metrics())  # type: ignore[arg-type]
    reader.nursery = nursery
    known = lane()
    for _ in range(2):
        reader.read(known, lambda read, contents: read.fill(contents))
        await trio.testing.wait_all_tasks_blocked()
    assert asked.known == [False, True]
