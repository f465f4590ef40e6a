"""The archive of rooms (S-33 to S-40): a row for each room, and one for each stay in it: a second visit does not hide the first (C-13).

A stay may outlive its client's link, and goes on by the session of the next one; the former ones have a row each, to find it by.

The `*_row` functions make rows for the batch writer; the others read. Times are milliseconds since 1970, UTC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, select
from sqlalchemy import Row as FoundRow

from signal_gateway.domain.room import Leaving, Room, RoomState, Seat
from signal_gateway.storage.rows import Insert, Upsert
from signal_gateway.storage.tables import device_status, registrations, room_members, room_sessions, rooms

REASON_CHARS = 128
BY_CLIENT, MADE = "client", "operator"
"""Whose doing a room was."""
OPEN_STATES = (RoomState.PENDING.value, RoomState.ACTIVE.value)


@dataclass(frozen=True, slots=True)
class StayRecord:
    """One stay of a client in a room."""

    stay_id: str
    room_id: str
    client_id: str
    role: str
    session_id: str
    joined_at: int
    metadata: Mapping[str, Any] | None
    left_at: int | None
    left_reason: str | None
    left_by: str | None
    final_status: str | None
    """One of Leaving; None while it lasts."""


@dataclass(frozen=True, slots=True)
class RoomRecord:
    """One room, open or over."""

    room_id: str
    app_id: str
    state: str
    creation_type: str
    """`client` or `operator`: whose doing it was."""
    created_at: int
    created_by: str
    sender_client_id: str | None
    """Who sends, or sent last."""
    session_id: str | None
    """Theirs."""
    stays: int
    metadata: Mapping[str, Any] | None
    ended_at: int | None
    ended_reason: str | None
    ended_by: str | None


@dataclass(frozen=True, slots=True)
class OpenRoom:
    """A room that was open when the last process ended."""

    room_id: str
    created_at: int
    created_by: str
    metadata: Mapping[str, Any] | None
    stays: int
    is_made: bool
    app_id: str
    seats: Sequence[StayRecord]
    banned: Sequence[str]
    sends_or_sent: tuple[str, str] | None
    """Client and session of its sender, or of the last one."""


# rows


def room_row(room: Room) -> Upsert:
    """A room as it is now."""
    (sender_id, session_id), end = room.sends_or_sent or (None, None), room.end
    values: dict[str, Any] = {
        "room_id": room.room_id,
        "app_id": room.app_id,
        "state": room.state.value,
        "creation_type": MADE if room.is_made else BY_CLIENT,
        "created_at": room.created_at,
        "created_by": room.created_by,
        "sender_client_id": sender_id,
        "session_id": session_id,
        "stays": room.stays,
        "ended_at": None if end is None else end.at,
        "ended_reason": None if end is None else end.reason,
        "ended_by": None if end is None else end.by,
    }
    if room.metadata is not None:
        values["metadata"] = room.metadata
    if room.banned:
        values["banned"] = sorted(room.banned)
    return Upsert(rooms, ("room_id",), values)


def stay_row(room_id: str, seat: Seat) -> Upsert:
    """A stay as it is now."""
    end = seat.end
    values: dict[str, Any] = {
        "stay_id": seat.stay_id,
        "room_id": room_id,
        "client_id": seat.client_id,
        "role": seat.role.value,
        "session_id": seat.session_id,
        "joined_at": seat.joined_at,
        "last_activity_at": seat.joined_at if end is None else end.at,
        "left_at": None if end is None else end.at,
        "left_reason": None if end is None else end.reason.replace("\0", "")[:REASON_CHARS],
        "left_by": None if end is None else end.by,
        "final_status": None if end is None else end.leaving.value,
    }
    return Upsert(room_members, ("stay_id",), values if seat.metadata is None else {**values, "metadata": seat.metadata})


def former_session_row(stay_id: str, session_id: str, ended_at: int) -> Insert:
    """A session by which a stay goes on no more."""
    return Insert(room_sessions, {"stay_id": stay_id, "session_id": session_id, "ended_at": ended_at})


# reading

_ROOM_NAMES = tuple(RoomRecord.__dataclass_fields__)
_STAY_NAMES = tuple(StayRecord.__dataclass_fields__)
_ROOMS = select(*(rooms.c[name] for name in _ROOM_NAMES))
_STAYS = select(*(room_members.c[name] for name in _STAY_NAMES))
_OPEN = _ROOMS.add_columns(rooms.c.banned).where(rooms.c.state.in_(OPEN_STATES)).order_by(rooms.c.created_at, rooms.c.id)
_OPEN_IDS = select(rooms.c.room_id).where(rooms.c.state.in_(OPEN_STATES))
_STAYS_IN_OPEN = _STAYS.where(room_members.c.room_id.in_(_OPEN_IDS)).order_by(room_members.c.id)
_OF_ROOM = _STAYS.where(room_members.c.room_id == bindparam("room")).order_by(room_members.c.id)


def find_open(connection: Connection) -> list[OpenRoom]:
    """Rooms that are not over, oldest first, with those who sit in them."""
    stays: dict[str, list[StayRecord]] = {}
    for row in connection.execute(_STAYS_IN_OPEN):
        stay = _stay_of(row)
        stays.setdefault(stay.room_id, []).append(stay)
    return [_open_room(RoomRecord(*tuple(row)[:-1]), row.banned or (), stays) for row in connection.execute(_OPEN)]


def find_room(connection: Connection, room_id: str) -> RoomRecord | None:
    """A room, open or over."""
    row = connection.execute(_ROOMS.where(rooms.c.room_id == room_id)).first()
    return None if row is None else _room_of(row)


def find_stays(connection: Connection, room_id: str, *, active: bool = False) -> list[StayRecord]:
    """Who sat in a room, first come first; with `active`, who sits in it (S-40)."""
    query = _OF_ROOM.where(room_members.c.left_at.is_(None)) if active else _OF_ROOM
    return [_stay_of(row) for row in connection.execute(query, {"room": room_id})]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rooms: those of which all holds that is not None. Times are from the first on, and before the second."""

    since: int | None = None
    until: int | None = None
    """When they were opened."""
    ended_since: int | None = None
    ended_until: int | None = None
    session_id: str | None = None
    """One of their members sat there by this session, at first, for a while, or to the last."""
    client_id: str | None = None
    """Who sat there."""


def find_rooms(connection: Connection, wanted: Wanted, after: tuple[int, str] | None, limit: int) -> list[RoomRecord]:
    """Rooms, oldest first, behind the one of which `after` has the time of its opening and the id (S-40)."""
    query = _ROOMS.order_by(rooms.c.created_at, rooms.c.room_id).limit(limit)
    for column, since, until in (
        (rooms.c.created_at, wanted.since, wanted.until),
        (rooms.c.ended_at, wanted.ended_since, wanted.ended_until),
    ):
        if since is not None:
            query = query.where(column >= since)
        if until is not None:
            query = query.where(column < until)
    for has_stay in (_by_session(wanted.session_id), _of_client(wanted.client_id)):
        if has_stay is not None:
            query = query.where(rooms.c.room_id.in_(select(room_members.c.room_id).where(has_stay)))
    if after is not None:
        at, room_id = after
        query = query.where((rooms.c.created_at > at) | ((rooms.c.created_at == at) & (rooms.c.room_id > room_id)))
    return [_room_of(row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class RoomInFull:
    """A room, everybody who stayed in it, and what is known of their clients."""

    room: RoomRecord
    stays: Sequence[StayRecord]
    heard_at: Mapping[str, int | None]
    """When those who are still here were last heard."""
    capabilities: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class RegistrationRecord:
    """A row of `registrations`, as far as it may be shown."""

    client_id: str
    token_digest: bytes
    room_id: str | None
    capabilities: Sequence[str]
    metadata: Mapping[str, Any] | None
    status: str
    registered_at: int
    last_seen_at: int | None


def find_rooms_in_full(connection: Connection, wanted: Wanted, after: tuple[int, str] | None, limit: int) -> list[RoomInFull]:
    """The same rooms as `find_rooms`, with their stays."""
    found = find_rooms(connection, wanted, after, limit)
    within = room_members.c.room_id.in_([room.room_id for room in found])
    of_room: dict[str, list[StayRecord]] = {}
    for row in connection.execute(_STAYS.where(within).order_by(room_members.c.id)):
        stay = _stay_of(row)
        of_room.setdefault(stay.room_id, []).append(stay)
    clients = {stay.client_id for stays in of_room.values() for stay in stays}
    here = {stay.client_id for stays in of_room.values() for stay in stays if stay.left_at is None}
    status, records = device_status.c, registrations.c
    heard = connection.execute(select(status.device_id, status.last_activity_at).where(status.device_id.in_(here)))
    heard_at = {row.device_id: row.last_activity_at for row in heard}
    able = connection.execute(select(records.device_id, records.capabilities).where(records.device_id.in_(clients)))
    capabilities = {row.device_id: row.capabilities for row in able}
    return [RoomInFull(room, of_room.get(room.room_id, []), heard_at, capabilities) for room in found]


def registrations_after(connection: Connection, client_id: str, limit: int) -> list[RegistrationRecord]:
    """Records of clients, in the order of their ids, from behind this one."""
    columns = registrations.c
    shown = (
        columns.device_id,
        columns.token_digest,
        columns.room_id,
        columns.capabilities,
        columns.metadata,
        columns.status,
        columns.registered_at,
        columns.last_seen_at,
    )
    query = select(*shown).where(columns.device_id > client_id).order_by(columns.device_id).limit(limit)
    return [RegistrationRecord(*row) for row in connection.execute(query)]


def _by_session(session_id: str | None) -> ColumnElement[bool] | None:
    if session_id is None:
        return None
    before = select(room_sessions.c.stay_id).where(room_sessions.c.session_id == session_id)
    return (room_members.c.session_id == session_id) | room_members.c.stay_id.in_(before)


def _of_client(client_id: str | None) -> ColumnElement[bool] | None:
    return None if client_id is None else room_members.c.client_id == client_id


def _open_room(room: RoomRecord, banned: Sequence[str], stays: Mapping[str, Sequence[StayRecord]]) -> OpenRoom:
    of_room = stays.get(room.room_id, ())
    return OpenRoom(
        room.room_id,
        room.created_at,
        room.created_by,
        room.metadata,
        room.stays,
        room.creation_type == MADE,
        room.app_id,
        [stay for stay in of_room if stay.left_at is None],
        [*banned, *(stay.client_id for stay in of_room if stay.final_status == Leaving.BANNED)],
        None if room.sender_client_id is None or room.session_id is None else (room.sender_client_id, room.session_id),
    )


def _room_of(row: FoundRow[Any]) -> RoomRecord:
    return RoomRecord(*row)


def _stay_of(row: FoundRow[Any]) -> StayRecord:
    return StayRecord(*row)
