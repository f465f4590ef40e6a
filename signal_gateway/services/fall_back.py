"""Rooms go on without their backend: those that begin while it is down are rooms whose members talk to each other directly."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from signal_gateway.domain.errors import MediaDown
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.media import Media, MediaSession
from signal_gateway.services.negotiation import Negotiates, RoomSession

log = logger("media")


class Backend(Media, Negotiates, Protocol):
    """A media backend that may be down."""


class _Way:
    """On what a room stands, and how many of its members have a session."""

    __slots__ = ("media", "sessions")

    def __init__(self, media: Media) -> None:
        self.media = media
        self.sessions = 0


class FallBackMedia:
    """Media and Negotiates over a backend and, where it is down, over none.

    A room keeps the way on which its first session was opened until its last is closed: a member that talks directly and one that talks to
    the backend would not hear each other. So who joins a room of the backend while that is down is refused with MediaDown.
    """

    def __init__(self, backend: Backend, direct: Media, rooms_kept: int, metrics: Metrics) -> None:
        self.app_id = backend.app_id
        self.stun_url = backend.stun_url
        self._backend = backend
        self._direct = direct
        self._rooms_kept = rooms_kept
        self._ways: OrderedDict[str, _Way] = OrderedDict()
        self._limits = metrics.limits
        self._fall_backs = metrics.counter("media_fall_backs_total", "Rooms that began without the media backend, since it was down.")

    def ice_servers(self, client_id: str) -> Sequence[Mapping[str, Any]]:
        """See Media.ice_servers."""
        return self._backend.ice_servers(client_id)

    async def open(self, room_id: str, client_id: str, role: str, offer_sdp: str | None) -> RoomSession:
        """See Media.open. `app_id` of the session tells on what its room stands."""
        way = self._ways.get(room_id)
        if way is None:
            media, session = await self._first(room_id, client_id, role, offer_sdp)
        else:
            media, session = way.media, await way.media.open(room_id, client_id, role, offer_sdp)
        way = self._ways.get(room_id) or self._begin(room_id, media)
        if way.media is not media:  # two were the first at once, and found the backend in two states
            await media.close(session)
            media, session = way.media, await way.media.open(room_id, client_id, role, offer_sdp)
        way.sessions += 1
        return session if isinstance(session, RoomSession) else _in_room(session, room_id, media.app_id)

    async def receive(self, session: RoomSession) -> RoomSession:
        """See Negotiates.receive. Where members talk directly there is nothing to receive from a backend."""
        return session if session.app_id != self.app_id else await self._backend.receive(session)

    async def answer(self, session: MediaSession, answer_sdp: str) -> None:
        """See Negotiates.answer."""
        if not isinstance(session, RoomSession) or session.app_id == self.app_id:
            await self._backend.answer(session, answer_sdp)

    async def close(self, session: MediaSession) -> None:
        """See Media.close."""
        if not isinstance(session, RoomSession):
            await self._backend.close(session)
            return
        way = self._ways.get(session.room_id)
        if way is not None and way.media.app_id == session.app_id:
            way.sessions -= 1
            if way.sessions <= 0:
                del self._ways[session.room_id]
        await (self._backend if session.app_id == self.app_id else self._direct).close(session)

    async def _first(self, room_id: str, client_id: str, role: str, offer_sdp: str | None) -> tuple[Media, MediaSession]:
        try:
            return self._backend, await self._backend.open(room_id, client_id, role, offer_sdp)
        except MediaDown as down:
            session = await self._direct.open(room_id, client_id, role, offer_sdp)
            log.info("a room begins without the media backend", room_id=room_id, reason=down.reason)
            return self._direct, session

    def _begin(self, room_id: str, media: Media) -> _Way:
        way = self._ways[room_id] = _Way(media)
        if media is self._direct:
            self._fall_backs.add()
        if len(self._ways) > self._rooms_kept:
            self._limits.add("cloudflare.rooms_kept")
            self._ways.popitem(last=False)
        return way


def _in_room(session: MediaSession, room_id: str, app_id: str) -> RoomSession:
    return RoomSession(
        session.session_id,
        session.answer_sdp,
        session.publisher_session_id,
        session.track_names,
        room_id=room_id,
        app_id=app_id,
    )
