"""Rooms and clients as the documents of seed 003, with its names and its casing (S-33 to S-40; C-16): for whoever reads those.

Two tables hold what the seed spreads over seven collections; here it is spread again.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from signal_gateway.domain.room import Leaving
from signal_gateway.storage import rooms as archive
from signal_gateway.storage.database import Database
from signal_gateway.storage.rooms import RegistrationRecord, RoomInFull, RoomRecord, StayRecord, Wanted

Document = tuple[str, dict[str, Any]]
"""The name of its collection, and the document."""

Place = tuple[int, str]
"""When a room was made, and its id."""

PAGE_ROOMS = 200
ACTIVE_WITHIN_MS = 75_000
"""A member of which nothing was heard for longer is `Away`; nobody is ever `Busy` (S-38)."""
_FINAL: Mapping[str, str] = {
    "all_left": "completed",
    "sender_left": "completed",
    "timeout": "timeout",
    "empty_timeout": "timeout",
    "operator": "terminated",
    "server_restart": "interrupted",
}
_FINAL_OF_STAY: Mapping[str, str] = {
    Leaving.VOLUNTARY: "VoluntaryDisconnect",
    Leaving.KICKED: "Kicked",
    Leaving.BANNED: "Banned",
}
"""All else is `Disconnected`."""


async def read_rooms(database: Database, wanted: Wanted, after: Place | None, now: int) -> tuple[list[Document], Place | None]:
    """The documents of the next rooms that are wanted, behind the room at `after`.

    Returns where to go on; None: these were the last. Raises DatabaseDown.
    """
    found = await database.read(lambda connection: archive.find_rooms_in_full(connection, wanted, after, PAGE_ROOMS))
    documents = [document for room in found for document in documents_of(room, now)]
    last = found[-1].room if len(found) == PAGE_ROOMS else None
    return documents, None if last is None else (last.created_at, last.room_id)


async def read_clients(database: Database, after: str) -> tuple[list[Document], str | None]:
    """The same of clients that have a record, whenever they registered."""
    found = await database.read(lambda connection: archive.registrations_after(connection, after, PAGE_ROOMS))
    return [_registered_client(record) for record in found], found[-1].client_id if len(found) == PAGE_ROOMS else None


def documents_of(found: RoomInFull, now: int) -> Iterator[Document]:
    """All documents that tell of one room. Those of an ended room and of an ended stay are there beside the others, as in the source."""
    room, stays = found.room, found.stays
    yield _room_created(room)
    yield _webrtc_room(room, [stay for stay in stays if stay.role == "receiver"])
    if room.ended_at is not None and room.ended_reason is not None:
        yield _terminated_room(room, room.ended_at, room.ended_reason, len({stay.client_id for stay in stays}))
    for stay in stays:
        yield _webrtc_client(stay)
        capabilities = found.capabilities.get(stay.client_id, ())
        if stay.left_at is None:
            yield _client_in_room(stay, capabilities, max(stay.joined_at, found.heard_at.get(stay.client_id) or 0), now)
        else:
            yield _client_in_terminated_room(stay, capabilities, stay.left_at)


def _room_created(room: RoomRecord) -> Document:
    is_made = room.creation_type == archive.MADE
    data = {
        "app_id": room.app_id,
        "initial_participants": 0 if is_made else 1,
        "creation_type": "operator" if is_made else "manual",
    }
    return "room_created", {
        "id": _id(room.room_id, "created"),
        "room_uuid": room.room_id,
        "created_at": _time(room.created_at),
        "room_data": data,
        "created_by": room.created_by,
        "metadata": room.metadata or {},
        "record_created_at": _time(room.created_at),
    }


def _webrtc_room(room: RoomRecord, receivers: list[StayRecord]) -> Document:
    ids = list(dict.fromkeys(stay.client_id for stay in receivers))
    return "webrtc_rooms", {
        "id": room.room_id,
        "room_id": room.room_id,
        "app_id": room.app_id,
        "created_at": _time(room.created_at),
        "status": room.state.capitalize(),
        "sender_client_id": room.sender_client_id,
        "receiver_client_id": ids[0] if ids else None,
        "receiver_client_ids": ids,
        "session_id": room.session_id,
        "metadata": room.metadata or {},
        "record_created_at": _time(room.created_at),
    }


def _terminated_room(room: RoomRecord, ended_at: int, reason: str, participants: int) -> Document:
    data = {
        "session_duration": (ended_at - room.created_at) // 1000,
        "participant_count": participants,
        "final_status": _FINAL.get(reason, "terminated"),
    }
    return "terminated_rooms", {
        "id": _id(room.room_id, "terminated"),
        "room_id": room.room_id,
        "terminated_at": _time(ended_at),
        "termination_recorded_at": _time(ended_at),
        "room_data": data,
        "termination_reason": reason,
        "terminated_by": room.ended_by,
        "metadata": room.metadata or {},
        "record_created_at": _time(ended_at),
    }


def _webrtc_client(stay: StayRecord) -> Document:
    return "webrtc_clients", {
        "id": stay.stay_id,
        "client_id": stay.client_id,
        "room_id": stay.room_id,
        "role": stay.role.capitalize(),
        "session_id": stay.session_id,
        "joined_at": _time(stay.joined_at),
        "status": "Active" if stay.left_at is None else "Disconnected",
        "metadata": stay.metadata or {},
        "record_created_at": _time(stay.joined_at),
    }


def _client_in_room(stay: StayRecord, capabilities: Sequence[str], last_activity: int, now: int) -> Document:
    return "client_in_room", {
        "id": _id(stay.stay_id, "in_room"),
        "client_id": stay.client_id,
        "room_id": stay.room_id,
        "joined_at": _time(stay.joined_at),
        "last_activity": _time(last_activity),
        "status": "Active" if now - last_activity <= ACTIVE_WITHIN_MS else "Away",
        "capabilities": list(capabilities),
        "metadata": stay.metadata or {},
        "record_created_at": _time(stay.joined_at),
    }


def _client_in_terminated_room(stay: StayRecord, capabilities: Sequence[str], left_at: int) -> Document:
    return "client_in_terminated_room", {
        "id": _id(stay.stay_id, "left"),
        "client_id": stay.client_id,
        "room_id": stay.room_id,
        "joined_at": _time(stay.joined_at),
        "left_at": _time(left_at),
        "termination_reason": stay.left_reason,
        "terminated_by": stay.left_by,
        "final_status": _FINAL_OF_STAY.get(stay.final_status or "", "Disconnected"),
        "capabilities": list(capabilities),
        "metadata": stay.metadata or {},
        "record_created_at": _time(left_at),
    }


def _registered_client(record: RegistrationRecord) -> Document:
    return "registered_clients", {
        "id": record.client_id,
        "client_id": record.client_id,
        "auth_token": f"hmac-sha256:{record.token_digest.hex()}",
        "room_id": record.room_id,
        "capabilities": list(record.capabilities),
        "registered_at": _time(record.registered_at),
        "last_seen": None if record.last_seen_at is None else _time(record.last_seen_at),
        "status": record.status.capitalize(),
        "metadata": record.metadata or {},
        "record_created_at": _time(record.registered_at),
    }


def _id(of: str, what: str) -> str:
    """A document's own id, the same in every export."""
    return str(uuid5(NAMESPACE_OID, f"{what} {of}"))


def _time(at: int) -> str:
    """RFC 3339, in UTC; milliseconds where there are any."""
    text = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds" if at % 1000 else "seconds")
    return text.replace("+00:00", "Z")
