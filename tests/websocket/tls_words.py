"""A client of TLS 1.3 that says what Python's ssl has no call for: new keys, as often as it likes (RFC 8446 §4.6.3, §5.2, §7.2)."""

import hashlib
import hmac
import ssl
from pathlib import Path

import trio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from signal_gateway.testing.localhost import client_context

APPLICATION_DATA, HANDSHAKE = 23, 22
KEY_UPDATE = 24
TAG_BYTES = 16


class WordyPeer:
    """The client's side on a stream. OpenSSL shakes hands and reads; what is said then is sealed here, with the keys that it has logged."""

    def __init__(self, stream: trio.abc.Stream, folder: Path) -> None:
        self.stream = stream
        self._keys = folder / "keys"
        context = client_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.keylog_filename = str(self._keys)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    async def shake(self) -> None:
        """The handshake."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self.stream.send_all(self._outgoing.read())
                self._incoming.write(await self.stream.receive_some())
        await self.stream.send_all(self._outgoing.read())
        assert self._tls.cipher() == ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
        lines = [line.split() for line in self._keys.read_text().splitlines()]
        (secret,) = [words[2] for words in lines if words[0] == "CLIENT_TRAFFIC_SECRET_0"]
        self._take_keys(bytes.fromhex(secret))

    async def heard(self) -> bytes:
        """What the server says, read."""
        while True:
            try:
                return self._tls.read(65_536)
            except ssl.SSLWantReadError:
                data = await self.stream.receive_some()
                assert data, "the server has ended the connection"
                self._incoming.write(data)

    def sealed(self, data: bytes, kind: int = APPLICATION_DATA) -> bytes:
        """One record."""
        inner = data + bytes((kind,))
        head = b"\x17\x03\x03" + (len(inner) + TAG_BYTES).to_bytes(2, "big")
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        return head + self._aead.encrypt(nonce, inner, head)

    def new_keys(self, asks_for_yours: bool) -> bytes:
        """One record that says that the next one has new keys."""
        record = self.sealed(bytes((KEY_UPDATE, 0, 0, 1, asks_for_yours)), HANDSHAKE)
        self._take_keys(_expanded(self._secret, b"traffic upd", 48))
        return record

    def _take_keys(self, secret: bytes) -> None:
        self._secret = secret
        self._aead = AESGCM(_expanded(secret, b"key", 32))
        self._iv = int.from_bytes(_expanded(secret, b"iv", 12), "big")
        self._sequence = 0


def _expanded(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label, for no more than one block of SHA-384."""
    label = b"tls13 " + label
    about = size.to_bytes(2, "big") + bytes((len(label),)) + label + b"\0"
    return hmac.digest(secret, about + b"\x01", hashlib.sha384)[:size]
