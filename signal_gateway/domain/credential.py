"""Keys: what they look like, and what each vouches for (CONTRACT.md §3, §4). Times are milliseconds since 1970, UTC."""

import re
from base64 import b32encode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from signal_gateway.domain.access import WHOLE_FLEET, Role, Scope

KEY_ID_CHARS = 12
SECRET_BYTES = 32
_KEY_ID_BYTES = 8
_KEY = re.compile(rf"sgk_([a-z2-7]{{{KEY_ID_CHARS}}})_[A-Za-z0-9_-]{{43}}")


class CredentialKind(StrEnum):
    """What a key is good for."""

    ENROLMENT = "enrolment"
    """Brings new devices in: each that comes with it is bound to it, and comes with it ever after."""
    CLIENT = "client"
    """The token of one agent."""
    DEVICE = "device"
    """The own key of one phone, instead of the enrolment key of its group."""
    OPERATOR = "operator"
    """Opens the operator's API to a person or a program, in the role and scope that it has."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its holder has it. `text` is the secret: it is shown once and kept nowhere."""

    id: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credential:
    """A key as we keep it: everything but the key."""

    id: str
    kind: CredentialKind
    digest: bytes = field(repr=False)
    """HMAC-SHA256 of the whole key under the pepper."""
    label: str = ""
    client_id: str | None = None
    """Of a client or device key: the one id that it is good for."""
    device_group: str | None = None
    """Of an enrolment key: the group that its devices join."""
    max_devices: int | None = None
    created_at: int = 0
    expires_at: int | None = None
    revoked_at: int | None = None
    used_at: int | None = None
    """Of a device key: when its phone first came with it."""
    role: Role | None = None
    """Of an operator key."""
    scope: Scope = WHOLE_FLEET
    """Of an operator key: the part of the fleet that it is for."""

    def is_expired(self, now_ms: int) -> bool:
        """Whether its time is over: at `expires_at` it is."""
        return self.expires_at is not None and self.expires_at <= now_ms

    def is_worthless(self, now_ms: int) -> bool:
        """Whether those it vouched for may no longer connect. The expiry of an enrolment key bars new devices only."""
        if self.revoked_at is not None:
            return True
        return self.kind is not CredentialKind.ENROLMENT and self.is_expired(now_ms)


def new_key(random_bytes: Callable[[int], bytes]) -> ApiKey:
    """A fresh key `sgk_<id>_<secret>`: id of 12 characters `a-z 2-7`, secret of 256 bits in base64url without padding."""
    key_id = b32encode(random_bytes(_KEY_ID_BYTES)).decode().lower()[:KEY_ID_CHARS]
    secret = urlsafe_b64encode(random_bytes(SECRET_BYTES)).decode().rstrip("=")
    return ApiKey(key_id, f"sgk_{key_id}_{secret}")


def key_id_of(text: str) -> str | None:
    """The public part of a key; None when `text` is not in the form of our keys."""
    match = _KEY.fullmatch(text)
    return match.group(1) if match else None
