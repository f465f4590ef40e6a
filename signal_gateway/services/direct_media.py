"""No backend: members talk to each other directly, with the help of STUN and TURN servers (CONTRACT.md §7)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from signal_gateway.domain.errors import SessionError
from signal_gateway.services.media import P2P, MediaSession
from signal_gateway.services.turn import IceServers


class DirectMedia:
    """`session_of` tells the session id of a client's link; None when it has no link."""

    def __init__(self, ice_servers: IceServers, session_of: Callable[[str], str | None]) -> None:
        self.app_id = P2P
        self.stun_url = ice_servers.stun_url
        self._ice_servers = ice_servers
        self._session_of = session_of

    def ice_servers(self, client_id: str) -> Sequence[Mapping[str, Any]]:
        """See Media.ice_servers."""
        return self._ice_servers.of(client_id)

    async def open(self, room_id: str, client_id: str, role: str, offer_sdp: str | None) -> MediaSession:
        """See Media.open. Nobody is asked, so it never waits."""
        session_id = self._session_of(client_id)
        if session_id is None:
            raise SessionError
        return MediaSession(session_id)

    async def close(self, session: MediaSession) -> None:
        """See Media.close: there is nothing to close."""
