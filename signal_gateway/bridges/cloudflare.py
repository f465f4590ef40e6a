"""Members of rooms on Cloudflare Realtime: a session each, tracks published and pulled, and their SDP (S-24, S-41; C-15)."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, TypeVar

import httpx2
import msgspec
import trio

from protocol.agent import SDP_BYTES_MAX
from signal_gateway.bridges.cloudflare_api import TRACKS_PER_CALL_MAX, Answer, CloudflareApi, Refused
from signal_gateway.bridges.cloudflare_settings import CloudflareSettings
from signal_gateway.bridges.patience import Patience
from signal_gateway.domain.errors import SessionError
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.media import MediaSession
from signal_gateway.services.turn import IceServers, MediaSettings

T = TypeVar("T")

log = logger("media")

GOODBYE_S = 1.0
"""Seconds that connections have to say goodbye at the end."""


class CloudflareMedia:
    """The Media of rooms (services/media.py). It remembers nothing of sessions and rooms."""

    def __init__(self, api: CloudflareApi, patience: Patience, ice_servers: IceServers, app_id: str) -> None:
        self.app_id = app_id
        self.stun_url = ice_servers.stun_url
        self.trouble = patience.trouble
        self._api = api
        self._patience = patience
        self._ice_servers = ice_servers

    def ice_servers(self, client_id: str) -> Sequence[Mapping[str, Any]]:
        """See Media.ice_servers: also where media goes to Cloudflare some networks need a TURN server."""
        return self._ice_servers.of(client_id)

    async def open(self, offer_sdp: str | None, publisher: MediaSession | None) -> MediaSession:
        """See Media.open. Each attempt has a session of its own: a repeated offer on an old one would be out of order."""
        return await self._ask(partial(self._open_once, offer_sdp, publisher))

    async def receive(self, session: MediaSession, publisher: MediaSession) -> MediaSession:
        """See Media.receive."""
        return await self._ask(partial(self._pull, session, publisher), may_repeat=False)

    async def offer(self, session: MediaSession, offer_sdp: str) -> MediaSession:
        """See Media.offer."""
        return await self._ask(partial(self._publish, session, offer_sdp), may_repeat=False)

    async def answer(self, session: MediaSession, answer_sdp: str) -> None:
        """See Media.answer."""
        await self._ask(partial(self._api.renegotiate, session.session_id, answer_sdp), may_repeat=False)

    async def close(self, session: MediaSession) -> None:
        """See Media.close: its tracks are closed. A session that is gone already is what was wanted."""
        try:
            await self._patience.run(partial(self._close_once, session.session_id), may_repeat=True)
        except Refused as refused:
            if not refused.is_gone:
                log.warning("tracks were not closed", session_id=session.session_id, status=refused.status, code=refused.error_code)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then the connections are given back."""
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(GOODBYE_S) as goodbye:
                goodbye.shield = True
                await self._api.aclose()

    async def _ask(self, work: Callable[[], Awaitable[T]], may_repeat: bool = True) -> T:
        """`work`, with patience. What Cloudflare refuses for what the member said is SessionError; its code is in the log alone."""
        try:
            return await self._patience.run(work, may_repeat)
        except Refused as refused:
            log.info("a media session was refused", status=refused.status, code=refused.error_code, why=refused.reason)
            raise SessionError from None

    async def _open_once(self, offer_sdp: str | None, publisher: MediaSession | None) -> MediaSession:
        opened = MediaSession(session_id=await self._api.new_session())
        if offer_sdp is not None:
            return await self._publish(opened, offer_sdp)
        return opened if publisher is None else await self._pull(opened, publisher)

    async def _publish(self, session: MediaSession, offer_sdp: str) -> MediaSession:
        answer = await self._api.publish(session.session_id, offer_sdp)
        published = tuple(dict.fromkeys((*session.published, *_names(answer))))
        return replace(session, answer_sdp=self._sdp(answer), published=published)

    async def _pull(self, session: MediaSession, publisher: MediaSession) -> MediaSession:
        lacking = session.lacks(publisher)[:TRACKS_PER_CALL_MAX]
        pulled = await self._api.pull(session.session_id, publisher.session_id, lacking)
        failed = sorted({track.error_code for track in pulled.tracks if track.error_code})
        if failed:
            log.info("not every track of the sender is there", session_id=session.session_id, codes=failed)
        known = session.offered if session.publisher_session_id == publisher.session_id else ()
        offered = (*known, *(name for name in _names(pulled) if name in lacking))
        return replace(session, publisher_session_id=publisher.session_id, offered=offered, offer_sdp=self._sdp(pulled))

    async def _close_once(self, session_id: str) -> None:
        mids = [track.mid for track in await self._api.open_tracks(session_id)]
        for first in range(0, len(mids), TRACKS_PER_CALL_MAX):
            left = await self._api.close_tracks(session_id, mids[first : first + TRACKS_PER_CALL_MAX])
            if left:  # Cloudflare ends them by itself, 30 s after their media has stopped
                log.info("some tracks were not closed", session_id=session_id, tracks=len(left))

    def _sdp(self, answer: Answer) -> str | None:
        """What Cloudflare says to the member; it has to fit a frame, as what members say to each other."""
        if answer.session_description is None:
            return None
        sdp = answer.session_description.sdp
        if len(msgspec.json.encode(sdp)) > SDP_BYTES_MAX:
            log.warning("an SDP of the media backend fits no frame", characters=len(sdp))
            raise Refused("too_long")
        return sdp


def _names(answer: Answer) -> tuple[str, ...]:
    return tuple(track.track_name for track in answer.tracks if track.track_name and not track.error_code)


def cloudflare_media(
    settings: MediaSettings,
    cloudflare: CloudflareSettings,
    metrics: Metrics,
    wall_ms: Callable[[], int],
    random: Random,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> CloudflareMedia:
    """Cloudflare Realtime. `random` draws the waits between attempts, `transport` stands in for the network.

    Its `run` belongs into the stage of the bridges, its `trouble` into health, as a check that does not decide.
    """
    api, patience = CloudflareApi(cloudflare, metrics, transport), Patience(cloudflare, metrics, random)
    return CloudflareMedia(api, patience, IceServers(settings, cloudflare.stun_url, wall_ms), cloudflare.app_id)
