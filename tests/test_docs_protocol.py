"""Every example and every table of docs/protocol.md, held against the code that it describes.

A comment above a fenced block says what its lines are:

    <!-- heard: phone -->               JSON that a link of this kind says, and is understood
    <!-- refused: phone: REASON -->     the same, refused for this reason
    <!-- said -->                       JSON that the server says
    <!-- payload: REGISTER -->          payloads of frames that a client says, in JSON and in CBOR
    <!-- payload said: REGISTER_ACK --> payloads of frames that the server says
    <!-- frame -->                      whole frames in hex, a line each
    <!-- golden frames: ... -->         the four of seed 003, corrected or as printed
"""

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocol.agent import (
    HEARD,
    ConnectAck,
    Disconnect,
    Heartbeat,
    HeartbeatAck,
    RegisterAck,
    ReportAck,
    RoomEvent,
    SignalOffer,
    TokenRefreshAck,
    TokenRefreshDue,
    UnregisterAck,
    WebrtcRoomCreateAck,
    WebrtcRoomJoinAck,
    WebrtcRoomLeaveAck,
)
from protocol.close_codes import CloseCode, may_reconnect
from protocol.dialect import Fault, Question, answer, decode, error, say
from protocol.errors import ErrorKind, WireError
from protocol.frame import FrameLengthMismatch, FrameType, PayloadKind, ack_type, decode_frame, encode_frame
from protocol.payload import read_payload, write_payload
from protocol.phone_commands import COMMAND_NAMES, read_command
from protocol.phone_reports import _SHAPES, REPORT_TYPES, PhoneReport
from tests.protocol.golden import SEED_FRAMES

TEXT = (Path(__file__).parent.parent / "docs" / "protocol.md").read_text()
EXAMPLE = re.compile(r"^(?:<!-- (?P<tag>.*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
UUID = bytes(range(16))
QUESTION_OF = {ack_type(question): question for question in FrameType}
REPORT_SHAPES: dict[str, Any] = {
    name: {field.name: field.type for field in msgspec.structs.fields(shape)}["data"] for name, shape in _SHAPES.items()
}
SAID = {
    "connect_ack": ConnectAck,
    "register_ack": RegisterAck,
    "unregister_ack": UnregisterAck,
    "heartbeat_ack": HeartbeatAck,
    "report_ack": ReportAck,
    "disconnect": Disconnect,
    "webrtc_room_create_ack": WebrtcRoomCreateAck,
    "webrtc_room_join_ack": WebrtcRoomJoinAck,
    "webrtc_room_leave_ack": WebrtcRoomLeaveAck,
    "signal_offer": SignalOffer,
    "room_event": RoomEvent,
    "token_refresh": TokenRefreshDue,
    "token_refresh_ack": TokenRefreshAck,
}


class Example:
    """One fenced block, and the comment above it."""

    def __init__(self, found: re.Match[str]) -> None:
        self.line = TEXT[: found.start()].count("\n") + 1
        self.tag, self.language, self.text = found["tag"] or "", found["language"], found["text"]

    def values(self) -> list[Any]:
        """The JSON values that stand one behind the other."""
        rest, values = self.text.strip(), list[Any]()
        while rest:
            value, end = json.JSONDecoder().raw_decode(rest)
            values.append(value)
            rest = rest[end:].lstrip()
        return values

    def frames(self) -> list[bytes]:
        return [bytes.fromhex(line) for line in self.text.splitlines()]


EXAMPLES = [Example(found) for found in EXAMPLE.finditer(TEXT)]


def values_of(prefix: str) -> list[Any]:
    """(words of the tag behind `prefix`, value), of every example with such a tag."""
    return [
        pytest.param(example.tag.removeprefix(prefix).strip(), value, id=f"line {example.line}, {number}")
        for example in EXAMPLES
        if example.tag.partition(":")[0] == prefix.rstrip(":")
        for number, value in enumerate(example.values())
    ]


def table(heading: str) -> list[list[str]]:
    """The rows of the table whose first line begins with `heading`."""
    lines = TEXT.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(heading)) + 2
    rows: list[list[str]] = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.split("|")[1:-1]])
    return rows


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def text_of(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_every_json_block_says_what_it_is():
    assert [example.line for example in EXAMPLES if not example.tag] == []
    assert {example.language for example in EXAMPLES} == {"json", "text"}


@pytest.mark.parametrize(("kind", "message"), values_of("heard:"))
def test_what_a_client_says_is_understood(kind: str, message: dict[str, Any]):
    heard, question = decode(True, text_of(message), kind)
    assert question.is_read
    if isinstance(heard, PhoneReport):
        told = message if message["type"] != "report" else message["data"]
        assert set(told["data"]) <= {field.encode_name for field in msgspec.structs.fields(heard.data)}


@pytest.mark.parametrize(("words", "message"), values_of("refused:"))
def test_what_is_refused_is_refused_for_that_reason(words: str, message: dict[str, Any]):
    kind, reason = words.split(": ")
    with pytest.raises(WireError) as caught:
        decode(True, text_of(message), kind)
    assert caught.value.reason == reason


def said_again(message: dict[str, Any]) -> Any:
    """The message as the server writes it, once the page's was read with the server's own types."""
    name = message["type"]
    if name in COMMAND_NAMES.values():
        return json.loads(say(True, PayloadKind.JSON, UUID, read_command(message)))
    request_id = message.get("request_id")
    if name == "error":
        data = message["data"]
        words = {key: data[key] for key in ("status", "type", "code", "reason", "message")}
        fault = Fault(**words, details=data.get("details"), retry_after_s=data.get("retry_after_s"))
        question = Question(True, "", data["ref_type"], request_id=data.get("request_id"))
        return json.loads(error(question, True, fault))
    said = None if name == "ack" else msgspec.convert(message["data"], SAID[name])
    if name == "token_refresh":
        return json.loads(say(True, PayloadKind.JSON, UUID, said))
    question = Question(True, name.removesuffix("_ack"), None, name, request_id=request_id)
    return json.loads(answer(question, said))


@pytest.mark.parametrize(("_", "message"), values_of("said"))
def test_what_the_server_says_it_says_so(_: str, message: dict[str, Any]):
    assert said_again(message) == message


@pytest.mark.parametrize("kind", [PayloadKind.JSON, PayloadKind.CBOR])
@pytest.mark.parametrize(("name", "payload"), values_of("payload:"))
def test_what_a_client_says_in_frames_is_understood_in_json_and_in_cbor(name: str, payload: Any, kind: PayloadKind):
    frame = encode_frame(FrameType[name], UUID, kind, write_payload(kind, payload))
    _, question = decode(False, frame, "agent")
    assert question.is_read
    assert question.payload_kind == kind


@pytest.mark.parametrize(("name", "payload"), values_of("payload said:"))
def test_what_the_server_says_in_frames_it_says_so(name: str, payload: Any):
    message = msgspec.convert(payload, SAID[name.lower()])
    if name in ("DISCONNECT", "ROOM_EVENT", "SIGNAL_OFFER", "TOKEN_REFRESH"):
        frame = decode_frame(say(False, PayloadKind.JSON, UUID, message))
    else:
        question = Question(False, "", QUESTION_OF[FrameType[name]], FrameType[name].value, UUID)
        frame = decode_frame(answer(question, message))
    assert frame.type == FrameType[name]
    assert read_payload(frame.payload_kind, frame.payload) == payload


def test_frames_in_hex_are_frames():
    (example,) = [example for example in EXAMPLES if example.tag == "frame"]
    beat, echo = [decode_frame(frame) for frame in example.frames()]
    assert (beat.type, echo.type) == (FrameType.HEARTBEAT, FrameType.HEARTBEAT_ACK)
    assert (beat.uuid, beat.payload) == (echo.uuid, echo.payload)
    heard, asked = decode(False, example.frames()[0], "agent")
    assert isinstance(heard, Heartbeat)
    assert answer(asked, HeartbeatAck(heard.timestamp)) == example.frames()[1]


def test_the_golden_frames_are_those_of_the_tests_corrected_and_as_printed():
    right, printed = [example for example in EXAMPLES if example.tag.startswith("golden")]
    assert right.frames() == [frame.corrected for frame in SEED_FRAMES]
    assert printed.frames() == [frame.as_printed for frame in SEED_FRAMES]
    for frame in right.frames():
        assert decode_frame(frame)
    for frame in printed.frames():
        with pytest.raises(FrameLengthMismatch):
            decode_frame(frame)
    rows = [
        [frame.name, f"{frame.real_length} bytes", f"`{frame.stated_length:04X}` ({frame.stated_length})", f"`{frame.real_length:04X}`"]
        for frame in SEED_FRAMES
    ]
    assert table("| frame | payload | printed") == rows


def fields_of(shape: Any) -> tuple[set[str], set[str]]:
    """The fields of a message: required, optional."""
    fields = msgspec.structs.fields(shape)
    required = {field.encode_name for field in fields if field.required}
    return required, {field.encode_name for field in fields} - required


def test_the_table_of_reports_has_every_report_and_every_field():
    rows = {names(row[0])[0]: (set(names(row[1])), set(names(row[2]))) for row in table("| `type` | required in `data`")}
    assert rows == {name: fields_of(shape) for name, shape in REPORT_SHAPES.items()}


def test_every_report_and_every_command_has_an_example():
    shown = {message["type"] for example in EXAMPLES if example.tag == "heard: phone" for message in example.values()}
    assert shown == REPORT_TYPES
    told = {message["type"] for example in EXAMPLES if example.tag == "said" for message in example.values()}
    assert set(COMMAND_NAMES.values()) <= told


def test_the_table_of_agents_messages_has_every_message_and_every_field():
    rows = {row[0]: (set(names(row[1])), set(names(row[2]))) for row in table("| frame | required | optional")}
    assert rows == {frame_type.name: fields_of(shape) for frame_type, shape in HEARD.items()}
    shown = {example.tag.removeprefix("payload: ") for example in EXAMPLES if example.tag.startswith("payload: ")}
    assert shown == {*rows, "REPORT"}


def test_the_table_of_frame_types_has_every_code():
    rows = table("| code | name | direction |")
    told = {int(names(row[0])[0], 16): row[1] for row in rows}
    told |= {int(code, 16): name for row in rows for code, name in re.findall(r"`([0-9A-F]{2})` ([A-Z_]+)", row[3])}
    assert told == {frame_type.value: frame_type.name for frame_type in FrameType}
    unserved = {int(names(row[0])[0], 16) for row in rows if row[3].startswith("501")}
    assert {FrameType.CONNECT, FrameType.REGISTER, FrameType.REPORT}.isdisjoint(unserved)


def test_the_table_of_close_codes_has_every_code_and_whether_to_come_back():
    rows = {int(row[0]): row[2].startswith("yes") for row in table("| code | why |")}
    assert rows == {code.value: may_reconnect(code) for code in CloseCode}


def test_the_table_of_errors_has_the_numbers_of_the_code():
    words = vars(import_module("protocol.errors")).values()
    kinds = {(kind.type, str(kind.code), str(kind.status)) for kind in words if isinstance(kind, ErrorKind)}
    rows = {(row[0], row[1], row[2]) for row in table("| type | code | status |")}
    later = set(re.findall(r"[A-Z_]{8,}", re.findall(r"^Later releases add .*?\n\n", TEXT, re.MULTILINE | re.DOTALL)[0]))
    assert rows == {kind for kind in kinds if kind[0] not in later}
    assert later == {kind[0] for kind in kinds} - {row[0] for row in rows}


def test_the_reasons_of_the_table_are_the_reasons_of_the_code():
    folder = Path(__file__).parent.parent / "protocol"
    source = "".join(path.read_text() for path in sorted(folder.glob("*.py")))
    raised = set(re.findall(r'(?:InvalidFormat|MessageTooBig|Unsupported|NotImplementedYet)\(\s*"([a-z_0-9]+)"', source))
    raised |= set(re.findall(r'super\(\).__init__\(\s*"([a-z_0-9]+)"', source)) - {"payload_too_big"}
    rows = table("| type | code | status |")
    told = {reason for row in rows[:1] + [row for row in rows if row[2] in ("415", "501")] for reason in names(row[3])}
    assert told == raised - {"payload_too_big"}
