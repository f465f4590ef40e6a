"""What happens to a member and its room while the backend makes its session: nothing is left over, and nobody sits there for nothing."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from signal_gateway.domain.room import Room
from signal_gateway.testing.fake_http import Fault, Gate
from signal_gateway.testing.quick_client import QuickClient
from tests.bridges.cloudflare_made import ANSWER, OFFER

from .media_world import MediaWorld, hears, media_world
from .members import Member, member


@pytest.fixture
async def place() -> AsyncIterator[MediaWorld]:
    async with media_world() as place:
        yield place


def hold(place: MediaWorld, after: int = 1) -> Gate:
    """The call behind the next `after` ones is done, and its answer waits for the gate."""
    gate = Gate()
    place.fake.faults += [*([Fault("slow")] * after), Fault("held", gate=gate)]
    return gate


async def room_of(place: MediaWorld, a: Member) -> Room:
    room = place.rooms.find(await a.create(offer_sdp=OFFER))
    assert room is not None
    return room


async def vanish(one: Member) -> None:
    """Its connection ends without a word."""
    assert isinstance(one.client, QuickClient)
    await trio.aclose_forcefully(one.client._stream)


def sitting(room: Room) -> list[str]:
    return list(room.seats)


@pytest.mark.slow
async def test_a_link_that_is_lost_while_its_session_is_made_leaves_nothing_when_its_grace_is_over():
    """A link that waits for its handler is not read: only behind it the gateway sees that nobody is there any more."""
    async with media_world({"departure_grace_s": 0.0}) as place:
        gate = hold(place)
        async with member(place.world, "a") as a:
            await a.say("webrtc_room_create", client_id="a", role="sender", offer_sdp=OFFER)
            await gate.reached.wait()
            await vanish(a)
        gate.opened.set()
        await place.closed(*place.session_ids)
        assert list(place.rooms.opened()) == []
        async with member(place.world, "a") as a:
            assert await a.create(offer_sdp=OFFER)


async def test_a_takeover_while_a_session_is_made_gives_the_seat_to_the_newer_link(place: MediaWorld):
    async with member(place.world, "a") as a, member(place.world, "b") as b:
        room = await room_of(place, a)
        gate = hold(place)
        await b.say("webrtc_room_join", client_id="b", room_id=room.room_id, role="receiver", offer_sdp=OFFER)
        await gate.reached.wait()
        async with member(place.world, "b") as newer:
            joined = await newer.join(room.room_id)
            gate.opened.set()
            old = place.session_ids[1]
            await place.closed(old)
            assert [seat.session_id for seat in room.seats.values()] == [place.session_ids[0], joined["session_id"]]
            assert old != joined["session_id"]
            assert [(await hears(newer, "signal_offer"))["room_id"]] == [room.room_id]


async def end(place: MediaWorld, room: Room) -> None:
    place.rooms.end(room, "boss")


async def ban(place: MediaWorld, room: Room) -> None:
    assert place.rooms.remove(room, "b", "boss", ban=True)


async def fill(place: MediaWorld, room: Room) -> None:
    async with member(place.world, "c") as c:
        await c.join(room.room_id)


@pytest.mark.parametrize(
    ("meanwhile", "status", "message"),
    [(end, 404, "Room not found"), (ban, 403, "Client was banned from this room"), (fill, 409, "Room is full")],
)
async def test_what_happens_to_the_room_while_a_session_is_made_holds(
    meanwhile: Callable[[MediaWorld, Room], Awaitable[None]], status: int, message: str
):
    async with media_world({"max_receivers": 1}) as place, member(place.world, "a") as a, member(place.world, "b") as b:
        room = await room_of(place, a)
        gate = hold(place)
        await b.say("webrtc_room_join", client_id="b", room_id=room.room_id, role="receiver", offer_sdp=OFFER)
        await gate.reached.wait()
        await meanwhile(place, room)
        gate.opened.set()
        answer = await hears(b, "webrtc_room_join_ack")
        assert (answer["status"], answer["message"], answer["session_id"]) == (status, message, None)
        await place.closed(place.session_ids[1])
        assert "b" not in room.seats


async def test_the_sender_that_comes_while_a_receivers_session_is_made_is_seen_by_it(place: MediaWorld):
    room = place.rooms.make("operator", None)
    async with member(place.world, "a") as a, member(place.world, "b") as b:
        gate = hold(place, after=0)
        await b.say("webrtc_room_join", client_id="b", room_id=room.room_id, role="receiver")
        await gate.reached.wait()
        sender = await a.join(room.room_id, role="sender", offer_sdp=OFFER)
        gate.opened.set()
        answer = await hears(b, "webrtc_room_join_ack")
        assert answer["connection_info"]["publisher_session_id"] == sender["session_id"]
        assert (await hears(b, "signal_offer"))["sdp"].count("a=sendonly") == 2


async def test_of_two_who_would_send_the_first_sits_and_the_others_session_is_closed(place: MediaWorld):
    room = place.rooms.make("operator", None)
    async with member(place.world, "a") as a, member(place.world, "b") as b, member(place.world, "c") as c:
        gate = hold(place)
        await a.say("webrtc_room_join", client_id="a", room_id=room.room_id, role="sender", offer_sdp=OFFER)
        await gate.reached.wait()
        sender = await b.join(room.room_id, role="sender", offer_sdp=OFFER)
        gate.opened.set()
        assert (await hears(a, "webrtc_room_join_ack"))["message"] == "Invalid role"
        await place.closed(place.session_ids[0])
        joined = await c.join(room.room_id)
        assert joined["connection_info"]["publisher_session_id"] == sender["session_id"]
        assert len(place.fake.open_tracks(sender["session_id"])) == 2


@pytest.mark.parametrize("first", ["direct", "backend"])
async def test_two_who_begin_a_room_while_the_backend_comes_or_goes_are_on_one_way(first: str):
    """The later one found it in the other state: it goes the way of the room, or, where it cannot, stays out."""
    async with media_world(fall_back=True) as place, member(place.world, "a") as a, member(place.world, "b") as b:
        room = place.rooms.make("operator", None)
        gate = Gate()
        late = Fault("held", gate=gate) if first == "direct" else Fault("status", status=503, gate=gate)
        place.fake.faults += [late]
        await a.say("webrtc_room_join", client_id="a", room_id=room.room_id, role="sender")
        await gate.reached.wait()
        place.fake.faults += [Fault("status", status=503)] if first == "direct" else []
        joined = await b.join(room.room_id)
        gate.opened.set()
        answer = await hears(a, "webrtc_room_join_ack")
        if first == "direct":
            assert (joined["app_id"], answer["status"], answer["app_id"]) == ("p2p", 200, "p2p")
            await place.until(lambda: place.is_closed(place.session_ids[0]))
        else:
            assert (joined["app_id"] != "p2p", answer["status"], answer["reason"]) == (True, 503, "media_failed")
            assert sitting(room) == ["b"]


async def test_who_leaves_while_it_is_given_tracks_is_closed_behind_them(place: MediaWorld):
    room = place.rooms.make("operator", None)
    async with member(place.world, "a") as a, member(place.world, "b") as b:
        joined = await b.join(room.room_id)
        gate = Gate()
        place.fake.faults += [Fault("slow"), Fault("slow"), Fault("held", gate=gate)]
        await a.join(room.room_id, role="sender", offer_sdp=OFFER)
        await gate.reached.wait()
        await hears(b, "room_event")
        assert await b.leave(room.room_id) == 200
        await place.closed(joined["session_id"])
        looked = len(place.fake.seen)
        gate.opened.set()  # what was pulled meanwhile might have come after the closing: it is closed once more
        await place.until(lambda: any(seen.path.endswith(joined["session_id"]) for seen in place.fake.seen[looked:]))


async def test_an_answer_goes_on_when_the_link_that_said_it_is_lost(place: MediaWorld):
    async with member(place.world, "a") as a:
        room = await room_of(place, a)
        async with member(place.world, "b") as b:
            joined = await b.join(room.room_id)
            await hears(b, "signal_offer")
            gate = hold(place, after=0)
            await b.say("signal_answer", room_id=room.room_id, sdp=ANSWER)
            await gate.reached.wait()
            await vanish(b)
        gate.opened.set()
        assert not place.fake.sessions[joined["session_id"]].awaits_answer
        async with member(place.world, "b") as b:  # it has its seat and its session, and its media went on
            assert place.rooms.find(room.room_id) is room
            with trio.fail_after(5):
                while room.seats["b"].lost_at_s is not None:
                    await trio.lowlevel.checkpoint()
            assert room.seats["b"].session_id == joined["session_id"]
            await b.say("signal_answer", room_id=room.room_id, sdp=ANSWER)
            assert (await hears(b, "error"))["reason"] == "nothing_offered"
