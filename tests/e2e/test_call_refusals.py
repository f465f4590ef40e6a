"""A page of calls that may not come in says so in words, and offers to begin again; it is never left in front of nothing (S-28, S-31)."""

from pathlib import Path

import pytest
import trio

from signal_gateway.testing.fake_cloudflare import FakeCloudflare
from signal_gateway.testing.fake_http import Fault
from tests.bridges.cloudflare_made import APP_ID, APP_SECRET

from .call_page import CONNECTED, MEDIA, Operator, Place, follow, link_of, picture, room_of, start, told, two_in_a_call, write_to_each_other
from .chromium import Page, chromium

pytestmark = [pytest.mark.slow, pytest.mark.tool("chromium")]


async def leave_it(page: Page) -> None:
    """Be elsewhere for a while, in the same tab."""
    await page.open("about:blank")
    await page.until("location.href === 'about:blank'")


async def test_a_page_that_comes_back_to_a_room_that_is_over_or_bars_it_says_so_and_offers_to_begin(tmp_path: Path):
    place = Place(tmp_path / "gateway")
    with place.served():
        operator = Operator(place)
        async with chromium(tmp_path / "profile") as browser, two_in_a_call(browser, place) as (host, guest):
            link = await link_of(host)
            for page in (host, guest):
                await leave_it(page)
            banned = operator.receiver(room_of(link))
            operator.ask("DELETE", f"/rooms/{room_of(link)}/members/{banned}?ban=true")
            await guest.open(link)
            await told(guest, "You were taken out of this call, and may not come back.")
            await picture(guest, tmp_path, "banned")
            await guest.call("Page.reload")
            await told(guest, "Start a call, and send its link")
            await follow(guest, link)  # in the same tab they are who they were
            await told(guest, "You were taken out of this call, and may not come back.")

            await follow(guest, link.replace("token=", "token=x"))
            await told(guest, "The link of this call has expired, or was never right.")

            operator.ask("DELETE", f"/rooms/{room_of(link)}")
            await host.open(link)
            await told(host, "This call is over, or its link is wrong.")
            await picture(host, tmp_path, "over")
            await host.call("Page.reload")
            await told(host, "Start a call, and send its link")
            await follow(guest, await start(host, place))
            for page in (host, guest):
                await page.until(f"{CONNECTED} === 1")
            assert browser.faults == []


async def test_who_is_taken_out_of_a_call_is_told_so_and_comes_back_by_their_own_hand_alone(tmp_path: Path):
    place = Place(tmp_path / "gateway")
    with place.served():
        operator = Operator(place)
        async with chromium(tmp_path / "profile") as browser, two_in_a_call(browser, place) as (host, guest):
            room_id = room_of(await link_of(host))
            await guest.run("window.tracks = document.getElementById('own').srcObject.getTracks(); tracks.length")
            operator.ask("DELETE", f"/rooms/{room_id}/members/{operator.receiver(room_id)}")
            await told(guest, "You were taken out of the call.")
            assert await guest.run("tracks.map((track) => track.readyState)") == ["ended", "ended"]
            await picture(guest, tmp_path, "kicked")
            await host.until(f"{CONNECTED} === 0")
            await guest.call("Page.reload")
            await told(guest, "You were invited to a call.")
            await guest.run("document.getElementById('start').click()")
            for page in (host, guest):
                await page.until(f"{CONNECTED} === 1")

            operator.ask("DELETE", f"/rooms/{room_id}/members/{operator.receiver(room_id)}?ban=true")
            await told(guest, "You were taken out of this call, and may not come back.")
            await picture(guest, tmp_path, "banned-within")
            await guest.call("Page.reload")
            await told(guest, "Start a call, and send its link")
            assert browser.faults == []


async def test_a_page_that_the_media_backend_does_not_let_in_yet_can_try_again(tmp_path: Path, nursery: trio.Nursery):
    fake = FakeCloudflare(APP_ID, APP_SECRET)
    base_url = await nursery.start(fake.run)
    place = Place(tmp_path / "gateway", MEDIA.format(base_url=base_url))
    with place.served():
        async with chromium(tmp_path / "profile") as browser, two_in_a_call(browser, place) as (host, guest):
            fake.faults.extend([Fault("status", status=503)] * 30)  # whatever is asked of it meanwhile
            await guest.call("Page.reload")
            await told(guest, "You cannot come in now (Media backend unavailable). Try again in a while.")
            await picture(guest, tmp_path, "backend")
            fake.faults.clear()
            await guest.run("document.getElementById('start').click()")
            for page in (host, guest):
                await page.until(f"{CONNECTED} === 1")
            await write_to_each_other(host, guest, "after all")
    nursery.cancel_scope.cancel()


async def test_a_guest_who_was_made_the_sender_comes_back_as_such(tmp_path: Path):
    place = Place(tmp_path / "gateway", '[rooms]\nsender_leaves = "promote"')
    with place.served() as server:
        async with chromium(tmp_path / "profile") as browser, two_in_a_call(browser, place) as (host, guest):
            link = await link_of(guest)
            await host.run("document.getElementById('leave').click()")
            await guest.until(f"{CONNECTED} === 0")
            await leave_it(guest)
            await guest.open(link)
            await guest.until("!document.getElementById('call').hidden")
            await follow(host, link)
            for page in (host, guest):
                await page.until(f"{CONNECTED} === 1")
            assert server.metric('signal_gateway_room_members{linked="yes"}') == 2
            assert browser.faults == []


async def test_a_client_that_is_not_wanted_any_more_stays_away_and_one_with_a_wrong_token_does_not_try_on(tmp_path: Path):
    """The file for pages of your own, by itself: UNREGISTER on another link ends this one with 1000, after which nobody comes back."""
    place = Place(tmp_path / "gateway")
    with place.served() as server:
        async with chromium(tmp_path / "profile") as browser:
            page = await browser.page()
            await page.open(place.call)
            states = await page.run(f"""(async () => {{
                const {{ SignalGateway }} = await import("/call/signal-gateway-client.js");
                const client = (clientId, token) => new SignalGateway({{ url: "{server.url}", clientId, token }});
                const states = [];
                const [one, other] = [client("one", "demo-enrolment-key"), client("other", "demo-enrolment-key")];
                for (const each of [one, other]) each.addEventListener("state", (event) => states.push([each.clientId, event.detail]));
                await one.open();
                await other.open();
                await other.ask("unregister", {{ client_id: "one", auth_token: "demo-enrolment-key" }});
                const wrong = client("one", "wrong");
                wrong.addEventListener("state", (event) => states.push(["wrong", event.detail]));
                states.push(await wrong.open().catch((refusal) => refusal.status));
                while (one.state === "open") await new Promise((resolve) => one.addEventListener("state", resolve, {{ once: true }}));
                return [...states, one.closeCode, other.state];
            }})()""")
            of = {who: [each[1] for each in states[:-2] if isinstance(each, list) and each[0] == who] for who in ("one", "other", "wrong")}
            assert of == {"one": ["connecting", "open", "closed"], "other": ["connecting", "open"], "wrong": ["connecting", "closed"]}
            assert 401 in states
            assert states[-2:] == [1000, "open"]
