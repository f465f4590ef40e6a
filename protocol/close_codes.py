"""WebSocket close codes, and whether the client should come back (DESIGN.md §6).

4000-4499 ask the client to come back after a jittered wait; 4500-4999 tell it to stay away until a person has changed something.
"""

from enum import IntEnum


class CloseCode(IntEnum):
    """Every code with which this gateway closes a link."""

    NORMAL = 1000
    PROTOCOL_ERROR = 1002
    BAD_DATA = 1007
    TOO_BIG = 1009
    INTERNAL = 1011
    RESTART = 1012

    SILENT = 4000
    SLOW = 4001
    TOO_MANY = 4002
    TOKEN_EXPIRED = 4003

    REPLACED = 4500
    UNAUTHORISED = 4501
    FORBIDDEN = 4502
    MALFORMED = 4503


OFFENCES = frozenset({CloseCode.PROTOCOL_ERROR, CloseCode.BAD_DATA, CloseCode.TOO_BIG, CloseCode.MALFORMED})
"""Ends of a link that its client brought about by what it said."""


def may_reconnect(code: int) -> bool:
    """Whether a client that was closed with `code` should come back by itself (RFC 6455 §7.4 and our ranges)."""
    if 4500 <= code <= 4999:
        return False
    return code not in (CloseCode.NORMAL, CloseCode.PROTOCOL_ERROR, CloseCode.BAD_DATA, CloseCode.TOO_BIG)
