"""Rooms on Cloudflare Realtime: one session for each member, the sender's tracks for all who come (S-24, S-41; C-15)."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from signal_gateway.bridges.cloudflare_api import TRACKS_PER_CALL_MAX, Answer, CloudflareApi, Refused
from signal_gateway.bridges.cloudflare_settings import CloudflareSettings
from signal_gateway.bridges.patience import Patience
from signal_gateway.domain.errors import SessionError
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.media import MediaSession
from signal_gateway.services.negotiation import RoomSession
from signal_gateway.services.turn import IceServers

log = logger("media")

SENDER = "sender"
GOODBYE_S = 1.0
"""Seconds that connections have to say goodbye at the end."""


class CloudflareMedia:
    """The Media of rooms, and Negotiates (services/negotiation.py): a member without an offer of its own gets the sender's tracks by one.

    Which session sends in a room is remembered here, from its `open` to its `close`.
    """

    def __init__(
        self, api: CloudflareApi, patience: Patience, ice_servers: IceServers, settings: CloudflareSettings, metrics: Metrics
    ) -> None:
        self.app_id = settings.app_id
        self.stun_url = ice_servers.stun_url
        self._api = api
        self._patience = patience
        self._ice_servers = ice_servers
        self._rooms_kept = settings.rooms_kept
        self._publishers: OrderedDict[str, RoomSession] = OrderedDict()
        self._limits = metrics.limits

    def ice_servers(self, client_id: str) -> Sequence[Mapping[str, Any]]:
        """See Media.ice_servers: also where media goes to Cloudflare some networks need a TURN server."""
        return self._ice_servers.of(client_id)

    async def open(self, room_id: str, client_id: str, role: str, offer_sdp: str | None) -> RoomSession:
        """See Media.open. An offer is answered, and the sender's is published; who comes without one gets an offer of the sender's tracks.

        Each attempt has a session of its own: a repeated offer on an old one would be out of order.
        """
        opened = await self._ask(partial(self._open_once, room_id, role, offer_sdp))
        if role == SENDER and opened.track_names:
            self._keep(opened)
        return opened

    async def receive(self, session: RoomSession) -> RoomSession:
        """See Negotiates.receive."""
        return await self._ask(partial(self._pull, session), may_repeat=False)

    async def answer(self, session: MediaSession, answer_sdp: str) -> None:
        """See Negotiates.answer."""
        await self._ask(partial(self._api.renegotiate, session.session_id, answer_sdp), may_repeat=False)

    async def close(self, session: MediaSession) -> None:
        """See Media.close: its tracks are closed. A session that is gone already is what was wanted."""
        room_id = session.room_id if isinstance(session, RoomSession) else None
        if room_id in self._publishers and self._publishers[room_id].session_id == session.session_id:
            del self._publishers[room_id]
        try:
            await self._patience.run(partial(self._close_once, session.session_id), may_repeat=True)
        except Refused as refused:
            if not refused.is_gone:
                log.warning("tracks were not closed", session_id=session.session_id, status=refused.status, code=refused.error_code)

    async def run(self) -> None:
        """Until cancelled; then the connections are given back."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(GOODBYE_S) as goodbye:
                goodbye.shield = True
                await self._api.aclose()

    async def _ask(self, work: Any, may_repeat: bool = True) -> Any:
        """`work`, with patience. What Cloudflare refuses for what the member said is SessionError; its code is in the log alone."""
        try:
            return await self._patience.run(work, may_repeat)
        except Refused as refused:
            log.info("a media session was refused", status=refused.status, code=refused.error_code, why=refused.reason)
            raise SessionError from None

    async def _open_once(self, room_id: str, role: str, offer_sdp: str | None) -> RoomSession:
        publisher = self._publishers.get(room_id) if role != SENDER else None
        session_id = await self._api.new_session()
        opened = RoomSession(session_id, room_id=room_id, app_id=self.app_id)
        if publisher is not None:
            opened = replace(opened, publisher_session_id=publisher.session_id, track_names=publisher.track_names)
        if offer_sdp is None:
            return await self._pull(opened)
        published = await self._api.publish(session_id, offer_sdp)
        opened = replace(opened, answer_sdp=_sdp(published))
        if role != SENDER:
            return opened
        return replace(opened, publisher_session_id=session_id, track_names=_names(published))

    async def _pull(self, session: RoomSession) -> RoomSession:
        publisher = self._publishers.get(session.room_id)
        if publisher is None or publisher.session_id == session.session_id:
            return replace(session, offer_sdp=None)
        pulled = await self._api.pull(session.session_id, publisher.session_id, publisher.track_names)
        failed = sorted({track.error_code for track in pulled.tracks if track.error_code})
        if failed:
            log.info("not every track of the sender is there", session_id=session.session_id, codes=failed)
        return replace(
            session, publisher_session_id=publisher.session_id, track_names=_names(pulled) or publisher.track_names, offer_sdp=_sdp(pulled)
        )

    async def _close_once(self, session_id: str) -> None:
        mids = [track.mid for track in await self._api.open_tracks(session_id)]
        for first in range(0, len(mids), TRACKS_PER_CALL_MAX):
            left = await self._api.close_tracks(session_id, mids[first : first + TRACKS_PER_CALL_MAX])
            if left:  # Cloudflare ends them by itself, 30 s after their media has stopped
                log.info("some tracks were not closed", session_id=session_id, tracks=len(left))

    def _keep(self, publisher: RoomSession) -> None:
        self._publishers[publisher.room_id] = publisher
        self._publishers.move_to_end(publisher.room_id)
        if len(self._publishers) > self._rooms_kept:
            self._limits.add("cloudflare.rooms_kept")
            self._publishers.popitem(last=False)


def _sdp(answer: Answer) -> str | None:
    return None if answer.session_description is None else answer.session_description.sdp


def _names(answer: Answer) -> tuple[str, ...]:
    return tuple(track.track_name for track in answer.tracks if track.track_name and not track.error_code)
