"""What rooms need of a media backend (S-24, S-41; C-15).

A backend has one session for each member, not for each room: a session belongs to a peer connection. It remembers nothing of rooms: who
sends in one, and whose session is to be closed, is known in `room_media`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSession:
    """What a backend has for one member, as far as was heard of it."""

    session_id: str
    answer_sdp: str | None = None
    """Its answer to the member's last offer."""
    offer_sdp: str | None = None
    """Its own last offer, which holds tracks of the room's sender: the member answers it."""
    published: tuple[str, ...] = ()
    """Names of the member's own tracks."""
    publisher_session_id: str | None = None
    """Whose tracks it was offered, and their names."""
    offered: tuple[str, ...] = ()

    def lacks(self, publisher: "MediaSession") -> tuple[str, ...]:
        """Which of the publisher's tracks it was never offered."""
        known = self.offered if self.publisher_session_id == publisher.session_id else ()
        return tuple(name for name in publisher.published if name not in known)


class Media(Protocol):
    """A media backend. All that waits raises MediaDown (503), SessionError (500)."""

    app_id: str
    """Its name for the application."""
    stun_url: str

    def ice_servers(self, client_id: str) -> Sequence[Mapping[str, Any]]:
        """RTCIceServer objects for this client; credentials in them expire."""
        ...

    async def open(self, offer_sdp: str | None, publisher: MediaSession | None) -> MediaSession:
        """A session for a member. Its offer is answered and its tracks are published; one that comes without is offered the publisher's."""
        ...

    async def receive(self, session: MediaSession, publisher: MediaSession) -> MediaSession:
        """What the session lacks of the publisher's tracks: the same session with the backend's offer, or without one where none of them
        could be had yet."""
        ...

    async def offer(self, session: MediaSession, offer_sdp: str) -> MediaSession:
        """A further offer of the member on the same connection: the same session with the answer, and with all that it publishes by now."""
        ...

    async def answer(self, session: MediaSession, answer_sdp: str) -> None:
        """The member's answer to `offer_sdp`, each once."""
        ...

    async def close(self, session: MediaSession) -> None:
        """The member has left: nothing flows any more."""
        ...
