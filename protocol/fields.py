"""Types of fields that many messages share, and the words in which a wrong field is refused.

A wrong field is named by its path from the message's root, such as `data.sim_cards[0].slot_index`. msgspec finds it; here its
finding becomes an InvalidField.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from protocol.errors import InvalidFormat

ID_CHARS_MAX: Final = 128
"""Ids of messages, sessions and requests, ours or a peer's."""
NAME_CHARS_MAX: Final = 256
"""Names, numbers and other words that are kept per device."""
WHAT_CHARS_MAX: Final = 200
"""Of what is wrong with a field, which may quote the peer, so much is told."""

_NO_NUL: Final = r"\A[^\x00]*\Z"

Identifier = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX, pattern=_NO_NUL)]
"""An id that the peer chose: text without NUL, which a database may refuse (H12)."""
IdText = Annotated[str, Meta(max_length=ID_CHARS_MAX, pattern=_NO_NUL)]
"""The same where a phone leaves it empty when it knows none."""
Name = Annotated[str, Meta(max_length=NAME_CHARS_MAX)]
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
"""A whole number of 32 bits, as Android has them."""
Millis = Annotated[int, Meta(ge=0, le=2**53 - 1)]
"""Milliseconds since 1970, UTC; exact in every JSON reader."""

AlarmType = Literal[
    "battery_low",
    "signal_low",
    "sim_balance_low",
    "error_count",
    "offline",
    "sim_blocked",
    "sms_blocked",
    "mms_blocked",
    "ussd_blocked",
]
"""The five of §4.3 and the four more of §7.1 (C-27)."""

MessageType = Literal["text", "image", "video", "file"]
"""Kinds of RCS message."""

T = TypeVar("T")

_AT: Final = re.compile(r" - at (?:`key` in )?`\$(?P<path>[^`]*)`\Z")
_MISSING: Final = re.compile(r"\AObject missing required field `(?P<field>[^`]*)`\Z")


class InvalidField(InvalidFormat):
    """A field is missing, or has the wrong type, length or word. `field` is its path; empty when the whole is no object."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__("invalid_field", message, {"field": field})
        self.field = field


def read_fields(tree: object, shape: type[T], at: str = "") -> T:
    """Convert a tree of builtins to `shape`, strictly: no type stands for another. `at` is the path of `tree` in its message.

    Raises InvalidField with the path of the first field that is wrong.
    """
    try:
        return msgspec.convert(tree, shape)
    except msgspec.ValidationError as error:
        raise _invalid_field(str(error), at) from None


def object_of(message: Mapping[str, Any], field: str) -> dict[str, Any]:
    """The object in `field` of an envelope; a missing one is an empty one. Raises InvalidField when something else is there."""
    value = message.get(field, {})
    if type(value) is not dict:
        raise InvalidField(field, f"{field}: Expected `object`")
    return value


def _invalid_field(finding: str, at: str) -> InvalidField:
    path = ""
    if (found := _AT.search(finding)) is not None:
        path, finding = found["path"], finding[: found.start()]
    if (missing := _MISSING.match(finding)) is not None:
        path, finding = f"{path}.{missing['field']}", "Missing required field"
    elif "matching regex" in finding:  # the pattern would tell a reader less
        finding = "Expected `str` of other characters"
    path = f"{at}{path}".removeprefix(".")
    return InvalidField(path, f"{path or 'the message'}: {finding[:WHAT_CHARS_MAX]}")
