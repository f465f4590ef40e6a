"""Rooms and signals over the door: every shape and sentence of CONTRACT.md §7, in frames and in text (S-20 to S-32, H35)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from protocol.agent import SignalOffer
from protocol.plain_signals import written
from signal_gateway.config import Config
from signal_gateway.domain.errors import TooManySignals
from signal_gateway.domain.principal import Caller
from signal_gateway.domain.signals import SignalKind
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.services.limits import LimitsSettings
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.services.turn import MediaSettings
from signal_gateway.storage import rooms as archive
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.testing.world import World, open_world

from .members import Member, member

CLIENTS = ("a", "b", "c", "d")
OFFER, ANSWER = "v=0 offer", "v=0 answer"
SIGNALS = ("signal_offer", "signal_answer", "signal_ice_candidate")


def configured(**rooms: Any) -> Config:
    return Config(
        auth=AuthSettings(api_keys=tuple(f"{client}:token-{client}" for client in CLIENTS)),
        rooms=RoomsSettings(max_receivers=2, **rooms),
        media=MediaSettings(stun_url="stun:stun.example.com", turn_urls=("turn:turn.example.com:3478",), turn_secret="turn-secret"),
    )


@pytest.fixture
def config() -> Config:
    return configured()


@pytest.fixture
async def one_world(config: Config) -> AsyncIterator[World]:
    async with open_world(config) as world:
        yield world


class Cast:
    """Members by name, opened when they are first asked for."""

    def __init__(self, world: World, stack: AsyncExitStack) -> None:
        self._world = world
        self._stack = stack

    async def __call__(self, client_id: str, speaks: str = "json", **how: Any) -> Member:
        return await self._stack.enter_async_context(member(self._world, client_id, speaks, **how))


@pytest.fixture
async def cast(one_world: World) -> AsyncIterator[Cast]:
    async with AsyncExitStack() as stack:
        yield Cast(one_world, stack)


async def test_a_call_from_the_first_request_to_the_last(autojump_clock: MockClock, world: World):
    """On every pump, plain and TLS: a binary sender in CBOR, a browser in text, an agent in JSON frames."""
    async with member(world, "a", "cbor") as a, member(world, "b", "text") as b, member(world, "c", "json") as c:
        status, created = await a.ask("webrtc_room_create", role="sender", offer_sdp=OFFER, metadata={"topic": "x"})
        room_id, session_id = created["room_id"], created["session_id"]
        ice_servers = created.pop("ice_servers")
        assert (status, created) == (
            200,
            {
                "version": "1.0.0",
                "status": 200,
                "message": "Room created successfully",
                "room_id": room_id,
                "session_id": session_id,
                "app_id": "p2p",
                "stun_url": "stun:stun.example.com",
                "connection_info": {"session_id": session_id, "room_id": room_id, "app_id": "p2p"},
            },
        )
        assert ice_servers[0] == {"urls": ["stun:stun.example.com"]}
        assert (ice_servers[1]["urls"], ice_servers[1]["username"].split(":")[1]) == (["turn:turn.example.com:3478"], "a")

        joined = await b.join(room_id, offer_sdp=None)
        assert (joined["message"], joined["room_id"], joined["app_id"]) == ("Successfully joined room", room_id, "p2p")
        assert await b.hear() == ("signal_offer", {"version": "1.0.0", "room_id": room_id, "from": "a", "sdp": OFFER})
        event = {"version": "1.0.0", "room_id": room_id, "event": "member_joined", "client_id": "b", "role": "receiver"}
        assert await a.hear() == ("room_event", event)
        await b.say("signal_answer", room_id=room_id, sdp=ANSWER, to="a")
        assert await a.hear() == ("signal_answer", {"version": "1.0.0", "room_id": room_id, "from": "b", "to": "a", "sdp": ANSWER})

        candidate = {"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0}
        await a.say("signal_ice_candidate", room_id=room_id, candidate=candidate)
        told = {"version": "1.0.0", "room_id": room_id, "from": "a", "candidate": candidate}
        assert await b.hear() == ("signal_ice_candidate", told)
        await c.join(room_id)
        assert await c.hear() == ("signal_offer", {"version": "1.0.0", "room_id": room_id, "from": "a", "sdp": OFFER})
        assert await c.hear() == ("signal_ice_candidate", told)  # what the sender said to all before

        assert (await b.hear())[1]["client_id"] == (await a.hear())[1]["client_id"] == "c"
        assert await b.leave(room_id, "tired") == 200
        gone = {"version": "1.0.0", "room_id": room_id, "event": "member_left", "client_id": "b", "role": "receiver"}
        assert await a.hear() == await c.hear() == ("room_event", {**gone, "reason": "voluntary_disconnect"})
        assert await c.leave(room_id) == 200
        await a.hear()
        assert await a.leave(room_id) == 200
        assert await a.leave(room_id) == 404  # the last one's leaving ended it
        assert list(world.gateway.rooms.opened()) == []


@pytest.mark.parametrize(
    ("request_name", "payload", "status", "message"),
    [
        ("webrtc_room_create", {"role": "receiver"}, 400, "Invalid role"),
        ("webrtc_room_create", {"role": ""}, 400, "Missing or invalid 'role' field"),
        ("webrtc_room_create", {"role": "SENDER", "auth_token": "wrong"}, 401, "Invalid client_id or auth_token"),
        ("webrtc_room_create", {"role": "sender", "client_id": "b"}, 401, "Invalid client_id or auth_token"),
        ("webrtc_room_join", {"role": "receiver", "room_id": "none"}, 404, "Room not found"),
        ("webrtc_room_join", {"role": "king", "room_id": "none"}, 400, "Invalid role"),
        ("webrtc_room_join", {"role": "receiver"}, 400, "Missing or invalid 'room_id' field"),
        ("webrtc_room_leave", {"room_id": "none"}, 404, "Room not found"),
    ],
)
async def test_refusals_come_in_their_own_answer(
    autojump_clock: MockClock, cast: Cast, request_name: str, payload: dict[str, Any], status: int, message: str
):
    a = await cast("a")
    await a.say(request_name, **{"client_id": "a", **payload})
    name, answer = await a.hear()
    assert (name, answer["status"], answer["message"], answer["room_id"]) == (f"{request_name}_ack", status, message, None)


async def test_a_token_that_is_shown_again_must_be_the_links_own(autojump_clock: MockClock, cast: Cast):
    a = await cast("a")
    assert await a.create(auth_token="token-a")


async def test_connect_alone_is_not_enough_for_a_room(autojump_clock: MockClock, cast: Cast):
    a = await cast("a", action="connect")
    status, answer = await a.ask("webrtc_room_create", role="sender")
    assert (status, answer["message"]) == (401, "Client is not registered")


async def test_a_room_has_one_sender_and_so_many_receivers(autojump_clock: MockClock, cast: Cast):
    a, b, c, d = [await cast(client) for client in CLIENTS]
    room_id = await a.create()
    assert (await b.ask("webrtc_room_join", room_id=room_id, role="sender"))[1]["message"] == "Invalid role"
    await b.join(room_id)
    status, answer = await b.ask("webrtc_room_join", room_id=room_id, role="receiver")
    assert (status, answer["message"]) == (409, "Client already in room")
    await c.join(room_id)
    assert (await d.ask("webrtc_room_join", room_id=room_id, role="receiver"))[1]["message"] == "Room is full"
    assert (await a.hear(), await a.hear())[1][1]["client_id"] == "c"
    assert (await a.ask("webrtc_room_create", role="sender"))[0] == 409  # one room a client


@pytest.mark.parametrize("name", SIGNALS)
async def test_a_signal_that_reaches_nobody_is_an_error_and_never_silence(autojump_clock: MockClock, cast: Cast, name: str):
    a, b = await cast("a"), await cast("b", "text")
    said: dict[str, Any] = {"candidate": None} if name == "signal_ice_candidate" else {"sdp": OFFER}
    room_id = await a.create()
    for where, to, reason in ((room_id, "b", "member_not_found"), ("none", None, "room_not_found"), (room_id, "a", "member_not_found")):
        await a.say(name, room_id=where, **said, **({} if to is None else {"to": to}))
        told, error = await a.hear()
        assert (told, error["status"], error["reason"]) == ("error", 404, reason)
    await b.say(name, room_id=room_id, **said)  # it is not in the room, and hears no more of it than of one that is not there
    told, error = await b.hear()
    assert (told, error["status"], error["message"]) == ("error", 404, "Room not found")
    await a.hears_nothing()


async def test_a_signal_draws_one_token_of_its_rate_be_it_passed_on_or_refused(autojump_clock: MockClock):
    limits = LimitsSettings(signal_per_min=60, signal_burst=4)
    async with open_world(msgspec.structs.replace(configured(), limits=limits)) as world, member(world, "a") as a:
        room_id = await a.create()
        for _ in range(4):
            await a.say("signal_answer", room_id=room_id, to="b", sdp=ANSWER)
            assert (await a.hear())[1]["reason"] == "member_not_found"
        await a.say("signal_answer", room_id=room_id, to="b", sdp=ANSWER)
        assert (await a.hear())[1]["reason"] == "rate_limited"


@pytest.mark.parametrize("letter", ["é", "\x01", "a"])
async def test_an_sdp_that_would_not_fit_a_frame_is_refused_and_the_longest_that_may_be_arrives(
    autojump_clock: MockClock, cast: Cast, one_world: World, letter: str
):
    a, b = await cast("a", "text"), await cast("b", "json")
    room_id = await a.create()
    await b.join(room_id)
    await a.hear()
    longest = {"é": 19_999, "\x01": 6_666, "a": 32_768}[letter]
    await a.say("signal_offer", room_id=room_id, to="b", sdp=letter * longest)
    assert len((await b.hear())[1]["sdp"]) == longest
    await a.say("signal_offer", room_id=room_id, to="b", sdp=letter * (longest + 1))
    told, error = await a.hear()
    assert (told, error["status"], error["details"]["field"]) == ("error", 400, "data.sdp")
    assert not one_world.metrics.errors.values[("subscriber",)]


async def test_a_signal_for_a_link_that_is_closing_waits_for_the_next_one(autojump_clock: MockClock, one_world: World, cast: Cast):
    a = await cast("a")
    room_id = await a.create()
    async with member(one_world, "b") as b:
        await b.join(room_id)
        await a.hear()
        link = one_world.gateway.hub.link_of("b")
        assert link is not None
        link.close_soon(1011, "for the test")
        offer = SignalOffer(room_id=room_id, sender="a", to="b", sdp=OFFER)
        one_world.gateway.rooms.signal(Caller("a", "its own", 1), room_id, SignalKind.OFFER, "b", written(offer))
    async with member(one_world, "b") as b:
        assert (await b.hear())[1]["sdp"] == OFFER


async def test_candidates_whose_description_does_not_come_are_passed_on_after_five_seconds(autojump_clock: MockClock, cast: Cast):
    a, b = await cast("a"), await cast("b")
    room_id = await a.create()
    await b.join(room_id)
    await a.hear()
    begun_at = trio.current_time()
    await a.say("signal_ice_candidate", room_id=room_id, to="b", candidate=None)
    assert (await b.hear())[0] == "signal_ice_candidate"
    assert 4.9 < trio.current_time() - begun_at < 6.5
    await a.say("signal_ice_candidate", room_id=room_id, to="b", candidate=None)
    assert (await b.hear())[0] == "signal_ice_candidate"
    assert trio.current_time() - begun_at < 6.6


async def test_who_says_disconnect_leaves_at_once(autojump_clock: MockClock, one_world: World, cast: Cast):
    a = await cast("a")
    room_id = await a.create()
    async with member(one_world, "b", "text") as b:
        await b.join(room_id)
        await a.hear()
        begun_at = trio.current_time()
        await b.client.send('{"type": "disconnect", "data": {}}')
        _, event = await a.hear()
        assert (event["event"], event["client_id"], event["reason"]) == ("member_left", "b", "disconnected")
        assert trio.current_time() - begun_at < 1


@pytest.mark.parametrize("reason", ["unregistered", "moved", "disconnected", "kicked", "link_lost", "tired"])
async def test_a_members_own_word_for_its_leaving_is_never_taken_for_one_of_ours(
    autojump_clock: MockClock, one_world: World, cast: Cast, reason: str
):
    """The others hear that it went of its own will; what it said is for the archive."""
    a, b = await cast("a"), await cast("b")
    room_id = await a.create()
    await b.join(room_id)
    await a.hear()
    assert await b.leave(room_id, reason) == 200
    assert (await a.hear())[1]["reason"] == "voluntary_disconnect"
    await one_world.gateway.rooms.settle(room_id)
    stays = await one_world.database.read(lambda connection: archive.find_stays(connection, room_id))
    assert [(stay.left_reason, stay.final_status) for stay in stays] == [(None, None), (reason, "voluntary_disconnect")]


async def test_what_a_client_says_of_its_own_name_is_not_believed(autojump_clock: MockClock, cast: Cast):
    a, b = await cast("a"), await cast("b", "cbor")
    room_id = await a.create()
    await b.join(room_id)
    await a.hear()
    await b.say("signal_offer", room_id=room_id, sdp=OFFER, **{"from": "a"})
    assert (await a.hear())[1]["from"] == "b"


async def test_a_lost_link_keeps_its_seat_and_hears_what_was_said_meanwhile(autojump_clock: MockClock, one_world: World, cast: Cast):
    a = await cast("a")
    room_id = await a.create()
    async with member(one_world, "b", "text") as b:
        await b.join(room_id)
        await a.hear()
        await a.say("signal_offer", room_id=room_id, sdp=OFFER, to="b")
        await b.hear()
    await a.say("signal_ice_candidate", room_id=room_id, candidate=None, to="b")
    await trio.sleep(10)
    async with member(one_world, "b", "text") as b:  # the same page, another link: it need not join again
        assert await b.hear() == (
            "signal_ice_candidate",
            {"version": "1.0.0", "room_id": room_id, "from": "a", "to": "b", "candidate": None},
        )
        await b.say("signal_answer", room_id=room_id, sdp=ANSWER, to="a")
        assert (await a.hear())[0] == "signal_answer"
    await trio.sleep(21)
    name, event = await a.hear()
    assert (name, event["event"], event["client_id"], event["reason"]) == ("room_event", "member_left", "b", "link_lost")


@pytest.mark.parametrize("config", [configured(signals_held_max=1)])
async def test_a_signal_to_all_that_finds_a_full_line_is_told_and_heard_by_the_others(
    autojump_clock: MockClock, config: Config, one_world: World, cast: Cast
):
    a, c = await cast("a"), await cast("c", "text")
    room_id = await a.create()
    async with member(one_world, "b") as b:
        await b.join(room_id)
        await c.join(room_id)
        await a.say("signal_offer", room_id=room_id, sdp="v=0 first")
        assert [(await c.hear())[0], (await b.hear())[0]] == ["signal_offer", "room_event"]
        await a.hear()
        await a.hear()
    await c.say("signal_offer", room_id=room_id, sdp="v=0 kept")
    assert (await a.hear())[1]["sdp"] == "v=0 kept"
    await c.say("signal_offer", room_id=room_id, sdp="v=0 too much")
    name, error = await c.hear()
    assert (name, error["status"], error["reason"], error["details"]) == ("error", 429, "too_many_signals", {"unheard_by": ["b"]})
    assert error["message"] == "Too many signals wait for some members; all others have this one"
    assert (await a.hear())[1]["sdp"] == "v=0 too much"
    assert one_world.metrics.limits.values[("rooms.signals_held_max",)] == 1
    async with member(one_world, "b") as b:
        assert (await b.hear())[1]["sdp"] == "v=0 kept"
        await b.hears_nothing()


@pytest.mark.parametrize("to", ["b", None])
@pytest.mark.parametrize("config", [configured(signals_held_max=1)])
async def test_a_signal_that_finds_a_closing_link_and_a_full_line_is_told_too(
    autojump_clock: MockClock, config: Config, one_world: World, cast: Cast, to: str | None
):
    a = await cast("a")
    room_id = await a.create()
    async with member(one_world, "b") as b:
        await b.join(room_id)
        await a.hear()
        await a.say("signal_offer", room_id=room_id, sdp=OFFER, to="b")
        await b.hear()
        link, rooms = one_world.gateway.hub.link_of("b"), one_world.gateway.rooms
        assert link is not None
        link.close_soon(1011, "for the test")
        offer = written(SignalOffer(room_id=room_id, sender="a", to=to, sdp=OFFER))
        rooms.signal(Caller("a", "its own", 1), room_id, SignalKind.OFFER, to, offer)
        with pytest.raises(TooManySignals) as told:
            rooms.signal(Caller("a", "its own", 1), room_id, SignalKind.OFFER, to, offer)
        assert told.value.details == (None if to else {"unheard_by": ["b"]})
        await trio.lowlevel.checkpoint()


async def test_a_page_that_was_loaded_again_joins_again_and_all_begin_anew(autojump_clock: MockClock, one_world: World, cast: Cast):
    a = await cast("a")
    room_id = await a.create(offer_sdp=OFFER)
    async with member(one_world, "b") as b:
        await b.join(room_id)
        await b.hear()
        await a.hear()
        async with member(one_world, "b") as again:  # before the old link has ended: a takeover
            await again.join(room_id)
            assert (await again.hear())[1]["sdp"] == OFFER
            name, event = await a.hear()
            assert (name, event["event"], event["client_id"], event["reason"]) == ("room_event", "member_joined", "b", "returned")
            await trio.sleep(30)  # the old link's end takes nobody's seat
            await a.say("signal_offer", room_id=room_id, sdp=OFFER, to="b")
            assert (await again.hear())[0] == "signal_offer"


async def test_a_seat_that_an_older_link_took_bars_nobody(autojump_clock: MockClock, one_world: World, cast: Cast):
    """The answer to CREATE may be lost with the link: the client does not know of its room, and could never leave it."""
    b = await cast("b")
    async with member(one_world, "a") as a:
        old = await a.create()
        await b.join(old)
    async with member(one_world, "a") as a:
        new = await a.create()
        assert (await a.ask("webrtc_room_create", role="sender"))[0] == 409  # this link's own
        _, event = await b.hear()
        assert (event["event"], event["client_id"], event["reason"]) == ("member_left", "a", "moved")
        assert {room.room_id for room in one_world.gateway.rooms.opened()} == {old, new}


@pytest.mark.parametrize(
    ("policy", "events"),
    [
        ("close", [("member_left", "a", "voluntary_disconnect"), ("room_terminated", "", "sender_left")]),
        ("promote", [("member_left", "a", "voluntary_disconnect"), ("member_joined", "b", "promoted")]),
        ("wait", [("member_left", "a", "voluntary_disconnect"), ("room_terminated", "", "sender_left")]),
    ],
)
async def test_what_becomes_of_a_room_whose_sender_leaves(autojump_clock: MockClock, policy: str, events: list[tuple[str, str, str]]):
    async with open_world(configured(sender_leaves=policy)) as world, member(world, "a") as a, member(world, "b") as b:
        room_id = await a.create()
        await b.join(room_id)
        await a.hear()
        begun_at = trio.current_time()
        assert await a.leave(room_id) == 200
        await trio.sleep(10 if policy == "wait" else 0)
        heard = [(await b.hear())[1] for _ in events]
        assert [(event["event"], event["client_id"], event["reason"]) for event in heard] == events
        waited_s = trio.current_time() - begun_at
        assert 19 < waited_s < 22 if policy == "wait" else waited_s < 1
        room = world.gateway.rooms.find(room_id)
        assert (room is None) == (policy != "promote")


async def test_another_sender_may_come_while_a_room_waits_for_one(autojump_clock: MockClock, cast: Cast):
    a, b, c = await cast("a"), await cast("b"), await cast("c")
    room_id = await a.create()
    await b.join(room_id)
    await a.hear()
    await a.leave(room_id)
    await c.join(room_id, role="sender")
    await trio.sleep(60)
    await c.say("signal_offer", room_id=room_id, sdp=OFFER, to="b")
    assert [(await b.hear())[0] for _ in range(3)] == ["room_event", "room_event", "signal_offer"]


async def test_unregister_leaves_the_rooms(autojump_clock: MockClock, cast: Cast):
    a, b = await cast("a"), await cast("b")
    room_id = await a.create()
    await b.join(room_id)
    await a.hear()
    await b.ask("unregister", auth_token="token-b")
    _, event = await a.hear()
    assert (event["event"], event["client_id"], event["reason"]) == ("member_left", "b", "unregistered")


async def test_whoever_unregistered_comes_into_no_room_until_it_registers_again(autojump_clock: MockClock, cast: Cast):
    """Its link stays, as that of one who has CONNECTed alone (S-29); another client's record is not its own."""
    a, b, _ = await cast("a"), await cast("b"), await cast("c")
    room_id = await a.create()
    await b.say("unregister", client_id="b", auth_token="token-b")
    assert (await b.hear())[1]["status"] == 200
    for name, payload in (("webrtc_room_create", {"role": "sender"}), ("webrtc_room_join", {"role": "receiver", "room_id": room_id})):
        status, answer = await b.ask(name, **payload)
        assert (status, answer["message"]) == (401, "Client is not registered")
    assert (await b.ask("register", auth_token="token-b"))[0] == 200
    await b.say("unregister", client_id="c", auth_token="token-c")
    assert (await b.hear())[1]["status"] == 200
    await b.join(room_id)


async def test_a_room_lives_as_long_as_it_may(autojump_clock: MockClock):
    async with open_world(configured(life_s=60)) as world, member(world, "a") as a:
        await a.create()
        await trio.sleep(59)
        assert len(list(world.gateway.rooms.opened())) == 1
        with trio.fail_after(3):
            assert (await a.hear())[1]["reason"] == "timeout"


async def test_a_call_survives_a_restart_of_the_server(autojump_clock: MockClock, config: Config):
    database = InlineDatabase()
    async with open_world(config, database=database) as world, member(world, "a") as a, member(world, "b") as b:
        room_id = await a.create(offer_sdp=OFFER)
        await b.join(room_id)
        await trio.sleep(1)
    async with open_world(config, database=database) as world:
        await trio.sleep(40)
        async with member(world, "a") as a, member(world, "b", "text") as b:
            await b.join(room_id)
            assert (await a.hear())[1]["reason"] == "returned"
            await a.join(room_id, role="sender", offer_sdp=OFFER)
            assert [(await b.hear())[0] for _ in range(2)] == ["room_event", "signal_offer"]
            await trio.sleep(50)
            assert world.gateway.rooms.find(room_id) is not None


async def test_who_was_banned_before_they_ever_came_stays_out_after_a_restart(autojump_clock: MockClock, config: Config):
    database = InlineDatabase()
    async with open_world(config, database=database) as world, member(world, "a") as a:
        room_id = await a.create()
        room = world.gateway.rooms.find(room_id)
        assert room is not None
        await trio.sleep(1)
        world.gateway.rooms.remove(room, "b", "boss", ban=True)
        await trio.sleep(1)
    async with open_world(config, database=database) as world, member(world, "b") as b:
        status, answer = await b.ask("webrtc_room_join", room_id=room_id, role="receiver")
        assert (status, answer["message"]) == (403, "Client was banned from this room")


async def test_a_room_to_which_nobody_comes_back_after_a_restart_ends(autojump_clock: MockClock, config: Config):
    database = InlineDatabase()
    async with open_world(config, database=database) as world, member(world, "a") as a:
        room_id = await a.create()
        await trio.sleep(1)
    async with open_world(config, database=database) as world:
        await trio.sleep(59)
        assert world.gateway.rooms.find(room_id) is not None
        await trio.sleep(3)
        assert world.gateway.rooms.find(room_id) is None


async def test_there_are_no_more_rooms_than_may_be(autojump_clock: MockClock):
    async with open_world(configured(max=1)) as world, member(world, "a") as a, member(world, "b") as b:
        await a.create()
        status, answer = await b.ask("webrtc_room_create", role="sender")
        assert (status, answer["message"]) == (503, "Too many rooms are open: try again later")
        assert world.metrics.limits.values[("rooms.max",)] == 1


def test_the_settings_of_rooms_are_checked():
    negative = ({name: -1} for name in ("departure_grace_s", "signals_held_max", "partings_kept"))
    for wrong in ({"max": 0}, {"max_receivers": 0}, {"life_s": 0.0}, *negative):
        with pytest.raises(ValueError, match="must"):
            msgspec.structs.replace(RoomsSettings(), **wrong)
