"""As much of a TURN client as asks a server for a relay (RFC 8489, RFC 8656): a few messages over UDP."""

import hmac
import os
import socket
import struct
from hashlib import md5

COOKIE = 0x2112A442
ALLOCATE, ALLOCATED, NOT_ALLOCATED = 0x0003, 0x0103, 0x0113
USERNAME, MESSAGE_INTEGRITY, ERROR_CODE, REALM, NONCE, RELAYED, TRANSPORT = 0x06, 0x08, 0x09, 0x14, 0x15, 0x16, 0x19
UDP = struct.pack("!B3x", 17)
ANSWER_S = 5.0
UP_S = 0.2


class NoRelay(Exception):
    """The server said no; `code` is its error code: 401 unauthorised, 486 quota reached."""

    def __init__(self, code: int) -> None:
        super().__init__(f"TURN error {code}")
        self.code = code


def allocate(port: int, username: str, password: str) -> int:
    """Ask the server on this machine for a relay. Returns its UDP port. Raises NoRelay."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect(("127.0.0.1", port))
        link.settimeout(ANSWER_S)
        kind, asked = _ask(link)
        assert (kind, _error(asked)) == (NOT_ALLOCATED, 401), "nobody gets a relay without credentials"
        key = md5(f"{username}:{asked[REALM].decode()}:{password}".encode()).digest()
        kind, answer = _ask(link, (USERNAME, username.encode()), (REALM, asked[REALM]), (NONCE, asked[NONCE]), key=key)
    if kind != ALLOCATED:
        raise NoRelay(_error(answer))
    (xored,) = struct.unpack("!2xH", answer[RELAYED][:4])
    return int(xored) ^ (COOKIE >> 16)


def is_up(port: int) -> bool:
    """Whether a server on this machine answers requests without credentials."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect(("127.0.0.1", port))
        link.settimeout(UP_S)
        try:
            _ask(link)
        except OSError:
            return False
        return True


def _ask(link: socket.socket, *attributes: tuple[int, bytes], key: bytes | None = None) -> tuple[int, dict[int, bytes]]:
    link.send(_message([(TRANSPORT, UDP), *attributes], key))
    return _read(link.recv(2048))


def _message(attributes: list[tuple[int, bytes]], key: bytes | None = None) -> bytes:
    body = b"".join(struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4) for kind, value in attributes)
    length = len(body) + (0 if key is None else 24)
    head = struct.pack("!HHI", ALLOCATE, length, COOKIE) + os.urandom(12)
    if key is None:
        return head + body
    return head + body + struct.pack("!HH", MESSAGE_INTEGRITY, 20) + hmac.digest(key, head + body, "sha1")


def _read(message: bytes) -> tuple[int, dict[int, bytes]]:
    kind, length = struct.unpack("!HH", message[:4])
    found: dict[int, bytes] = {}
    at = 20
    while at < 20 + length:
        attribute, size = struct.unpack("!HH", message[at : at + 4])
        found[attribute] = message[at + 4 : at + 4 + size]
        at += 4 + size + (-size % 4)
    return kind, found


def _error(attributes: dict[int, bytes]) -> int:
    hundreds, rest = struct.unpack("!2xBB", attributes[ERROR_CODE][:4])
    return hundreds * 100 + rest
