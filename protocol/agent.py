"""What agents and the server say to each other (seed 003; CONTRACT.md §2, §7), as the payloads of frames.

Each message has one frame type; in JSON form it is `{"type": <frame name in lower case>, "request_id"?, "data": <payload>}`.
Refusals of CONNECT, REGISTER, UNREGISTER and the room requests have the shape of their success, ids null. Elsewhere a field
that says nothing is left out. A wrong field is refused with the sentence of the seed: "Missing or invalid 'client_id' field".
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

from protocol.fields import Identifier, Int32, InvalidField, Name, read_fields
from protocol.frame import FrameType

VERSION: Final = "1.0.0"
"""The version of this protocol that we say; any 1.x is understood."""

TOKEN_CHARS_MAX: Final = 4096
SDP_CHARS_MAX: Final = 32_768
SDP_BYTES_MAX: Final = 40_000
"""Of an SDP as JSON writes it: whatever else stands in its signal, that fits a frame when it is passed on."""
SDP_SHORT_CHARS: Final = SDP_BYTES_MAX // 6
"""So short a one fits, whatever its characters are."""
CANDIDATE_CHARS_MAX: Final = 1024
CAPABILITIES_MAX: Final = 64
CAPABILITY_CHARS_MAX: Final = 64
METADATA_BYTES_MAX: Final = 8192
"""Of a `metadata` object, as JSON without spaces."""

Version = Annotated[str, Meta(max_length=32, pattern=r"\A1(\.[0-9]+){1,3}\Z")]
ClientId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9._:-]{1,128}\Z")]
Token = Annotated[str, Meta(min_length=1, max_length=TOKEN_CHARS_MAX)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Capability = Annotated[str, Meta(min_length=1, max_length=CAPABILITY_CHARS_MAX)]
Sdp = Annotated[str, Meta(min_length=1, max_length=SDP_CHARS_MAX)]


def _our_version() -> str:
    return VERSION


class _Secret(msgspec.Struct, frozen=True):
    """A message that holds a token: a log or a traceback that shows it must not show that (H02)."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


# CONNECT to DISCONNECT


class Connect(_Secret, frozen=True, kw_only=True):
    """Prove who this link speaks for (S-09)."""

    client_id: ClientId
    auth_token: Token
    version: Version | None = None


class ConnectAck(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: 200 "Connected", or why not."""

    version: str = VERSION
    status: int
    message: str
    client_id: str | None = None
    session_id: str | None = None
    heartbeat_interval: int | UnsetType = UNSET
    """Seconds."""
    server_time: int | UnsetType = UNSET
    """Milliseconds since 1970, UTC."""
    limits: Mapping[str, float] | UnsetType = UNSET
    """What one client may say (CONTRACT.md §8)."""


class Disconnect(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The last word before the close, either way."""

    version: Version = field(default_factory=_our_version)  # a default that a function makes is written all the same
    code: Int32 | None = None
    """A WebSocket close code."""
    reason: Name | None = None
    reconnect: bool | None = None
    """Whether the client should come back by itself."""
    retry_after_s: float | None = None


class Heartbeat(msgspec.Struct, frozen=True, gc=False):
    """A sign of life (S-08)."""

    timestamp: int
    """Milliseconds of the sender's clock; repeated, never judged."""


class HeartbeatAck(msgspec.Struct, frozen=True, gc=False):
    """The same timestamp back."""

    timestamp: int


# registration


class Register(_Secret, frozen=True, kw_only=True):
    """Make or renew the client's record (S-10)."""

    version: Version
    client_id: ClientId
    auth_token: Token
    room_id: Identifier | None = None
    capabilities: Annotated[list[Capability], Meta(max_length=CAPABILITIES_MAX)] = field(default_factory=list[str])
    metadata: dict[str, Any] | None = None


class RegisterAck(msgspec.Struct, frozen=True, kw_only=True):
    """200 "Registration successful" (S-12), or why not (S-13, S-14)."""

    version: str = VERSION
    status: int
    message: str
    client_id: str | None = None
    session_id: str | None = None


class Unregister(_Secret, frozen=True, kw_only=True):
    """Forget the client's record (S-15)."""

    version: Version
    client_id: ClientId
    auth_token: Token


class UnregisterAck(msgspec.Struct, frozen=True, kw_only=True):
    """200 "Unregistration successful", or why not (S-16)."""

    version: str = VERSION
    status: int
    message: str
    client_id: str | None = None


# rooms


class WebrtcRoomCreate(_Secret, frozen=True, kw_only=True):
    """Open a room (S-20). Which roles there are is the room's rule, not the wire's."""

    version: Version
    client_id: ClientId
    auth_token: Token | None = None
    """May be left out once the link is authenticated (C-11)."""
    role: Word
    offer_sdp: Sdp | None = None
    metadata: dict[str, Any] | None = None


class WebrtcRoomJoin(_Secret, frozen=True, kw_only=True):
    """Enter a room (S-22)."""

    version: Version
    client_id: ClientId
    auth_token: Token | None = None
    room_id: Identifier
    role: Word
    offer_sdp: Sdp | None = None
    metadata: dict[str, Any] | None = None


class WebrtcRoomLeave(_Secret, frozen=True, kw_only=True):
    """Leave a room (S-23)."""

    version: Version
    client_id: ClientId
    auth_token: Token | None = None
    room_id: Identifier
    reason: Name | None = None


class ConnectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The ids of a room once more, as the seed has it (S-21)."""

    session_id: str
    room_id: str
    app_id: str
    publisher_session_id: str | UnsetType = UNSET
    """Additive, in rooms on a media backend: the session of the room's sender (C-15)."""
    track_names: list[str] | UnsetType = UNSET
    """And the tracks that it publishes."""


class WebrtcRoomCreateAck(msgspec.Struct, frozen=True, kw_only=True):
    """200 "Room created successfully" (S-21), or why not (S-28)."""

    version: str = VERSION
    status: int
    message: str
    room_id: str | None = None
    session_id: str | None = None
    """The caller's own (C-15)."""
    app_id: str | None = None
    stun_url: str | None = None
    connection_info: ConnectionInfo | None = None
    ice_servers: list[Mapping[str, Any]] | UnsetType = UNSET
    """Additive: RTCIceServer objects."""
    answer_sdp: str | UnsetType = UNSET
    """Additive: the media backend's answer to the offer that the request came with."""
    reason: str | UnsetType = UNSET
    """Additive, in a refusal of 503: why the media backend cannot be had."""


class WebrtcRoomJoinAck(WebrtcRoomCreateAck, frozen=True, kw_only=True):
    """200 "Successfully joined room" (S-22), or why not."""


class WebrtcRoomLeaveAck(msgspec.Struct, frozen=True, kw_only=True):
    """200 "Successfully left room" (S-23), or why not."""

    version: str = VERSION
    status: int
    message: str
    room_id: str | None = None
    client_id: str | None = None


class RoomEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody came or went, or the room is over."""

    version: str = field(default_factory=_our_version)
    room_id: str
    event: Literal["member_joined", "member_left", "room_terminated"]
    client_id: str
    role: str
    reason: str | None = None


# signals, relayed between the members of a room


class SignalOffer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An SDP offer (S-03). The server fills in `from`; without `to` it goes to all other members.

    In a room on a media backend, one without `to` is for the backend, and one without `from` is the backend's.
    """

    version: Version = field(default_factory=_our_version)
    room_id: Identifier
    sender: ClientId | None = field(default=None, name="from")
    to: ClientId | None = None
    sdp: Sdp


class SignalAnswer(SignalOffer, frozen=True, kw_only=True, omit_defaults=True):
    """An SDP answer."""


class IceCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """RTCIceCandidateInit, as browsers write it; an empty `candidate` ends a generation of candidates."""

    candidate: Annotated[str, Meta(max_length=CANDIDATE_CHARS_MAX)]
    sdp_mid: Name | None = field(default=None, name="sdpMid")
    sdp_m_line_index: Int32 | None = field(default=None, name="sdpMLineIndex")
    username_fragment: Name | UnsetType | None = field(default=UNSET, name="usernameFragment")


class SignalIceCandidate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A trickled ICE candidate; null says that there are no more."""

    version: Version = field(default_factory=_our_version)
    room_id: Identifier
    sender: ClientId | None = field(default=None, name="from")
    to: ClientId | None = None
    candidate: IceCandidate | None


Signal = SignalOffer | SignalAnswer | SignalIceCandidate


# reports, commands, tokens (our range)


class ReportAck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A report is kept."""

    status: int
    message_id: str | None = None


class CommandAck(msgspec.Struct, frozen=True, kw_only=True):
    """A device has taken a command on."""

    status: Int32
    message_id: Identifier | None = None


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command."""

    message_id: Identifier
    status: Int32 | Word
    result: Any = None
    error: Any = None


class TokenRefresh(_Secret, frozen=True, kw_only=True):
    """A new token for the link that is open (C-18)."""

    token: Token


class TokenRefreshAck(msgspec.Struct, frozen=True, kw_only=True):
    """The new token vouches for the link."""

    status: int
    expires_at: int | None
    """Milliseconds since 1970, UTC; null: it does not end by itself."""


class TokenRefreshDue(msgspec.Struct, frozen=True, kw_only=True):
    """What the server says under TOKEN_REFRESH: the link's token ends soon, and the link with it unless a newer one comes (C-18)."""

    expires_at: int
    """Milliseconds since 1970, UTC."""
    expires_in_s: float
    """The same, for whoever has no clock."""


HEARD: Final[Mapping[FrameType, type[msgspec.Struct]]] = {
    FrameType.CONNECT: Connect,
    FrameType.DISCONNECT: Disconnect,
    FrameType.HEARTBEAT: Heartbeat,
    FrameType.SIGNAL_OFFER: SignalOffer,
    FrameType.SIGNAL_ANSWER: SignalAnswer,
    FrameType.SIGNAL_ICE_CANDIDATE: SignalIceCandidate,
    FrameType.REGISTER: Register,
    FrameType.UNREGISTER: Unregister,
    FrameType.WEBRTC_ROOM_CREATE: WebrtcRoomCreate,
    FrameType.WEBRTC_ROOM_JOIN: WebrtcRoomJoin,
    FrameType.WEBRTC_ROOM_LEAVE: WebrtcRoomLeave,
    FrameType.COMMAND_ACK: CommandAck,
    FrameType.COMMAND_RESULT: CommandResult,
    FrameType.TOKEN_REFRESH: TokenRefresh,
}
"""What a client may say, by frame type."""

SAID: Final[Mapping[type, FrameType]] = {
    Disconnect: FrameType.DISCONNECT,
    RoomEvent: FrameType.ROOM_EVENT,
    SignalOffer: FrameType.SIGNAL_OFFER,
    SignalAnswer: FrameType.SIGNAL_ANSWER,
    SignalIceCandidate: FrameType.SIGNAL_ICE_CANDIDATE,
    TokenRefreshDue: FrameType.TOKEN_REFRESH,
}
"""What the server says without being asked, and its frame type."""

RefusalAck = ConnectAck | RegisterAck | UnregisterAck | WebrtcRoomCreateAck | WebrtcRoomJoinAck | WebrtcRoomLeaveAck

REFUSED_IN_ACK: Final[Mapping[str, type[RefusalAck]]] = {
    "connect": ConnectAck,
    "register": RegisterAck,
    "unregister": UnregisterAck,
    "webrtc_room_create": WebrtcRoomCreateAck,
    "webrtc_room_join": WebrtcRoomJoinAck,
    "webrtc_room_leave": WebrtcRoomLeaveAck,
}
"""The requests that are refused in their own answer, by name."""

M = TypeVar("M", bound=msgspec.Struct)


def read_agent_message(payload: object, shape: type[M], at: str = "") -> M:
    """Read one payload as a message of type `shape`; `at` is the payload's path in its message.

    Raises InvalidField: its sentence names the field of the payload, its `field` the whole path.
    """
    try:
        message = read_fields(payload, shape, at)
    except InvalidField as error:
        raise _missing_or_invalid(error.field, at) from None
    for name in ("sdp", "offer_sdp"):
        sdp: str | None = getattr(message, name, None)
        if sdp is not None and len(sdp) > SDP_SHORT_CHARS and len(msgspec.json.encode(sdp)) > SDP_BYTES_MAX:
            raise _missing_or_invalid(f"{at}.{name}".removeprefix("."), at)
    metadata: object = getattr(message, "metadata", None)
    if metadata and len(msgspec.json.encode(metadata)) > METADATA_BYTES_MAX:
        raise _missing_or_invalid(f"{at}.metadata".removeprefix("."), at)
    return message


def _missing_or_invalid(path: str, at: str) -> InvalidField:
    name = path.removeprefix(at).removeprefix(".").partition(".")[0].partition("[")[0]
    return InvalidField(path, f"Missing or invalid '{name}' field")
