"""Sessions at the media backend whose members have gone: closed in the background, a few at a time, and with patience while it is down."""

from collections.abc import Iterable
from functools import partial

import trio

from signal_gateway.domain.errors import MediaDown, SessionError
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.media import Media, MediaSession

CLOSERS = 10
"""Sessions that are closed at once; members who come in ask the same backend meanwhile."""
AGAIN_AFTER_S = (2.0, 10.0, 30.0)
"""Waits for another attempt; then the session is left to the backend, which ends what carries no media."""

log = logger("media")


class MediaClosings:
    """`close_soon` never waits. Up to `waiting_max` sessions wait; of one more it is counted that it was left to the backend."""

    def __init__(self, media: Media, waiting_max: int, goodbye_s: float, metrics: Metrics) -> None:
        self._media = media
        self._goodbye_s = goodbye_s
        self._put, self._take = trio.open_memory_channel[MediaSession](waiting_max)
        self._in_hand: set[MediaSession] = set()
        self._limits = metrics.limits
        self._errors = metrics.errors
        self._closed = metrics.counter("media_closings_total", "Sessions of those who have gone, by outcome.", ("outcome",))
        metrics.gauge("media_closings_waiting", "Sessions that are still to be closed.", self._waiting)

    def close_soon(self, session: MediaSession | None) -> None:
        """Nobody needs this session any more. None: there was none."""
        if session is None:
            return
        try:
            self._put.send_nowait(session)
        except trio.WouldBlock:
            self._limits.add("cloudflare.closings_max")
            self._closed.add("left")

    def begin(self, nursery: trio.Nursery) -> None:
        """Close, until `nursery` is cancelled."""
        for _ in range(CLOSERS):
            nursery.start_soon(self._close_on)

    async def end(self, sessions: Iterable[MediaSession]) -> None:
        """Close these, too, and all that wait, within the time of a goodbye. Cannot be cancelled."""
        left = [*sessions, *self._in_hand]
        while self._waiting():
            left.append(self._take.receive_nowait())
        with trio.move_on_after(self._goodbye_s) as goodbye:
            goodbye.shield = True
            async with trio.open_nursery() as nursery:
                rest = iter(left)
                for _ in range(CLOSERS):
                    nursery.start_soon(self._close_all, rest)
        if goodbye.cancelled_caught:
            self._limits.add("cloudflare.goodbye_s")
            log.warning("not every session of a member was closed", of=len(left))

    def _waiting(self) -> int:
        return self._take.statistics().current_buffer_used

    async def _close_on(self) -> None:
        async for session in self._take:
            self._in_hand.add(session)
            await self._close(session, AGAIN_AFTER_S)
            self._in_hand.discard(session)  # one that is cancelled stays for the goodbye

    async def _close_all(self, sessions: Iterable[MediaSession]) -> None:
        for session in sessions:
            await self._close(session, ())

    async def _close(self, session: MediaSession, waits_s: Iterable[float]) -> None:
        """A border: a session that cannot be closed hinders no other."""
        attempt = partial(self._media.close, session)
        for wait_s in (*waits_s, None):
            try:
                await attempt()
            except (MediaDown, SessionError) as error:
                if wait_s is None:
                    self._closed.add("failed")
                    log.warning("a session was not closed", session_id=session.session_id, reason=error.reason)
                    return
                await trio.sleep(wait_s)
            except Exception:
                self._errors.add("media")
                self._closed.add("failed")
                log.exception("closing a session failed")
                return
            else:
                self._closed.add("closed")
                return
