"""Two browsers talk through the real server: seen, heard and written to, over a reload and a restart (H01, H35, S-31)."""

import http.server
import os
import signal
import threading
from pathlib import Path

import pytest
import trio

from .call_page import CONNECTED, MOVES, Place, reads, two_in_a_call, write, write_to_each_other
from .chromium import chromium

pytestmark = [pytest.mark.slow, pytest.mark.tool("chromium")]

OPENS = """new Promise((done) => {
    const socket = new WebSocket('URL');
    socket.onopen = () => done('open');
    socket.onerror = () => done('refused');
})"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder = tmp_path / "gateway"
    folder.mkdir()
    return Place(folder)


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
