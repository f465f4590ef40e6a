"""Frames as a client sends them: masked (RFC 6455 §5.3)."""

MASK = b"\x12\x34\x56\x78"


def client_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bytes | None = MASK, reserved: int = 0) -> bytes:
    """One frame. `mask=None` leaves the mask out, which no client may."""
    first = (0x80 if fin else 0) | reserved | opcode
    size = len(payload)
    masked = 0x80 if mask is not None else 0
    if size < 126:
        head = bytes((first, masked | size))
    elif size < 65_536:
        head = bytes((first, masked | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, masked | 127)) + size.to_bytes(8, "big")
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def text(payload: str, **options: object) -> bytes:
    """A text frame."""
    return client_frame(1, payload.encode(), **options)  # type: ignore[arg-type]


def binary(payload: bytes, **options: object) -> bytes:
    """A binary frame."""
    return client_frame(2, payload, **options)  # type: ignore[arg-type]


def ping(payload: bytes = b"") -> bytes:
    """A ping."""
    return client_frame(9, payload)


def pong(payload: bytes = b"") -> bytes:
    """A pong."""
    return client_frame(10, payload)


def close(code: int = 1000, reason: str = "") -> bytes:
    """A close frame."""
    return client_frame(8, code.to_bytes(2, "big") + reason.encode())
