"""Names of devices and clients: one string id for every kind of device (C-45)."""

import re
from collections.abc import Callable, Iterator
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


def ordered_id(uuid: bytes, now_ms: int) -> str:
    """A version 4 UUID in text, whose first 48 bits are the time instead: for what is kept under an id of ours, by the million.

    Keys that grow are written side by side; random ones each touch a page of every index that has them, and the more there are the more
    that costs. The 74 bits behind the time stay random.
    """
    text = (now_ms.to_bytes(6, "big") + uuid[6:]).hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


_UUIDS_AT_ONCE = 256
_VERSION_4 = bytes(0x40 | byte & 0x0F for byte in range(256))
_VARIANT_10 = bytes(0x80 | byte & 0x3F for byte in range(256))


def uuids_v4(random_bytes: Callable[[int], bytes]) -> Iterator[bytes]:
    """The same in their 16 bytes, for ever: for frames, each of which has one. Many are made at once, at a tenth of the price."""
    while True:
        made = bytearray(random_bytes(16 * _UUIDS_AT_ONCE))
        made[6::16] = made[6::16].translate(_VERSION_4)
        made[8::16] = made[8::16].translate(_VARIANT_10)
        uuids = bytes(made)
        for at in range(0, len(uuids), 16):
            yield uuids[at : at + 16]
