"""Credentials for a TURN server that end by themselves (H35), and the addresses of such servers."""

import hmac
import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha1

_STUN_URI = re.compile(r"stuns?:[^\s?@/]+")
_TURN_URI = re.compile(r"turns?:[^\s?@/]+(\?transport=(udp|tcp))?")


@dataclass(frozen=True, slots=True)
class TurnCredentials:
    """What a client shows a TURN server: the long-term credentials of RFC 8489 §9.2. Its repr tells no password."""

    username: str
    password: str

    def __repr__(self) -> str:
        return f"TurnCredentials(username={self.username!r})"


def turn_credentials(secret: str, client_id: str, expires_at_s: int) -> TurnCredentials:
    """Credentials that hold until `expires_at_s`, seconds since 1970 UTC, at every server that has the same secret.

        username = "<expires_at_s>:<client_id>"
        password = base64(HMAC-SHA1(secret, username))

    The form of draft-uberti-behave-turn-rest-00 §2.2, which coturn reads with `use-auth-secret`. The server needs to know of nobody:
    it reads the end out of the name, and the name cannot be changed without the secret.
    """
    username = f"{expires_at_s}:{client_id}"
    digest = hmac.new(secret.encode(), username.encode(), sha1).digest()
    return TurnCredentials(username, b64encode(digest).decode())


def is_stun_uri(text: str) -> bool:
    """Whether `text` is `stun:host:port` or `stuns:host:port` (RFC 7064); the port may be left out."""
    return _STUN_URI.fullmatch(text) is not None


def is_turn_uri(text: str) -> bool:
    """Whether `text` is `turn:host:port` or `turns:host:port`, with `?transport=udp` or `tcp` or without (RFC 7065)."""
    return _TURN_URI.fullmatch(text) is not None
