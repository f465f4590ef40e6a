"""Where the operator's API stands and how wide it is: section [http]."""

from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The operator's API. It speaks TLS where [server] does, with the same certificate."""

    enabled: bool = True
    """Whether it is opened at all."""
    host: str = "127.0.0.1"
    """Address to listen on. Beyond loopback the start is refused without TLS."""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8081
    """Port to listen on; 0 lets the system choose one."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of browsers whose scripts may use the API (CORS), exact. None by default."""
    body_bytes_max: Count = 2_097_152
    """Bytes of a request's body; more is answered 413. A thousand commands fit."""
    body_seconds_max: Seconds = 15.0
    """Seconds in which a request's body must have come, else 408."""
    head_bytes_max: Annotated[int, msgspec.Meta(ge=1024)] = 16_384
    """Bytes of a request's head; more is answered 431."""
    connections_max: Count = 512
    """Connections at once; more are closed at once."""
    keep_alive_s: Seconds = 60.0
    """Seconds that a connection may be open without a whole request head; then it is closed."""
    requests_per_connection_max: Count = 100_000
    """Requests of one connection; then it is closed, and a client opens another."""
    requests_per_s: float = 500.0
    """Requests of one operator; more are answered 429. A list of commands counts as one. 0 = unlimited."""
    requests_burst: float = 1000.0
    """Of these, at once."""
    operators_counted: Count = 10_000
    """Operators whose rate is counted at a time; beyond it the one that was quiet longest starts afresh."""
    drain_s: Seconds = 5.0
    """Seconds that requests under way have to end when the server stops."""
    qr_kept_s: Seconds = 300.0
    """Seconds that a new enrolment key can be shown as a QR code. It is kept in memory alone."""
    qr_keys_max: Count = 100
    """Such keys at a time; beyond it the oldest is shown no more."""

    def __post_init__(self) -> None:
        if self.requests_per_s < 0 or self.requests_burst < 1:
            raise ValueError("requests_per_s must not be below 0, requests_burst must not be below 1")
