"""Routes of rooms: who sits in which, a room with its link, its end, and taking somebody out (CONTRACT.md §6, §7)."""

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from signal_gateway.api.access import Commander, Viewer
from signal_gateway.api.bodies import StrictRoute
from signal_gateway.api.desk import Desk, answer
from signal_gateway.api.shapes import NOT_FOUND, Answer, Asked, Body, Page, page, told
from signal_gateway.domain.errors import RoomNotFound
from signal_gateway.domain.room import Room, Seat

RoomPath = Annotated[str, Path(max_length=64, description="The id of a room.")]
MemberPath = Annotated[str, Path(max_length=128, description="The client_id of a member.")]
EXPIRES_S_MAX = 30 * 86_400


class NewRoom(Body):
    """What is known of a room before anybody comes."""

    metadata: dict[str, Any] | None = None
    expires_s: Annotated[int | None, Field(ge=60, le=EXPIRES_S_MAX, description="How long its link lets guests in.")] = None


class Member(Answer):
    """Who sits, or sat, in a room."""

    client_id: str
    role: Literal["sender", "receiver"]
    session_id: str
    joined_at: int
    linked: bool | None = None
    """Whether its link is open; absent of those who have left."""
    left_at: int | None = None
    final_status: str | None = None
    """How the stay ended."""


class RoomAnswer(Answer):
    """One room, open or over."""

    room_id: str
    app_id: str
    """`p2p`, or the media backend's name for the application."""
    state: Literal["pending", "active", "inactive", "terminated"]
    created_at: int
    created_by: str
    metadata: dict[str, Any] | None
    members: list[Member]
    sender_client_id: str | None = None
    """Who sends, or sent last."""
    session_id: str | None = None
    """Theirs."""
    ended_at: int | None = None
    ended_reason: str | None = None
    ended_by: str | None = None


class RoomMade(Answer):
    """A room that waits for its members, and what lets guests in: in the link's fragment, which no server and no log sees."""

    room_id: str
    token: str
    expires_at: int
    url: str


class RoomEnded(Answer):
    """It is over."""

    room_id: str
    status: Literal["terminated"]


class MemberRemoved(Answer):
    """Somebody was taken out of a room."""

    room_id: str
    client_id: str
    status: Literal["kicked", "banned"]


def room_routes(desk: Desk) -> APIRouter:
    """Routes under `/api/rooms`."""
    router = APIRouter(prefix="/api/rooms", tags=["rooms"], route_class=StrictRoute)
    rooms = desk.rooms

    @router.get("", summary="Open rooms, oldest first", response_model=Page)
    async def list_rooms(operator: Viewer, asked: Annotated[Asked, Query()]) -> Response:
        opened = rooms.opened(operator)
        begin = asked.position or 0
        end = begin + asked.limit
        return answer(page([room_told(room) for room in opened[begin:end]], end if end < len(opened) else None))

    @router.post(
        "",
        summary="Make a room and its link",
        status_code=201,
        response_model=RoomMade,
        responses=told(503, "As many rooms are open as may be, or too much waits for the database."),
    )
    async def make(operator: Commander, body: NewRoom, request: Request) -> Response:
        made = rooms.make(operator, body.metadata, body.expires_s)
        url = call_url(desk, request.headers.get("host", ""), made.room.room_id, made.token)
        return answer({"room_id": made.room.room_id, "token": made.token, "expires_at": made.expires_at, "url": url}, 201)

    @router.get("/{room_id}", summary="A room, open or over", response_model=RoomAnswer, responses=NOT_FOUND)
    async def show(operator: Viewer, room_id: RoomPath) -> Response:
        try:
            return answer(room_told(rooms.find(operator, room_id)))
        except RoomNotFound:
            record, stays = await rooms.history(operator, room_id)
            return answer({**record, "members": stays})

    @router.delete("/{room_id}", summary="End a room", response_model=RoomEnded, responses=NOT_FOUND)
    async def end(operator: Commander, room_id: RoomPath) -> Response:
        rooms.end(operator, room_id)
        return answer({"room_id": room_id, "status": "terminated"})

    @router.delete("/{room_id}/members/{client_id}", summary="Take a member out", response_model=MemberRemoved, responses=NOT_FOUND)
    async def remove(
        operator: Commander,
        room_id: RoomPath,
        client_id: MemberPath,
        ban: Annotated[bool, Query(description="And keep this id out for the rest of the room's life.")] = False,
    ) -> Response:
        rooms.remove(operator, room_id, client_id, ban=ban)
        return answer({"room_id": room_id, "client_id": client_id, "status": "banned" if ban else "kicked"})

    return router


def room_told(room: Room) -> dict[str, Any]:
    """An open room as it is sent."""
    sender_id, session_id = room.sends_or_sent or (None, None)
    return {
        "room_id": room.room_id,
        "app_id": room.app_id,
        "state": room.state.value,
        "created_at": room.created_at,
        "created_by": room.created_by,
        "metadata": room.metadata,
        "sender_client_id": sender_id,
        "session_id": session_id,
        "members": [_member_told(seat) for seat in room.seats.values()],
    }


def call_url(desk: Desk, host: str, room_id: str, token: str) -> str:
    """The link of a room on our own page of calls."""
    fragment = urlencode({"room": room_id, "token": token})
    return f"{'https' if desk.speaks_tls else 'http'}://{host or '127.0.0.1'}/call#{fragment}"


def _member_told(seat: Seat) -> dict[str, Any]:
    return {
        "client_id": seat.client_id,
        "role": seat.role.value,
        "session_id": seat.session_id,
        "joined_at": seat.joined_at,
        "linked": seat.lost_at_s is None,
    }
