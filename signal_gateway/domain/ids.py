"""Names of devices and clients: one string id for every kind of device (C-45)."""

import re
from uuid import UUID

CLIENT_ID_CHARS_MAX = 128
GUEST_PREFIX = "guest-"
"""How the id of every guest of a room begins, and nobody else's: whoever has the link of a room names itself."""
_CLIENT_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{CLIENT_ID_CHARS_MAX}}}")


def is_client_id(text: str) -> bool:
    """Whether `text` may name a device or a client: 1 to 128 characters of `A-Z a-z 0-9 . _ : -`."""
    return _CLIENT_ID.fullmatch(text) is not None


def is_guest_id(client_id: str) -> bool:
    """Whether this id is for guests of rooms alone."""
    return client_id.startswith(GUEST_PREFIX)


def uuid_v4(random_bytes: bytes) -> UUID:
    """A version 4 UUID (RFC 9562 §5.4) out of 16 random bytes, so that a simulated world can choose them."""
    return UUID(bytes=random_bytes, version=4)


_VERSION_4 = [bytes((0x40 | byte & 0x0F,)) for byte in range(256)]
_VARIANT_10 = [bytes((0x80 | byte & 0x3F,)) for byte in range(256)]


def uuid_v4_bytes(random_bytes: bytes) -> bytes:
    """The same in its 16 bytes, for frames, at a quarter of the price."""
    return b"".join((random_bytes[:6], _VERSION_4[random_bytes[6]], random_bytes[7:8], _VARIANT_10[random_bytes[8]], random_bytes[9:16]))
