"""Golden vectors of the wire, shared by the tests: the four example frames of seed 003, corrected and as printed.

The examples of seed 003 (lines 94, 119, 239, 390) state lengths that their payloads do not have. The layout rules (REQUIREMENTS C-01):
the corrected frames are right, the printed ones are refused.
"""

from dataclasses import dataclass

HEARTBEAT_PAYLOAD = b'{"timestamp":1704067200000}'
REGISTER_PAYLOAD = (
    b'{"version":"1.0.0","client_id":"unique_client_identifier","auth_token":"authentication_token",'
    b'"capabilities":["websocket","heartbeat","webrtc"],"metadata":{"platform":"web","version":"1.0.0"}}'
)
UNREGISTER_PAYLOAD = b'{"version":"1.0.0","client_id":"unique_client_identifier","auth_token":"authentication_token"}'


@dataclass(frozen=True)
class SeedFrame:
    """One example of seed 003: the header it prints, the payload, and the length that it states and should state."""

    name: str
    type: int
    uuid_hex: str
    payload: bytes
    stated_length: int
    real_length: int

    @property
    def uuid(self) -> bytes:
        return bytes.fromhex(self.uuid_hex)

    @property
    def corrected(self) -> bytes:
        return self._with_length(self.real_length)

    @property
    def as_printed(self) -> bytes:
        return self._with_length(self.stated_length)

    def _with_length(self, length: int) -> bytes:
        return bytes([0xAA, self.type]) + self.uuid + bytes([0x02]) + length.to_bytes(2, "big") + self.payload


HEARTBEAT = SeedFrame("HEARTBEAT", 0x04, "550E8400E29B41D4A716446655440002", HEARTBEAT_PAYLOAD, 0x0018, 27)
HEARTBEAT_ACK = SeedFrame("HEARTBEAT_ACK", 0x05, "550E8400E29B41D4A716446655440003", HEARTBEAT_PAYLOAD, 0x0018, 27)
REGISTER = SeedFrame("REGISTER", 0x20, "550E8400E29B41D4A716446655440000", REGISTER_PAYLOAD, 0x00C8, 192)
UNREGISTER = SeedFrame("UNREGISTER", 0x22, "550E8400E29B41D4A716446655440001", UNREGISTER_PAYLOAD, 0x0048, 94)

SEED_FRAMES = (HEARTBEAT, HEARTBEAT_ACK, REGISTER, UNREGISTER)
