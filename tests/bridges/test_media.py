"""Which Media a configuration makes."""

import re
from pathlib import Path
from random import Random

import msgspec
import pytest
import trio

from signal_gateway.bridges.cloudflare import CloudflareMedia
from signal_gateway.bridges.cloudflare_settings import CloudflareSettings
from signal_gateway.bridges.media import ChosenMedia, media_of
from signal_gateway.domain.errors import MediaDown
from signal_gateway.observe.logs import LoggingSettings, logging_running
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.direct_media import DirectMedia
from signal_gateway.services.fall_back import FallBackMedia
from signal_gateway.services.turn import MediaSettings
from signal_gateway.testing.fake_cloudflare import FakeCloudflare
from signal_gateway.testing.fake_http import Fault
from tests.bridges.cloudflare_made import APP_ID, APP_SECRET, OFFER, SETTINGS

ROOT = Path(__file__).parents[2]
CLOUDFLARE = MediaSettings(mode="cloudflare", stun_url="stun:direct.example")


def chosen(media: MediaSettings, cloudflare: CloudflareSettings = SETTINGS, metrics: Metrics | None = None) -> ChosenMedia:
    return media_of(media, cloudflare, {"robot": "link-1"}.get, metrics or Metrics(), lambda: 0, Random(7))


def test_by_default_members_talk_directly_and_nothing_runs():
    made = chosen(MediaSettings())
    assert isinstance(made.media, DirectMedia)
    assert (made.run, made.trouble, made.media.stun_url) == (None, None, "stun:stun.cloudflare.com:3478")


def test_cloudflare_is_alone_unless_it_may_fall_back():
    alone, falls_back = chosen(CLOUDFLARE), chosen(CLOUDFLARE, msgspec.structs.replace(SETTINGS, fall_back=True))
    assert isinstance(alone.media, CloudflareMedia)
    assert isinstance(falls_back.media, FallBackMedia)
    for made in (alone, falls_back):
        assert made.run is not None
        assert (made.media.app_id, made.media.stun_url) == (APP_ID, "stun:stun.cloudflare.com:3478")


async def test_operations_tells_of_every_metric_that_the_backend_adds():
    page = (ROOT / "docs" / "operations.md").read_text()
    before, metrics = Metrics().text().decode(), Metrics()
    chosen(CLOUDFLARE, msgspec.structs.replace(SETTINGS, fall_back=True), metrics)
    kinds = [set(re.findall(r"^# TYPE signal_gateway_(\S+) \w+$", text, re.MULTILINE)) for text in (before, metrics.text().decode())]
    assert set(re.findall(r"^\| `(media_[a-z_]+)` \|", page, re.MULTILINE)) == kinds[1] - kinds[0]


async def test_a_room_over_a_socket_with_a_backend_that_fails_in_between_and_not_a_word_of_it_per_call(
    nursery: trio.Nursery, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    fake = FakeCloudflare(APP_ID, APP_SECRET)
    settings = msgspec.structs.replace(
        SETTINGS, base_url=f"{await nursery.start(fake.run)}/v1", fall_back=True, failures_max=3, backoff_first_s=0.001
    )
    with logging_running(LoggingSettings(level="debug"), tmp_path, Metrics(), [APP_SECRET]):
        made = chosen(CLOUDFLARE, settings)
        async with trio.open_nursery() as bridges:
            assert made.run is not None
            bridges.start_soon(made.run)
            sender = await made.media.open("room", "robot", "sender", OFFER)
            receiver = await made.media.open("room", "viewer", "receiver", None)
            assert receiver.publisher_session_id == sender.session_id
            fake.faults += [Fault("status", status=500), Fault("cut_unseen"), Fault("garbage")]
            with pytest.raises(MediaDown):
                await made.media.open("room", "third", "receiver", None)
            assert made.trouble is not None
            assert made.trouble()
            fallen = await made.media.open("other room", "robot", "sender", OFFER)
            assert fallen.session_id == "link-1"
            bridges.cancel_scope.cancel()
    text = (tmp_path / "logs" / "gateway.log").read_text()
    assert [word in text for word in ("left alone", "begins without", APP_SECRET, "HTTP Request", "v=0")] == [
        True,
        True,
        False,
        False,
        False,
    ]
