"""What happened: facts that the services publish and others may want to know. Times are milliseconds since 1970, UTC."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from signal_gateway.domain.alarm import Alarm
from signal_gateway.domain.command import Command
from signal_gateway.domain.device import DeviceStatus
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.domain.report import Report
from signal_gateway.domain.signals import SignalKind


class DeviceLinked(msgspec.Struct, frozen=True):
    """A device's link is authenticated."""

    device_id: str
    kind: str
    generation: int
    at: int


class DeviceUnlinked(msgspec.Struct, frozen=True):
    """A device's newest link ended, or fell silent for too long."""

    device_id: str
    kind: str
    generation: int
    at: int
    reason: str


class DeviceSeen(msgspec.Struct, frozen=True, gc=False):
    """Something was heard from a device; `status` is what it told of itself, if it did."""

    device_id: str
    at: int
    status: DeviceStatus | None


class ReportFiled(msgspec.Struct, frozen=True):
    """A report was given to the writer. It is on disk a few milliseconds later."""

    report: Report


class CredentialRevoked(msgspec.Struct, frozen=True):
    """A key or token is worth nothing any more: links that it vouched for must end within 5 s (CONTRACT.md §3)."""

    credential_id: str
    has_expired: bool = False
    """It ended by its time: its holder may come back with a new one."""


class ClientUnregistered(msgspec.Struct, frozen=True):
    """A client's record is gone: its other links close, its rooms are left (CONTRACT.md §2)."""

    client_id: str


class SettingsChanged(msgspec.Struct, frozen=True):
    """A phone's settings are different from now on: it is to be told."""

    device_id: str
    settings: PhoneSettings
    version: int


class DeviceMoved(msgspec.Struct, frozen=True):
    """A device is of another group or site from now on, which is on disk."""

    device_id: str


class CommandDue(msgspec.Struct, frozen=True):
    """A command is on disk as dispatched: whoever holds the link of its device sends it now."""

    command: Command


class CommandChanged(msgspec.Struct, frozen=True):
    """A command is in another state, which is on disk."""

    command: Command
    detail: str | None = None
    """What brought it there, where that is of interest: `delivery_report`."""
    device_id: str | None = None
    sim_slot: int | None = None
    """Who had it, by which SIM, when it changed: a command for any phone, or by any SIM, is queued again without them."""

    @classmethod
    def between(cls, before: Command, after: Command, detail: str | None = None) -> "CommandChanged":
        """The change from one state to the next."""
        sim_slot = after.sim_slot if before.sim_slot is None else before.sim_slot
        return cls(after, detail, before.device_id or after.device_id, sim_slot)


class DeliveryTold(msgspec.Struct, frozen=True):
    """The network's last word on a message, of which no command changes: it was not to be waited for, or was never sent from here."""

    device_id: str
    sim_slot: int | None
    is_delivered: bool


class AlarmChanged(msgspec.Struct, frozen=True):
    """An alarm was raised, raised again, acknowledged or cleared, and that is on disk."""

    alarm: Alarm


class SimSwitched(msgspec.Struct, frozen=True):
    """A SIM is not to be used any more, for this reason; or, None, may be used again. That is on disk."""

    device_id: str
    sim_slot: int
    disabled_reason: str | None


class SimChanged(msgspec.Struct, frozen=True):
    """A phone has another SIM in this slot, or it is in another phone."""

    device_id: str
    sim_slot: int


class DeviceDeleted(msgspec.Struct, frozen=True):
    """A device's record and its own keys are gone: its link ends, and what waits for it goes nowhere."""

    device_id: str


class RoomChanged(msgspec.Struct, frozen=True):
    """Somebody came into a room or left it, or it is over: `to` are those who sit in it otherwise, and are told."""

    room_id: str
    event: Literal["member_joined", "member_left", "room_terminated"]
    client_id: str
    role: str
    reason: str | None
    to: tuple[str, ...]


class StayEnded(msgspec.Struct, frozen=True):
    """A seat was given up or taken away, or its room is over."""

    room_id: str
    client_id: str
    stay_id: str


class MediaSaid(msgspec.Struct, frozen=True):
    """The media backend of a room has an offer or an answer for one of its members."""

    room_id: str
    client_id: str
    kind: SignalKind
    sdp: str


class SignalDue(msgspec.Struct, frozen=True, gc=False):
    """Members of a room are to be told this: `signal` is the door's own message, which no service looks into."""

    to: Sequence[str]
    signal: object
