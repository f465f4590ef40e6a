"""What agents may say, and where it goes (seed 003; CONTRACT.md §2). An agent says who it is with CONNECT or REGISTER."""

from collections.abc import Mapping
from dataclasses import replace

from protocol.agent import (
    Connect,
    ConnectAck,
    Disconnect,
    Heartbeat,
    HeartbeatAck,
    Register,
    RegisterAck,
    TokenRefresh,
    TokenRefreshAck,
    Unregister,
    UnregisterAck,
)
from protocol.close_codes import CloseCode
from protocol.dialect import Question
from signal_gateway.domain.errors import ClientIdTaken, DuplicateLink, GatewayError, TokenExpired
from signal_gateway.domain.principal import Principal
from signal_gateway.services.registration import RegisterRequest
from signal_gateway.websocket.commands import COMMAND_HANDLERS
from signal_gateway.websocket.ears import Ears, Handler, SignalHandler
from signal_gateway.websocket.link import Link
from signal_gateway.websocket.media_rooms import MEDIA_ROOM_HANDLERS
from signal_gateway.websocket.phones import REPORT_HANDLERS
from signal_gateway.websocket.rooms import ROOM_HANDLERS, caller_of, hear_plain_signal

WIRE_VERSION = "1.0.0"


def greet_agent(link: Link) -> None:
    """Nothing: an agent speaks first."""


async def hear_connect(link: Link, message: Connect, question: Question) -> None:
    """CONNECT: prove who this link is (C-09). No record is made."""
    try:
        _check_link_is_its_own(link, message.client_id)
        principal = await link.door.authentication.agent(message.client_id, message.auth_token, link.address)
        _check_client_is_free(link, message.client_id)
    except GatewayError as error:
        link.door.metrics.refusals.add(error.reason)
        link.answer(question, ConnectAck(version=WIRE_VERSION, status=error.status, message=error.message))
        _end_if_unauthenticated(link, error)
        return
    _take(link, principal, question)
    server, limits = link.door.server, link.door.limits
    answer = ConnectAck(
        version=WIRE_VERSION,
        status=200,
        message="Connected",
        client_id=message.client_id,
        session_id=link.session_id,
        heartbeat_interval=server.heartbeat_interval,
        server_time=link.door.wall_ms(),
        limits=limits.told,
    )
    link.answer(question, answer)
    link.door.rooms.returned(caller_of(link))
    await link.door.authentication.retire_older_keys(principal)


async def hear_register(link: Link, message: Register, question: Question) -> None:
    """REGISTER: make or renew the client's record; on a new link it is a CONNECT, too. On disk before the answer."""
    request = RegisterRequest(
        client_id=message.client_id,
        token=message.auth_token,
        version=message.version,
        capabilities=tuple(message.capabilities),
        metadata=message.metadata,
        room_id=message.room_id,
    )
    try:
        _check_link_is_its_own(link, message.client_id)
        principal = await link.door.registration.register(request, link.address)
        _check_client_is_free(link, message.client_id)
        _check_guest_takes_no_other_place(link, principal)
    except GatewayError as error:
        link.door.metrics.refusals.add(error.reason)
        link.answer(question, RegisterAck(version=WIRE_VERSION, status=error.status, message=error.message))
        _end_if_unauthenticated(link, error)
        return
    _take(link, principal, question)
    answer = RegisterAck(
        version=WIRE_VERSION, status=200, message="Registration successful", client_id=message.client_id, session_id=link.session_id
    )
    link.answer(question, answer)
    link.door.rooms.returned(caller_of(link))
    await link.door.authentication.retire_older_keys(principal)


async def hear_unregister(link: Link, message: Unregister, question: Question) -> None:
    """UNREGISTER: forget the client's record (S-15 to S-17). The client's other links close; this one stays, as after a CONNECT alone."""
    try:
        await link.door.registration.unregister(message.client_id, message.auth_token, link.address)
    except GatewayError as error:
        link.door.metrics.refusals.add(error.reason)
        link.answer(question, UnregisterAck(version=WIRE_VERSION, status=error.status, message=error.message))
        return
    other = link.door.hub.link_of(message.client_id)
    if other is not None and other is not link:
        other.close_soon(CloseCode.NORMAL, "the client was unregistered")
    if link.principal is not None and link.client_id == message.client_id:
        link.authenticated(replace(link.principal, registered=False))
    link.answer(question, UnregisterAck(version=WIRE_VERSION, status=200, message="Unregistration successful", client_id=message.client_id))


async def hear_token_refresh(link: Link, message: TokenRefresh, question: Question) -> None:
    """TOKEN_REFRESH: from now on this token vouches for the link, as long as it holds (W-30, C-18). A refusal changes nothing."""
    now = link.principal
    if now is not None and now.room_id is not None:
        principal = link.door.registration.renew_guest(now, message.token, link.address)
    else:
        principal = await link.door.authentication.agent(link.client_id, message.token, link.address)
    link.authenticated(principal)
    await link.door.authentication.retire_older_keys(principal)
    link.answer(question, TokenRefreshAck(status=200, expires_at=principal.expires_at))


def hear_heartbeat(link: Link, message: Heartbeat, question: Question) -> None:
    """HEARTBEAT: a sign of life, answered with the same timestamp (S-08). Writes nothing."""
    link.answer(question, HeartbeatAck(timestamp=message.timestamp))


def hear_disconnect(link: Link, message: Disconnect, question: Question) -> None:
    """DISCONNECT: the client goes, and says so. Its rooms are left."""
    if link.principal is not None:
        link.door.rooms.depart(caller_of(link))
    link.close_soon(CloseCode.NORMAL, "the client disconnected")


def _check_link_is_its_own(link: Link, client_id: str) -> None:
    """Raise DuplicateLink when this link speaks for another client already."""
    if link.principal is not None and link.client_id != client_id:
        raise DuplicateLink("This link belongs to another client")


def _check_client_is_free(link: Link, client_id: str) -> None:
    """Raise DuplicateLink when another link speaks for this client and the older one is kept (C-17). Asked after the token: it tells."""
    other = link.door.hub.link_of(client_id)
    if other is not None and other is not link and link.door.session.duplicate_policy == "reject_new":
        raise DuplicateLink


def _check_guest_takes_no_other_place(link: Link, principal: Principal) -> None:
    """Raise ClientIdTaken when the id is linked, and one of the two is a guest of another room, or none; and for a guest of one room when
    the id has a seat in another, which is kept for whoever took it while their link is lost."""
    other = link.door.hub.link_of(principal.client_id)
    if other is not None and other is not link and other.principal is not None and other.principal.room_id != principal.room_id:
        raise ClientIdTaken
    if link.door.rooms.sits_elsewhere(principal.client_id, principal.room_id):
        raise ClientIdTaken


def _take(link: Link, principal: Principal, question: Question) -> None:
    link.encoding = question.is_text, question.payload_kind
    link.authenticated(principal)


def _end_if_unauthenticated(link: Link, error: GatewayError) -> None:
    """A refused CONNECT or REGISTER ends a link that nobody vouches for; a fault of ours asks it to come back."""
    if link.principal is not None:
        return
    if error.status >= 500:
        link.close_soon(CloseCode.INTERNAL, error.reason)
    elif isinstance(error, TokenExpired):
        link.close_soon(CloseCode.TOKEN_EXPIRED, error.reason)
    elif error.status == 429 or isinstance(error, DuplicateLink):  # the other link may be half open, and gone in a minute
        link.close_soon(CloseCode.TOO_MANY, error.reason)
    else:
        link.close_soon(CloseCode.UNAUTHORISED, error.reason)


_BEFORE: Mapping[type, Handler] = {Connect: hear_connect, Register: hear_register, Disconnect: hear_disconnect}


def _ears(room_handlers: Mapping[type, Handler], plain_signal: SignalHandler | None) -> Ears:
    of_guests = {**_BEFORE, Heartbeat: hear_heartbeat, **room_handlers, TokenRefresh: hear_token_refresh}
    after = {
        **_BEFORE,
        Unregister: hear_unregister,
        Heartbeat: hear_heartbeat,
        TokenRefresh: hear_token_refresh,
        **REPORT_HANDLERS,
        **COMMAND_HANDLERS,
        **room_handlers,
    }
    guest_ears = Ears(before={}, after=of_guests, hears_plain_beats=True, plain_signal=plain_signal)
    return Ears(before=_BEFORE, after=after, hears_plain_beats=True, plain_signal=plain_signal, of_guests=guest_ears)


AGENT_EARS = _ears(ROOM_HANDLERS, hear_plain_signal)
MEDIA_AGENT_EARS = _ears(MEDIA_ROOM_HANDLERS, None)
"""Where a media backend may stand behind rooms: a signal may be for it, and is heard the long way."""
