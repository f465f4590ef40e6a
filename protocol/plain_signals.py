"""Signals that need not be read the long way: nearly all that members of rooms say is one in a plain frame.

What is plain is recognised by its bytes, and means here what `dialect.decode` would make of it; all else is None, and `decode` reads it.
A signal is passed on as JSON, in which nearly everybody said it and nearly everybody hears it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from protocol.agent import HEARD, IceCandidate, Sdp, Signal, SignalIceCandidate
from protocol.dialect import Question
from protocol.frame import HEADER_BYTES, START_BYTE, UUID_BYTES, FrameType, PayloadKind

_OFFER: Final = FrameType.SIGNAL_OFFER.value
_ANSWER: Final = FrameType.SIGNAL_ANSWER.value
_CANDIDATE: Final = FrameType.SIGNAL_ICE_CANDIDATE.value
SIGNAL_NAMES: Final[Mapping[int, str]] = {code: FrameType(code).name.lower() for code in (_OFFER, _ANSWER, _CANDIDATE)}
"""What members of rooms signal, by the code of its frame."""
_CODES: Final[Mapping[type, int]] = {HEARD[FrameType(code)]: code for code in SIGNAL_NAMES}
_READ: Final[Mapping[int, Callable[[bytes], Any]]] = {code: msgspec.json.Decoder(HEARD[FrameType(code)]).decode for code in SIGNAL_NAMES}
_SHORT_BYTES: Final = 16_384
"""Longer frames are not plain: what is passed on has more in it, and must fit a frame, too."""

_encode: Final = msgspec.json.Encoder().encode
_OF_CANDIDATES: Final = b'"sdpMid":', b'"sdpMLineIndex":'
_VERSION_KEY: Final = b'"version":'
"""These keys stand in what is written whether they stood in what was read or not. In a string their last quote would be escaped."""
_JSON: Final = PayloadKind.JSON.value
_TYPE_AT, _KIND_AT, _LENGTH_HIGH_AT, _LENGTH_AT = 1, HEADER_BYTES - 3, HEADER_BYTES - 2, HEADER_BYTES - 1
_UUID = slice(2, 2 + UUID_BYTES)
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class WrittenSignal(msgspec.Struct, frozen=True, gc=False):
    """A signal on its way: what it is, where it goes, and itself in JSON, its sender filled in."""

    frame_type: int
    """SIGNAL_OFFER, SIGNAL_ANSWER or SIGNAL_ICE_CANDIDATE."""
    room_id: str
    to: str | None
    json: bytes


def written(signal: Signal) -> WrittenSignal:
    """A signal that was read the long way, or is our own."""
    return WrittenSignal(_CODES[type(signal)], signal.room_id, signal.to, _encode(signal))


def plain_signal(data: bytes, client_id: str) -> WrittenSignal | None:
    """The signal in a plain frame, said by this client; None for all other frames, which `decode` reads.

    Plain is a frame in JSON that has nothing in it but the fields of a signal, each once, no escape that might hide a colon, and not its
    sender. Written again, it then has the same colons, and those of what is added: the sender, and fields that are always written.
    What differs is read the long way, where the fault is found, too: so nothing passes here that would not pass there.
    """
    if not HEADER_BYTES < len(data) <= _SHORT_BYTES or data[0] != START_BYTE or data[_KIND_AT] != _JSON:
        return None
    frame_type = data[_TYPE_AT]
    read = _READ.get(frame_type)
    if read is None or data[_LENGTH_HIGH_AT] << 8 | data[_LENGTH_AT] != len(data) - HEADER_BYTES:
        return None
    payload = data[HEADER_BYTES:]
    if b"\\u" in payload:
        return None
    try:
        said: Any = read(payload)
    except _UNREADABLE:
        return None
    if said.sender is not None:
        return None
    signal = msgspec.structs.replace(said, sender=client_id)
    added = 1 + client_id.count(":") + (_VERSION_KEY not in payload)
    if type(said) is SignalIceCandidate and said.candidate is not None:
        mid, line = _OF_CANDIDATES
        added += (mid not in payload) + (line not in payload)
    json = _encode(signal)
    return WrittenSignal(frame_type, signal.room_id, signal.to, json) if json.count(b":") == payload.count(b":") + added else None


_CLOSING: Final = ord("}")
_read_sdp: Final = msgspec.json.Decoder(Sdp).decode
_read_candidate: Final = msgspec.json.Decoder(IceCandidate).decode
_QUOTES_OF_ONE: Final = 4
"""Of a field whose value is a string."""
_QUOTES: Final = 2 * _QUOTES_OF_ONE + 2
"""Of `candidate`, `sdpMid` and `sdpMLineIndex`."""
_LAST_FIELDS: Final[Mapping[int, tuple[bytes, Callable[[bytes], Any]]]] = {
    _OFFER: (b'"sdp":', _read_sdp),
    _ANSWER: (b'"sdp":', _read_sdp),
    _CANDIDATE: (b'"candidate":', _read_candidate),
}
"""What differs from signal to signal: its key, and what reads it. In a string the key's quotes would be escaped."""


class _Line(msgspec.Struct, frozen=True, gc=False):
    """How signals to the same member begin, up to the value of their last field, and how they do when they are passed on."""

    frame_type: int
    room_id: str
    to: str | None
    begins: bytes
    passed_on: bytes
    read_last: Callable[[bytes], Any]


class SignalReader:
    """Reads the plain signals of one client.

    Whoever signals twice to the same member does so a dozen times: then all but the last field - the description, the candidate - is what
    it was, and only that is read.
    """

    __slots__ = ("_client_id", "_last", "_line")

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._last: tuple[int, str, str | None] | None = None
        self._line: _Line | None = None

    def read(self, data: bytes) -> WrittenSignal | None:
        """See `plain_signal`."""
        line = self._line
        if line is not None and data.startswith(line.begins, HEADER_BYTES) and (again := _again(data, line)) is not None:
            return again
        found = plain_signal(data, self._client_id)
        if found is not None:
            where = (found.frame_type, found.room_id, found.to)
            if where == self._last:
                self._line = _line_of(data, found)
            self._last = where
        return found


def _again(data: bytes, line: _Line) -> WrittenSignal | None:
    """The signal in a frame whose payload begins as the line does, if only the value of its last field is another."""
    frame_type, size = line.frame_type, len(data)
    if data[_TYPE_AT] != frame_type or data[0] != START_BYTE or data[_KIND_AT] != _JSON or size > _SHORT_BYTES:
        return None
    if data[-1] != _CLOSING or data[_LENGTH_HIGH_AT] << 8 | data[_LENGTH_AT] != size - HEADER_BYTES:
        return None
    value = data[HEADER_BYTES + len(line.begins) :]
    try:
        said = line.read_last(value[:-1])
    except _UNREADABLE:
        return None
    if frame_type == _CANDIDATE and not _is_as_browsers_write(said, value):
        return None
    return WrittenSignal(frame_type, line.room_id, line.to, line.passed_on + value)


def _is_as_browsers_write(said: IceCandidate, value: bytes) -> bool:
    """Whether the candidate has the usual fields, each once, and nothing else: the quotes tell it, for whatever is added has its own."""
    if said.sdp_mid is None or said.sdp_m_line_index is None or said.username_fragment is None:
        return False
    return value.count(b'"') == _QUOTES + (said.username_fragment is not msgspec.UNSET) * _QUOTES_OF_ONE


def _line_of(data: bytes, found: WrittenSignal) -> _Line | None:
    """How this one begins; None where the next one could not be read by that."""
    key, read_last = _LAST_FIELDS[found.frame_type]
    payload, json = data[HEADER_BYTES:], found.json
    begins, passed_on = (text[: text.find(key) + len(key)] for text in (payload, json))
    line = _Line(found.frame_type, found.room_id, found.to, begins, passed_on, read_last)
    again, read = _again(data, line), _READ[found.frame_type]
    return line if again is not None and (again.json == json or read(again.json) == read(json)) else None


def question_of(data: bytes, written: WrittenSignal) -> Question:
    """What an ERROR that answers this signal must know of its frame."""
    return Question(False, SIGNAL_NAMES[written.frame_type], written.frame_type, None, data[_UUID])
