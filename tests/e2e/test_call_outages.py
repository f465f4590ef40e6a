"""A server that cannot be reached for a while: what two have with each other goes on, and who comes back sits again (S-30, S-31)."""

import json
from pathlib import Path

import pytest
import trio

from signal_gateway.testing.fake_cloudflare import FakeCloudflare
from signal_gateway.testing.fake_http import Fault
from tests.bridges.cloudflare_made import APP_ID, APP_SECRET

from .call_page import (
    CONNECTED,
    KEEPS_CONNECTIONS,
    MEDIA,
    MOVES,
    Operator,
    Place,
    Way,
    follow,
    link_of,
    picture,
    reads,
    room_of,
    start,
    told,
    two_in_a_call,
    write,
    write_to_each_other,
)
from .chromium import Page, chromium

pytestmark = [pytest.mark.slow, pytest.mark.tool("chromium")]

LINKED = 'signal_gateway_room_members{linked="yes"}'
STREAM = "document.querySelector('figure[data-state=connected] video').srcObject.id"
KEEPS_LINK = """
const Link = WebSocket;
window.WebSocket = class extends Link {
    constructor(...where) {
        super(...where);
        window.link = this;
    }
};
"""
GUEST = slice(-1, None)
"""Of the links: the guest's, which came last."""


async def says(page: Page, words: str) -> None:
    """Wait until its line of state has these words."""
    await page.until(f"document.getElementById('state').textContent.includes('{words}')")


async def say(page: Page, kind: str, **data: str) -> None:
    """Send a message by the page's own link, which the page knows nothing of."""
    await page.run(f"link.send({json.dumps(json.dumps({'type': kind, 'data': {'version': '1.0.0', **data}}))})")


async def lose_seat(page: Page, room_id: str) -> None:
    """Give it up behind the page's back: it is as if the room had given it to nobody."""
    client_id = await page.run("JSON.parse(sessionStorage.getItem('me')).clientId")
    await say(page, "webrtc_room_leave", client_id=client_id, room_id=room_id)


async def test_a_link_that_is_lost_for_less_than_the_grace_cuts_nothing_and_what_broke_meanwhile_is_made_anew(
    tmp_path: Path, nursery: trio.Nursery
):
    place = Place(tmp_path / "gateway", '[media]\nstun_url = ""')
    way = Way(place)
    await nursery.start(way.run)
    with place.served() as server:
        async with chromium(tmp_path / "profile") as browser:
            host, guest = await browser.page(), await browser.page()
            for page in (host, guest):
                await page.call("Page.addScriptToEvaluateOnNewDocument", source=KEEPS_CONNECTIONS)
            await follow(guest, await start(host, place))
            await write_to_each_other(host, guest, "Hello")
            streams = [await page.run(STREAM) for page in (host, guest)]

            way.close(GUEST)
            await says(guest, "The call goes on")
            assert await guest.run(MOVES)
            way.open()
            await says(guest, "Back at the server. The call went on.")
            await trio.to_thread.run_sync(server.wait_for_metric, LINKED, 2)
            await write(guest, "still the same")
            await reads(host, "still the same")
            assert [await page.run(STREAM) for page in (host, guest)] == streams
            assert [await page.run("connections.length") for page in (host, guest)] == [1, 1]

            way.close(slice(0, 1))
            await says(host, "The call goes on")
            await guest.run("connections.at(-1).close()")
            await host.until("connections.at(-1).connectionState !== 'connected'")
            way.open()
            for page in (host, guest):
                await page.until("connections.length === 2")
                await page.until(f"{CONNECTED} === 1")
            await write_to_each_other(host, guest, "made anew")
            assert browser.faults == []
    nursery.cancel_scope.cancel()


async def test_whoever_was_away_for_longer_than_the_grace_sits_again_or_is_told_that_the_room_is_over(
    tmp_path: Path, nursery: trio.Nursery
):
    place = Place(tmp_path / "gateway", "[rooms]\ndeparture_grace_s = 1")
    way = Way(place)
    await nursery.start(way.run)
    with place.served() as server:
        async with chromium(tmp_path / "profile") as browser, two_in_a_call(browser, place) as (host, guest):
            way.close(GUEST)
            await host.until(f"{CONNECTED} === 0")  # the room has given its seat away
            await says(guest, "The call goes on")
            await picture(guest, tmp_path, "away")
            way.open()
            for page in (host, guest):
                await page.until(f"{CONNECTED} === 1")
            await trio.to_thread.run_sync(server.wait_for_metric, LINKED, 2)
            await write_to_each_other(host, guest, "here again")

            way.close()
            await trio.to_thread.run_sync(server.wait_for_metric, 'signal_gateway_rooms{state="active"}', 0)
            way.open()
            for page in (host, guest):
                await told(page, "The call is over: its room was closed meanwhile.")
            await picture(guest, tmp_path, "closed")
            await follow(guest, await start(host, place))
            await write_to_each_other(host, guest, "in another room")
            assert browser.faults == []
    nursery.cancel_scope.cancel()


async def test_who_was_taken_out_meanwhile_hears_so_and_takes_no_seat_by_coming_back(tmp_path: Path, nursery: trio.Nursery):
    place = Place(tmp_path / "gateway")
    way = Way(place)
    await nursery.start(way.run)
    with place.served() as server:
        operator = Operator(place)
        async with chromium(tmp_path / "profile") as browser, two_in_a_call(browser, place) as (host, guest):
            room_id = room_of(await link_of(host))
            way.close(GUEST)
            await says(guest, "The call goes on")
            operator.ask("DELETE", f"/rooms/{room_id}/members/{operator.receiver(room_id)}")
            await host.until(f"{CONNECTED} === 0")
            way.open()
            await told(guest, "You were taken out of the call.")
            await trio.to_thread.run_sync(server.wait_for_metric, LINKED, 1)
            assert browser.faults == []
    nursery.cancel_scope.cancel()


async def test_a_signal_that_is_refused_for_want_of_a_seat_brings_it_back_or_tells_that_the_room_is_over(tmp_path: Path):
    place = Place(tmp_path / "gateway", '[media]\nstun_url = ""')  # no candidate comes late
    with place.served():
        async with chromium(tmp_path / "profile") as browser:
            host, guest = await browser.page(), await browser.page()
            for page in (host, guest):
                await page.call("Page.addScriptToEvaluateOnNewDocument", source=KEEPS_LINK)
            link = await start(host, place)
            await follow(guest, link)
            for page in (host, guest):
                await page.until(f"{CONNECTED} === 1")
            room_id = room_of(link)

            await lose_seat(guest, room_id)
            await host.until(f"{CONNECTED} === 0")
            await say(guest, "signal_offer", room_id=room_id, sdp="v=0")
            for page in (host, guest):
                await page.until(f"{CONNECTED} === 1")
            await write_to_each_other(host, guest, "here again")

            for page in (host, guest):
                await lose_seat(page, room_id)
            await say(guest, "signal_offer", room_id=room_id, sdp="v=0")
            await told(guest, "The call is over: its room was closed meanwhile.")
            assert browser.faults == []


async def test_a_media_backend_that_is_down_when_somebody_comes_back_leaves_what_they_have_with_each_other(
    tmp_path: Path, nursery: trio.Nursery
):
    fake = FakeCloudflare(APP_ID, APP_SECRET)
    place = Place(tmp_path / "gateway", MEDIA.format(base_url=await nursery.start(fake.run)))
    way = Way(place)
    await nursery.start(way.run)
    with place.served():
        async with chromium(tmp_path / "profile") as browser, two_in_a_call(browser, place) as (host, guest):
            stream = await guest.run(STREAM)
            way.close(GUEST)
            await says(guest, "The call goes on")
            fake.faults.extend([Fault("status", status=503)] * 30)
            way.open()
            await says(guest, "You cannot come back yet (Media backend unavailable).")
            assert await guest.run(MOVES)
            await picture(guest, tmp_path, "not-yet")
            fake.faults.clear()
            await says(guest, "Back at the server. The call went on.")
            assert await guest.run(STREAM) == stream
            await write(guest, "still the same")
            await reads(host, "still the same")
            assert browser.faults == []
    nursery.cancel_scope.cancel()
