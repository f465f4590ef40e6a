"""Which media backend rooms have, out of the settings."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

import httpx2

from signal_gateway.bridges.cloudflare import CloudflareMedia
from signal_gateway.bridges.cloudflare_api import CloudflareApi
from signal_gateway.bridges.cloudflare_settings import CloudflareSettings
from signal_gateway.bridges.patience import Patience
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.direct_media import DirectMedia
from signal_gateway.services.fall_back import FallBackMedia
from signal_gateway.services.media import Media
from signal_gateway.services.turn import IceServers, MediaSettings


@dataclass(frozen=True, slots=True)
class ChosenMedia:
    """The Media of a gateway, with what must run and what can be told beside it."""

    media: Media
    run: Callable[[], Awaitable[None]] | None = None
    """A loop of the bridges' stage, until cancelled; None where there is nothing to run."""
    trouble: Callable[[], str | None] | None = None
    """For health, as a check that does not decide: None when the backend is well, else why not. None itself where there is no backend."""


def media_of(
    settings: MediaSettings,
    cloudflare: CloudflareSettings,
    session_of: Callable[[str], str | None],
    metrics: Metrics,
    wall_ms: Callable[[], int],
    random: Random,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> ChosenMedia:
    """Members that talk directly, or Cloudflare, or the one while the other is down (`cloudflare.fall_back`).

    `session_of` tells the session id of a client's link. `random` draws the waits between attempts. `transport` stands in for the network.
    """
    direct = DirectMedia(IceServers(settings, settings.stun_url, wall_ms), session_of)
    if settings.mode == "p2p":
        return ChosenMedia(direct)
    api, patience = CloudflareApi(cloudflare, metrics, transport), Patience(cloudflare, metrics, random)
    backend = CloudflareMedia(api, patience, IceServers(settings, cloudflare.stun_url, wall_ms), cloudflare, metrics)
    media = FallBackMedia(backend, direct, cloudflare.rooms_kept, metrics) if cloudflare.fall_back else backend
    return ChosenMedia(media, backend.run, patience.trouble)
