"""Who is on the other end of a link."""

from dataclasses import dataclass, field
from enum import StrEnum

import msgspec


class LinkKind(StrEnum):
    """Which table of handlers a link has (CONTRACT.md §1)."""

    PHONE = "phone"
    AGENT = "agent"
    CONSOLE = "console"


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated client: its id, and the credential that vouched for it, by whose id a revocation finds its links."""

    kind: LinkKind
    client_id: str
    credential_id: str
    registered: bool = False
    """Whether a client record exists (REGISTER), beyond this link's session (CONNECT)."""
    token_digest: bytes = field(default=b"", compare=False, repr=False)
    """Of the token that was shown: requests on the link may show it again (C-11)."""
    room_id: str | None = None
    """Of a guest: the one room that it may be in."""
    has_older_keys: bool = False
    """Whether it came with a key of its own, and has others that are to end now, or with this one for the first time."""
    expires_at: int | None = None
    """When the link must end, in milliseconds since 1970, UTC; None: never by itself."""


class Caller(msgspec.Struct, frozen=True, gc=False):
    """The link that asks for a room. `session_id` is its own, or that of its member at a media backend; `room_id` is set for a guest, who
    may be in that one room alone."""

    client_id: str
    session_id: str
    generation: int
    room_id: str | None = None
