"""Two browsers talk through the real server: seen, heard and written to, over a reload and a restart (H01, H35, S-31)."""

import http.server
import json
import os
import signal
import socket
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio

from .chromium import Browser, Page, chromium
from .server import Server, running

pytestmark = [pytest.mark.slow, pytest.mark.tool("chromium")]

OPENS = """new Promise((done) => {
    const socket = new WebSocket('URL');
    socket.onopen = () => done('open');
    socket.onerror = () => done('refused');
})"""
CONNECTED = "document.querySelectorAll('figure[data-state=connected]').length"
MOVES = """(async () => {
    const video = document.querySelector('figure[data-state=connected] video');
    const before = video.currentTime;
    await new Promise((resolve) => setTimeout(resolve, 700));
    return video.currentTime > before && video.videoWidth > 0 && video.srcObject.getAudioTracks().length === 1;
})()"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Place:
    """A folder and ports that stay the same when the server is started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.http_port = free_ports(2)

    @contextmanager
    def served(self) -> Generator[Server]:
        with running(self.folder, port=self.port, http_port=self.http_port, drain_s=0.2) as server:
            yield server

    @property
    def call(self) -> str:
        return f"http://127.0.0.1:{self.http_port}/call"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = tmp_path / "gateway"
    folder.mkdir()
    return Place(folder)


@asynccontextmanager
async def two_in_a_call(browser: Browser, place: Place) -> AsyncGenerator[tuple[Page, Page], None]:
    """One starts a call, the other comes by its link; both see each other."""
    host, guest = await browser.page(), await browser.page()
    await host.open(place.call)
    await host.until("!document.getElementById('begin').hidden")
    await host.run("document.getElementById('start').click()")
    await host.until("!document.getElementById('call').hidden")
    link = await host.run("document.getElementById('link').value")
    assert "#room=" in link
    await guest.open(link)
    await guest.until("!document.getElementById('begin').hidden")
    await guest.run("document.getElementById('start').click()")
    for page in (host, guest):
        await page.until(f"{CONNECTED} === 1")
    yield host, guest


async def write(writer: Page, text: str) -> None:
    await writer.run(f"document.getElementById('text').value = {json.dumps(text)}; document.querySelector('#write button').click()")


async def reads(reader: Page, text: str) -> None:
    line = json.dumps(f"Them: {text}")
    await reader.until(f"[...document.querySelectorAll('#texts li')].some((line) => line.textContent === {line})")


async def write_to_each_other(host: Page, guest: Page, text: str) -> None:
    for writer, reader in ((host, guest), (guest, host)):
        await writer.until("document.getElementById('state').textContent.includes('write')")
        await write(writer, text)
        await reads(reader, text)


async def test_two_browsers_see_hear_and_write_to_each_other(place: Place, tmp_path: Path):
    with place.served() as server:
        async with chromium(tmp_path / "profile") as browser, two_in_a_call(browser, place) as (host, guest):
            assert await host.run(MOVES)
            assert await guest.run(MOVES)
            await write_to_each_other(host, guest, "Hello <b>you</b>")
            folder = Path(os.environ.get("CALL_PICTURES", tmp_path))
            await host.picture(folder / "call.png")
            await guest.picture(folder / "call-phone.png", width=390, height=844)
            assert server.metric('signal_gateway_rooms{state="active"}') == 1
            assert server.metric('signal_gateway_room_members{linked="yes"}') == 2

            await guest.run("document.getElementById('leave').click()")
            await host.until(f"{CONNECTED} === 0")
            await guest.until("document.getElementById('state').textContent.includes('left the call')")
            await host.run("document.getElementById('leave').click()")
            await host.until("document.getElementById('call').hidden")
            assert server.metric('signal_gateway_room_ends_total{reason="all_left"}') == 1
            assert browser.faults == []


async def test_a_call_survives_a_reload_and_a_server_that_is_killed(place: Place, tmp_path: Path):
    async with chromium(tmp_path / "profile") as browser:
        with place.served() as server:
            async with two_in_a_call(browser, place) as (host, guest):
                await guest.call("Page.reload")
                await guest.until(f"{CONNECTED} === 1")
                await host.until(f"{CONNECTED} === 1")
                assert await host.run(MOVES)
                await write_to_each_other(host, guest, "after a reload")
            server.signal(signal.SIGKILL)
            server.wait()
        await host.until("document.getElementById('state').textContent.includes('goes on')")
        assert await host.run(MOVES)  # what two see and hear of each other does not go through the server
        await write(host, "still here")
        await reads(guest, "still here")
        with place.served() as server:
            for page in (host, guest):
                await page.until("document.getElementById('state').textContent.includes('Back at the server')", within_s=45)
            assert await host.run(MOVES)
            server.wait_for_metric('signal_gateway_room_members{linked="yes"}', 2)
            await guest.call("Page.reload")  # now a new connection must be made, by the server that has just begun
            await guest.until(f"{CONNECTED} === 1")
            await host.until(f"{CONNECTED} === 1")
            await write_to_each_other(host, guest, "after a restart")


async def test_a_page_of_another_origin_cannot_open_a_link(place: Place, tmp_path: Path):
    """Cross-site WebSocket hijacking, by a browser that means it (H01)."""
    foreign = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=foreign.serve_forever, daemon=True).start()
    try:
        with place.served() as server:
            async with chromium(tmp_path / "profile") as browser:
                page = await browser.page()
                await page.open(f"http://127.0.0.1:{foreign.server_port}/nothing-is-here")
                await page.until(f"location.port === '{foreign.server_port}'")
                opens = OPENS.replace("URL", server.url)
                assert await page.run(opens) == "refused"
                own = await browser.page()
                await own.open(place.call)
                await own.until("document.getElementById('start')")
                assert await own.run(opens) == "open"
                assert server.metric('signal_gateway_refusals_total{reason="bad_origin"}') >= 1
    finally:
        await trio.to_thread.run_sync(foreign.shutdown)
        foreign.server_close()
