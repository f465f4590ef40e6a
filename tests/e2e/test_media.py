"""The real process with rooms on a media backend: it starts, tells of the backend's health, and closes what is open when it ends."""

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.frame import FrameType
from signal_gateway.testing.client import Client, open_client
from signal_gateway.testing.fake_cloudflare import FakeCloudflare
from signal_gateway.testing.fake_http import Fault
from tests.bridges.cloudflare_made import APP_ID, APP_SECRET, OFFER
from tests.websocket.talk import ask

from .call_page import MOVES, Place, two_in_a_call, write_to_each_other
from .chromium import chromium
from .server import Server, running

pytestmark = pytest.mark.slow

MEDIA = """
[media]
mode = "cloudflare"
[cloudflare]
app_id = "{app_id}"
base_url = "{base_url}"
attempts_max = 1
failures_max = 2
open_s = 0.2
[limits]
control_burst = 10000
"""


async def create(client: Client) -> Any:
    asks = {"version": "1.0.0", "client_id": "test_client_1", "role": "sender", "offer_sdp": OFFER}
    return (await ask(client, FrameType.WEBRTC_ROOM_CREATE, asks))[1]


async def health(server: Server) -> tuple[int, str]:
    status, text = await trio.to_thread.run_sync(server.get, "/health/ready")
    return status, json.loads(text)["checks"]["media"]


@pytest.mark.tool("chromium")
async def test_the_page_of_calls_lets_its_members_talk_directly_where_rooms_stand_on_a_backend_too(tmp_path: Path, nursery: trio.Nursery):
    fake = FakeCloudflare(APP_ID, APP_SECRET)
    secret = f'app_secret = "{APP_SECRET}"\n[limits]'
    more = MEDIA.format(app_id=APP_ID, base_url=f"{await nursery.start(fake.run)}/v1").replace("[limits]", secret)
    place = Place(tmp_path / "gateway", more)
    with place.served():
        async with chromium(tmp_path / "profile") as browser, two_in_a_call(browser, place) as (host, guest):
            await write_to_each_other(host, guest, "Hello")
            assert await guest.run(MOVES)
            assert len(fake.sessions) == 2
            assert browser.faults == []
    nursery.cancel_scope.cancel()


async def test_a_server_whose_rooms_stand_on_a_backend(tmp_path: Path, nursery: trio.Nursery):
    fake = FakeCloudflare(APP_ID, APP_SECRET)
    more = MEDIA.format(app_id=APP_ID, base_url=f"{await nursery.start(fake.run)}/v1")
    environ = {"SIGNAL_GATEWAY_CLOUDFLARE__APP_SECRET": APP_SECRET}
    with running(tmp_path / "gateway", more=more, environ=environ) as server:
        async with open_client(server.url) as client:
            who = {"version": "1.0.0", "client_id": "test_client_1", "auth_token": "test_token_1"}
            assert (await ask(client, FrameType.REGISTER, who))[1]["status"] == 200
            assert await health(server) == (200, "ok")
            fake.faults.extend([Fault("status", status=503)] * 2)
            assert [(await create(client))["reason"] for _ in range(3)] == ["media_failed", "media_failed", "media_left_alone"]
            status, word = await health(server)
            assert (status, word.startswith("failed 503 internal_error, ")) == (200, True)
            with trio.fail_after(5):
                while (created := await create(client))["status"] != 200:
                    assert created["reason"] == "media_left_alone"
            assert await health(server) == (200, "ok")
            assert len(fake.open_tracks(created["session_id"])) == 2
            server.signal(signal.SIGTERM)
            assert await trio.to_thread.run_sync(partial(server.wait, 20), abandon_on_cancel=True) == 0
        assert fake.open_tracks(created["session_id"]) == []
        assert APP_SECRET not in (server.folder / "data" / "logs" / "gateway.log").read_text()
