"""Credentials for a TURN server that expire, in the shared-secret form that coturn understands (its `use-auth-secret`; H35)."""

import hmac
from base64 import b64encode
from hashlib import sha1
from typing import NamedTuple


class TurnCredentials(NamedTuple):
    """What a client shows a TURN server."""

    username: str
    """When they end, in seconds since 1970, and whose they are: `1767225600:client-1`."""
    credential: str
    """HMAC-SHA1 of that under the shared secret, in base64."""


def turn_credentials(secret: str, client_id: str, now_ms: int, life_s: int) -> TurnCredentials:
    """Credentials of this client for so many seconds from now."""
    username = f"{now_ms // 1000 + life_s}:{client_id}"
    return TurnCredentials(username, b64encode(hmac.digest(secret.encode(), username.encode(), sha1)).decode())
