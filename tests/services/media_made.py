"""A media backend for services: a few lines that record what they are asked, and fail or wait when they are told to."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import trio

from signal_gateway.services.media import MediaSession


class FakeMedia:
    """Each session is `s1`, `s2`…; an offer of "x y" publishes the tracks x and y. Takes `seconds` for everything.

    `asked` is what was done, when; `faults` are raised, one an operation, None for one that is well; `hidden` are tracks that cannot be
    had yet.
    """

    def __init__(self) -> None:
        self.app_id, self.stun_url = "app", "stun:backend.example"
        self.seconds = 0.0
        self.asked: list[tuple[float, str, str]] = []
        self.faults: deque[Exception | None] = deque()
        self.hidden: set[str] = set()
        self.open_ids: set[str] = set()
        """Sessions that somebody was given and nobody has closed since anything was last done to them."""
        self._numbers = count(1)

    def ice_servers(self, client_id: str) -> Sequence[Mapping[str, Any]]:
        return [{"urls": [self.stun_url]}]

    def done(self, what: str) -> list[str]:
        """To which sessions this was done."""
        return [session_id for _, each, session_id in self.asked if each == what]

    def times(self, what: str) -> list[float]:
        """When."""
        return [at for at, each, _ in self.asked if each == what]

    async def open(self, offer_sdp: str | None, publisher: MediaSession | None) -> MediaSession:
        session = MediaSession(session_id=f"s{next(self._numbers)}")
        await self._note("open", session)
        self.open_ids.add(session.session_id)
        if offer_sdp is not None:
            return _answered(session, offer_sdp)
        return session if publisher is None else self._pulled(session, publisher)

    async def receive(self, session: MediaSession, publisher: MediaSession) -> MediaSession:
        await self._note("receive", session)
        self.open_ids.add(session.session_id)
        return self._pulled(session, publisher)

    async def offer(self, session: MediaSession, offer_sdp: str) -> MediaSession:
        await self._note("offer", session)
        self.open_ids.add(session.session_id)
        return _answered(session, offer_sdp)

    async def answer(self, session: MediaSession, answer_sdp: str) -> None:
        await self._note("answer", session)

    async def close(self, session: MediaSession) -> None:
        await self._note("close", session)
        self.open_ids.discard(session.session_id)

    async def _note(self, what: str, session: MediaSession) -> None:
        self.asked.append((trio.current_time(), what, session.session_id))
        fault = self.faults.popleft() if self.faults else None
        await trio.sleep(self.seconds)
        if fault is not None:
            raise fault

    def _pulled(self, session: MediaSession, publisher: MediaSession) -> MediaSession:
        known = session.offered if session.publisher_session_id == publisher.session_id else ()
        fresh = tuple(name for name in session.lacks(publisher) if name not in self.hidden)
        told = f"offer of {' '.join(fresh)}" if fresh else None
        return replace(session, publisher_session_id=publisher.session_id, offered=(*known, *fresh), offer_sdp=told)


def _answered(session: MediaSession, offer_sdp: str) -> MediaSession:
    published = tuple(dict.fromkeys((*session.published, *offer_sdp.split())))
    return replace(session, answer_sdp=f"answer to {offer_sdp}", published=published)
