"""Who may do what over the operator's API: roles, each of which may all that the one before may, and the part of the fleet it is for."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """What whoever shows a token or a key may do (W-29, C-49)."""

    DEVICE = "device"
    """Nothing here but renew its token: it is a client of `/ws`, by the id that the token names."""
    VIEWER = "viewer"
    """Reads."""
    OPERATOR = "operator"
    """Sends commands, acknowledges alarms, changes settings of devices."""
    ADMIN = "admin"
    """Deletes devices, makes and revokes keys and tokens."""

    def may_as(self, needed: "Role") -> bool:
        """Whether this role may do what `needed` may."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(needed)


@dataclass(frozen=True, slots=True)
class Scope:
    """The devices that somebody may see and command: those named, and those of the groups named. Both None: the whole fleet."""

    devices: frozenset[str] | None = None
    groups: frozenset[str] | None = None

    @property
    def is_whole_fleet(self) -> bool:
        """Whether nothing is kept out."""
        return self.devices is None and self.groups is None

    def allows(self, device_id: str, device_group: str | None) -> bool:
        """Whether this device is in it."""
        if self.is_whole_fleet or (self.devices is not None and device_id in self.devices):
            return True
        return self.groups is not None and device_group is not None and device_group in self.groups

    def allows_group(self, device_group: str) -> bool:
        """Whether the whole group is in it, devices that are still to come included."""
        return self.is_whole_fleet or (self.groups is not None and device_group in self.groups)


WHOLE_FLEET = Scope()


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever asks, proved by a token or a key."""

    subject: str
    role: Role
    scope: Scope = WHOLE_FLEET
    credential_id: str = ""
    """The id of the key, or `jti:<id>` of the token: what a revocation names."""
    expires_at: int | None = None
    """Milliseconds since 1970, UTC."""


def scope_values(scope: Scope) -> dict[str, list[str]] | None:
    """A scope as it is kept and as a token has it; None for the whole fleet. What is not limited is not named."""
    if scope.is_whole_fleet:
        return None
    named = {"devices": scope.devices, "groups": scope.groups}
    return {name: sorted(values) for name, values in named.items() if values is not None}


def scope_of(values: Mapping[str, Any] | None) -> Scope:
    """The scope that these values are."""
    if values is None:
        return Scope()
    devices, groups = values.get("devices"), values.get("groups")
    return Scope(None if devices is None else frozenset(devices), None if groups is None else frozenset(groups))
