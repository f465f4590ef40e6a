"""Guests: browsers that come by the link of a room, with a token that is good for that room alone (CONTRACT.md §7).

All who have the link hold the same token, so they could pass for each other, as holders of one enrolment key can. Nothing is kept of a
guest beyond the log of connections and the archive of the room.
"""

import os
from base64 import b32encode
from collections.abc import Callable

from signal_gateway.domain.errors import BadCredentials
from signal_gateway.domain.ids import GUEST_PREFIX, is_guest_id
from signal_gateway.domain.principal import LinkKind, Principal
from signal_gateway.services.tokens import BY_TOKEN, GuestSigner

TOKEN_ID_BYTES = 12


class Guests:
    """Issues the tokens of rooms, and proves who comes with one."""

    def __init__(self, signer: GuestSigner, is_revoked: Callable[[str], bool], wall_ms: Callable[[], int]) -> None:
        self._signer = signer
        self._is_revoked = is_revoked
        self._wall_ms = wall_ms
        self.random_bytes: Callable[[int], bytes] = os.urandom
        """Where the ids of tokens come from: the system, or the seed of a simulated world."""

    def issue(self, room_id: str, expires_s: int) -> str:
        """A token with which anybody may come into this room, for so many seconds. It is kept nowhere."""
        token_id = b32encode(self.random_bytes(TOKEN_ID_BYTES)).decode().lower().rstrip("=")
        return self._signer.sign(room_id, token_id, self._wall_ms() // 1000, expires_s)

    def prove(self, client_id: str, token: str) -> Principal | None:
        """Who comes with this token; None when it is no token of a room at all. Raises BadCredentials, TokenExpired."""
        if not token.startswith("eyJ"):  # how every JWT begins
            return None
        pass_ = self._signer.read(token, self._wall_ms())
        if pass_ is None:
            return None
        if not is_guest_id(client_id):
            raise BadCredentials(f'A guest\'s client_id begins with "{GUEST_PREFIX}"')
        if self._is_revoked(pass_.token_id):
            raise BadCredentials("Invalid token")
        return Principal(
            LinkKind.AGENT, client_id, f"{BY_TOKEN}{pass_.token_id}", registered=True, room_id=pass_.room_id, expires_at=pass_.expires_at
        )
