"""A member's session with all that its peer connection needs, where backends negotiate with members and may fall away."""

from dataclasses import dataclass
from typing import Protocol

from signal_gateway.services.media import MediaSession


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomSession(MediaSession):
    """A MediaSession of a room that may stand on a backend or on none: with a fall-back that differs from room to room."""

    room_id: str
    app_id: str
    """What this room stands on: `"p2p"`, or the backend's name for the application. It is the same for all members of a room."""
    offer_sdp: str | None = None
    """The backend's offer, which holds the sender's tracks: the member answers it, through `Negotiates.answer`."""


class Negotiates(Protocol):
    """A backend that sends tracks to a member by an offer of its own."""

    async def receive(self, session: RoomSession) -> RoomSession:
        """The sender's tracks, as they are now, for a member that has none of them: the same session with the backend's offer, or
        without one while nobody sends. Raises MediaDown (503), SessionError (500)."""
        ...

    async def answer(self, session: MediaSession, answer_sdp: str) -> None:
        """The member's answer to `offer_sdp`, each once. Raises MediaDown (503), SessionError (500)."""
        ...
