"""Messages of agents: the examples of seed 003, which fields they need, and the sentences that refuse them."""

from typing import Any

import msgspec
import pytest

from protocol.agent import (
    HEARD,
    CommandAck,
    CommandResult,
    Connect,
    ConnectAck,
    ConnectionInfo,
    Disconnect,
    Heartbeat,
    HeartbeatAck,
    IceCandidate,
    Register,
    RegisterAck,
    ReportAck,
    RoomEvent,
    SignalAnswer,
    SignalIceCandidate,
    SignalOffer,
    TokenRefresh,
    Unregister,
    UnregisterAck,
    WebrtcRoomCreate,
    WebrtcRoomCreateAck,
    WebrtcRoomJoin,
    WebrtcRoomJoinAck,
    WebrtcRoomLeave,
    WebrtcRoomLeaveAck,
    read_agent_message,
)
from protocol.fields import InvalidField

WHO = {"client_id": "sender_client_1", "auth_token": "valid_token"}
SDP = "v=0\r\no=- 1234567890 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n..."
CANDIDATE = {"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host", "sdpMid": "0", "sdpMLineIndex": 0}

COMPLETE: dict[type[msgspec.Struct], dict[str, Any]] = {
    Connect: WHO,
    Disconnect: {"version": "1.0.0", "code": 1000, "reason": "done", "reconnect": False},
    Heartbeat: {"timestamp": 1704067200000},
    SignalOffer: {"version": "1.0.0", "room_id": "abc123def456", "to": "receiver_client_2", "sdp": SDP},
    SignalAnswer: {"version": "1.0.0", "room_id": "abc123def456", "to": "sender_client_1", "sdp": SDP},
    SignalIceCandidate: {"version": "1.0.0", "room_id": "abc123def456", "candidate": CANDIDATE},
    Register: {
        "version": "1.0.0",
        "client_id": "unique_client_identifier",
        "auth_token": "authentication_token",
        "room_id": "optional_room_association",
        "capabilities": ["websocket", "heartbeat", "webrtc"],
        "metadata": {"platform": "web", "version": "1.0.0", "user_agent": "Mozilla/5.0..."},
    },
    Unregister: {"version": "1.0.0", "client_id": "unique_client_identifier", "auth_token": "authentication_token"},
    WebrtcRoomCreate: {
        "version": "1.0.0",
        **WHO,
        "role": "sender",
        "offer_sdp": SDP,
        "metadata": {"platform": "web", "version": "1.0.0"},
    },
    WebrtcRoomJoin: {
        "version": "1.0.0",
        "client_id": "receiver_client_2",
        "auth_token": "valid_token",
        "room_id": "abc123def456",
        "role": "receiver",
        "offer_sdp": None,
        "metadata": {"platform": "mobile", "version": "1.0.0"},
    },
    WebrtcRoomLeave: {"version": "1.0.0", **WHO, "room_id": "abc123def456", "reason": "User initiated disconnect"},
    CommandAck: {"status": 200, "message_id": "m-1"},
    CommandResult: {"message_id": "m-1", "status": "done", "result": {"any": "thing"}, "error": None},
    TokenRefresh: {"token": "a.b.c"},
}
"""Each message as the seed prints it, or, where it leaves the payload open, as the contract has it."""

REQUIRED: dict[type[msgspec.Struct], set[str]] = {
    Connect: {"client_id", "auth_token"},
    Disconnect: set(),
    Heartbeat: {"timestamp"},
    SignalOffer: {"room_id", "sdp"},
    SignalAnswer: {"room_id", "sdp"},
    SignalIceCandidate: {"room_id", "candidate"},
    Register: {"version", "client_id", "auth_token"},
    Unregister: {"version", "client_id", "auth_token"},
    WebrtcRoomCreate: {"version", "client_id", "role"},
    WebrtcRoomJoin: {"version", "client_id", "room_id", "role"},
    WebrtcRoomLeave: {"version", "client_id", "room_id"},
    CommandAck: {"status"},
    CommandResult: {"message_id", "status"},
    TokenRefresh: {"token"},
}
FIELDS = [(shape, field) for shape, payload in COMPLETE.items() for field in payload]
VERSIONED = [Register, Unregister, WebrtcRoomCreate, WebrtcRoomJoin, WebrtcRoomLeave]
each_field = pytest.mark.parametrize(("shape", "field"), FIELDS, ids=[f"{shape.__name__}:{field}" for shape, field in FIELDS])


def refused(payload: object, shape: type[msgspec.Struct]) -> InvalidField:
    with pytest.raises(InvalidField) as caught:
        read_agent_message(payload, shape)
    return caught.value


def written(message: msgspec.Struct) -> str:
    return msgspec.json.encode(message).decode()


def test_every_message_that_a_client_may_say_is_in_the_table_below():
    assert set(HEARD.values()) == set(COMPLETE) == set(REQUIRED)


@pytest.mark.parametrize("shape", COMPLETE, ids=lambda shape: shape.__name__)
def test_each_message_keeps_every_field_that_was_sent(shape: type[msgspec.Struct]):
    message = msgspec.to_builtins(read_agent_message(COMPLETE[shape], shape))
    assert {field: message.get(field) for field in COMPLETE[shape]} == COMPLETE[shape]


@pytest.mark.parametrize("shape", COMPLETE, ids=lambda shape: shape.__name__)
def test_unknown_fields_do_no_harm(shape: type[msgspec.Struct]):
    assert read_agent_message({**COMPLETE[shape], "future": [1]}, shape) == read_agent_message(COMPLETE[shape], shape)


@each_field
def test_a_field_is_missed_only_where_it_is_required(shape: type[msgspec.Struct], field: str):
    payload = {name: value for name, value in COMPLETE[shape].items() if name != field}
    if field in REQUIRED[shape]:
        assert refused(payload, shape).message == f"Missing or invalid '{field}' field"
    else:
        assert read_agent_message(payload, shape)


@pytest.mark.parametrize("wrong", [12.5, True, [[]]])
@each_field
def test_a_field_of_the_wrong_type_is_refused_in_the_words_of_the_seed(shape: type[msgspec.Struct], field: str, wrong: Any):
    if (field, wrong) == ("reconnect", True) or field in ("result", "error"):
        assert read_agent_message({**COMPLETE[shape], field: wrong}, shape)
        return
    fault = refused({**COMPLETE[shape], field: wrong}, shape)
    assert fault.message == f"Missing or invalid '{field}' field"
    assert fault.reason == "invalid_field"
    assert fault.field.partition("[")[0] == field


@each_field
def test_an_empty_text_is_refused_but_for_reasons(shape: type[msgspec.Struct], field: str):
    payload = {**COMPLETE[shape], field: ""}
    if field in ("reason", "result", "error"):
        assert read_agent_message(payload, shape)
    else:
        assert refused(payload, shape).message == f"Missing or invalid '{field}' field"


@pytest.mark.parametrize("shape", VERSIONED, ids=lambda shape: shape.__name__)
def test_any_version_1_is_accepted_and_no_other(shape: type[msgspec.Struct]):
    for version in ("1.0.0", "1.0", "1.9.12", "1.2.3.4"):
        assert read_agent_message({**COMPLETE[shape], "version": version}, shape)
    for version in ("2.0.0", "0.9.0", "10.0.0", "1", "1.", "1.x", "v1.0.0", " 1.0.0", "1.0.0\n", "1.٣", "1." + "0" * 40, 1, 1.0, None):
        assert refused({**COMPLETE[shape], "version": version}, shape).message == "Missing or invalid 'version' field"


@pytest.mark.parametrize("shape", [Connect, Disconnect, SignalOffer, SignalAnswer, SignalIceCandidate], ids=lambda shape: shape.__name__)
def test_where_the_version_is_optional_a_wrong_one_is_still_wrong(shape: type[msgspec.Struct]):
    payload = {name: value for name, value in COMPLETE[shape].items() if name != "version"}
    assert read_agent_message(payload, shape)
    assert refused({**payload, "version": "2.0.0"}, shape).field == "version"


@pytest.mark.parametrize(
    "client_id", ["a", "A-z.0_9:-", "x" * 128, "550e8400-e29b-41d4-a716-446655440000", "unique_client_identifier", "sensor:001"]
)
def test_a_client_id_of_1_to_128_plain_characters_is_accepted(client_id: str):
    message = read_agent_message({"client_id": client_id, "auth_token": "t"}, Connect)
    assert message.client_id == client_id


@pytest.mark.parametrize("client_id", ["", "x" * 129, "a b", "a/b", "ä", "a\n", "a\0", "\ud7ff", "a'--", None, 1, ["a"], {"a": 1}])
def test_any_other_client_id_is_refused(client_id: object):
    for shape in (Connect, Register, Unregister):
        fault = refused({"version": "1.0.0", "client_id": client_id, "auth_token": "t"}, shape)
        assert fault.message == "Missing or invalid 'client_id' field"
        assert fault.details == {"field": "client_id"}


@pytest.mark.parametrize(
    ("shape", "field", "longest"),
    [
        (Connect, "auth_token", "t" * 4096),
        (Register, "room_id", "r" * 128),
        (Register, "capabilities", ["c" * 64] * 64),
        (Register, "metadata", {"m": "x" * (8192 - len('{"m":""}'))}),
        (WebrtcRoomCreate, "offer_sdp", "s" * 32768),
        (WebrtcRoomCreate, "role", "r" * 64),
        (WebrtcRoomLeave, "reason", "r" * 256),
        (SignalIceCandidate, "candidate", {"candidate": "c" * 1024}),
        (CommandResult, "message_id", "m" * 128),
    ],
)
def test_every_length_has_a_bound(shape: type[msgspec.Struct], field: str, longest: Any):
    assert read_agent_message({**COMPLETE[shape], field: longest}, shape)
    if isinstance(longest, str):
        beyond: Any = longest + "x"
    elif isinstance(longest, list):
        beyond = [*longest, "x"]
    else:
        beyond = {name: f"{value}x" for name, value in longest.items()}
    assert refused({**COMPLETE[shape], field: beyond}, shape).message == f"Missing or invalid '{field}' field"


@pytest.mark.parametrize(
    ("payload", "shape", "sentence", "field"),
    [
        ({**COMPLETE[Register], "capabilities": ["ok", 5]}, Register, "Missing or invalid 'capabilities' field", "capabilities[1]"),
        ({**COMPLETE[Register], "capabilities": [""]}, Register, "Missing or invalid 'capabilities' field", "capabilities[0]"),
        (
            {"room_id": "r", "candidate": {"candidate": 1}},
            SignalIceCandidate,
            "Missing or invalid 'candidate' field",
            "candidate.candidate",
        ),
        ({"room_id": "r", "sdp": "s", "from": "a b"}, SignalOffer, "Missing or invalid 'from' field", "from"),
    ],
)
def test_the_sentence_names_the_field_and_the_details_the_whole_path(
    payload: dict[str, Any], shape: type[msgspec.Struct], sentence: str, field: str
):
    fault = refused(payload, shape)
    assert (fault.message, fault.details) == (sentence, {"field": field})


def test_in_the_json_form_the_path_begins_at_the_envelope_and_the_sentence_stays():
    with pytest.raises(InvalidField) as caught:
        read_agent_message({}, Connect, "data")
    assert (caught.value.message, caught.value.field) == ("Missing or invalid 'client_id' field", "data.client_id")
    metadata = {"m": "x" * 9000}
    with pytest.raises(InvalidField) as caught:
        read_agent_message({**COMPLETE[Register], "metadata": metadata}, Register, "data")
    assert (caught.value.message, caught.value.field) == ("Missing or invalid 'metadata' field", "data.metadata")


def test_an_unknown_role_is_for_the_rooms_to_judge():
    assert read_agent_message({**COMPLETE[WebrtcRoomCreate], "role": "Conductor"}, WebrtcRoomCreate).role == "Conductor"


def test_an_empty_candidate_and_null_both_say_that_there_are_no_more():
    assert read_agent_message({"room_id": "r", "candidate": {"candidate": ""}}, SignalIceCandidate).candidate == IceCandidate(candidate="")
    assert read_agent_message({"room_id": "r", "candidate": None}, SignalIceCandidate).candidate is None


ACKS: list[tuple[msgspec.Struct, str]] = [
    (
        ConnectAck(status=401, message="Invalid client_id or auth_token"),
        '{"version":"1.0.0","status":401,"message":"Invalid client_id or auth_token","client_id":null,"session_id":null}',
    ),
    (
        ConnectAck(
            status=200,
            message="Connected",
            client_id="c",
            session_id="s",
            heartbeat_interval=30,
            server_time=1704067200000,
            limits={"data_per_s": 100.0},
        ),
        '{"version":"1.0.0","status":200,"message":"Connected","client_id":"c","session_id":"s","heartbeat_interval":30,'
        '"server_time":1704067200000,"limits":{"data_per_s":100.0}}',
    ),
    (
        RegisterAck(
            status=200, message="Registration successful", client_id="unique_client_identifier", session_id="generated_session_uuid"
        ),
        '{"version":"1.0.0","status":200,"message":"Registration successful","client_id":"unique_client_identifier",'
        '"session_id":"generated_session_uuid"}',
    ),
    (
        RegisterAck(status=400, message="Missing or invalid 'client_id' field"),
        '{"version":"1.0.0","status":400,"message":"Missing or invalid \'client_id\' field","client_id":null,"session_id":null}',
    ),
    (
        UnregisterAck(status=200, message="Unregistration successful", client_id="unique_client_identifier"),
        '{"version":"1.0.0","status":200,"message":"Unregistration successful","client_id":"unique_client_identifier"}',
    ),
    (
        UnregisterAck(status=404, message="Client not found"),
        '{"version":"1.0.0","status":404,"message":"Client not found","client_id":null}',
    ),
    (
        WebrtcRoomCreateAck(
            status=200,
            message="Room created successfully",
            room_id="abc123def456",
            session_id="session_xyz789",
            app_id="cloudflare_app_id",
            stun_url="stun:stun.cloudflare.com:3478",
            connection_info=ConnectionInfo(session_id="session_xyz789", room_id="abc123def456", app_id="cloudflare_app_id"),
        ),
        '{"version":"1.0.0","status":200,"message":"Room created successfully","room_id":"abc123def456","session_id":"session_xyz789",'
        '"app_id":"cloudflare_app_id","stun_url":"stun:stun.cloudflare.com:3478","connection_info":{"session_id":"session_xyz789",'
        '"room_id":"abc123def456","app_id":"cloudflare_app_id"}}',
    ),
    (
        WebrtcRoomJoinAck(status=404, message="Room not found"),
        '{"version":"1.0.0","status":404,"message":"Room not found","room_id":null,"session_id":null,"app_id":null,"stun_url":null,'
        '"connection_info":null}',
    ),
    (
        WebrtcRoomLeaveAck(status=200, message="Successfully left room", room_id="abc123def456", client_id="sender_client_1"),
        '{"version":"1.0.0","status":200,"message":"Successfully left room","room_id":"abc123def456","client_id":"sender_client_1"}',
    ),
    (HeartbeatAck(timestamp=1704067200000), '{"timestamp":1704067200000}'),
    (ReportAck(status=200), '{"status":200}'),
    (ReportAck(status=200, message_id="m"), '{"status":200,"message_id":"m"}'),
    (
        Disconnect(code=4500, reason="replaced", reconnect=False, retry_after_s=None),
        '{"version":"1.0.0","code":4500,"reason":"replaced","reconnect":false}',
    ),
    (
        Disconnect(code=1012, reason="restart", reconnect=True, retry_after_s=1.5),
        '{"version":"1.0.0","code":1012,"reason":"restart","reconnect":true,"retry_after_s":1.5}',
    ),
    (
        RoomEvent(room_id="r", event="member_joined", client_id="c", role="receiver"),
        '{"version":"1.0.0","room_id":"r","event":"member_joined","client_id":"c","role":"receiver"}',
    ),
    (SignalOffer(room_id="r", sender="a", sdp="v=0"), '{"version":"1.0.0","room_id":"r","from":"a","sdp":"v=0"}'),
    (
        SignalIceCandidate(room_id="r", sender="a", candidate=IceCandidate(candidate="c", sdp_mid="0", sdp_m_line_index=0)),
        '{"version":"1.0.0","room_id":"r","from":"a","candidate":{"candidate":"c","sdpMid":"0","sdpMLineIndex":0}}',
    ),
]


@pytest.mark.parametrize(("message", "text"), ACKS)
def test_what_the_server_says_has_exactly_these_keys_in_this_order(message: msgspec.Struct, text: str):
    assert written(message) == text


@pytest.mark.parametrize("shape", [Connect, Register, Unregister, WebrtcRoomCreate, WebrtcRoomJoin, WebrtcRoomLeave, TokenRefresh])
def test_a_token_is_shown_in_no_repr(shape: type[msgspec.Struct]):
    secret = "canary-token"
    payload = {**COMPLETE[shape], "token" if shape is TokenRefresh else "auth_token": secret}
    assert secret not in repr(read_agent_message(payload, shape))
