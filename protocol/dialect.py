"""One socket message to a typed message and back: the one way in and out of `protocol` for the doors (DESIGN.md §6, CONTRACT.md §2).

A text message is a JSON envelope, `{"type", "timestamp"?, "data"?, "message_id"?, "request_id"?}`; a binary one is a frame. Both say
the same: an agent's frame is, in JSON form, the envelope whose `type` is the frame's name in lower case and whose `data` is its
payload; a phone's object is, in a frame, the payload of REPORT or COMMAND.

One word means two things. `heartbeat` in JSON is the phone's report where a phone says it, and the JSON form of HEARTBEAT,
`{"timestamp"}`, where anybody else does; so `decode` takes the kind of the link. In frames they are two types.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from protocol.agent import HEARD, REFUSED_IN_ACK, SAID, VERSION, RefusalAck, read_agent_message
from protocol.errors import InvalidFormat, NotImplementedYet, WireError
from protocol.fields import ID_CHARS_MAX, InvalidField, object_of
from protocol.frame import (
    UUID_BYTES,
    Frame,
    FrameFault,
    FrameType,
    PayloadKind,
    ack_type,
    decode_frame,
    encode_frame,
)
from protocol.payload import read_json, read_payload, write_json, write_payload
from protocol.phone_commands import COMMAND_NAMES
from protocol.phone_reports import REPORT_TYPES, TYPE_CHARS_SHOWN_MAX, PhoneReport, UnknownReport, read_report

PHONE: Final = "phone"
"""The kind of link whose JSON `heartbeat` is a report. Every other kind speaks as an agent does."""
UNKNOWN: Final = "unknown"
"""The name of every message that is none of ours: peers make no metric labels."""
MESSAGE_CHARS_MAX: Final = 1000
DETAILS_BYTES_MAX: Final = 4096
"""Of an ERROR's `details`, as JSON; larger ones are left out, so that an ERROR always fits a frame."""

CONSOLE_TYPES: Final = frozenset(
    {
        "device:subscribe",
        "device:unsubscribe",
        "device:command",
        "telemetry:subscribe",
        "telemetry:unsubscribe",
        "device:register",
        "telemetry:data",
        "command:response",
        "device:heartbeat",
        "device:created",
        "device:updated",
        "device:deleted",
        "device:status-changed",
        "device:connected",
        "device:disconnected",
        "telemetry:update",
        "command:result",
        "device:config-update",
    }
)
"""The events of seed 002 (W-06 to W-18, C-47)."""

_NOT_SERVED: Final = frozenset(
    {
        FrameType.TELEMETRY,
        FrameType.SUBSCRIBE,
        FrameType.SUBSCRIBE_ACK,
        FrameType.UNSUBSCRIBE,
        FrameType.UNSUBSCRIBE_ACK,
        FrameType.EVENT,
    }
)
_NAMES: Final = {frame_type.value: frame_type.name.lower() for frame_type in FrameType}
_CODES: Final = {name: code for code, name in _NAMES.items()}
_JSON: Final = PayloadKind.JSON.value
_OBJECT_KINDS: Final = (_JSON, PayloadKind.CBOR.value)
_FROM_SERVER: Final = frozenset(COMMAND_NAMES.values()) | {"ack"}

_RATE_CLASSES: Final[Mapping[str, str]] = {
    **dict.fromkeys(REPORT_TYPES, "data"),
    **dict.fromkeys(("command_ack", "command_result"), "data"),
    **dict.fromkeys(("signal_offer", "signal_answer", "signal_ice_candidate"), "signal"),
}


class Question(msgspec.Struct, frozen=True, gc=False):
    """What was heard, as far as an answer to it must know."""

    is_text: bool
    name: str
    """Of the message, in lower case: that of its frame, or of the report in it. UNKNOWN where it is none of ours."""
    ref_type: int | str | None
    """The frame's code, or the `type` of the JSON message; None when it could not be read."""
    answer_type: int | str | None = None
    """Frame code or JSON `type` of the answer, where the message has one."""
    uuid: bytes = bytes(UUID_BYTES)
    payload_kind: int = _JSON
    """In which to answer in a frame: JSON or CBOR."""
    request_id: str | None = None
    is_read: bool = True
    """Whether its payload could be read; only then is a request refused in its own answer."""

    @property
    def frame_type(self) -> int | None:
        """The frame's code; None in text."""
        return self.ref_type if isinstance(self.ref_type, int) else None

    @property
    def rate_class(self) -> str:
        """The token bucket that it draws from: `data`, `control` or `signal` (CONTRACT.md §8)."""
        return _RATE_CLASSES.get(self.name, "control")


@dataclass(frozen=True, slots=True)
class Fault:
    """What an ERROR says (CONTRACT.md §2)."""

    status: int
    type: str
    code: int
    reason: str
    message: str
    details: Mapping[str, Any] | None = None
    retry_after_s: float | None = None


def decode(is_text: bool, data: bytes, link_kind: str) -> tuple[object, Question]:
    """Read one WebSocket message: a PhoneReport, or one of `agent.HEARD`. `link_kind` is `phone`, `agent` or `console`.

    Raises WireError, its `question` set as far as it could be read: None when not even that it is an envelope is sure.
    """
    return _decode_text(data, link_kind) if is_text else _decode_binary(data)


def answer(question: Question, message: object) -> bytes:
    """Answer a question in its own encoding: the frame's UUID and payload kind, or the JSON's `request_id`.

    A JSON report is answered `{"type":"ack","request_id"}` whatever `message` says; every other message carries it as `data`.
    """
    answer_type = question.answer_type
    if isinstance(answer_type, int):
        payload = write_payload(question.payload_kind, message)
        return encode_frame(answer_type, question.uuid, question.payload_kind, payload)
    if answer_type is None:
        raise ValueError(f"{question.name} has no answer")
    envelope: dict[str, Any] = {"type": answer_type}
    if question.request_id is not None:
        envelope["request_id"] = question.request_id
    if answer_type != "ack":
        envelope["data"] = message
    return write_json(envelope)


def acknowledged(request_id: str) -> bytes:
    """What `answer` says to a phone's report in JSON."""
    return write_json({"type": "ack", "request_id": request_id})


def refusal(question: Question, status: int, message: str) -> RefusalAck | None:
    """The answer that refuses a CONNECT, REGISTER, UNREGISTER or room request, ids null; None for all else, which gets an ERROR.

    None as well when the question's payload could not be read.
    """
    shape = REFUSED_IN_ACK.get(question.name)
    if shape is None or not question.is_read:
        return None
    return shape(status=status, message=message[:MESSAGE_CHARS_MAX])


def error(question: Question | None, is_text: bool, fault: Fault) -> bytes:
    """Write an ERROR frame, or `{"type":"error","data":{...}}`. `is_text` says which when there is no question. Never fails."""
    if question is None:
        question = Question(is_text, UNKNOWN, None)
    payload: dict[str, Any] = {
        "version": VERSION,
        "status": fault.status,
        "type": fault.type,
        "code": fault.code,
        "reason": fault.reason,
        "message": _encodable(fault.message[:MESSAGE_CHARS_MAX]),
        "ref_type": question.ref_type,
    }
    if question.request_id is not None:
        payload["request_id"] = question.request_id
    if (details := _bounded(fault.details)) is not None:
        payload["details"] = details
    if fault.retry_after_s is not None:
        payload["retry_after_s"] = round(fault.retry_after_s, 3)
    if question.is_text:
        return write_json({"type": "error", "data": payload})
    return encode_frame(FrameType.ERROR, question.uuid, question.payload_kind, write_payload(question.payload_kind, payload))


def say(is_text: bool, payload_kind: int, uuid: bytes, message: object) -> bytes:
    """Write what nobody asked for: a command to a phone, or one of `agent.SAID`.

    Commands are the very object in JSON, and the payload of COMMAND in a frame. Raises MessageTooBig when it does not fit a frame.
    """
    is_command = type(message) in COMMAND_NAMES
    if not is_command and type(message) not in SAID:
        raise ValueError(f"a server does not say {type(message).__name__}")
    frame_type = FrameType.COMMAND if is_command else SAID[type(message)]
    if not is_text:
        return encode_frame(frame_type, uuid, payload_kind, write_payload(payload_kind, message))
    return write_json(message if is_command else {"type": _NAMES[frame_type], "data": message})


def say_json(is_text: bool, payload_kind: int, uuid: bytes, frame_type: int, json: bytes) -> bytes:
    """The same for an object of an agent's frame that is written in JSON already."""
    if is_text:
        return b'{"type":"%b","data":%b}' % (_NAMES[frame_type].encode(), json)
    return encode_frame(frame_type, uuid, payload_kind, json if payload_kind == _JSON else write_payload(payload_kind, read_json(json)))


# frames


def _decode_binary(data: bytes) -> tuple[object, Question]:
    try:
        frame = decode_frame(data)
    except FrameFault as fault:
        name = UNKNOWN if fault.frame_type is None else _NAMES.get(fault.frame_type, UNKNOWN)
        fault.question = Question(False, name, fault.frame_type, None, fault.uuid, fault.payload_kind, is_read=False)
        raise
    kind = frame.payload_kind if frame.payload_kind in _OBJECT_KINDS else _JSON
    question = Question(False, _NAMES[frame.type], frame.type, ack_type(frame.type), frame.uuid, kind)
    try:
        return _read_frame(frame, question)
    except WireError as error:
        if error.question is None:
            error.question = question
        raise


def _read_frame(frame: Frame, question: Question) -> tuple[object, Question]:
    """Read a frame's payload as its type says. What is wrong with the object in it leaves `WireError.question` to the caller."""
    frame_type = FrameType(frame.type)
    _check_is_heard(frame_type)
    try:
        payload = _read_object(frame)
    except WireError as error:
        error.question = msgspec.structs.replace(question, payload_kind=_JSON, is_read=False)
        raise
    if type(payload) is not dict:
        raise InvalidFormat("not_an_object", "the payload is no object")
    if frame_type is FrameType.REPORT:
        report = read_report(payload)
        return report, msgspec.structs.replace(question, name=report.type)
    return read_agent_message(payload, HEARD[frame_type]), question


def _read_object(frame: Frame) -> Any:
    payload = read_payload(frame.payload_kind, frame.payload)
    if frame.payload_kind == PayloadKind.CBOR:
        return msgspec.to_builtins(payload)  # byte strings become base64, as they are in JSON: nobody above knows the difference
    if frame.payload_kind != _JSON:
        kind = PayloadKind(frame.payload_kind).name
        raise InvalidFormat("not_an_object", f"the payload of {FrameType(frame.type).name} is an object, in JSON or CBOR, not {kind}")
    return payload


def _check_is_heard(frame_type: FrameType) -> None:
    """Refuse the frame types that are not served, and those that only the server says."""
    if frame_type in _NOT_SERVED:
        raise _not_implemented(frame_type.name)
    if frame_type not in HEARD and frame_type is not FrameType.REPORT:
        raise _wrong_direction(frame_type.name)


def _not_implemented(name: str) -> NotImplementedYet:
    return NotImplementedYet("not_implemented", f"{name} is not served here")


def _wrong_direction(name: str) -> InvalidFormat:
    return InvalidFormat("wrong_direction", f"{name} goes from the server to the client")


# text


def _decode_text(data: bytes, link_kind: str) -> tuple[object, Question]:
    message = read_json(data)
    if type(message) is not dict:
        raise InvalidFormat("not_an_object", "the message is no object")
    question = _question_of(message, link_kind)
    try:
        _check_envelope(message)
        if question.answer_type == "ack":
            return read_report(message), question
        return _read_json_form(message, question)
    except WireError as error:
        error.question = question
        raise


def _question_of(message: dict[str, Any], link_kind: str) -> Question:
    """What can be said of any object. Its `type` and `request_id` may still be wrong: then they are not repeated."""
    name, request_id = message.get("type"), message.get("request_id")
    if not _is_request_id(request_id):
        request_id = None
    if not isinstance(name, str):
        return Question(True, UNKNOWN, None, request_id=request_id)
    if name in REPORT_TYPES and (name != "heartbeat" or link_kind == PHONE):
        return Question(True, name, name, "ack", request_id=request_id)
    code = _CODES.get(name)
    if code is None:
        known = name if name in CONSOLE_TYPES or name in _FROM_SERVER else UNKNOWN
        return Question(True, known, name[:TYPE_CHARS_SHOWN_MAX], request_id=request_id)
    answered_by = ack_type(code)
    return Question(True, name, name, None if answered_by is None else _NAMES[answered_by], request_id=request_id)


def _is_request_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= ID_CHARS_MAX and "\0" not in value


def _check_envelope(message: dict[str, Any]) -> None:
    if not isinstance(message.get("type"), str):
        raise InvalidField("type", "type: Expected `str`")
    if message.get("request_id") is not None and not _is_request_id(message["request_id"]):
        raise InvalidField("request_id", f"request_id: Expected `str` of 1 to {ID_CHARS_MAX} characters, without NUL")


def _read_json_form(message: dict[str, Any], question: Question) -> tuple[object, Question]:
    """Read the JSON form of an agent's frame, or say why there is none of this name."""
    name: str = message["type"]
    if name in CONSOLE_TYPES:
        raise _not_implemented(name)
    if name in _FROM_SERVER:
        raise _wrong_direction(name)
    code = _CODES.get(name)
    if code is None:
        raise UnknownReport(name)
    frame_type = FrameType(code)
    _check_is_heard(frame_type)
    payload = object_of(message, "data")
    if frame_type is FrameType.REPORT:
        report: PhoneReport = read_report(payload, "data")
        return report, msgspec.structs.replace(question, name=report.type)
    return read_agent_message(payload, HEARD[frame_type], "data"), question


# what an ERROR may repeat


def _bounded(details: Mapping[str, Any] | None) -> Any:
    """`details` as it can be written in any encoding, or None where it cannot, or where it is too large."""
    if details is None:
        return None
    try:
        written = write_json(details)
        return read_json(written) if len(written) <= DETAILS_BYTES_MAX else None
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError, WireError):
        return None


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
