"""The archive of rooms: what it keeps, what is asked of it (S-33 to S-40; C-13), and its form for other programs (C-16)."""

from functools import partial
from typing import Any

import pytest

from signal_gateway.domain.room import Leaving, Room, RoomEnd, RoomRole, RoomState, Seat, StayEnd
from signal_gateway.services.room_archive import restored
from signal_gateway.services.room_export import documents_of, read_clients, read_rooms
from signal_gateway.storage import rooms as archive
from signal_gateway.storage.batch import Put, write_batch
from signal_gateway.storage.database import Database
from signal_gateway.storage.devices import ClientRecord, Vouch, register
from signal_gateway.storage.rows import Row

AT = 1_767_225_600_000


def room_of(room_id: str, at: int, *clients: str) -> Room:
    """The first sends; each came a second after the one before."""
    room = Room(room_id, at, clients[0], 0.0, {"topic": "x"})
    for number, client_id in enumerate(clients):
        role = RoomRole.RECEIVER if number else RoomRole.SENDER
        room.sit(Seat(client_id, role, f"{room_id}-{client_id}", f"session-{client_id}", at + 1000 * number, 1, 1))
    return room


async def keep(database: Database, room: Room, *more: Row) -> None:
    rows: list[Row] = [*more, archive.room_row(room), *(archive.stay_row(room.room_id, seat) for seat in room.seats.values())]
    await database.write(lambda connection: write_batch([Put(rows, 0.0)], connection))


@pytest.fixture
async def kept(database: Database) -> Database:
    """Room r-1 is open: a sends, b was kicked and came again. r-2 is over, and c
    had two other sessions there before its last; r-3 was made by an operator, and nobody came."""
    first = room_of("r-1", AT, "a", "b")
    gone = first.seats["b"]
    gone.end = StayEnd(AT + 5000, "kicked", Leaving.KICKED, "boss")
    await keep(database, first)
    first.rise("b")
    first.sit(Seat("b", RoomRole.RECEIVER, "r-1-b-again", "session-b2", AT + 6000, 2, 2))
    await keep(database, first)
    second = room_of("r-2", AT + 10_000, "c", "d")
    former = [archive.former_session_row("r-2-c", session_id, AT + 11_000) for session_id in ("session-c0", "session-c1")]
    second.end = RoomEnd(AT + 70_500, RoomState.TERMINATED, "operator", "boss")
    for seat in second.seats.values():
        seat.end = StayEnd(AT + 70_500, "operator", Leaving.ENDED, "boss")
    await keep(database, second, *former)
    third = Room("r-3", AT + 20_000, "boss", 0.0, is_made=True)
    third.banned.add("nobody")
    await keep(database, third)
    return database


async def test_open_rooms_are_found_with_those_who_sit_in_them(kept: Database):
    first, third = await kept.read(archive.find_open)
    assert (first.room_id, first.stays, first.metadata, first.is_made) == ("r-1", 3, {"topic": "x"}, False)
    assert [(stay.client_id, stay.stay_id, stay.role) for stay in first.seats] == [
        ("a", "r-1-a", "sender"),
        ("b", "r-1-b-again", "receiver"),
    ]
    assert (third.room_id, third.stays, third.seats, third.is_made) == ("r-3", 0, [], True)
    assert (first.banned, third.banned) == ([], ["nobody"])  # also who never sat there


async def test_a_room_that_is_over_tells_who_sent_in_it(database: Database):
    """The last one, whether they left before the others, or the room ended around them; and over a restart in between."""
    left, ended, nobody = room_of("r-1", AT, "a", "b"), room_of("r-2", AT, "c", "d"), Room("r-3", AT, "boss", 0.0, is_made=True)
    left.rise("a")
    await keep(database, left)
    restarted = restored(next(each for each in await database.read(archive.find_open)), 0.0, AT, 0.0)
    assert (restarted.room_id, restarted.sender, restarted.sends_or_sent) == ("r-1", None, ("a", "session-a"))
    for room in (restarted, ended, nobody):
        room.end = RoomEnd(AT + 9000, RoomState.TERMINATED, "timeout", "server")
        room.clear()
        await keep(database, room)
    found = [await database.read(partial(archive.find_room, room_id=room_id)) for room_id in ("r-1", "r-2", "r-3")]
    assert [room and (room.sender_client_id, room.session_id) for room in found] == [
        ("a", "session-a"),
        ("c", "session-c"),
        (None, None),
    ]


async def test_a_second_visit_does_not_hide_the_first(kept: Database):
    stays = await kept.read(lambda connection: archive.find_stays(connection, "r-1"))
    assert [(stay.client_id, stay.final_status) for stay in stays] == [("a", None), ("b", "kicked"), ("b", None)]
    active = await kept.read(lambda connection: archive.find_stays(connection, "r-1", active=True))
    assert [stay.stay_id for stay in active] == ["r-1-a", "r-1-b-again"]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"session_id": "session-b"}, ["r-1"]),
        ({"session_id": "session-b2"}, ["r-1"]),
        ({"session_id": "session-c0"}, ["r-2"]),
        ({"session_id": "session-c1", "client_id": "d"}, ["r-2"]),
        ({"session_id": "session-c0", "client_id": "b"}, []),
        ({"session_id": "nobody's"}, []),
        ({"client_id": "d"}, ["r-2"]),
        ({"client_id": "b", "session_id": "session-d"}, []),
        ({"ended_since": AT + 70_500}, ["r-2"]),
        ({"ended_since": AT + 70_501}, []),
        ({"ended_until": AT + 70_501}, ["r-2"]),
        ({"ended_until": AT + 70_500}, []),
    ],
)
async def test_rooms_of_a_session_of_a_client_and_by_the_time_of_their_end(kept: Database, wanted: dict[str, Any], ids: list[str]):
    found = await kept.read(lambda connection: archive.find_rooms(connection, archive.Wanted(**wanted), None, 10))
    assert [room.room_id for room in found] == ids


@pytest.mark.parametrize(
    ("begin", "end", "ids"),
    [(None, None, ["r-1", "r-2", "r-3"]), (AT + 1, None, ["r-2", "r-3"]), (None, AT + 20_000, ["r-1", "r-2"]), (AT + 30_000, None, [])],
)
async def test_rooms_by_the_time_of_their_making(kept: Database, begin: int | None, end: int | None, ids: list[str]):
    found, place, wanted = [], None, archive.Wanted(since=begin, until=end)
    while page := await kept.read(lambda connection, place=place: archive.find_rooms(connection, wanted, place, 1)):
        found += [room.room_id for room in page]
        place = (page[-1].created_at, page[-1].room_id)
    assert found == ids


async def test_documents_in_the_form_of_the_source(kept: Database):
    record = ClientRecord("a", b"d" * 32, None, "1.0.0", ["webrtc"], None, None)
    assert await kept.write(lambda connection: register(connection, record, Vouch(), AT)) is None
    documents, place = await read_rooms(kept, archive.Wanted(), None, AT + 7000)
    assert place is None
    told: dict[str, list[Any]] = {}
    for collection, document in documents:
        told.setdefault(collection, []).append(document)
    assert {name: len(each) for name, each in told.items()} == {
        "room_created": 3,
        "webrtc_rooms": 3,
        "webrtc_clients": 5,
        "client_in_room": 2,
        "client_in_terminated_room": 3,
        "terminated_rooms": 1,
    }
    first = told["webrtc_rooms"][0]
    assert (first["status"], first["sender_client_id"], first["receiver_client_ids"]) == ("Active", "a", ["b"])
    assert first["created_at"] == "2026-01-01T00:00:00Z"
    assert [document["status"] for document in told["webrtc_rooms"]] == ["Active", "Terminated", "Pending"]
    assert told["terminated_rooms"][0]["room_data"] == {"session_duration": 60, "participant_count": 2, "final_status": "terminated"}
    assert [document["final_status"] for document in told["client_in_terminated_room"]] == ["Kicked", "Disconnected", "Disconnected"]
    assert [(document["client_id"], document["capabilities"]) for document in told["client_in_room"]] == [("a", ["webrtc"]), ("b", [])]
    assert [document["room_data"]["creation_type"] for document in told["room_created"]] == ["manual", "manual", "operator"]
    clients, name = await read_clients(kept, "")
    assert name is None
    assert (clients[0][0], clients[0][1]["client_id"], clients[0][1]["status"]) == ("registered_clients", "a", "Active")
    assert clients[0][1]["auth_token"].startswith("hmac-sha256:")


async def test_ids_of_documents_are_the_same_in_every_export(kept: Database):
    (found, *_) = await kept.read(lambda connection: archive.find_rooms_in_full(connection, archive.Wanted(), None, 10))
    assert [document["id"] for _, document in documents_of(found, AT)] == [document["id"] for _, document in documents_of(found, AT + 1)]
