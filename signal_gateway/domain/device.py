"""What a device says of itself, and what we say of it. Times are milliseconds since 1970, UTC.

What a heartbeat makes anew each time is a msgspec Struct: a frozen dataclass of twelve fields costs ten times as much to make.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

import msgspec


class PresenceStatus(StrEnum):
    """What a device reports as its own condition (T-19, C-57)."""

    ONLINE = "online"
    OFFLINE = "offline"
    ERROR = "error"
    MAINTENANCE = "maintenance"


class SubscriberId(msgspec.Struct, frozen=True, gc=False):
    """An IMEI, IMSI or ICCID as we keep it: never whole (C-36)."""

    last_four: str
    digest: str
    """HMAC-SHA256 under the pepper, hex: equal for equal ids, and tells nothing else."""


class SimCard(msgspec.Struct, frozen=True, gc=False):
    """One SIM of a phone (T-18). Every field but the slot may be unknown."""

    slot_index: int
    carrier_name: str | None = None
    phone_number: str | None = None
    network_mcc: str | None = None
    network_mnc: str | None = None
    is_active: bool | None = None
    imei: SubscriberId | None = None
    imsi: SubscriberId | None = None
    iccid: SubscriberId | None = None
    signal_strength: int | None = None
    signal_dbm: int | None = None
    network_type: str | None = None


class Location(msgspec.Struct, frozen=True, gc=False):
    """WGS 84 degrees."""

    latitude: float
    longitude: float


class DeviceStatus(msgspec.Struct, frozen=True, gc=False):
    """What a heartbeat told (T-17). A field that was not sent is None and leaves the last known value as it was."""

    battery_level: int | None = None
    """Percent."""
    battery_status: str | None = None
    signal_strength: int | None = None
    """Bars, 0 to 4."""
    signal_dbm: int | None = None
    network_type: str | None = None
    sim_cards: tuple[SimCard, ...] | None = None
    location: Location | None = None

    def merged(self, newer: Self) -> "DeviceStatus":
        """What is known after `newer` was told as well: its unknown fields leave the older values as they are."""
        return DeviceStatus(
            self.battery_level if newer.battery_level is None else newer.battery_level,
            self.battery_status if newer.battery_status is None else newer.battery_status,
            self.signal_strength if newer.signal_strength is None else newer.signal_strength,
            self.signal_dbm if newer.signal_dbm is None else newer.signal_dbm,
            self.network_type if newer.network_type is None else newer.network_type,
            self.sim_cards if newer.sim_cards is None else newer.sim_cards,
            self.location if newer.location is None else newer.location,
        )


@dataclass(frozen=True, slots=True)
class DeviceDescription:
    """What a device says about its make when it comes (header Device-Info, seed 000 §1.2)."""

    device_id: str
    queue_name: str
    manufacturer: str | None = None
    model: str | None = None
    device_group: str | None = None
    sitename: str | None = None
    info: Mapping[str, Any] | None = None
    """The whole object as it was sent."""


@dataclass(frozen=True, slots=True)
class PresenceView:
    """What we know of a device now: link, activity and freshness apart (DESIGN.md §7)."""

    device_id: str
    linked: bool
    generation: int
    """Counts the links of this device; an older link's end changes nothing."""
    connected_at: int | None
    last_activity_at: int | None
    fresh: bool
    """Whether something was heard within `presence.fresh_s`."""
    reported: str | None
    """The condition of the last `device_status`, one of PresenceStatus."""
    status: DeviceStatus
