"""What a peer can send wrong, and the words in which it is told (CONTRACT.md §2).

Each refusal has three names that clients may rely on: `type` (upper case, seed 002), `code` (a number) and `reason` (a stable
snake_case word), beside an HTTP-like `status`. `message` is for people and safe to show.

    WireError
    ├─ InvalidFormat        400  the bytes or the object cannot be read
    ├─ Unsupported          415  a payload kind that is not spoken here
    ├─ NotImplementedYet    501  a message the protocol names and this server does not serve
    └─ MessageTooBig        400  more bytes than this kind of message may have
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of the table of errors: its upper-case type, its number and its HTTP-like status."""

    type: str
    code: int
    status: int


INVALID_MESSAGE_FORMAT = ErrorKind("INVALID_MESSAGE_FORMAT", 4001, 400)
AUTHENTICATION_FAILED = ErrorKind("AUTHENTICATION_FAILED", 4010, 401)
SUBSCRIPTION_FAILED = ErrorKind("SUBSCRIPTION_FAILED", 4030, 403)
FORBIDDEN = ErrorKind("FORBIDDEN", 4031, 403)
DEVICE_NOT_FOUND = ErrorKind("DEVICE_NOT_FOUND", 4040, 404)
NOT_FOUND = ErrorKind("NOT_FOUND", 4041, 404)
CONFLICT = ErrorKind("CONFLICT", 4090, 409)
UNSUPPORTED = ErrorKind("UNSUPPORTED", 4150, 415)
TELEMETRY_VALIDATION_FAILED = ErrorKind("TELEMETRY_VALIDATION_FAILED", 4220, 422)
RATE_LIMIT_EXCEEDED = ErrorKind("RATE_LIMIT_EXCEEDED", 4290, 429)
COMMAND_EXECUTION_FAILED = ErrorKind("COMMAND_EXECUTION_FAILED", 5000, 500)
INTERNAL = ErrorKind("INTERNAL", 5001, 500)
NOT_IMPLEMENTED = ErrorKind("NOT_IMPLEMENTED", 5010, 501)
UNAVAILABLE = ErrorKind("UNAVAILABLE", 5030, 503)
STORAGE_FULL = ErrorKind("UNAVAILABLE", 5070, 507)


class WireError(Exception):
    """The peer spoke badly. It is told so with an ERROR message; the link stays unless it does so too often."""

    kind: ClassVar[ErrorKind] = INVALID_MESSAGE_FORMAT

    question: Any = None
    """How its answer must look (dialect.Question), as far as it could be read."""

    def __init__(self, reason: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.details = details


class InvalidFormat(WireError):
    """The bytes, or the object in them, are not what the protocol says (400)."""


class MessageTooBig(InvalidFormat):
    """More bytes than a message of this kind may have (400)."""


class Unsupported(WireError):
    """A payload kind that is unknown or not spoken here (415)."""

    kind = UNSUPPORTED


class NotImplementedYet(WireError):
    """The protocol names this message; this server does not serve it (501)."""

    kind = NOT_IMPLEMENTED
