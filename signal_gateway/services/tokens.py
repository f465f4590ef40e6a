"""The tokens that we sign: what is in one, and what is believed of one that comes (H03).

A token is a JWT (RFC 7519) signed with HS256 and nothing else, in a header that has `alg` and `typ` alone: there is no key to choose, no
address to fetch one from, no second algorithm to be talked into. Its claims have exactly the types that we wrote.
"""

import re
import warnings
from typing import Annotated, Literal, NamedTuple

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OctKey

from signal_gateway.domain.access import Operator, Role, Scope, scope_of, scope_values
from signal_gateway.domain.errors import BadCredentials, TokenExpired

ISSUER = AUDIENCE = "signal-gateway"
ROOM_AUDIENCE = "signal-gateway:room"
ALGORITHMS = ["HS256"]
HEADER = {"alg": "HS256", "typ": "JWT"}
TOKEN_CHARS_MAX = 4096
"""A longer one is not even read."""
CLOCK_SKEW_S = 30
"""A token may be from so far ahead: its signer is another node of ours, whose clock may differ."""
BY_TOKEN = "jti:"  # noqa: S105 - no secret
"""How the credential id of an operator begins who came with a token."""
OF_FAMILY = "-"
"""Stands in the id of a token that was refreshed between the id of the first and its own part. First ids have letters and digits alone."""
ID_FORM = r"\A[A-Za-z0-9_-]{8,64}\Z"
SECONDS_MAX = 253_402_300_799
"""The end of the year 9999: a later one is no date."""

Seconds = Annotated[int, msgspec.Meta(ge=0, le=SECONDS_MAX)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class Claims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a token says. Times are seconds since 1970, as RFC 7519 has them."""

    sub: Name
    role: Role
    iat: Seconds
    exp: Seconds
    jti: Annotated[str, msgspec.Meta(pattern=ID_FORM)]
    iss: Literal["signal-gateway"]
    aud: Literal["signal-gateway"]
    devices: list[Name] | None = None
    groups: list[Name] | None = None


class GuestClaims(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the token of a room says. Another audience, so that neither token is ever taken for the other."""

    room: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    iat: Seconds
    exp: Seconds
    jti: Annotated[str, msgspec.Meta(pattern=ID_FORM)]
    iss: Literal["signal-gateway"]
    aud: Literal["signal-gateway:room"]


class RoomPass(NamedTuple):
    """A token of a room that holds."""

    room_id: str
    token_id: str
    expires_at: int
    """Milliseconds since 1970, UTC."""


class GuestSigner:
    """Signs and reads the tokens of rooms, by the same secret."""

    def __init__(self, secret: str) -> None:
        self._key = _key_of(secret)

    def sign(self, room_id: str, token_id: str, now_s: int, expires_s: int) -> str:
        """A token for whoever has it to come into this room."""
        claims = {"room": room_id, "iat": now_s, "exp": now_s + expires_s, "jti": token_id, "iss": ISSUER, "aud": ROOM_AUDIENCE}
        msgspec.convert(claims, GuestClaims)
        return jwt.encode(dict(HEADER), claims, self._key, algorithms=ALGORITHMS)

    def read(self, token: str, now_ms: int) -> RoomPass | None:
        """What the token is good for; None when it is none of ours for a room. Raises TokenExpired for one whose time is over."""
        if len(token) > TOKEN_CHARS_MAX:
            return None
        try:
            read = jwt.decode(token, self._key, algorithms=ALGORITHMS)
            claims = msgspec.convert(read.claims, GuestClaims)
        except (JoseError, msgspec.ValidationError, ValueError, RecursionError):
            return None
        if read.header != HEADER or claims.iat > now_ms / 1000 + CLOCK_SKEW_S:
            return None
        if claims.exp * 1000 <= now_ms:
            raise TokenExpired(claims.room)
        return RoomPass(claims.room, claims.jti, claims.exp * 1000)


class Signer:
    """Signs tokens and reads them. `secret` is the one of `auth.token_secret`, or of the file that stands for it."""

    def __init__(self, secret: str) -> None:
        self._key = _key_of(secret)

    def sign(self, subject: str, role: Role, scope: Scope, token_id: str, now_s: int, expires_s: int) -> str:
        """A token for this operator, good for `expires_s` seconds. Raises ValueError when its parts, together, are no token of ours."""
        named = scope_values(scope) or {}
        claims = {
            "sub": subject,
            "role": role.value,
            "iat": now_s,
            "exp": now_s + expires_s,
            "jti": token_id,
            "iss": ISSUER,
            "aud": AUDIENCE,
            **named,
        }
        msgspec.convert(claims, Claims)
        token = jwt.encode(dict(HEADER), claims, self._key, algorithms=ALGORITHMS)
        if len(token) > TOKEN_CHARS_MAX:
            raise ValueError(f"the token would have {len(token)} characters of {TOKEN_CHARS_MAX}: name groups instead of devices")
        return token

    def read(self, token: str, now_ms: int) -> Operator:
        """Who came with this token. Raises BadCredentials, and TokenExpired for one of ours whose time is over."""
        claims = self._claims(token, now_ms)
        if claims.exp * 1000 <= now_ms:
            raise TokenExpired(claims.sub)
        scope = scope_of({"devices": claims.devices, "groups": claims.groups})
        return Operator(claims.sub, claims.role, scope, f"{BY_TOKEN}{family_of(claims.jti)}", claims.exp * 1000)

    def id_of(self, token: str, now_ms: int) -> str:
        """The id by which a token of ours is revoked, also after its time: those refreshed from it may live. Raises BadCredentials."""
        return family_of(self._claims(token, now_ms).jti)

    def _claims(self, token: str, now_ms: int) -> Claims:
        if len(token) > TOKEN_CHARS_MAX:
            raise BadCredentials("Invalid token")
        try:
            read = jwt.decode(token, self._key, algorithms=ALGORITHMS)
            claims = msgspec.convert(read.claims, Claims)
        except (JoseError, msgspec.ValidationError, ValueError, RecursionError):
            raise BadCredentials("Invalid token") from None
        if read.header != HEADER or claims.iat > now_ms / 1000 + CLOCK_SKEW_S:
            raise BadCredentials("Invalid token")
        return claims


def is_token_id(text: str) -> bool:
    """Whether a token of ours may have this id."""
    return re.fullmatch(ID_FORM, text) is not None


def family_of(token_id: str) -> str:
    """The id of the token from which this one was refreshed first; its own, if it was issued. A revocation ends them all."""
    return token_id.partition(OF_FAMILY)[0]


def _key_of(secret: str) -> OctKey:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecurityWarning)  # a short one is refused at the start, unless it is for loopback alone
        return OctKey.import_key(secret.encode())
