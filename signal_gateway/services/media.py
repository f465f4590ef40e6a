"""How the members of a room reach each other with what they say and show: what they need to know of servers on the way (S-21, S-41).

The members of a room connect to each other (`p2p`); the gateway passes on what they signal, and media never comes here.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from signal_gateway.domain.turn import turn_credentials

PEER_TO_PEER = "p2p"


class MediaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[media]`: what members of rooms are told of STUN and TURN servers."""

    stun_url: str = ""
    """Tells a client its own address. Empty: that of section [cloudflare]."""
    turn_urls: tuple[str, ...] = ()
    """Relays for those who cannot reach each other, such as "turn:turn.example.com:3478". They share `turn_secret` with us."""
    turn_secret: str = ""
    """What coturn has as `static-auth-secret`; better in SIGNAL_GATEWAY_MEDIA__TURN_SECRET_FILE."""
    turn_ttl_s: int = 3600
    """How long credentials for the relays are good. A connection that stands goes on after that."""

    def __post_init__(self) -> None:
        if self.turn_ttl_s < 1:
            raise ValueError("turn_ttl_s must be above 0")
        if self.turn_urls and not self.turn_secret:
            raise ValueError("turn_urls needs turn_secret, by which the relays know their users")
        if not all(url.startswith(("turn:", "turns:")) for url in self.turn_urls):
            raise ValueError('turn_urls must begin with "turn:" or "turns:"')

    def __repr__(self) -> str:
        return f"MediaSettings(stun_url={self.stun_url!r}, turn_urls={self.turn_urls!r})"


class PeerToPeer:
    """Members connect to each other, with the help of STUN and, where there is one, TURN."""

    app_id = PEER_TO_PEER

    def __init__(self, settings: MediaSettings, stun_url: str, wall_ms: Callable[[], int]) -> None:
        self.stun_url = settings.stun_url or stun_url
        self._settings = settings
        self._wall_ms = wall_ms

    def ice_servers(self, client_id: str) -> Sequence[Mapping[str, Any]]:
        """RTCIceServer objects (W3C WebRTC §4.2.4) for this client, good for `media.turn_ttl_s` from now."""
        servers: list[Mapping[str, Any]] = [{"urls": [self.stun_url]}] if self.stun_url else []
        settings = self._settings
        if settings.turn_urls:
            username, credential = turn_credentials(settings.turn_secret, client_id, self._wall_ms(), settings.turn_ttl_s)
            servers.append({"urls": list(settings.turn_urls), "username": username, "credential": credential})
        return servers
