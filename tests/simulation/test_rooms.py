"""Rooms in storms: lost links, takeovers, races, crashes, and laws that see whatever goes wrong; and that see it (CONTRACT.md §7).

SIMULATED_SEEDS says how many runs; a release makes hundreds: `python -m signal_gateway.testing.simulation --rooms --seeds 0:500`.
"""

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.frame import FrameType, decode_frame, encode_frame
from protocol.payload import PayloadKind, read_payload, write_payload
from signal_gateway.config import Config
from signal_gateway.domain.events import DeviceLinked, RoomChanged, SignalDue
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.testing import room_laws, signal_laws
from signal_gateway.testing.agent import SimulatedAgent
from signal_gateway.testing.checker import check
from signal_gateway.testing.history import SIMULATION, Entry, History
from signal_gateway.testing.room_laws import check_rooms
from signal_gateway.testing.room_transcript import Law, RoomTranscript
from signal_gateway.testing.simulation import simulate
from signal_gateway.testing.simulation_plan import roomed
from signal_gateway.testing.world import World, open_world

SEEDS = int(os.environ.get("SIMULATED_SEEDS", "2"))
SETTINGS = RoomsSettings(departure_grace_s=10.0)
ENROLMENT_KEY = "demo-enrolment-key"


@cache
def storm_of(seed: int) -> History:
    return simulate(roomed(seed), seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_whatever_links_and_members_do_no_law_of_rooms_is_broken(seed: int):
    history, settings = storm_of(seed), roomed(seed).rooms
    assert check_rooms(history, settings) == []
    assert check(history) == []
    rooms = RoomTranscript(history, settings)
    assert len(rooms.stays) > 50
    assert len([due for due in rooms.due if due.key in rooms.signals]) > 100
    assert {"voluntary_disconnect", "moved", "link_lost"} <= {change.event.reason for change in rooms.changes}
    assert any(len(stay.admissions) > 1 for stay in rooms.stays)  # came back to a seat that was kept
    assert any(request.status == 409 for request in rooms.requests)
    assert any(connection.replaced is not None for connection in rooms.transcript.connections.values())
    assert len(rooms.transcript.lives) == 3


@pytest.mark.slow
def test_a_storm_in_rooms_is_the_same_in_every_process():
    command = [sys.executable, "-m", "signal_gateway.testing.simulation", "--rooms", "--seeds", "0", "--digest"]
    environ = {**os.environ, "PYTHONHASHSEED": "1"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.strip() == storm_of(0).digest()


# a history in which all is well, and what is wrong when it is changed


@cache
def well() -> History:
    """Three clients in a room: one makes it, two come, one of them loses its link and comes back, the other leaves.

    The former loses it once more, and a fourth one comes meanwhile.
    """
    return trio.run(_live, clock=MockClock(autojump_threshold=0))


async def _live() -> History:
    config = Config(auth=AuthSettings(enrolment_keys=(f"demo:{ENROLMENT_KEY}",)), rooms=SETTINGS)
    async with open_world(config) as world:
        tell_memory(world)
        a, b, c, d = (world.agent(name, ENROLMENT_KEY, registers=True) for name in ("a", "b", "c", "d"))
        for agent in (a, b, c, d):
            await world.links.start(agent.live)
        room_id = (await ask(a, FrameType.WEBRTC_ROOM_CREATE, role="sender", offer_sdp="s:a/1;"))["room_id"]
        await trio.sleep(1)
        candidate = {"candidate": "s:a/2;", "sdpMid": "0", "sdpMLineIndex": 0}
        await a.tell(FrameType.SIGNAL_ICE_CANDIDATE, {"room_id": room_id, "candidate": candidate})
        await trio.sleep(10)
        for agent in (b, c):
            await ask(agent, FrameType.WEBRTC_ROOM_JOIN, room_id=room_id, role="receiver")
        await trio.sleep(1)
        await b.tell(FrameType.SIGNAL_ANSWER, {"room_id": room_id, "to": "a", "sdp": "s:b/1;"})
        for number in (2, 3):
            candidate = {"candidate": f"s:b/{number};", "sdpMid": "0", "sdpMLineIndex": 0}
            await b.tell(FrameType.SIGNAL_ICE_CANDIDATE, {"room_id": room_id, "to": "a", "candidate": candidate})
        tell_memory(world)
        await trio.sleep(20)
        b.hang_up(3)
        await trio.sleep(2)
        await a.tell(FrameType.SIGNAL_OFFER, {"room_id": room_id, "to": "b", "sdp": "s:a/3;"})
        await trio.sleep(20)
        await ask(c, FrameType.WEBRTC_ROOM_LEAVE, room_id=room_id)
        await trio.sleep(20)
        b.hang_up(3)
        await trio.sleep(2)
        await ask(d, FrameType.WEBRTC_ROOM_JOIN, room_id=room_id, role="receiver")
        await trio.sleep(20)
        for agent in (d, b, a):
            await ask(agent, FrameType.WEBRTC_ROOM_LEAVE, room_id=room_id)
        await trio.sleep(20)
        database, history = world.database, world.history
        for table in ("rooms", "room_members"):
            history.note(SIMULATION, f"rows of {table}", tuple(database.rows(table)))
    return history


async def ask(agent: SimulatedAgent, frame_type: FrameType, **payload: Any) -> dict[str, Any]:
    _, answer = await agent.ask(frame_type, {"version": "1.0.0", "client_id": agent.device_id, **payload})
    assert answer["status"] == 200
    return answer


def tell_memory(world: World) -> None:
    rooms = [
        (room.room_id, tuple((seat.client_id, seat.role.value, seat.joined_at) for seat in room.seats.values()))
        for room in world.gateway.rooms.opened()
    ]
    world.history.note(SIMULATION, "rooms", tuple(rooms))


Pick = Callable[[Entry], bool]
Tamper = Callable[[list[Entry]], None]


def heard(who: str, text: str | FrameType) -> Pick:
    """What a client heard: by its mark, or an answer by its type."""

    def pick(entry: Entry) -> bool:
        if entry.who != who or entry.what != "heard" or not isinstance(entry.about, bytes):
            return False
        return decode_frame(entry.about).type == text if isinstance(text, FrameType) else text.encode() in entry.about

    return pick


def event(shape: type, text: str) -> Pick:
    return lambda entry: isinstance(entry.about, shape) and text in repr(entry.about)


def line(what: str, client_id: str) -> Pick:
    return lambda entry: entry.who == "log" and entry.what == what and ("client_id", client_id) in entry.about


def rows(table: str) -> Pick:
    return lambda entry: entry.what == f"rows of {table}"


def place_of(entries: Sequence[Entry], pick: Pick, number: int = 0) -> int:
    return [place for place, entry in enumerate(entries) if pick(entry)][number]


def drop(pick: Pick, number: int = 0) -> Tamper:
    return lambda entries: entries.pop(place_of(entries, pick, number)) and None


def twice(pick: Pick) -> Tamper:
    return lambda entries: entries.insert(place_of(entries, pick) + 1, entries[place_of(entries, pick)])


def swap(one: Pick, other: Pick) -> Tamper:
    def tamper(entries: list[Entry]) -> None:
        first, second = place_of(entries, one), place_of(entries, other)
        entries[first], entries[second] = entries[second], entries[first]

    return tamper


def change(pick: Pick, with_: Callable[[Any], Any], number: int = 0) -> Tamper:
    def tamper(entries: list[Entry]) -> None:
        place = place_of(entries, pick, number)
        entries[place] = entries[place]._replace(about=with_(entries[place].about))

    return tamper


def hears_too(who: str, pick: Pick, after: Pick) -> Tamper:
    """This client hears, behind what it heard there, what another one heard."""

    def tamper(entries: list[Entry]) -> None:
        place = place_of(entries, after)
        entries.insert(place + 1, entries[place_of(entries, pick)]._replace(who=who, link=entries[place].link))

    return tamper


def note(what: str, before: Pick) -> Tamper:
    def tamper(entries: list[Entry]) -> None:
        place = place_of(entries, before)
        room_id = dict(entries[place].about[1:])["room_id"]
        entries.insert(place, Entry(entries[place].at, SIMULATION, 0, what, (room_id, "c")))

    return tamper


def takes_out_while_away(client_id: str) -> Tamper:
    """An operator takes it out before its second link, of which it hears nothing."""

    def tamper(entries: list[Entry]) -> None:
        back, like = (
            place_of(entries, event(DeviceLinked, f"'{client_id}'"), 1),
            entries[place_of(entries, event(RoomChanged, JOINED))].about,
        )
        kicked = RoomChanged(like.room_id, "member_left", client_id, "receiver", "kicked", ("a", "c"))
        entries.insert(back, entries[back]._replace(at=entries[back].at - 0.5, about=kicked))

    return tamper


def answer(status: int, message: str) -> Callable[[bytes], bytes]:
    """The same answer, with another outcome."""

    def again(about: bytes) -> bytes:
        frame = decode_frame(about)
        payload = {**read_payload(frame.payload_kind, frame.payload), "status": status, "message": message}
        return encode_frame(frame.type, frame.uuid, PayloadKind.JSON, write_payload(PayloadKind.JSON, payload))

    return again


def both(*tampers: Tamper) -> Tamper:
    def tamper(entries: list[Entry]) -> None:
        for each in tampers:
            each(entries)

    return tamper


def told_to(*clients: str, reason: str | None = None) -> Callable[[RoomChanged], RoomChanged]:
    return lambda event: RoomChanged(event.room_id, event.event, event.client_id, event.role, reason or event.reason, clients)


def without(client_id: str) -> Callable[[Any], Any]:
    return lambda told: tuple(row for row in told if dict(row).get("client_id") != client_id)


def still_open(told: Any) -> Any:
    return tuple({**dict(row), "left_at": None} for row in told)


def role(about: Any) -> Any:
    return tuple(("role", "sender") if each == ("role", "receiver") else each for each in about)


def reason(word: str) -> Callable[[Any], Any]:
    return lambda about: tuple(("reason", word) if each[0] == "reason" else each for each in about)


JOINED, LEFT = "member_joined', client_id='c'", "member_left', client_id='c'"
LEAVE_ACK, JOIN_ACK = FrameType.WEBRTC_ROOM_LEAVE_ACK, FrameType.WEBRTC_ROOM_JOIN_ACK
BREACHES: list[tuple[Law, Tamper]] = [
    (signal_laws.every_signal_arrives_or_is_refused, drop(heard("a", "s:b/1;"))),
    (signal_laws.every_signal_arrives_or_is_refused, drop(heard("b", "s:a/3;"))),
    (signal_laws.every_signal_arrives_or_is_refused, drop(line("room entered", "b"))),
    (signal_laws.what_is_for_all_comes_to_those_who_join, drop(heard("c", "s:a/2;"))),
    (signal_laws.nobody_hears_a_signal_twice, twice(heard("b", "s:a/1;"))),
    (room_laws.who_is_banned_stays_out, note("ban", line("room entered", "c"))),
    (signal_laws.signals_are_for_those_who_hear_them, hears_too("b", heard("a", "s:b/1;"), heard("b", "s:a/1;"))),
    (signal_laws.signals_are_for_those_who_hear_them, hears_too("c", heard("a", "s:b/1;"), heard("c", "s:a/1;"))),
    (signal_laws.signals_are_for_those_who_hear_them, drop(line("room entered", "b"))),
    (signal_laws.what_is_heard_was_due_in_that_order, swap(heard("a", "s:b/1;"), heard("a", "s:b/2;"))),
    (signal_laws.what_is_heard_was_due_in_that_order, drop(event(SignalDue, "s:b/2;"))),
    (signal_laws.signals_keep_their_order, swap(heard("a", "s:b/2;"), heard("a", "s:b/3;"))),
    (signal_laws.signals_keep_their_order, swap(heard("a", "s:b/1;"), heard("a", "s:b/2;"))),
    (signal_laws.candidates_follow_their_description, drop(event(SignalDue, "s:b/1;"))),
    (room_laws.a_room_has_one_sender_and_no_more_than_it_may, change(line("room entered", "b"), role)),
    (room_laws.a_seat_outlives_its_link_for_the_grace, drop(event(DeviceLinked, "'b'"), 1)),
    (room_laws.a_seat_outlives_its_link_for_the_grace, change(line("room left", "c"), reason("disconnected"))),
    (room_laws.nobody_leaves_and_nothing_ends_without_a_cause, change(event(RoomChanged, LEFT), told_to("a", "b", reason="kicked"))),
    (
        room_laws.nobody_leaves_and_nothing_ends_without_a_cause,
        change(lambda entry: entry.who == "log" and entry.what == "room ended", reason("timeout")),
    ),
    (room_laws.members_are_told_who_comes_and_goes, change(event(RoomChanged, JOINED), told_to("a"))),
    (room_laws.members_are_told_who_comes_and_goes, change(event(RoomChanged, LEFT), told_to("a", "b", "c"))),
    (room_laws.members_are_told_who_comes_and_goes, drop(heard("a", '"member_left","client_id":"c"'))),
    (room_laws.who_comes_back_is_told_who_came_and_went, drop(heard("b", '"member_joined","client_id":"d"'))),
    (room_laws.who_lost_a_seat_without_a_link_is_told_when_it_comes_back, takes_out_while_away("b")),
    (room_laws.nothing_comes_after_the_end, hears_too("c", heard("a", '"member_left","client_id":"b"'), heard("c", LEAVE_ACK))),
    (room_laws.nobody_is_stuck, change(heard("b", JOIN_ACK), answer(409, "Client already in room"))),
    (room_laws.nobody_is_stuck, change(heard("b", JOIN_ACK), answer(404, "Room not found"))),
    (room_laws.nobody_is_stuck, both(change(heard("c", LEAVE_ACK), answer(404, "Room not found")), drop(line("room left", "c")))),
    (room_laws.nobody_is_stuck, change(heard("b", JOIN_ACK), answer(403, "Client was banned from this room"))),
    (room_laws.nobody_is_stuck, change(heard("b", JOIN_ACK), answer(500, "Session error"))),
    (room_laws.memory_is_as_told, change(lambda entry: entry.what == "rooms", lambda _: (), 1)),
    (room_laws.the_archive_tells_what_was, change(rows("room_members"), without("b"))),
    (room_laws.the_archive_tells_what_was, change(rows("rooms"), lambda _: ())),
    (room_laws.the_archive_tells_what_was, drop(line("room entered", "b"))),
    (room_laws.what_was_answered_is_in_the_archive, change(rows("room_members"), without("c"))),
    (room_laws.nothing_stays_open, change(rows("room_members"), still_open)),
]


def test_a_history_in_which_all_is_well_breaks_no_law():
    assert check_rooms(well(), SETTINGS) == []


@pytest.mark.parametrize(("law", "tamper"), BREACHES)
def test_every_law_sees_its_breach(law: Law, tamper: Tamper):
    history = copy.copy(well())
    history.entries = list(history.entries)
    tamper(history.entries)
    assert list(law(RoomTranscript(history, SETTINGS)))


def test_no_law_is_without_a_breach():
    assert {law for law, _ in BREACHES} == set(room_laws.LAWS)
