"""Which STUN and TURN servers clients are told of (S-41, H35)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec

from signal_gateway.domain.turn import turn_credentials

MILLISECONDS = 1000


class MediaSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What carries the media of rooms, and how its ends find each other."""

    mode: Literal["p2p", "cloudflare"] = "p2p"
    """"p2p": members talk to each other directly, the gateway passes offers, answers and candidates on. "cloudflare": each talks to
    Cloudflare Realtime, section [cloudflare]."""
    stun_url: str = "stun:stun.cloudflare.com:3478"
    """STUN server that members are told of where they talk directly; empty for none."""
    turn_urls: tuple[str, ...] = ()
    """TURN servers for members that cannot reach each other: "turn:host:3478?transport=udp", "turns:host:5349?transport=tcp". Needs
    turn_secret."""
    turn_secret: str = ""
    """The secret that these servers share with the gateway: coturn's static-auth-secret. Better in
    SIGNAL_GATEWAY_MEDIA__TURN_SECRET_FILE."""
    turn_ttl_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)] = 3_600
    """Seconds for which a member may begin to relay with the credentials that it is given; what it relays then may go on."""

    def __repr__(self) -> str:
        return f"MediaSettings(mode={self.mode!r}, stun_url={self.stun_url!r}, turn_urls={self.turn_urls!r})"


class IceServers:
    """Makes the list for each client. Nothing is kept: a TURN server knows credentials by the secret alone."""

    def __init__(self, settings: MediaSettings, stun_url: str, wall_ms: Callable[[], int]) -> None:
        self.stun_url = stun_url
        self._settings = settings
        self._wall_ms = wall_ms

    def of(self, client_id: str) -> Sequence[Mapping[str, Any]]:
        """RTCIceServer objects of W3C WebRTC §4.2.4: `{urls}` of the STUN server, `{urls, username, credential}` of the TURN servers.

        The credentials hold `media.turn_ttl_s` from now on.
        """
        settings = self._settings
        servers: list[Mapping[str, Any]] = [{"urls": [self.stun_url]}] if self.stun_url else []
        if settings.turn_urls and settings.turn_secret:
            credentials = turn_credentials(settings.turn_secret, client_id, self._wall_ms() // MILLISECONDS + settings.turn_ttl_s)
            servers.append({"urls": [*settings.turn_urls], "username": credentials.username, "credential": credentials.password})
        return servers
