"""What need not be read the long way: nearly all that a fleet says is a heartbeat, and nearly all in rooms a plain signal.

What is plain is recognised by its bytes, and means here what `dialect.decode` would make of it; all else is None, and `decode` reads it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from protocol.agent import HEARD, Signal, SignalIceCandidate
from protocol.dialect import Question
from protocol.fields import Identifier, Millis
from protocol.frame import HEADER_BYTES, START_BYTE, UUID_BYTES, FrameType, PayloadKind

_LENGTH_AT: Final = HEADER_BYTES - 1
"""Where the low byte of a frame's length stands; that of a plain heartbeat is all of it."""
_PLAIN_BEAT: Final = re.compile(rb'\xaa\x04.{16}\x02\x00.\{"timestamp":(?:0|[1-9][0-9]{0,18})\}', re.DOTALL).fullmatch
"""Nearly every HEARTBEAT. A whole number of so many digits has 64 bits, so that there is nothing left to check but the length."""
BEAT_ACK_BEGINS: Final = bytes((START_BYTE, FrameType.HEARTBEAT_ACK))
"""The answer to a plain HEARTBEAT is the question under another type: its UUID, its payload kind and its timestamp are repeated."""


def is_plain_beat(data: bytes) -> bool:
    """Whether this is a plain HEARTBEAT; all other frames `decode` reads. The answer to it is `BEAT_ACK_BEGINS + data[2:]`.

    A fleet says little else, so it is worth a way of its own: a fifth of what `decode` and `answer` cost (`python -m bench codecs`).
    """
    return _PLAIN_BEAT(data) is not None and data[_LENGTH_AT] == len(data) - HEADER_BYTES


SHORT_BYTES: Final = 16_384
"""Longer frames are not plain: what is passed on has more in it, and must fit a frame, too."""


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
    if len(text) > SHORT_BYTES or (said := _plain_envelope(text)) is None:
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
    if not text.startswith(data, at) or len(text) > SHORT_BYTES:
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


SIGNAL_NAMES: Final[Mapping[type, str]] = {
    HEARD[frame_type]: frame_type.name.lower()
    for frame_type in (FrameType.SIGNAL_OFFER, FrameType.SIGNAL_ANSWER, FrameType.SIGNAL_ICE_CANDIDATE)
}
"""What members of rooms signal, by name."""
_SIGNALS: Final[Mapping[int, Callable[[bytes], Any]]] = {
    frame_type.value: msgspec.json.Decoder(HEARD[frame_type]).decode
    for frame_type in (FrameType.SIGNAL_OFFER, FrameType.SIGNAL_ANSWER, FrameType.SIGNAL_ICE_CANDIDATE)
}
_encode: Final = msgspec.json.Encoder().encode
_OF_CANDIDATES: Final = b'"sdpMid":', b'"sdpMLineIndex":'
_VERSION_KEY: Final = b'"version":'
"""These keys stand in what is written whether they stood in what was read or not. In a string their last quote would be escaped."""
_JSON: Final = PayloadKind.JSON.value
_TYPE_AT, _KIND_AT, _LENGTH_HIGH_AT = 1, HEADER_BYTES - 3, HEADER_BYTES - 2
_UUID = slice(2, 2 + UUID_BYTES)


class WrittenSignal(msgspec.Struct, frozen=True, gc=False):
    """A signal on its way, and itself in JSON where that is at hand, as it is from the short way."""

    signal: Signal
    json: bytes | None = None


def plain_signal(data: bytes, client_id: str) -> WrittenSignal | None:
    """The signal in a plain frame, said by this client; None for all other frames, which `decode` reads.

    Plain is a frame in JSON that has nothing in it but the fields of a signal, each once, no escape that might hide a colon, and not its
    sender. Written again, it then has the same colons, and those of what is added: the sender, and fields that are always written.
    What differs is read the long way, where the fault is found, too: so nothing passes here that would not pass there.
    """
    if not HEADER_BYTES < len(data) <= SHORT_BYTES or data[0] != START_BYTE or data[_KIND_AT] != _JSON:
        return None
    read = _SIGNALS.get(data[_TYPE_AT])
    if read is None or data[_LENGTH_HIGH_AT] << 8 | data[_LENGTH_AT] != len(data) - HEADER_BYTES:
        return None
    payload = data[HEADER_BYTES:]
    if b"\\u" in payload:
        return None
    try:
        said: Any = read(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if said.sender is not None:
        return None
    signal = msgspec.structs.replace(said, sender=client_id)
    added = 1 + client_id.count(":") + (_VERSION_KEY not in payload)
    if type(said) is SignalIceCandidate and said.candidate is not None:
        mid, line = _OF_CANDIDATES
        added += (mid not in payload) + (line not in payload)
    written = _encode(signal)
    return WrittenSignal(signal, written) if written.count(b":") == payload.count(b":") + added else None


def question_of(data: bytes, signal: Signal) -> Question:
    """What an ERROR that answers this signal must know of its frame."""
    return Question(False, SIGNAL_NAMES[type(signal)], data[_TYPE_AT], None, data[_UUID])
