"""Rooms as operators have them, guests who come by a link, and the page of calls (CONTRACT.md §6, §7; H05)."""

import json
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.domain.access import Role, Scope
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.testing.world import World, open_world
from tests.api.conftest import Api
from tests.websocket.members import Member, member
from tests.websocket.talk import closing

LOCAL = {"host": "127.0.0.1:8081"}


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    config = Config(
        auth=AuthSettings(api_keys=("test_client_1:test_token_1", "a:token-a", "b:token-b")), rooms=RoomsSettings(page_rooms_per_min=2)
    )
    async with open_world(config) as world:
        api = Api(world)
        for role in Role:
            await api.issue(role.value, role)
        yield api


async def made(api: Api, **body: Any) -> tuple[str, str]:
    answered = await api.call("POST", "/api/rooms", body)
    assert answered.status == 201, answered.body
    link = urlsplit(answered.json["url"])
    assert (link.scheme, link.netloc, link.path, link.query) == ("http", "gateway.example:8081", "/call", "")
    given = parse_qs(link.fragment)
    assert (given["room"], given["token"]) == ([answered.json["room_id"]], [answered.json["token"]])
    return answered.json["room_id"], answered.json["token"]


def guest(world: World, name: str, token: str) -> Any:
    return member(world, f"guest-{name}", "text", token=token)


async def test_guests_meet_in_a_room_that_an_operator_made(autojump_clock: MockClock, api: Api):
    room_id, token = await made(api, metadata={"ticket": 7})
    shown = (await api.call("GET", f"/api/rooms/{room_id}", who="viewer")).json
    assert (shown["state"], shown["members"], shown["metadata"], shown["created_by"]) == ("pending", [], {"ticket": 7}, "admin")
    async with guest(api.world, "1", token) as one, guest(api.world, "2", token) as two:
        await one.join(room_id, role="sender")
        await two.join(room_id)
        assert (await one.hear())[1]["client_id"] == "guest-2"
        await one.say("signal_offer", room_id=room_id, to="guest-2", sdp="v=0")
        assert (await two.hear())[1]["from"] == "guest-1"
        listed = (await api.call("GET", "/api/rooms", who="viewer")).json["items"]
        assert [(each["client_id"], each["role"], each["linked"]) for each in listed[0]["members"]] == [
            ("guest-1", "sender", True),
            ("guest-2", "receiver", True),
        ]


async def test_a_guest_may_do_nothing_but_sit_in_its_room(autojump_clock: MockClock, api: Api):
    room_id, token = await made(api)
    other_id, other_token = await made(api)
    async with guest(api.world, "1", token) as one:
        assert (await one.ask("webrtc_room_join", room_id=other_id, role="receiver"))[0] == 404
        assert (await one.ask("webrtc_room_create", role="sender"))[0] == 404
        for name in ("report", "unregister", "command_ack"):
            payload = {"type": "alarm", "data": {"alarm_type": "battery_low", "severity": "warning"}} if name == "report" else {}
            await one.client.send(_text(name, {"client_id": "guest-1", "auth_token": token, "version": "1.0.0", "status": 200, **payload}))
            told, answer = await one.hear()
            assert (told, answer["status"]) in ((f"{name}_ack", 501), ("error", 501)), answer
        async with api.world.dial_quickly("thief", "/ws", {}) as client:  # the link of another room takes no place in this one
            thief = Member(client, "guest-1", other_token, "text")
            assert (await thief.ask("register", auth_token=other_token))[0] == 409
        assert await one.join(room_id)


async def test_the_link_of_one_room_takes_no_seat_in_another_whose_member_is_away(autojump_clock: MockClock, api: Api):
    """The seat is kept for whoever took it, and what is said to it meanwhile is for nobody else (H35)."""
    room_id, token = await made(api)
    _, other_token = await made(api)
    async with member(api.world, "a", token="token-a") as a:
        await a.join(room_id, role="sender")
        async with guest(api.world, "1", token) as one:
            await one.join(room_id)
            await a.hear()
        await a.say("signal_offer", room_id=room_id, to="guest-1", sdp="v=0 for the one who sits there")
        async with api.world.dial_quickly("thief", "/ws", {}) as client:
            thief = Member(client, "guest-1", other_token, "text")
            status, answer = await thief.ask("register", auth_token=other_token)
            assert (status, answer["message"]) == (409, "Client id already exists")
            assert await closing(client) == 4501
        async with guest(api.world, "1", token) as one:
            assert (await one.hear())[1]["sdp"] == "v=0 for the one who sits there"
            await one.say("signal_answer", room_id=room_id, to="a", sdp="v=0")
            assert (await a.hear())[0] == "signal_answer"


@pytest.mark.parametrize(
    ("client_id", "token"), [("a", None), ("phone-1", None), ("guest-1", "eyJhbGciOiJub25lIn0.e30."), ("guest-1", "x")]
)
async def test_a_room_token_is_good_for_guests_alone_and_no_other_is_good_for_them(
    autojump_clock: MockClock, api: Api, client_id: str, token: str | None
):
    _, room_token = await made(api)
    async with api.world.dial_quickly("somebody", "/ws", {}) as client:
        somebody = Member(client, client_id, token or room_token, "text")
        assert (await somebody.ask("register", auth_token=somebody.token))[0] == 401


async def test_tokens_of_rooms_and_of_operators_are_never_taken_for_each_other(autojump_clock: MockClock, api: Api):
    _, room_token = await made(api)
    assert (await api.call("GET", "/api/me", who=room_token)).status == 401
    async with api.world.dial_quickly("somebody", "/ws", {}) as client:
        somebody = Member(client, "guest-1", api.tokens["admin"], "text")
        assert (await somebody.ask("register", auth_token=somebody.token))[0] == 401


async def test_a_guests_link_ends_with_its_token(autojump_clock: MockClock, api: Api):
    _, token = await made(api, expires_s=70)
    async with guest(api.world, "1", token) as one:
        begun_at = api.world.wall_ms()
        name, due = await one.hear()
        assert (name, due["expires_at"] - begun_at) == ("token_refresh", 70_000)
        assert 9_000 <= api.world.wall_ms() - begun_at <= 11_000
        with trio.fail_after(65):
            assert await closing(one.client) == 4003
    async with api.world.dial_quickly("late", "/ws", {}) as client:
        status, answer = await Member(client, "guest-2", token, "text").ask("register", auth_token=token)
        assert (status, answer["message"]) == (401, "The token has expired")


async def test_a_ban_bars_an_id_and_the_end_of_the_token_whoever_has_the_link(autojump_clock: MockClock, api: Api):
    """Guests name themselves, and all of them hold one token: this is what docs/api.md says of it."""
    room_id, token = await made(api)
    async with member(api.world, "a", token="token-a") as a, guest(api.world, "1", token) as one:
        await a.join(room_id, role="sender")
        await one.join(room_id)
        assert (await api.call("DELETE", f"/api/rooms/{room_id}/members/guest-1?ban=true")).status == 200
        assert (await one.hear())[1]["reason"] == "banned"
        assert (await one.ask("webrtc_room_join", room_id=room_id, role="receiver"))[0] == 403
        async with guest(api.world, "2", token) as again:
            await again.join(room_id)
            claims = token.split(".")[1]
            token_id = json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["jti"]
            assert await api.world.gateway.operators.revoke(token_id)
            for each in (one, again):
                assert await closing(each.client) == 4501
    async with api.world.dial_quickly("late", "/ws", {}) as client:
        assert (await Member(client, "guest-3", token, "text").ask("register", auth_token=token))[0] == 401


async def test_a_guest_goes_on_by_a_newer_token_of_the_same_room(autojump_clock: MockClock, api: Api):
    room_id, token = await made(api, expires_s=60)
    _, of_another = await made(api)
    newer, ends_at_s = api.world.gateway.guests.issue(room_id, 600), api.world.wall_ms() // 1000 + 600
    async with guest(api.world, "1", token) as one:
        await one.join(room_id)
        assert (await one.hear())[0] == "token_refresh"
        for wrong in (of_another, "x", api.tokens["admin"]):
            status, answer = await one.ask("token_refresh", token=wrong)
            assert (status, answer["reason"]) == (401, "bad_credentials")
        status, answer = await one.ask("token_refresh", token=newer)
        assert (status, answer["expires_at"]) == (200, 1000 * ends_at_s)
        await trio.sleep(70)
        assert (await one.ask("webrtc_room_leave", room_id=room_id))[0] == 200


async def test_an_operator_ends_a_room_and_takes_members_out(autojump_clock: MockClock, api: Api):
    async with member(api.world, "a", token="token-a") as a, member(api.world, "b", token="token-b") as b:
        room_id = await a.create()
        await b.join(room_id)
        await a.hear()
        taken = await api.call("DELETE", f"/api/rooms/{room_id}/members/b")
        assert (taken.status, taken.json["status"]) == (200, "kicked")
        for one in (a, b):
            _, event = await one.hear()
            assert (event["event"], event["client_id"], event["reason"]) == ("member_left", "b", "kicked")
        await b.join(room_id)
        await a.hear()
        assert (await api.call("DELETE", f"/api/rooms/{room_id}/members/b?ban=true")).json["status"] == "banned"
        for one in (a, b):
            await one.hear()
        status, answer = await b.ask("webrtc_room_join", room_id=room_id, role="receiver")
        assert (status, answer["message"]) == (403, "Client was banned from this room")
        assert (await api.call("DELETE", f"/api/rooms/{room_id}/members/nobody")).status == 404

        assert (await api.call("DELETE", f"/api/rooms/{room_id}")).json == {"room_id": room_id, "status": "terminated"}
        _, event = await a.hear()
        assert (event["event"], event["reason"]) == ("room_terminated", "operator")
        assert (await api.call("DELETE", f"/api/rooms/{room_id}")).status == 404
        over = (await api.call("GET", f"/api/rooms/{room_id}")).json
        assert (over["state"], over["ended_reason"], over["ended_by"]) == ("terminated", "operator", "admin")
        assert (over["sender_client_id"], over["session_id"]) == ("a", over["members"][0]["session_id"])
        assert [(stay["client_id"], stay["final_status"]) for stay in over["members"]] == [
            ("a", "room_ended"),
            ("b", "kicked"),
            ("b", "banned"),
        ]


async def test_a_device_that_is_deleted_gives_up_its_seat_at_once_and_may_come_as_anybody_may(autojump_clock: MockClock, api: Api):
    """As one that unregisters (S-17, S-30): what it was before, its next link has nothing to do with."""
    async with member(api.world, "a", token="token-a") as a:
        room_id = await a.create()
        async with member(api.world, "b", token="token-b") as b:
            await b.join(room_id)
            await a.hear()
            begun_at = trio.current_time()
            assert (await api.call("DELETE", "/api/devices/b")).status == 200
            _, event = await a.hear()
            assert (event["event"], event["client_id"], event["reason"]) == ("member_left", "b", "unregistered")
            assert trio.current_time() - begun_at < 1
        async with member(api.world, "b", token="token-b") as b:
            await b.join(room_id)
            _, event = await a.hear()
            assert (event["event"], event["client_id"], event.get("reason")) == ("member_joined", "b", None)


async def test_a_room_out_of_scope_looks_as_if_it_were_not_there(autojump_clock: MockClock, api: Api):
    await api.issue("of-b", Role.OPERATOR, Scope(devices=frozenset({"b"})))
    async with member(api.world, "a", token="token-a") as a, member(api.world, "b", token="token-b") as b:
        room_id = await a.create()
        for method, path in (("GET", ""), ("DELETE", ""), ("DELETE", "/members/a")):
            assert (await api.call(method, f"/api/rooms/{room_id}{path}", who="of-b")).status == 404
        assert (await api.call("GET", "/api/rooms", who="of-b")).json["items"] == []
        await b.join(room_id)
        assert (await api.call("GET", f"/api/rooms/{room_id}", who="of-b")).status == 200
        assert len((await api.call("GET", "/api/rooms", who="of-b")).json["items"]) == 1
    own_id, _ = await made(api)
    assert (await api.call("GET", f"/api/rooms/{own_id}", who="of-b")).status == 404


async def test_an_open_room_is_in_scope_for_those_who_sit_there_and_one_that_is_over_for_those_who_did(autojump_clock: MockClock, api: Api):
    """What the archive keeps of an open room shows nobody who sits in it now (H05)."""
    await api.issue("of-b", Role.OPERATOR, Scope(devices=frozenset({"b"})))
    async with member(api.world, "a", token="token-a") as a, member(api.world, "b", token="token-b") as b:
        room_id = await a.create()
        await b.join(room_id)
        assert await b.leave(room_id) == 200
        await trio.sleep(1)
        assert (await api.call("GET", f"/api/rooms/{room_id}", who="of-b")).status == 404
        assert (await api.call("GET", f"/api/rooms/{room_id}")).json["members"][0]["linked"] is True
        await a.hear()
        await a.hear()
        assert await a.leave(room_id) == 200
        over = (await api.call("GET", f"/api/rooms/{room_id}", who="of-b")).json
        assert [each["client_id"] for each in over["members"]] == ["a", "b"]


async def test_a_room_is_told_as_over_as_soon_as_it_is(autojump_clock: MockClock, api: Api):
    """Also one that ends before the archive has heard that there is one, and where the archive was just given the rest."""
    for wait_s in (0.0, 0.1, 0.25, 0.26, 5.0):
        room_id, _ = await made(api)
        await trio.sleep(wait_s)
        assert (await api.call("DELETE", f"/api/rooms/{room_id}")).status == 200
        over = (await api.call("GET", f"/api/rooms/{room_id}")).json
        assert (over["state"], over["ended_reason"], over["ended_by"]) == ("terminated", "operator", "admin")


async def test_the_list_of_rooms_has_pages(autojump_clock: MockClock, api: Api):
    ids = [(await made(api))[0] for _ in range(3)]
    first = (await api.call("GET", "/api/rooms?limit=2")).json
    second = (await api.call("GET", f"/api/rooms?limit=2&cursor={first['next_cursor']}")).json
    assert [room["room_id"] for room in (*first["items"], *second["items"])] == ids
    assert second["next_cursor"] is None


async def test_the_page_of_calls_names_its_websocket_and_nothing_else(autojump_clock: MockClock, api: Api):
    page = await api.call("GET", "/call", who=None, headers=LOCAL)
    policy = page.headers["content-security-policy"]
    assert "connect-src 'self' ws://127.0.0.1:8080;" in policy
    assert "script-src 'self';" in policy
    assert page.headers["permissions-policy"].startswith("camera=(self)")
    for path in ("/call/call.js", "/call/signal-gateway-client.js", "/call/call.css"):
        assert (await api.call("GET", path, who=None)).status == 200


async def make(api: Api, peer: str, **headers: str) -> int:
    api.peer = peer
    return (await api.call("POST", "/call/room", who=None, headers={**LOCAL, **headers})).status


async def test_the_page_makes_rooms_for_this_machine_with_demo_credentials_alone(autojump_clock: MockClock, api: Api):
    assert await make(api, "192.0.2.7") == 401
    assert await make(api, "127.0.0.1", host="evil.example:8081") == 401  # a name of the web that was made to lead here
    assert await make(api, "127.0.0.1", **{"sec-fetch-site": "cross-site"}) == 401
    assert [await make(api, "127.0.0.1") for _ in range(3)] == [201, 201, 429]
    assert api.world.metrics.limits.values[("rooms.page_rooms_per_min",)] == 1
    strict = Config(auth=AuthSettings(api_keys=("a:token-a",)))
    async with open_world(strict) as world:
        assert await make(Api(world), "127.0.0.1") == 401


def _text(name: str, data: Any) -> str:
    return json.dumps({"type": name, "request_id": "r", "data": data})
