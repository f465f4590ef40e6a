"""What happened: facts that the services publish and others may want to know. Times are milliseconds since 1970, UTC."""

from dataclasses import dataclass

import msgspec

from signal_gateway.domain.device import DeviceStatus
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.domain.report import Report


@dataclass(frozen=True, slots=True)
class DeviceLinked:
    """A device's link is authenticated."""

    device_id: str
    kind: str
    generation: int
    at: int


@dataclass(frozen=True, slots=True)
class DeviceUnlinked:
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


@dataclass(frozen=True, slots=True)
class ReportFiled:
    """A report was given to the writer. It is on disk a few milliseconds later."""

    report: Report


@dataclass(frozen=True, slots=True)
class CredentialRevoked:
    """A key is worth nothing any more: links that it vouched for must end within 5 s (CONTRACT.md §3)."""

    credential_id: str


@dataclass(frozen=True, slots=True)
class ClientUnregistered:
    """A client's record is gone: its other links close, its rooms are left (CONTRACT.md §2)."""

    client_id: str


@dataclass(frozen=True, slots=True)
class SettingsChanged:
    """An operator changed the settings of a device: its link, if it has one, is told all of them again."""

    device_id: str
    settings: PhoneSettings


@dataclass(frozen=True, slots=True)
class DeviceDeleted:
    """A device's record and its own keys are gone: its link ends, and what waits for it goes nowhere."""

    device_id: str
