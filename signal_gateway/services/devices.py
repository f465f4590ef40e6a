"""The fleet for its operators: devices in pages, one in full, its settings, its own key, its end (CONTRACT.md §6, H05)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from signal_gateway.bus.local import Bus
from signal_gateway.domain.access import Operator, Scope
from signal_gateway.domain.credential import CredentialKind
from signal_gateway.domain.device import DeviceStatus, PresenceStatus, PresenceView
from signal_gateway.domain.errors import DeviceNotFound
from signal_gateway.domain.events import CredentialRevoked, DeviceDeleted, SettingsChanged
from signal_gateway.domain.fleet import FleetFilter
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.domain.principal import LinkKind
from signal_gateway.observe.logs import logger
from signal_gateway.services.credentials import Credentials
from signal_gateway.services.device_endings import DeviceEndings
from signal_gateway.services.presence import Presence
from signal_gateway.storage import fleet
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import Database
from signal_gateway.storage.fleet import FleetRecord

log = logger("device")

UNKNOWN = DeviceStatus()
AGENT = LinkKind.AGENT.value
REPORTED_WHILE_LINKED = frozenset({PresenceStatus.ERROR.value, PresenceStatus.MAINTENANCE.value})


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device: what is kept of it, and what is so now."""

    record: FleetRecord
    presence: PresenceView

    @property
    def status(self) -> str:
        """online | offline | error | maintenance: without a link a device is offline, whatever it said last."""
        if not self.presence.linked:
            return PresenceStatus.OFFLINE.value
        reported = self.presence.reported
        return reported if reported in REPORTED_WHILE_LINKED else PresenceStatus.ONLINE.value


class Devices:
    """Every answer is cut to the scope of who asks: what is outside looks as if it did not exist."""

    def __init__(
        self,
        database: Database,
        writer: BatchWriter,
        bus: Bus,
        presence: Presence,
        credentials: Credentials,
        endings: DeviceEndings,
        phone_settings: PhoneSettings,
        wall_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._writer = writer
        self._bus = bus
        self._presence = presence
        self._credentials = credentials
        self._endings = endings
        self._phone_settings = phone_settings
        self._wall_ms = wall_ms

    async def find(self, scope: Scope, wanted: FleetFilter, after_id: int, limit: int) -> tuple[list[DeviceView], int | None]:
        """A page of devices in the order of enrolment, and the id behind which the next one begins; None when this is the last.

        A device whose status changed within the second that it takes to be written is left out, so a page may be short.
        """
        records = await self._database.read(lambda connection: fleet.find_fleet(connection, scope, wanted, after_id, limit + 1))
        views = [self._view(record) for record in records[:limit]]
        if wanted.status is not None:
            views = [view for view in views if view.status == wanted.status]
        return views, records[limit - 1].id if len(records) > limit else None

    async def get(self, device_id: str, scope: Scope) -> DeviceView:
        """One device. Raises DeviceNotFound, DatabaseDown."""
        record = await self._database.look_up(lambda connection: fleet.find_one(connection, device_id))
        if record is None or not scope.allows(device_id, record.device_group):
            raise DeviceNotFound
        return self._view(record)

    async def settings(self, device_id: str, scope: Scope) -> tuple[PhoneSettings, int]:
        """All settings of a phone, and their version. Raises DeviceNotFound, DatabaseDown."""
        record = (await self.get(device_id, scope)).record
        return self._settings_of(record), record.settings_version

    async def change_settings(self, device_id: str, changes: Mapping[str, Any], operator: Operator) -> tuple[PhoneSettings, int]:
        """Change some settings of one phone, which is told if it has a link, else when it comes. They are on disk when this returns.

        Where all are what they were, the version stays, and the phone is told nothing.
        Raises DeviceNotFound, DatabaseDown, DiskFull.
        """
        await self.get(device_id, operator.scope)
        now = self._wall_ms()
        of_all = msgspec.structs.asdict(self._phone_settings)
        changed = await self._writer.call(
            lambda connection: fleet.change_settings(connection, device_id, of_all, changes, operator.subject, now)
        )
        if changed is None:
            raise DeviceNotFound
        record, differs = changed
        settings = self._settings_of(record)
        if differs:
            log.info("settings changed", device_id=device_id, settings=sorted(changes), actor=operator.subject)
            self._bus.publish(SettingsChanged(device_id, settings, record.settings_version))
        return settings, record.settings_version

    async def delete(self, device_id: str, operator: Operator) -> None:
        """Forget a device: its link ends, its own keys are revoked, its commands end. Its enrolment key, if that still stands, would bring
        it in anew, with nothing of what it was.

        Raises DeviceNotFound, DatabaseDown, DiskFull.
        """
        await self.get(device_id, operator.scope)
        revoked = await self._endings.end(device_id, operator.subject, self._wall_ms())
        if revoked is None:
            raise DeviceNotFound
        log.info("device deleted", device_id=device_id, actor=operator.subject)
        self._bus.publish(DeviceDeleted(device_id))
        for credential_id in revoked:
            self._bus.publish(CredentialRevoked(credential_id))

    async def new_key(self, device_id: str, operator: Operator) -> tuple[str, str]:
        """A key of the device's own, a phone or an agent: its id and the key, shown this once. Its first use revokes the older ones (W-31).

        Raises DeviceNotFound, DatabaseDown, DiskFull.
        """
        record = (await self.get(device_id, operator.scope)).record
        kind = CredentialKind.CLIENT if record.kind == AGENT else CredentialKind.DEVICE
        return await self._credentials.create(kind, client_id=device_id, actor=operator.subject)

    def _view(self, record: FleetRecord) -> DeviceView:
        presence = self._presence.view_over(record.device_id, record.kept)
        return DeviceView(record, presence or PresenceView(record.device_id, False, 0, None, None, False, None, UNKNOWN))

    def _settings_of(self, record: FleetRecord) -> PhoneSettings:
        return msgspec.convert({**msgspec.structs.asdict(self._phone_settings), **record.settings}, PhoneSettings)
