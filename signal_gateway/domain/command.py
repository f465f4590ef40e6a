"""A command to a device and its life (CONTRACT.md §5). Times are milliseconds since 1970, UTC; deadlines in settings are seconds."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from signal_gateway.domain.access import Scope


class CommandKind(StrEnum):
    """What a phone can be told to do (T-11 to T-16, C-26)."""

    SEND_SMS = "send_sms"
    SEND_USSD = "send_ussd"
    USSD_REPLY = "ussd_reply"
    SEND_RCS = "send_rcs"
    FIND_DEVICE = "find_device"
    ALARM_START = "alarm_start"
    ALARM_STOP = "alarm_stop"


class CommandState(StrEnum):
    """Where a command is. `queued → dispatched → accepted → sent → delivered`; the others end it."""

    QUEUED = "queued"
    DISPATCHED = "dispatched"
    """On its way to the device; on disk before its first byte is sent."""
    ACCEPTED = "accepted"
    """The device has said so (COMMAND_ACK)."""
    SENT = "sent"
    """The phone has sent it; final unless a delivery report was asked for."""
    DELIVERED = "delivered"
    FAILED = "failed"
    """For good: the device said so, and trying again cannot help."""
    EXPIRED = "expired"
    """Its time was over before it was dispatched."""
    CANCELLED = "cancelled"
    DEAD = "dead"
    """It failed as often as it was to be tried. An operator may requeue it."""
    UNKNOWN = "unknown"
    """Dispatched, and no word came: it may have been done. A late report resolves it."""


ON_ITS_WAY = frozenset({CommandState.DISPATCHED, CommandState.ACCEPTED})
"""States in which a SIM is busy with it."""
ALWAYS_FINAL = frozenset({CommandState.DELIVERED, CommandState.FAILED, CommandState.EXPIRED, CommandState.CANCELLED, CommandState.DEAD})
"""From these nothing leads on, save a requeue. `sent` and `unknown` are final where nothing more is expected; see Command.final_at."""

USES_SIM = frozenset({CommandKind.SEND_SMS, CommandKind.SEND_USSD, CommandKind.USSD_REPLY, CommandKind.SEND_RCS})
"""One of these at a time per SIM."""
AT_MOST_ONCE = USES_SIM
"""Never sent again while the outcome is unknown, unless the command says `retry_safe`; the others go out at least once."""
FOR_EACH = frozenset({CommandKind.FIND_DEVICE, CommandKind.ALARM_START, CommandKind.ALARM_STOP})
"""Of these a command to a group is one for every phone of it, not for any one."""


OPPOSITES: Mapping[CommandKind, CommandKind] = {
    CommandKind.ALARM_START: CommandKind.ALARM_STOP,
    CommandKind.ALARM_STOP: CommandKind.ALARM_START,
}
"""Of these the later one is the operator's last word: once it sets out, the earlier ones of its opposite are not sent again."""


class Target(msgspec.Struct, frozen=True):
    """To whom: one device; any phone of a group, or every one (FOR_EACH); or, both None, any phone at all."""

    device_id: str | None = None
    device_group: str | None = None


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator asks for, before it is checked."""

    kind: CommandKind
    target: Target
    data: Mapping[str, Any]
    """As the API has it: `phone_number`, `message`, `ussd_code`, … without `sim_slot` and `priority`."""
    sim_slot: int | None = None
    """None = any SIM of the phone that may."""
    priority: int = 0
    """-128 to 127, higher first; see `priority_of` (C-56)."""
    message_id: str | None = None
    """The caller's own; otherwise made here."""
    idempotency_key: str | None = None
    """The same key of the same caller is the same command."""
    call: bytes = b""
    """SHA-256 of all that was asked for at once, where a key stands for all of it: the same alone is then not the same."""
    ttl_s: float | None = None
    """Seconds until it expires if it has not been dispatched; None = the setting `commands.ttl_s`."""
    not_before: int | None = None
    delivery_report: bool = False
    retry_safe: bool = False


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command as it is kept."""

    id: int
    """In the order of acceptance."""
    message_id: str
    kind: CommandKind
    state: CommandState
    device_id: str | None
    device_group: str | None
    scope: Scope | None
    """Of a command for any phone: the part of the fleet it may go to."""
    sim_slot: int | None
    any_device: bool
    """Whether each attempt may choose another phone; then `device_id` is None while it is queued."""
    any_sim: bool
    """The same of the SIM."""
    priority: int
    phone_number: str | None
    session_id: str | None
    data: Mapping[str, Any]
    segments: int | None
    delivery_report: bool
    retry_safe: bool
    attempts: int
    """How often it was dispatched."""
    attempts_before: int
    """Of these, before an operator last requeued it."""
    not_before: int | None
    expires_at: int
    deadline_at: int | None
    digest: bytes
    created_by: str
    created_at: int
    dispatched_at: int | None = None
    final_at: int | None = None
    error: str | None = None
    error_message: str | None = None
    result: Mapping[str, Any] | None = None
    last_report: str | None = None
    """The id of the report that changed it last."""
    life_ms: int | None = None
    """How long it lived at first, once it was requeued: so long it lives again."""
    fan_out_id: str | None = None
    """Of one that was asked for together with others, one for each phone of a group: the `message_id` of the first of them."""
    key_id: str | None = None
    """Of one that was asked for under an idempotency key: what stands for this key of this operator, a UUID."""

    @property
    def uses_sim(self) -> bool:
        """Whether it keeps a SIM busy."""
        return self.kind in USES_SIM

    @property
    def may_be_repeated(self) -> bool:
        """Whether it may be sent again although the outcome of the last attempt is unknown."""
        return self.retry_safe or self.kind not in AT_MOST_ONCE


class FanOut(NamedTuple):
    """What a command for every phone of a group came to: one for each, in the order in which the phones were enrolled."""

    commands: tuple[Command, ...]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a command's timeline."""

    at: int
    state: CommandState
    attempt: int
    detail: Mapping[str, Any] | None = None


class Wait(msgspec.Struct, frozen=True):
    """Why a queued command is not on its way yet: a stable word, and until when, where that is known."""

    reason: str
    """offline | no_phone | not_before | busy | guard_interval | daily_limit | monthly_limit | exceeds_daily_limit |
    exceeds_monthly_limit | recipients_limit | low_balance | sim_parked | sim_disabled | no_sim | order"""
    until: int | None = None


class CommandView(msgspec.Struct, frozen=True, kw_only=True):
    """A command as its operator sees it."""

    command: Command
    timeline: tuple[Step, ...]
    waits: Wait | None = None


PRIORITY_WORDS: Mapping[str, int] = {"low": -50, "normal": 0, "high": 50, "urgent": 100, "critical": 100}
PRIORITY_MIN, PRIORITY_MAX = -128, 127


def priority_of(text: str | int) -> int:
    """A priority in any vocabulary as a number (C-56). Raises ValueError."""
    if isinstance(text, str):
        found = PRIORITY_WORDS.get(text.lower())
        if found is None:
            raise ValueError(f"priority is one of {', '.join(PRIORITY_WORDS)}, or a whole number of {PRIORITY_MIN} to {PRIORITY_MAX}")
        return found
    if isinstance(text, bool) or not PRIORITY_MIN <= text <= PRIORITY_MAX:
        raise ValueError(f"priority is a whole number of {PRIORITY_MIN} to {PRIORITY_MAX}")
    return text


def priority_word(priority: int) -> str:
    """The word that a phone is told; a low priority is said as normal (CONTRACT.md §5)."""
    if priority >= PRIORITY_WORDS["urgent"]:
        return "urgent"
    return "high" if priority >= PRIORITY_WORDS["high"] else "normal"
