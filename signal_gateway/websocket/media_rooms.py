"""Rooms on the wire where a media backend may stand behind them: who comes in waits for a session, and talks to it (CONTRACT.md §7).

In a room on a backend a signal without `to` is for it, and one without `from` is its own; between members signals go as anywhere. A room
that began without the backend is one of those that `rooms` knows.
"""

from collections.abc import Coroutine, Mapping
from typing import Any

from msgspec import UNSET

from protocol.agent import (
    ConnectionInfo,
    Signal,
    SignalAnswer,
    SignalIceCandidate,
    SignalOffer,
    WebrtcRoomCreate,
    WebrtcRoomCreateAck,
    WebrtcRoomJoin,
    WebrtcRoomJoinAck,
    WebrtcRoomLeave,
)
from protocol.dialect import Question
from protocol.plain_signals import written
from signal_gateway.bus.local import Bus
from signal_gateway.domain.errors import GatewayError, MediaDown
from signal_gateway.domain.events import MediaSaid, SignalDue
from signal_gateway.domain.signals import SignalKind
from signal_gateway.services.media import MediaSession
from signal_gateway.services.room_media import Entered, RoomMedia, Wish
from signal_gateway.websocket.ears import Handler
from signal_gateway.websocket.link import Link
from signal_gateway.websocket.rooms import caller_of, caller_that_may_ask, hear_room_leave, hear_signal, let_in, offer_to_members

_SHAPES: Mapping[SignalKind, type[SignalOffer]] = {SignalKind.OFFER: SignalOffer, SignalKind.ANSWER: SignalAnswer}


class MediaSpeaker:
    """Says to members of rooms what the media backend has for them: as a signal that is from nobody."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        bus.subscribe(MediaSaid, self._say)

    def _say(self, event: MediaSaid) -> None:
        signal = _SHAPES[event.kind](room_id=event.room_id, sdp=event.sdp)
        self._bus.publish(SignalDue((event.client_id,), written(signal)))


def hear_media_room_create(link: Link, message: WebrtcRoomCreate, question: Question) -> Coroutine[Any, Any, None]:
    """WEBRTC_ROOM_CREATE: a session at the backend, which answers the offer, then a room (S-20, S-24)."""
    wish = Wish(None, message.role, message.metadata, message.offer_sdp)
    return _enter(link, message, wish, question, WebrtcRoomCreateAck, "Room created successfully")


def hear_media_room_join(link: Link, message: WebrtcRoomJoin, question: Question) -> Coroutine[Any, Any, None]:
    """WEBRTC_ROOM_JOIN: a session at the backend, then a seat. The backend's offer of the sender's tracks follows the answer (S-22)."""
    wish = Wish(message.room_id, message.role, message.metadata, message.offer_sdp)
    return _enter(link, message, wish, question, WebrtcRoomJoinAck, "Successfully joined room")


def hear_media_signal(link: Link, message: Signal, question: Question) -> Coroutine[Any, Any, None] | None:
    """A signal to nobody in particular is for the backend, if one stands behind the room; all others go to members."""
    media = _media(link)
    if message.to is not None or not media.stands_behind(message.room_id):
        hear_signal(link, message, question)
        return None
    match message:
        case SignalIceCandidate():
            media.candidate(caller_of(link), message.room_id)
            return None
        case SignalAnswer():
            return media.answer(caller_of(link), message.room_id, message.sdp)
        case SignalOffer():
            return media.offer(caller_of(link), message.room_id, message.sdp)


async def _enter(
    link: Link,
    message: WebrtcRoomCreate | WebrtcRoomJoin,
    wish: Wish,
    question: Question,
    shape: type[WebrtcRoomCreateAck],
    words: str,
) -> None:
    media = _media(link)
    try:
        caller = caller_that_may_ask(link, message.client_id, message.auth_token)
        entered = await media.enter(caller, wish, lambda: not link.is_fenced)
    except MediaDown as down:
        _refuse(link, question, shape, down)
        return
    except GatewayError as error:
        link.refuse_request(question, error)
        return
    if entered.session is not None:
        link.answer(question, _let_in(link, media, entered, entered.session, shape, words))
        media.begin(entered)
        return
    link.answer(question, let_in(link, entered.room, shape, words))
    link.door.rooms.welcome(entered.room, caller.client_id)
    offer_to_members(link, caller, entered.room, wish.offer_sdp)


def _refuse(link: Link, question: Question, shape: type[WebrtcRoomCreateAck], down: MediaDown) -> None:
    """503 in the request's own answer, with the reason: clients and operators are told apart what can be waited for."""
    link.door.metrics.refusals.add(down.reason)
    link.answer(question, shape(status=down.status, message=down.message, reason=down.reason))


def _let_in(
    link: Link, media: RoomMedia, entered: Entered, session: MediaSession, shape: type[WebrtcRoomCreateAck], words: str
) -> WebrtcRoomCreateAck:
    backend, publisher, room_id = media.backend, entered.publisher, entered.room.room_id
    return shape(
        status=200,
        message=words,
        room_id=room_id,
        session_id=session.session_id,
        app_id=backend.app_id,
        stun_url=backend.stun_url,
        connection_info=ConnectionInfo(
            session_id=session.session_id,
            room_id=room_id,
            app_id=backend.app_id,
            publisher_session_id=UNSET if publisher is None else publisher.session_id,
            track_names=UNSET if publisher is None else list(publisher.published),
        ),
        ice_servers=list(backend.ice_servers(link.client_id)),
        answer_sdp=session.answer_sdp or UNSET,
    )


def _media(link: Link) -> RoomMedia:
    """These handlers are those of gateways with a backend."""
    media = link.door.room_media
    assert media is not None  # noqa: S101 - as the listener chose them
    return media


MEDIA_ROOM_HANDLERS: Mapping[type, Handler] = {
    WebrtcRoomCreate: hear_media_room_create,
    WebrtcRoomJoin: hear_media_room_join,
    WebrtcRoomLeave: hear_room_leave,
    SignalOffer: hear_media_signal,
    SignalAnswer: hear_media_signal,
    SignalIceCandidate: hear_media_signal,
}
"""What the members of rooms may say where a media backend may stand behind them."""
