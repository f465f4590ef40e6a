"""What rooms need of a media backend (S-24, S-41; C-15).

A backend has one session for each member, not for each room: a session belongs to a peer connection.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

P2P = "p2p"
"""The `app_id` where no backend stands behind the room: the session of a member is its link's own, and nobody is asked."""


@dataclass(frozen=True, slots=True)
class MediaSession:
    """What a backend has for one member."""

    session_id: str
    answer_sdp: str | None = None
    """Its answer to the offer that the member came with."""
    publisher_session_id: str | None = None
    """Of the sender, whose tracks a receiver asks for."""
    track_names: tuple[str, ...] = ()


class Media(Protocol):
    """A media backend."""

    app_id: str
    """`"p2p"`, or the backend's name for the application."""
    stun_url: str

    def ice_servers(self, client_id: str) -> Sequence[Mapping[str, Any]]:
        """RTCIceServer objects for this client; credentials in them expire."""
        ...

    async def open(self, room_id: str, client_id: str, role: str, offer_sdp: str | None) -> MediaSession:
        """A session for a member. Raises MediaDown (503), SessionError (500)."""
        ...

    async def close(self, session: MediaSession) -> None:
        """The member has left. Raises MediaDown."""
        ...
