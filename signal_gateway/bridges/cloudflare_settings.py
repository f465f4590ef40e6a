"""Section `[cloudflare]`: where the media backend is, and how much patience it gets (S-46)."""

from typing import Annotated

import msgspec

from signal_gateway.domain.breaker import BreakerRules

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class CloudflareSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The media backend of rooms with media.mode = "cloudflare" (S-46); without effect otherwise."""

    app_id: str = ""
    """Id of the application at Cloudflare Realtime (SFU)."""
    app_secret: str = ""
    """Its secret; better in SIGNAL_GATEWAY_CLOUDFLARE__APP_SECRET_FILE."""
    base_url: str = "https://rtc.live.cloudflare.com/v1"
    """Where its API is."""
    stun_url: str = "stun:stun.cloudflare.com:3478"
    """STUN server that members are told of; empty for none."""
    fall_back: bool = False
    """Whether a room that begins while Cloudflare does not answer is one whose members talk directly (app_id "p2p"), instead of being
    refused with 503. Rooms that are on Cloudflare stay there."""
    operation_s: Seconds = 8.0
    """Seconds that a member waits for its session, all calls and attempts together; less than link.handler_deadline_s."""
    call_s: Seconds = 6.0
    """Seconds for one call; Cloudflare itself may wait five for a member's connection."""
    connect_s: Seconds = 2.0
    """Seconds for a connection to the API, TLS included."""
    attempts_max: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    """Attempts of one operation: after lost connections, answers of 5xx and 429."""
    backoff_first_s: Seconds = 0.2
    """Seconds at the most before the second attempt, doubled for each further one; the true time is drawn by lot, so that many do not
    come together. A Retry-After of the answer is the least."""
    backoff_max_s: Seconds = 2.0
    """The same for later attempts."""
    failures_max: Annotated[int, msgspec.Meta(ge=1)] = 5
    """Attempts that fail in a row; then nobody asks for open_s."""
    open_s: Seconds = 10.0
    """Seconds for which nobody asks; after them one asks for all."""
    calls_max: Annotated[int, msgspec.Meta(ge=1)] = 200
    """Operations under way at a time; one more is refused with 503."""
    connections_max: Annotated[int, msgspec.Meta(ge=1)] = 20
    """Connections to the API; they are kept and used again."""
    idle_s: Seconds = 60.0
    """Seconds after which a connection that nobody uses is closed."""
    answer_bytes_max: Annotated[int, msgspec.Meta(ge=1024)] = 1_048_576
    """Bytes of one answer of the API."""
    closings_max: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    """Sessions of members who have left that wait to be closed; one more is left to Cloudflare, which ends what carries no media."""
    goodbye_s: Seconds = 5.0
    """Seconds to close all sessions when the server ends."""

    @property
    def breaker(self) -> BreakerRules:
        """When the API is left alone."""
        return BreakerRules(self.failures_max, self.open_s)

    def __repr__(self) -> str:
        return f"CloudflareSettings(app_id={self.app_id!r}, base_url={self.base_url!r})"
