"""Rooms on Cloudflare Realtime, from the member's frame to the API's body and back (S-20 to S-30, S-41; C-15, H35, CONTRACT.md §7)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from signal_gateway.domain.access import Role
from signal_gateway.storage import rooms as archive
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.testing.fake_cloudflare import FakeCloudflare
from signal_gateway.testing.fake_http import Fault
from signal_gateway.testing.world import open_world
from tests.api.conftest import Api
from tests.bridges.cloudflare_made import ANSWER, APP_ID, APP_SECRET, OFFER, SETTINGS, offer_of, real_settings

from .media_world import MediaWorld, configured, hears, hears_nothing_more, media_world
from .members import Member, member

REAL = real_settings()


class Cast:
    """Members by name, opened when they are first asked for."""

    def __init__(self, place: MediaWorld, stack: AsyncExitStack) -> None:
        self._place = place
        self._stack = stack

    async def __call__(self, client_id: str, speaks: str = "json", **how: Any) -> Member:
        return await self._stack.enter_async_context(member(self._place.world, client_id, speaks, **how))


@pytest.fixture
async def place() -> AsyncIterator[MediaWorld]:
    async with media_world() as place:
        yield place


@pytest.fixture
async def cast(place: MediaWorld) -> AsyncIterator[Cast]:
    async with AsyncExitStack() as stack:
        yield Cast(place, stack)


@pytest.mark.parametrize("speaks", ["json", "cbor", "text"])
async def test_a_call_from_the_first_request_to_the_last(place: MediaWorld, cast: Cast, speaks: str):
    a, b = await cast("a", speaks), await cast("b", speaks)
    status, created = await a.ask("webrtc_room_create", role="sender", offer_sdp=OFFER, metadata={"topic": "x"})
    room_id, session_id = created["room_id"], created["session_id"]
    names = place.fake.open_tracks(session_id)
    answer_sdp = created.pop("answer_sdp")
    assert answer_sdp.startswith("v=0")
    assert answer_sdp.count("a=recvonly") == 2
    assert (status, created) == (
        200,
        {
            "version": "1.0.0",
            "status": 200,
            "message": "Room created successfully",
            "room_id": room_id,
            "session_id": session_id,
            "app_id": APP_ID,
            "stun_url": "stun:stun.cloudflare.com:3478",
            "connection_info": {
                "session_id": session_id,
                "room_id": room_id,
                "app_id": APP_ID,
                "publisher_session_id": session_id,
                "track_names": names,
            },
            "ice_servers": [{"urls": ["stun:stun.cloudflare.com:3478"]}],
        },
    )

    joined = await b.join(room_id, offer_sdp=None)
    assert joined["message"] == "Successfully joined room"
    assert joined["session_id"] not in (None, session_id)
    assert "answer_sdp" not in joined
    assert joined["connection_info"] == {**created["connection_info"], "session_id": joined["session_id"]}
    offer = await hears(b, "signal_offer")
    assert offer.pop("sdp").count("a=sendonly") == 2
    assert offer == {"version": "1.0.0", "room_id": room_id}  # from nobody: it is the backend's
    assert (await hears(a, "room_event"))["event"] == "member_joined"
    await b.say("signal_answer", room_id=room_id, sdp=ANSWER)  # to nobody: it is for the backend
    await b.say("signal_ice_candidate", room_id=room_id, candidate=None)
    await hears_nothing_more(b)
    assert not place.fake.sessions[joined["session_id"]].awaits_answer
    await hears_nothing_more(a)

    await b.say("signal_offer", room_id=room_id, sdp="v=0 for a", to="a")  # what members have with each other goes on as anywhere
    assert (await hears(a, "signal_offer"))["from"] == "b"
    assert await b.leave(room_id) == 200
    await place.closed(joined["session_id"])
    assert place.fake.open_tracks(session_id) == names
    await hears(a, "room_event")
    assert await a.leave(room_id) == 200
    await place.closed(session_id)
    assert list(place.rooms.opened()) == []


async def test_who_came_before_the_sender_gets_its_tracks_when_it_comes(place: MediaWorld, cast: Cast):
    room = place.rooms.make("operator", None)
    b, a = await cast("b"), await cast("a", "cbor")
    early = await b.join(room.room_id)
    assert "publisher_session_id" not in early["connection_info"]
    await hears_nothing_more(b)
    joined = await a.join(room.room_id, role="sender", offer_sdp=OFFER)
    assert joined["answer_sdp"]
    await hears(b, "room_event")
    assert (await hears(b, "signal_offer"))["sdp"].count("a=sendonly") == 2
    assert {track.publisher for track in place.fake.sessions[early["session_id"]].tracks.values()} == {joined["session_id"]}


async def test_a_sender_that_offers_later_is_answered_and_its_tracks_are_passed_on(place: MediaWorld, cast: Cast):
    a, b = await cast("a"), await cast("b")
    room_id = await a.create()
    await b.join(room_id)
    await hears(a, "room_event")
    await a.say("signal_offer", room_id=room_id, sdp=offer_of("audio"))
    assert (await hears(a, "signal_answer")).keys() == {"version", "room_id", "sdp"}
    assert (await hears(b, "signal_offer"))["sdp"].count("a=sendonly") == 1
    await a.say("signal_offer", room_id=room_id, sdp=OFFER)  # and a video besides
    await hears(a, "signal_answer")
    await hears_nothing_more(b)  # it has not answered the first one
    await b.say("signal_answer", room_id=room_id, sdp=ANSWER)
    assert (await hears(b, "signal_offer"))["sdp"].count("a=sendonly") == 1
    assert len(place.fake.sessions) == 2


async def test_a_receiver_with_an_offer_is_answered_and_gets_the_senders_tracks_besides(place: MediaWorld, cast: Cast):
    a, b = await cast("a"), await cast("b", "text")
    room_id = await a.create(offer_sdp=OFFER)
    joined = await b.join(room_id, offer_sdp=offer_of("audio"))
    assert joined["answer_sdp"]
    assert (await hears(b, "signal_offer"))["sdp"]
    assert [room.offer for room in place.rooms.opened()] == [None]  # nobody is given what was for the backend


async def test_a_sender_that_comes_back_has_another_session_and_all_get_its_tracks_from_there(place: MediaWorld, cast: Cast):
    a, b = await cast("a"), await cast("b")
    room_id = await a.create(offer_sdp=OFFER)
    old = place.session_ids[0]
    await b.join(room_id)
    await hears(b, "signal_offer")
    await b.say("signal_answer", room_id=room_id, sdp=ANSWER)
    again = await cast("a")  # its page was loaded again: a takeover
    joined = await again.join(room_id, role="sender", offer_sdp=OFFER)
    assert joined["session_id"] != old
    assert (await hears(b, "room_event"))["reason"] == "returned"
    assert (await hears(b, "signal_offer"))["sdp"]
    await place.closed(old)
    assert len(place.fake.open_tracks(joined["session_id"])) == 2
    publishers = {track.publisher for track in place.fake.sessions[place.session_ids[1]].tracks.values()}
    assert publishers == {old, joined["session_id"]}


async def test_a_receiver_that_is_promoted_publishes_to_the_others():
    async with media_world({"sender_leaves": "promote"}) as place, AsyncExitStack() as stack:
        cast = Cast(place, stack)
        a, b, c = await cast("a"), await cast("b"), await cast("c")
        room_id = await a.create(offer_sdp=OFFER)
        for receiver in (b, c):
            await receiver.join(room_id)
            await hears(receiver, "signal_offer")
            await receiver.say("signal_answer", room_id=room_id, sdp=ANSWER)
        assert [(await hears(listener, "room_event"))["client_id"] for listener in (a, a, b)] == ["b", "c", "c"]
        assert await a.leave(room_id) == 200
        for receiver in (b, c):
            assert [(await hears(receiver, "room_event"))["event"] for _ in range(2)] == ["member_left", "member_joined"]
        await b.say("signal_offer", room_id=room_id, sdp=offer_of("audio", "video", "video"))
        assert (await hears(b, "signal_answer"))["sdp"]
        assert (await hears(c, "signal_offer"))["sdp"].count("a=sendonly") == 1
        await place.closed(place.session_ids[0])


async def test_a_guest_of_the_room_comes_in_the_same_way(place: MediaWorld, cast: Cast):
    a = await cast("a")
    room_id = await a.create(offer_sdp=OFFER)
    guest = await cast("guest-1", "text", token=place.world.gateway.guests.issue(room_id, 60))
    joined = await guest.join(room_id)
    assert joined["app_id"] == APP_ID
    assert (await hears(guest, "signal_offer"))["sdp"]


async def test_operators_see_on_what_a_room_stands(place: MediaWorld, cast: Cast):
    a, api = await cast("a"), Api(place.world)
    await api.issue("viewer", Role.VIEWER)
    room_id = await a.create(offer_sdp=OFFER)
    shown = (await api.call("GET", f"/api/rooms/{room_id}", who="viewer")).json
    assert (shown["app_id"], [each["session_id"] for each in shown["members"]]) == (APP_ID, place.session_ids)


@pytest.mark.skipif(REAL is None, reason="needs SIGNAL_GATEWAY_CLOUDFLARE__APP_ID and __APP_SECRET")
async def test_a_room_at_cloudflare_itself():
    """As far as it goes without media: a sender is answered, a receiver has a session, and both are closed."""
    assert REAL is not None
    async with open_world(configured(REAL)) as world, member(world, "a") as a, member(world, "b", "text") as b:
        status, created = await a.ask("webrtc_room_create", role="sender", offer_sdp=OFFER)
        assert (status, created["app_id"], created["answer_sdp"].startswith("v=0")) == (200, REAL.app_id, True)
        assert len(created["connection_info"]["track_names"]) == 2
        joined = await b.join(created["room_id"])
        assert joined["session_id"] != created["session_id"]
        await hears(a, "room_event")
        assert await a.leave(created["room_id"]) == 200
    assert 'signal_gateway_media_closings_total{outcome="closed"} 2.0' in world.metrics.text().decode()


# What goes wrong

DOWN: list[tuple[Fault, str]] = [
    (Fault("status", status=500), "media_failed"),
    (Fault("status", status=429), "media_limited"),
    (Fault("status", status=401), "media_not_accepted"),
    (Fault("cut"), "media_unreachable"),
    (Fault("cut_unseen"), "media_unreachable"),
    (Fault("cut_within"), "media_unreachable"),
    (Fault("slow", seconds=30), "media_timeout"),
    (Fault("garbage"), "media_garbled"),
    (Fault("endless", bytes=SETTINGS.answer_bytes_max + 1), "media_garbled"),
]


@pytest.mark.parametrize(("fault", "reason"), DOWN, ids=[fault.kind + str(fault.status) for fault, _ in DOWN])
@pytest.mark.parametrize("at", ["new_session", "tracks"])
async def test_while_the_backend_is_down_nobody_comes_in_and_is_told_why(fault: Fault, reason: str, at: str, lines: list[dict[str, Any]]):
    call_s = 0.5 if fault.kind == "slow" else 20  # real time: on a busy machine another answer must not be late, too
    async with media_world(call_s=call_s) as place, member(place.world, "a") as a, member(place.world, "b", "cbor") as b:
        ahead = [] if at == "new_session" else [Fault("slow")]
        for asker, name, more in ((a, "webrtc_room_create", {}), (b, "webrtc_room_join", {"room_id": place.rooms.make("o", None).room_id})):
            place.fake.faults.extend([*ahead, fault])
            status, answer = await asker.ask(name, role="sender", offer_sdp=OFFER, **more)
            assert (status, answer["reason"], answer["message"]) == (503, reason, "Media backend unavailable")
            assert (answer["room_id"], answer["session_id"], answer["app_id"], answer["connection_info"]) == (None, None, None, None)
            assert "answer_sdp" not in answer
        assert [len(room.seats) for room in place.rooms.opened()] == [0]
        assert place.world.metrics.refusals.value(reason) == 2
        assert await a.create(offer_sdp=OFFER)  # and when it is well again, all is well
        assert place.world.metrics.errors.total == 0
    assert not any(secret in repr(lines) for secret in (APP_SECRET, "v=0", "fingerprint"))


async def test_an_offer_that_the_backend_refuses_is_a_session_error(place: MediaWorld, cast: Cast):
    a = await cast("a")
    status, answer = await a.ask("webrtc_room_create", role="sender", offer_sdp="no sdp")
    assert (status, answer["message"], "reason" in answer) == (500, "Session error", False)
    assert list(place.rooms.opened()) == []


async def test_what_rooms_refuse_the_backend_is_not_even_asked_for(place: MediaWorld, cast: Cast):
    a, b = await cast("a"), await cast("b")
    assert (await a.ask("webrtc_room_join", role="receiver", room_id="none"))[1]["message"] == "Room not found"
    assert (await a.ask("webrtc_room_create", role="receiver"))[1]["message"] == "Invalid role"
    assert (await a.ask("webrtc_room_create", role="sender", auth_token="wrong"))[0] == 401
    room_id = await a.create()
    assert (await a.ask("webrtc_room_create", role="sender"))[1]["message"] == "Client already in room"
    assert (await b.ask("webrtc_room_join", role="sender", room_id=room_id))[1]["message"] == "Invalid role"
    assert len(place.fake.sessions) == 1


async def test_a_room_begins_without_the_backend_where_it_may_and_stays_so():
    async with media_world(fall_back=True) as place, AsyncExitStack() as stack:
        cast = Cast(place, stack)
        a, b, c = await cast("a"), await cast("b"), await cast("c")
        place.fake.faults.append(Fault("status", status=503))
        status, created = await a.ask("webrtc_room_create", role="sender", offer_sdp=OFFER)
        assert (status, created["app_id"], "answer_sdp" in created) == (200, "p2p", False)
        room_id = created["room_id"]
        joined = await b.join(room_id)
        assert (joined["app_id"], joined["session_id"] != created["session_id"]) == ("p2p", True)
        offer = await hears(b, "signal_offer")
        assert (offer["from"], offer["sdp"]) == ("a", OFFER)
        await hears(a, "room_event")
        await b.say("signal_answer", room_id=room_id, sdp=ANSWER)
        assert (await hears(a, "signal_answer"))["from"] == "b"
        assert place.fake.sessions == {}
        assert "signal_gateway_media_fall_backs_total 1.0" in place.world.metrics.text().decode()
        assert (await c.ask("webrtc_room_create", role="sender"))[1]["app_id"] == APP_ID


async def test_who_would_join_a_room_of_the_backend_while_that_is_down_is_refused_even_so():
    async with media_world(fall_back=True) as place, member(place.world, "a") as a, member(place.world, "b") as b:
        room_id = await a.create(offer_sdp=OFFER)
        place.fake.faults.append(Fault("status", status=503))
        status, answer = await b.ask("webrtc_room_join", room_id=room_id, role="receiver")
        assert (status, answer["reason"]) == (503, "media_failed")
        assert [list(room.seats) for room in place.rooms.opened()] == [["a"]]


async def test_an_answer_that_does_not_arrive_is_an_error_for_its_frame_and_may_be_said_again(place: MediaWorld, cast: Cast):
    a, b = await cast("a"), await cast("b")
    room_id = await a.create(offer_sdp=OFFER)
    await b.join(room_id)
    await hears(b, "signal_offer")
    place.fake.faults.append(Fault("cut_unseen"))
    await b.say("signal_answer", room_id=room_id, sdp=ANSWER)
    error = await hears(b, "error")
    assert (error["status"], error["reason"], error["ref_type"]) == (503, "media_unreachable", 0x11)
    await b.say("signal_answer", room_id=room_id, sdp="no sdp")
    assert (await hears(b, "error"))["reason"] == "session_error"
    await b.say("signal_answer", room_id=room_id, sdp=ANSWER)
    await b.say("signal_answer", room_id=room_id, sdp=ANSWER)
    error = await hears(b, "error")
    assert (error["status"], error["reason"]) == (409, "nothing_offered")


async def test_two_exchanges_at_once_are_refused_and_so_is_who_does_not_sit_there(place: MediaWorld, cast: Cast):
    a, b, c = await cast("a"), await cast("b"), await cast("c")
    room_id = await a.create(offer_sdp=OFFER)
    await b.join(room_id)
    await hears(b, "signal_offer")
    await b.say("signal_offer", room_id=room_id, sdp=OFFER)
    assert (await hears(b, "error"))["reason"] == "offer_outstanding"
    for name, said in (("signal_offer", {"sdp": OFFER}), ("signal_answer", {"sdp": ANSWER}), ("signal_ice_candidate", {"candidate": None})):
        await c.say(name, room_id=room_id, **said)
        assert (await hears(c, "error"))["reason"] == "room_not_found"
        await c.say(name, room_id="none", **said)
        assert (await hears(c, "error"))["reason"] == "room_not_found"


# Ends


@pytest.mark.parametrize("how", ["kick", "ban", "end", "unregister", "disconnect"])
async def test_however_a_member_goes_its_session_is_closed(place: MediaWorld, cast: Cast, how: str):
    a, b = await cast("a"), await cast("b", "text")
    room_id = await a.create(offer_sdp=OFFER)
    joined = await b.join(room_id, offer_sdp=OFFER)
    room = place.rooms.find(room_id)
    assert room is not None
    match how:
        case "kick" | "ban":
            assert place.rooms.remove(room, "b", "boss", ban=how == "ban")
        case "end":
            place.rooms.end(room, "boss")
        case "unregister":
            await b.say("unregister", client_id="b", auth_token="token-b")
        case _:
            await b.client.send('{"type": "disconnect", "data": {}}')
    await place.closed(joined["session_id"])
    if how == "end":
        await place.closed(place.session_ids[0])
    else:
        assert len(place.fake.open_tracks(place.session_ids[0])) == 2


async def test_the_end_of_the_server_closes_all_sessions_and_after_it_members_come_back_to_new_ones():
    database, fake = InlineDatabase(), FakeCloudflare(APP_ID, APP_SECRET)
    async with media_world(database=database, fake=fake) as place, member(place.world, "a") as a, member(place.world, "b") as b:
        room_id = await a.create(offer_sdp=OFFER)
        await b.join(room_id)
    before = list(fake.sessions)
    assert [fake.open_tracks(session_id) for session_id in before] == [[], []]
    async with media_world(database=database, fake=fake) as place, member(place.world, "a") as a, member(place.world, "b") as b:
        room = place.rooms.find(room_id)
        assert room is not None
        assert (room.app_id, [seat.session_id for seat in room.seats.values()]) == (APP_ID, before)
        await b.say("signal_offer", room_id=room_id, sdp=OFFER)
        error = await hears(b, "error")
        assert (error["status"], error["message"]) == (404, "The media backend has no session of yours: join again")
        await a.join(room_id, role="sender", offer_sdp=OFFER)
        await hears(b, "room_event")
        joined = await b.join(room_id)
        assert joined["session_id"] not in before
        assert (await hears(b, "signal_offer"))["sdp"]
    record = await database.read(lambda connection: archive.find_room(connection, room_id))
    stays = await database.read(lambda connection: archive.find_stays(connection, room_id))
    assert record is not None
    assert (record.app_id, record.session_id) == (APP_ID, list(fake.sessions)[2])
    assert [stay.session_id for stay in stays] == list(fake.sessions)[2:]
    database.close()
