"""Rooms on the wire: requests of members and their answers, events, and signals on their way from one member to others (CONTRACT.md §7).

A signal goes out as it came in, with `from` filled in; it is written once for all who speak the same encoding, however many they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from protocol import dialect
from protocol.agent import (
    VERSION,
    ConnectionInfo,
    RoomEvent,
    Signal,
    SignalAnswer,
    SignalIceCandidate,
    SignalOffer,
    WebrtcRoomCreate,
    WebrtcRoomCreateAck,
    WebrtcRoomJoin,
    WebrtcRoomJoinAck,
    WebrtcRoomLeave,
    WebrtcRoomLeaveAck,
)
from protocol.dialect import Question
from protocol.frame import FrameType
from protocol.payload import write_json
from protocol.plain_signals import SIGNAL_NAMES, WrittenSignal, written
from signal_gateway.bus.local import Bus
from signal_gateway.domain.errors import BadCredentials, GatewayError, NotRegistered
from signal_gateway.domain.events import RoomChanged, SignalDue
from signal_gateway.domain.principal import Caller
from signal_gateway.domain.room import P2P, Room
from signal_gateway.domain.signals import SignalKind
from signal_gateway.services.rooms import Rooms
from signal_gateway.websocket.ears import Handler
from signal_gateway.websocket.frame_parser import BINARY, TEXT, data_frame
from signal_gateway.websocket.hub import Hub
from signal_gateway.websocket.link import Link

_KINDS: Mapping[int, SignalKind] = {
    FrameType.SIGNAL_OFFER.value: SignalKind.OFFER,
    FrameType.SIGNAL_ANSWER.value: SignalKind.ANSWER,
    FrameType.SIGNAL_ICE_CANDIDATE.value: SignalKind.CANDIDATE,
}


class RoomSpeaker:
    """Says to members of rooms what they are to hear."""

    def __init__(self, hub: Hub, bus: Bus, rooms: Rooms) -> None:
        self._link_of = hub.link_of
        self._rooms = rooms
        bus.subscribe(SignalDue, self._say_signal)
        bus.subscribe(RoomChanged, self._say_change)

    def _say_change(self, event: RoomChanged) -> None:
        message = RoomEvent(room_id=event.room_id, event=event.event, client_id=event.client_id, role=event.role, reason=event.reason)
        for client_id in self._say(event.to, FrameType.ROOM_EVENT.value, "room_event", write_json(message)):
            self._rooms.missed(client_id, event.room_id, msgspec.structs.replace(event, to=(client_id,)))

    def _say_signal(self, event: SignalDue) -> None:
        signal: Any = event.signal
        frame_type: int = signal.frame_type
        for client_id in self._say(event.to, frame_type, SIGNAL_NAMES[frame_type], signal.json):
            self._rooms.missed(client_id, signal.room_id, signal)

    def _say(self, to: Sequence[str], frame_type: int, name: str, json: bytes) -> Sequence[str]:
        """Say it to all of these, written once for each encoding; returns those who have no link here, or one that is closing."""
        missed: list[str] = []
        frames: dict[tuple[bool, int], tuple[bytes, int]] = {}
        for client_id in to:
            link = self._link_of(client_id)
            if link is None or link.is_fenced:
                missed.append(client_id)
                continue
            encoding = link.encoding
            if (found := frames.get(encoding)) is None:
                is_text, payload_kind = encoding
                payload = dialect.say_json(is_text, payload_kind, link.new_uuid_bytes(), frame_type, json)
                found = frames[encoding] = data_frame(TEXT if is_text else BINARY, payload), len(payload)
            link.put_frame(*found, name)
        return missed


def hear_room_create(link: Link, message: WebrtcRoomCreate, question: Question) -> None:
    """WEBRTC_ROOM_CREATE: open a room and send in it (S-20, S-21)."""
    rooms = link.door.rooms
    try:
        caller = caller_that_may_ask(link, message.client_id, message.auth_token)
        room = rooms.create(caller, message.role, message.metadata)
    except GatewayError as error:
        link.refuse_request(question, error)
        return
    link.answer(question, let_in(link, room, WebrtcRoomCreateAck, "Room created successfully"))
    offer_to_members(link, caller, room, message.offer_sdp)


def hear_room_join(link: Link, message: WebrtcRoomJoin, question: Question) -> None:
    """WEBRTC_ROOM_JOIN: come into a room (S-22). What its sender offered to all follows the answer (C-07)."""
    rooms = link.door.rooms
    try:
        caller = caller_that_may_ask(link, message.client_id, message.auth_token)
        room = rooms.join(caller, message.room_id, message.role, message.metadata)
    except GatewayError as error:
        link.refuse_request(question, error)
        return
    link.answer(question, let_in(link, room, WebrtcRoomJoinAck, "Successfully joined room"))
    rooms.welcome(room, caller.client_id)
    offer_to_members(link, caller, room, message.offer_sdp)


def hear_room_leave(link: Link, message: WebrtcRoomLeave, question: Question) -> None:
    """WEBRTC_ROOM_LEAVE: give up a seat (S-23)."""
    try:
        caller = caller_that_may_ask(link, message.client_id, message.auth_token)
        link.door.rooms.leave(caller, message.room_id, message.reason)
    except GatewayError as error:
        link.refuse_request(question, error)
        return
    answer = WebrtcRoomLeaveAck(status=200, message="Successfully left room", room_id=message.room_id, client_id=caller.client_id)
    link.answer(question, answer)


def hear_signal(link: Link, message: Signal, question: Question) -> None:
    """SIGNAL_OFFER, SIGNAL_ANSWER, SIGNAL_ICE_CANDIDATE: passed on to one member or all others (S-32), never answered but by ERROR."""
    hear_plain_signal(link, written(said_by(link.client_id, message)))


def hear_plain_signal(link: Link, signal: WrittenSignal) -> None:
    """The same, when it was read the short way."""
    link.door.rooms.signal(caller_of(link), signal.room_id, _KINDS[signal.frame_type], signal.to, signal)


def said_by(client_id: str, message: Signal) -> Signal:
    """The same signal, from whom it is: what a client says of that itself is not believed."""
    return message if message.sender == client_id else msgspec.structs.replace(message, sender=client_id)


def caller_of(link: Link) -> Caller:
    """The link's client, as rooms know it."""
    principal = link.principal
    return Caller(link.client_id, link.session_id, link.generation, None if principal is None else principal.room_id)


def caller_that_may_ask(link: Link, client_id: str, token: str | None) -> Caller:
    """Who asks for a room. Raises BadCredentials for another's id or token (C-11), NotRegistered after CONNECT alone (S-29)."""
    principal = link.principal
    if principal is None or client_id != link.client_id:
        raise BadCredentials
    if token is not None and not link.door.authentication.is_token_of(principal, token):
        raise BadCredentials
    if not principal.registered:
        raise NotRegistered
    return caller_of(link)


def let_in(link: Link, room: Room, shape: type[WebrtcRoomCreateAck], message: str) -> WebrtcRoomCreateAck:
    """The answer to one who has come into a room on no backend."""
    ice_servers = link.door.ice_servers
    return shape(
        status=200,
        message=message,
        room_id=room.room_id,
        session_id=link.session_id,
        app_id=P2P,
        stun_url=ice_servers.stun_url,
        connection_info=ConnectionInfo(session_id=link.session_id, room_id=room.room_id, app_id=P2P),
        ice_servers=list(ice_servers.of(link.client_id)),
    )


def offer_to_members(link: Link, caller: Caller, room: Room, sdp: str | None) -> None:
    """What came with the request is the first signal: to whoever sends, or, from the sender, to all who come."""
    if sdp is None:
        return
    sender = room.sender
    to = None if sender is None or sender.client_id == caller.client_id else sender.client_id
    offer = SignalOffer(version=VERSION, room_id=room.room_id, sender=caller.client_id, to=to, sdp=sdp)
    link.door.rooms.signal(caller, room.room_id, SignalKind.OFFER, to, written(offer))


ROOM_HANDLERS: Mapping[type, Handler] = {
    WebrtcRoomCreate: hear_room_create,
    WebrtcRoomJoin: hear_room_join,
    WebrtcRoomLeave: hear_room_leave,
    SignalOffer: hear_signal,
    SignalAnswer: hear_signal,
    SignalIceCandidate: hear_signal,
}
"""What the members of rooms may say."""
