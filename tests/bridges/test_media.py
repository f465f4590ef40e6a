"""What a configuration makes of media, and what is told of it."""

import re
from pathlib import Path
from random import Random

import msgspec
import pytest
import trio
from trio.testing import MockClock

from signal_gateway.bridges.cloudflare import cloudflare_media
from signal_gateway.config import Config
from signal_gateway.domain.errors import MediaDown
from signal_gateway.observe.logs import LoggingSettings, logging_running
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.turn import MediaSettings
from signal_gateway.testing.fake_cloudflare import FakeCloudflare
from signal_gateway.testing.fake_http import Fault
from signal_gateway.testing.world import open_world
from tests.bridges.cloudflare_made import APP_ID, APP_SECRET, OFFER, SETTINGS

ROOT = Path(__file__).parents[2]
CLOUDFLARE = MediaSettings(mode="cloudflare", stun_url="stun:direct.example")


async def page_of(config: Config) -> str:
    async with open_world(config) as world:
        return world.metrics.text().decode()


async def test_by_default_nothing_of_a_backend_is_there(autojump_clock: MockClock):
    async with open_world(Config()) as world:
        assert (world.gateway.media, world.gateway.room_media, world.gateway.door.room_media) == (None, None, None)


async def test_operations_tells_of_every_metric_that_the_backend_adds(autojump_clock: MockClock):
    page = (ROOT / "docs" / "operations.md").read_text()
    pages = [await page_of(config) for config in (Config(), Config(media=CLOUDFLARE, cloudflare=SETTINGS))]
    kinds = [set(re.findall(r"^# TYPE signal_gateway_(\S+) \w+$", text, re.MULTILINE)) for text in pages]
    assert set(re.findall(r"^\| `(media_[a-z_]+)` \|", page, re.MULTILINE)) == kinds[1] - kinds[0]


async def test_over_a_socket_no_call_has_a_line_and_no_line_a_secret(nursery: trio.Nursery, tmp_path: Path):
    fake = FakeCloudflare(APP_ID, APP_SECRET)
    settings = msgspec.structs.replace(SETTINGS, base_url=f"{await nursery.start(fake.run)}/v1", failures_max=3, backoff_first_s=0.001)
    with logging_running(LoggingSettings(level="debug"), tmp_path, Metrics(), [APP_SECRET]):
        media = cloudflare_media(CLOUDFLARE, settings, Metrics(), lambda: 0, Random(7))
        assert (media.app_id, media.stun_url) == (APP_ID, "stun:stun.cloudflare.com:3478")
        async with trio.open_nursery() as bridges:
            await bridges.start(media.run)
            sender = await media.open(OFFER, None)
            receiver = await media.open(None, sender)
            assert receiver.publisher_session_id == sender.session_id
            fake.faults += [Fault("status", status=500), Fault("cut_unseen"), Fault("garbage")]
            with pytest.raises(MediaDown):
                await media.open(None, sender)
            assert media.trouble() is not None
            bridges.cancel_scope.cancel()
    text = (tmp_path / "logs" / "gateway.log").read_text()
    words = ("left alone", APP_SECRET, "HTTP Request", "v=0")
    assert [word in text for word in words] == [True, False, False, False]
