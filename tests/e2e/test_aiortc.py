"""A peer of another make in a call with a browser, through the real server: aiortc in frames, `/call` in text (S-03, S-32, H35).

What both see, hear and write is real: coded and decoded, encrypted, over UDP.
"""

import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import trio

from .call_page import CONNECTED, FRAMES_SHOWN, KEEPS_CONNECTIONS, MOVES, Place, Way, can_write, follow, reads, start, write
from .chromium import Page, chromium
from .server import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.tool("chromium")]

FRAMES = 30
"""To be shown by the browser: a second of them."""
WITHIN_S = 15.0


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = tmp_path / "gateway"
    folder.mkdir()
    return Place(folder, more='[media]\nstun_url = ""')  # both are on this machine


@asynccontextmanager
async def peer(place: Place, room_id: str, role: str) -> AsyncGenerator[trio.Process, None]:
    """An aiortc peer that has come into the room."""
    command = [sys.executable, "-m", "tests.e2e.aiortc_peer", f"ws://127.0.0.1:{place.port}/ws", room_id, role]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, cwd=ROOT, stdout=subprocess.PIPE, check=False))
        assert await line_of(process) == "in the room"
        yield process
        nursery.cancel_scope.cancel()


def make_room(place: Place) -> dict[str, str]:
    """As the page does for whoever starts a call."""
    with urllib.request.urlopen(urllib.request.Request(f"{place.call}/room", method="POST"), timeout=5) as answer:
        return json.load(answer)


async def line_of(process: trio.Process) -> str:
    """What it prints next."""
    assert process.stdout is not None
    text = b""
    with trio.fail_after(WITHIN_S):
        while not text.endswith(b"\n"):
            piece = await process.stdout.receive_some()
            assert piece, "the peer has ended"
            text += piece
    return text.decode().strip()


async def talk(page: Page, process: trio.Process) -> None:
    """Both see, hear and write to each other, and the browser says goodbye."""
    await page.until(f"{CONNECTED} === 1")
    await page.until(f"{FRAMES_SHOWN} >= {FRAMES}")
    assert await page.run(MOVES)
    await can_write(page)
    for text in ("Hello <b>you</b>", "goodbye"):
        await write(page, text)
        await reads(page, f"heard: {text}")
    told = json.loads(await line_of(process))
    assert told["others"] == 1
    assert told["video"] >= FRAMES
    assert told["audio"] >= FRAMES  # of 20 ms each
    await page.until(f"{CONNECTED} === 0")


async def test_a_browser_sends_and_aiortc_comes_in(place: Place, tmp_path: Path):
    with place.served() as server:
        async with chromium(tmp_path / "profile") as browser:
            page = await browser.page()
            link = await start(page, place)
            room_id = parse_qs(urlsplit(link).fragment)["room"][0]
            async with peer(place, room_id, "receiver") as process:
                await talk(page, process)
            assert browser.faults == []
            assert server.metric('signal_gateway_messages_total{direction="in",type="webrtc_room_join"}') == 2


async def test_aiortc_sends_and_a_browser_comes_in(place: Place, tmp_path: Path):
    with place.served():
        made = make_room(place)
        link = f"{place.call}#{urlencode({'room': made['room_id'], 'token': made['token']})}"
        async with chromium(tmp_path / "profile") as browser, peer(place, made["room_id"], "sender") as process:
            page = await browser.page()
            await follow(page, link)
            await talk(page, process)
            assert browser.faults == []


async def test_a_browser_that_comes_back_follows_a_peer_that_begins_anew(place: Place, tmp_path: Path, nursery: trio.Nursery):
    """The page would keep the connection, which works; the peer does as the protocol says, and offers another one."""
    way = Way(place)
    await nursery.start(way.run)
    with place.served():
        made = make_room(place)
        link = f"{place.call}#{urlencode({'room': made['room_id'], 'token': made['token']})}"
        async with chromium(tmp_path / "profile") as browser, peer(place, made["room_id"], "sender") as process:
            page = await browser.page()
            await page.call("Page.addScriptToEvaluateOnNewDocument", source=KEEPS_CONNECTIONS)
            await follow(page, link)
            await can_write(page)
            way.close()
            await page.until("document.getElementById('state').textContent.includes('The call goes on')")
            way.open()
            await page.until("connections.length === 2")
            await talk(page, process)
            assert browser.faults == []
    nursery.cancel_scope.cancel()
