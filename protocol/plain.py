"""Heartbeats that need not be read the long way: nearly all that a fleet says is one.

What is plain is recognised by its bytes, and means here what `dialect.decode` would make of it; all else is None, and `decode` reads it.
"""

import re
from typing import Final, Literal

import msgspec

from protocol.fields import Identifier, Millis
from protocol.frame import HEADER_BYTES, START_BYTE, FrameType

_LENGTH_AT: Final = HEADER_BYTES - 1
"""Where the low byte of a frame's length stands; that of a plain heartbeat is all of it."""
_PLAIN_BEAT: Final = re.compile(rb'\xaa\x04.{16}\x02\x00.\{"timestamp":(?:0|[1-9][0-9]{0,18})\}', re.DOTALL).fullmatch
"""Nearly every HEARTBEAT. A whole number of so many digits has 64 bits, so that there is nothing left to check but the length."""
BEAT_BEGINS: Final = bytes((START_BYTE, FrameType.HEARTBEAT))
"""A frame that begins otherwise need not be looked at here."""
BEAT_ACK_BEGINS: Final = bytes((START_BYTE, FrameType.HEARTBEAT_ACK))
"""The answer to a plain HEARTBEAT is the question under another type: its UUID, its payload kind and its timestamp are repeated."""


def is_plain_beat(data: bytes) -> bool:
    """Whether this is a plain HEARTBEAT; all other frames `decode` reads. The answer to it is `BEAT_ACK_BEGINS + data[2:]`.

    A fleet says little else, so it is worth a way of its own: a fifth of what `decode` and `answer` cost (`python -m bench codecs`).
    """
    return _PLAIN_BEAT(data) is not None and data[_LENGTH_AT] == len(data) - HEADER_BYTES


_SHORT_BYTES: Final = 16_384
"""Longer messages are not plain."""


class BeatEnvelope(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A phone's heartbeat in JSON, with its data as they stand in the text."""

    data: msgspec.Raw
    type: Literal["heartbeat"]
    timestamp: Millis | None = None
    request_id: Identifier | None = None


_read_envelope: Final = msgspec.json.Decoder(BeatEnvelope).decode
_DATA_KEY: Final = b'"data":'


def beat_data(text: bytes) -> bytes | None:
    """The data of a phone's heartbeat with a plain envelope, as they stand behind their key; None for all else.

    Whether they are right this does not say.
    """
    if len(text) > _SHORT_BYTES or (said := _plain_envelope(text)) is None:
        return None
    data = bytes(said.data)
    at = text.find(_DATA_KEY) + len(_DATA_KEY)
    standing = text[at : text.find(data, at) + len(data)]  # some write a space before them
    is_plain = standing.strip() == data and text.count(b":") == data.count(b":") + _keys_in(said)
    return standing if is_plain else None


def same_beat(text: bytes, data: bytes) -> BeatEnvelope | None:
    """The heartbeat of a phone that says again the very `data` that `decode` has read before, without them; None for all else.

    Most say the same again, and then only the envelope is new. No string can hold the key that is looked for, as its quotes would be
    escaped there, and behind an object nothing can stand that would change it: so the data may be left out, and the rest be read alone.
    """
    at = text.find(_DATA_KEY) + len(_DATA_KEY)
    if not text.startswith(data, at) or len(text) > _SHORT_BYTES:
        return None
    envelope = text[:at] + b"{}" + text[at + len(data) :]
    said = _plain_envelope(envelope)
    return said if said is not None and envelope.count(b":") == _keys_in(said) else None


def _plain_envelope(text: bytes) -> BeatEnvelope | None:
    try:
        said = _read_envelope(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    # An escaped colon could stand for that of a key that is there twice.
    return None if said.request_id is not None and ":" in said.request_id else said


def _keys_in(said: BeatEnvelope) -> int:
    """How many there are if none is there twice: with colons of their own."""
    return 2 + (said.timestamp is not None) + (said.request_id is not None)
