"""Names of devices and clients: one string id for every kind of device (C-45)."""

import re
from uuid import UUID

CLIENT_ID_CHARS_MAX = 128
_CLIENT_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{CLIENT_ID_CHARS_MAX}}}")


def is_client_id(text: str) -> bool:
    """Whether `text` may name a device or a client: 1 to 128 characters of `A-Z a-z 0-9 . _ : -`."""
    return _CLIENT_ID.fullmatch(text) is not None


def uuid_v4(random_bytes: bytes) -> UUID:
    """A version 4 UUID (RFC 9562 §5.4) out of 16 random bytes, so that a simulated world can choose them."""
    return UUID(bytes=random_bytes, version=4)
