"""The clocks of a link stand still while its frames are over their rate, and we do not read it."""

import json

import pytest
import trio
from trio.testing import MockClock
from wsproto.events import Ping

from signal_gateway.config import Config
from signal_gateway.services.limits import LimitsSettings
from signal_gateway.testing.world import World
from signal_gateway.websocket.link import Link
from tests.websocket.client_frames import pong, text
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.test_links import HEAD, RawLink, raw_phone, report


class TestReadLater:
    """Ten frames a second: of what comes at once the rest waits for longer than a link may be silent."""

    @pytest.fixture
    def config(self) -> Config:
        return Config(auth=DEMO_AUTH, limits=LimitsSettings(frames_per_s=10, frames_burst=20))

    async def test_a_peer_that_is_not_read_is_not_silent_and_one_that_says_nothing_more_is(self, autojump_clock: MockClock, world: World):
        async with raw_phone(world) as phone:
            await phone.stream.send_all(pong() * 1300)
            await trio.sleep(1)
            (link,) = world.gateway.hub._links
            assert isinstance(link, Link)
            read_at = link.stream.read_not_before
            assert read_at - trio.current_time() > 75
            assert await phone.close_code() == 4000
            assert 75 <= trio.current_time() - read_at <= 77
        assert world.metrics.limits.value("link.silence_max_s") == 1

    async def test_a_message_that_is_not_read_does_not_drag(self, autojump_clock: MockClock, world: World):
        message = text(report("half"))
        async with raw_phone(world) as phone:
            await phone.stream.send_all(pong() * 700 + message[:10])
            await trio.sleep(40)
            await phone.stream.send_all(message[10:])
            while isinstance(event := await phone.event(), Ping):
                pass
            assert json.loads(event.data)["request_id"] == "half"
        assert world.metrics.limits.value("link.message_seconds_max") == 0

    async def test_a_stranger_that_is_not_read_has_no_longer_to_say_who_it_is(self, autojump_clock: MockClock, world: World):
        link = RawLink(world.connect())
        await link.open(HEAD + b"\r\n")
        opened_at = trio.current_time()
        await link.stream.send_all(pong() * 1300)
        while await link.event() is not None:
            pass
        assert trio.current_time() - opened_at <= 10
        assert world.metrics.limits.value("auth.deadline_s") == 1
        await link.stream.aclose()
