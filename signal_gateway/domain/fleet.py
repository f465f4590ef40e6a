"""Which devices, and which of their reports, somebody asks for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FleetFilter:
    """Which devices are asked for; None = any."""

    device_group: str | None = None
    sitename: str | None = None
    status: str | None = None
    """online | offline | error | maintenance, as it was last written: up to a second ago."""


@dataclass(frozen=True, slots=True)
class ReportFilter:
    """Which reports are asked for; None = any."""

    type: str | None = None
    device_id: str | None = None
    device_group: str | None = None
