"""What is asked well and must be refused: one class per thing a client can be told (CONTRACT.md §2).

GatewayError
├─ BadCredentials     401  unknown id, wrong, revoked or expired key: always the same words and the same work
│  └─ TokenExpired       the token was ours, and its time is over
├─ Forbidden          403  the role, or the scope, does not go that far
├─ ClientNotFound     404
├─ DeviceNotFound     404  or out of scope, which must look the same
├─ KeyNotFound        404
├─ ClientIdTaken      409  the id is registered with another token
├─ ClientIdReserved   409  the id is one for guests of rooms
├─ DuplicateLink      409  the id holds a link, and `session.duplicate_policy` is "reject_new"
├─ InvalidCommand     400  a command that no phone may be told
├─ CommandNotFound    404
├─ AlarmNotFound      404
├─ RoomNotFound       404  or out of scope, or over, or one that the asker is not in
├─ MemberNotFound     404  a signal for somebody who is not in the room
├─ InvalidRole        400
├─ NotRegistered      401  rooms are for those who registered (S-29)
├─ AlreadyInRoom      409
├─ RoomFull           409
├─ TooManySignals     429  more signals wait for a member than may
├─ IdTaken            409  the id names a command that says something else
├─ TooLate            409  the command is past what was asked
├─ KeyReused          422  the Idempotency-Key names a command that says something else
├─ NoToken            409  a key cannot be exchanged for a token
├─ KeyNotShown        410  a key is shown while it is fresh, and never again
├─ BadRequest         400
├─ RateLimited        429
├─ Internal           500
├─ SessionError       500  the media backend has no session for this member
├─ MediaDown          503  the media backend does not answer
├─ DatabaseDown       503
├─ QueueFull          503
├─ TooManyRooms       503
└─ DiskFull           507
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from signal_gateway.domain.ids import GUEST_PREFIX


class GatewayError(Exception):
    """A refusal that the asker is told. `type`, `code`, `status` and `reason` are the stable words of CONTRACT.md §2."""

    type: ClassVar[str]
    code: ClassVar[int]
    status: ClassVar[int]
    reason: str
    retry_after_s: float | None = None
    """After how many seconds it may go better, where that is known."""

    def __init__(self, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class BadCredentials(GatewayError):
    """Unknown id, or a wrong, expired or revoked key. Which of these is never told (H04)."""

    type, code, status, reason = "AUTHENTICATION_FAILED", 4010, 401, "bad_credentials"

    def __init__(self, message: str = "Invalid client_id or auth_token") -> None:
        super().__init__(message)


class TokenExpired(BadCredentials):
    """A token that we signed, after its time: who holds it may know, and comes back with a new one."""

    reason = "expired"

    def __init__(self, subject: str) -> None:
        super().__init__("The token has expired")
        self.subject = subject
        """Whom it named: for us, never told."""


class Forbidden(GatewayError):
    """Known, and not allowed to do this: by role, or by scope where the thing asked for is no device."""

    type, code, status, reason = "FORBIDDEN", 4031, 403, "forbidden"

    def __init__(self, message: str, reason: str = "forbidden") -> None:
        super().__init__(message)
        self.reason = reason


class ClientNotFound(GatewayError):
    """No record of this client."""

    type, code, status, reason = "NOT_FOUND", 4041, 404, "client_not_found"

    def __init__(self, message: str = "Client not found") -> None:
        super().__init__(message)


class DeviceNotFound(GatewayError):
    """No such device, or none that the asker may know of (H05)."""

    type, code, status, reason = "DEVICE_NOT_FOUND", 4040, 404, "device_not_found"

    def __init__(self, message: str = "Device not found") -> None:
        super().__init__(message)


class KeyNotFound(GatewayError):
    """No such key, or none that the asker may know of."""

    type, code, status, reason = "NOT_FOUND", 4041, 404, "key_not_found"

    def __init__(self, message: str = "Key not found") -> None:
        super().__init__(message)


class KeyNotShown(GatewayError):
    """The key exists, but only its digest is kept: what it was cannot be told again."""

    type, code, status, reason = "GONE", 4100, 410, "key_not_shown"

    def __init__(self, message: str = "A key is shown for a short time after it was made; make a new one") -> None:
        super().__init__(message)


class NoToken(GatewayError):
    """A token can be exchanged for a newer one; a key stands for itself."""

    type, code, status, reason = "CONFLICT", 4090, 409, "no_token"

    def __init__(self, message: str = "Only a token can be refreshed; a key is good as it is") -> None:
        super().__init__(message)


class BadRequest(GatewayError):
    """What is asked for cannot be. `reason` is the stable word for why."""

    type, code, status, reason = "INVALID_MESSAGE_FORMAT", 4001, 400, "bad_request"

    def __init__(self, message: str, reason: str = "bad_request") -> None:
        super().__init__(message)
        self.reason = reason


class ClientIdTaken(GatewayError):
    """The id is registered, with another valid token (C-10)."""

    type, code, status, reason = "CONFLICT", 4090, 409, "client_id_taken"

    def __init__(self, message: str = "Client id already exists") -> None:
        super().__init__(message)


class ClientIdReserved(GatewayError):
    """A right token, and an id that only guests of rooms may have."""

    type, code, status, reason = "CONFLICT", 4090, 409, "client_id_reserved"

    def __init__(self, message: str = f'Ids that begin with "{GUEST_PREFIX}" are for guests of rooms: choose another') -> None:
        super().__init__(message)


class DuplicateLink(GatewayError):
    """The id holds a link already, and the policy is to keep the old one (C-17)."""

    type, code, status, reason = "CONFLICT", 4090, 409, "duplicate_link"

    def __init__(self, message: str = "Client is already connected") -> None:
        super().__init__(message)


class InvalidCommand(GatewayError):
    """A command that is refused for what it says. `reason` is a stable word; `field` names what is wrong."""

    type, code, status, reason = "INVALID_MESSAGE_FORMAT", 4001, 400, "invalid_command"

    def __init__(self, reason: str, message: str, field: str | None = None) -> None:
        super().__init__(message, None if field is None else {"field": field})
        self.reason = reason


class SessionNotOpen(InvalidCommand):
    """A reply to a USSD session that was never to stay open, or has ended."""

    def __init__(self, message: str) -> None:
        super().__init__("session_not_open", message, "session_id")


class CommandNotFound(GatewayError):
    """No such command, as far as the asker may see."""

    type, code, status, reason = "NOT_FOUND", 4041, 404, "command_not_found"

    def __init__(self, message: str = "Command not found") -> None:
        super().__init__(message)


class AlarmNotFound(GatewayError):
    """No such alarm, as far as the asker may see."""

    type, code, status, reason = "NOT_FOUND", 4041, 404, "alarm_not_found"

    def __init__(self, message: str = "Alarm not found") -> None:
        super().__init__(message)


class RoomNotFound(GatewayError):
    """No such room, as far as the asker may know: one that is over, or that they are not in, looks the same (H05)."""

    type, code, status, reason = "NOT_FOUND", 4041, 404, "room_not_found"

    def __init__(self, message: str = "Room not found") -> None:
        super().__init__(message)


class MemberNotFound(GatewayError):
    """Whom a signal is for is not in the room."""

    type, code, status, reason = "NOT_FOUND", 4041, 404, "member_not_found"

    def __init__(self, message: str = "No such member in this room") -> None:
        super().__init__(message)


class InvalidRole(GatewayError):
    """No such role, or one that is taken: a room has one sender (S-28, C-12)."""

    type, code, status, reason = "INVALID_MESSAGE_FORMAT", 4001, 400, "invalid_role"

    def __init__(self, message: str = "Invalid role") -> None:
        super().__init__(message)


class NotRegistered(GatewayError):
    """A CONNECT alone is not enough for a room (S-29)."""

    type, code, status, reason = "AUTHENTICATION_FAILED", 4010, 401, "not_registered"

    def __init__(self, message: str = "Client is not registered") -> None:
        super().__init__(message)


class AlreadyInRoom(GatewayError):
    """The client sits in this room, or in as many as it may."""

    type, code, status, reason = "CONFLICT", 4090, 409, "already_in_room"

    def __init__(self, message: str = "Client already in room") -> None:
        super().__init__(message)


class RoomFull(GatewayError):
    """The room has as many receivers as it may."""

    type, code, status, reason = "CONFLICT", 4090, 409, "room_full"

    def __init__(self, message: str = "Room is full") -> None:
        super().__init__(message)


class TooManySignals(GatewayError):
    """More waits for a member, whose link is lost or whose description has not come, than may."""

    type, code, status, reason = "RATE_LIMIT_EXCEEDED", 4290, 429, "too_many_signals"
    retry_after_s = 1.0  # nobody knows when the member is back: look again in a while

    def __init__(self, message: str = "Too many signals wait for this member", details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, details)


class TooManyRooms(GatewayError):
    """There are as many rooms as may be."""

    type, code, status, reason = "UNAVAILABLE", 5030, 503, "too_many_rooms"

    def __init__(self, message: str = "Too many rooms are open: try again later") -> None:
        super().__init__(message)


class IdTaken(GatewayError):
    """The `message_id` names a command already, and that one says something else."""

    type, code, status, reason = "CONFLICT", 4090, 409, "message_id_taken"

    def __init__(self, message: str = "this message_id belongs to another command") -> None:
        super().__init__(message)


class TooLate(GatewayError):
    """The command is in a state from which what was asked does not lead on."""

    type, code, status, reason = "CONFLICT", 4090, 409, "too_late"


class KeyReused(GatewayError):
    """The Idempotency-Key was used for a command that says something else."""

    type, code, status, reason = "INVALID_MESSAGE_FORMAT", 4001, 422, "idempotency_key_reused"

    def __init__(self, message: str = "this Idempotency-Key was used with another body") -> None:
        super().__init__(message)


class RateLimited(GatewayError):
    """A client says more than its bucket allows (CONTRACT.md §8). `limit` names the class; `retry_after_s` is in seconds."""

    type, code, status, reason = "RATE_LIMIT_EXCEEDED", 4290, 429, "rate_limited"

    def __init__(self, limit: str, retry_after_s: float) -> None:
        super().__init__(f"too many {limit} messages: wait {retry_after_s:.1f} s")
        self.limit = limit
        self.retry_after_s = retry_after_s


class Internal(GatewayError):
    """A fault of ours. The cause is in the log, never in the answer."""

    type, code, status, reason = "INTERNAL", 5001, 500, "internal"

    def __init__(self, message: str = "Internal server error") -> None:
        super().__init__(message)


class DatabaseDown(GatewayError):
    """The database did not answer in time, or refused."""

    type, code, status, reason = "UNAVAILABLE", 5030, 503, "database_down"

    def __init__(self, message: str = "Database unavailable") -> None:
        super().__init__(message)


class QueueFull(GatewayError):
    """As many commands wait as may."""

    type, code, status, reason = "UNAVAILABLE", 5030, 503, "queue_full"

    def __init__(self, message: str = "too many commands wait: try again later") -> None:
        super().__init__(message)


class DiskFull(GatewayError):
    """The database has no room to keep what was asked."""

    type, code, status, reason = "UNAVAILABLE", 5070, 507, "disk_full"

    def __init__(self, message: str = "Storage is full") -> None:
        super().__init__(message)


class SessionError(GatewayError):
    """The media backend has no session for this member (S-28)."""

    type, code, status, reason = "INTERNAL", 5001, 500, "session_error"

    def __init__(self, message: str = "Session error") -> None:
        super().__init__(message)


class NothingOffered(GatewayError):
    """An answer for the media backend, which has not offered anything that waits for one."""

    type, code, status, reason = "CONFLICT", 4090, 409, "nothing_offered"

    def __init__(self, message: str = "No offer waits for this answer") -> None:
        super().__init__(message)


class OfferOutstanding(GatewayError):
    """An offer for the media backend while another one is under way with it, be it the member's or its own."""

    type, code, status, reason = "CONFLICT", 4090, 409, "offer_outstanding"

    def __init__(self, message: str = "Another offer is under way: answer it first, or wait for its answer") -> None:
        super().__init__(message)


class MediaDown(GatewayError):
    """The media backend does not answer, or not now. `reason` is a stable word for why."""

    type, code, status, reason = "UNAVAILABLE", 5030, 503, "media_down"

    def __init__(self, message: str = "Media backend unavailable", reason: str = "media_down") -> None:
        super().__init__(message)
        self.reason = reason
