"""When the hub looks at which link: each as often as its deadlines want, and not all at once."""

from collections.abc import AsyncGenerator
from itertools import pairwise
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.frame import FrameType
from signal_gateway.bus.local import LocalBus
from signal_gateway.config import Config
from signal_gateway.domain.access import WHOLE_FLEET, Role
from signal_gateway.observe.metrics import Metrics
from signal_gateway.testing.world import World
from signal_gateway.websocket.hub import LOOKS_APART_MAX, Hub
from signal_gateway.websocket.link_settings import LinkSettings
from tests.websocket.client_frames import text
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.talk import ask, closing, connect
from tests.websocket.test_links import raw_phone, report


class Looked:
    """A link that wants to be looked at every so many seconds, and tells when it was."""

    principal = None

    def __init__(self, every_s: float) -> None:
        self.every_s = every_s
        self.at: list[int] = []
        self._begun_s = trio.current_time()

    def look_after(self, now: float) -> float:
        self.at.append(round(now - self._begun_s))
        return now + self.every_s


@pytest.fixture
async def hub(autojump_clock: MockClock) -> AsyncGenerator[Any]:  # Any: it takes links that are none
    hub = Hub(LocalBus(Metrics()), Metrics())
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield hub
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("every_s", "at"),
    [
        (-1, list(range(1, 21))),
        (0, list(range(1, 21))),
        (0.9, list(range(1, 21))),
        (1.5, list(range(1, 21, 2))),
        (2.9, list(range(1, 21, 3))),
        (LOOKS_APART_MAX, [1, 6, 11, 16]),
        (100, [1, 6, 11, 16]),
        (inf, [1, 6, 11, 16]),
    ],
)
async def test_a_link_is_looked_at_in_a_second_and_then_as_it_wants(autojump_clock: MockClock, hub: Any, every_s: float, at: list[int]):
    link = Looked(every_s)
    hub.add(link)
    await trio.sleep(20.5)
    assert link.at == at


async def test_links_that_come_one_after_the_other_are_not_looked_at_together(autojump_clock: MockClock, hub: Any):
    links = [Looked(100) for _ in range(100)]
    for link in links:
        hub.add(link)
        await trio.sleep(0.05)
    looked: list[int] = []
    for _ in range(21):
        await trio.sleep(1)
        looked.append(sum(len(link.at) for link in links))
    together = [after - before for before, after in pairwise(looked)]
    assert max(together) <= 25
    assert sum(together) == 400


async def test_a_link_whose_deadlines_are_others_now_is_looked_at_soon(autojump_clock: MockClock, hub: Any):
    link = Looked(100)
    hub.add(link)
    await trio.sleep(2.5)
    hub.look_soon(link)
    await trio.sleep(6)
    assert link.at == [1, 3, 8]


async def test_a_link_that_has_ended_is_forgotten_at_once(autojump_clock: MockClock, hub: Any):
    gone, ended_by_it = Looked(100), Looked(0)

    class Ends(Looked):
        def look_after(self, now: float) -> float:
            hub.remove(ended_by_it)
            hub.remove(self)
            return super().look_after(now)

    ends = Ends(0)
    for link in (gone, ends, ended_by_it):
        hub.add(link)
    hub.remove(gone)
    hub.look_soon(gone)
    await trio.sleep(20)
    assert (gone.at, ends.at, ended_by_it.at) == ([], [1], [])
    assert len(hub) == 0
    assert not any(hub._looks)


class TestShortMessages:
    @pytest.fixture
    def config(self) -> Config:
        return Config(auth=DEMO_AUTH, link=LinkSettings(message_seconds_max=1.0))

    async def test_a_message_that_drags_is_noticed_in_about_the_time_it_has(self, autojump_clock: MockClock, world: World):
        async with raw_phone(world) as phone:
            await trio.sleep(11.5)  # a moment after a look, were there one each five seconds
            begun_s = trio.current_time()
            await phone.stream.send_all(text(report("half"))[:20])
            assert await phone.close_code() == 4001
            assert 1 <= trio.current_time() - begun_s <= 3.01


@pytest.mark.parametrize("is_renewed", [False, True])
async def test_a_token_that_ends_early_ends_its_link_on_time(autojump_clock: MockClock, world: World, is_renewed: bool):
    """The hub looked at the link a moment before, when it had more time."""
    async with world.dial() as agent:
        if is_renewed:
            await connect(agent, "unit-7", await world.gateway.operators.issue("unit-7", Role.DEVICE, WHOLE_FLEET, 3600))
            await trio.sleep(1.5)
        token, begun_s = await world.gateway.operators.issue("unit-7", Role.DEVICE, WHOLE_FLEET, 2), trio.current_time()
        if is_renewed:
            assert (await ask(agent, FrameType.TOKEN_REFRESH, {"token": token}))[1]["status"] == 200
        else:
            await trio.sleep(1.5)
            token, begun_s = await world.gateway.operators.issue("unit-7", Role.DEVICE, WHOLE_FLEET, 2), trio.current_time()
            await connect(agent, "unit-7", token)
        await trio.sleep(4)
        assert await closing(agent) == 4003
        assert trio.current_time() - begun_s <= 4.01
