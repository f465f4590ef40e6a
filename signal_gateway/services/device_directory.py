"""What must be known of a device to command it: that it exists, its group, its settings. Kept in memory for those asked for lately."""

from collections import OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import msgspec

from signal_gateway.bus.local import Bus
from signal_gateway.domain.events import DeviceDeleted, SettingsChanged
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.storage import devices
from signal_gateway.storage.database import Database
from signal_gateway.storage.devices import DeviceRecord

KEPT_MAX = 100_000
"""Devices remembered; the one asked for longest ago is forgotten and read again."""


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """One device."""

    device_id: str
    kind: str
    device_group: str | None
    settings: PhoneSettings
    sitename: str | None = None


class Reading:
    """A device is being read, or what was read of it is being thought over."""

    def __init__(self) -> None:
        self.is_old = False
        """Whether the device has changed or gone meanwhile, so that what was read may not be what it is now."""


class DeviceDirectory:
    """Finds devices. What a phone tells of itself at the door is known here at once, before it is on disk.

    What was read is learned once its `reading` is seen not to be old, without waiting in between: else it would undo a change that was told
    meanwhile.
    """

    def __init__(self, database: Database, bus: Bus, phone_settings: PhoneSettings) -> None:
        self._database = database
        self.settings_of_all = phone_settings
        """Of a phone for which nothing was changed."""
        self._kept: OrderedDict[str, KnownDevice] = OrderedDict()
        self._readings: dict[str, set[Reading]] = {}
        bus.subscribe(SettingsChanged, self._change_settings)
        bus.subscribe(DeviceDeleted, lambda event: self.forget(event.device_id))

    async def find(self, device_id: str) -> KnownDevice | None:
        """The device; None when there is none. Raises DatabaseDown."""
        while (known := self._kept.get(device_id)) is None:
            with self.reading(device_id) as reading:
                record = await self._database.look_up(lambda connection: devices.find_device(connection, device_id))
            if not reading.is_old:
                return None if record is None else self.learn(record)
        self._kept.move_to_end(device_id)
        return known

    def known(self, device_id: str) -> KnownDevice | None:
        """The device, if memory has it: one that is linked or was asked for lately."""
        return self._kept.get(device_id)

    def settings(self, device_id: str) -> PhoneSettings:
        """The settings of a device as far as memory knows; else those of all."""
        known = self._kept.get(device_id)
        return self.settings_of_all if known is None else known.settings

    @contextmanager
    def reading(self, device_id: str) -> Generator[Reading]:
        """A device is read within: whatever is told of it meanwhile makes that old."""
        reading, under_way = Reading(), self._readings.setdefault(device_id, set())
        under_way.add(reading)
        try:
            yield reading
        finally:
            under_way.remove(reading)
            if not under_way:
                del self._readings[device_id]

    def learn(self, record: DeviceRecord) -> KnownDevice:
        """This is what a device is now."""
        device_id = record.device_id
        self._outdate(device_id)
        settings = _settings_of(record, self.settings_of_all)
        known = self._kept[device_id] = KnownDevice(device_id, record.kind, record.device_group, settings, record.sitename)
        self._kept.move_to_end(device_id)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)
        return known

    def _change_settings(self, event: SettingsChanged) -> None:
        self._outdate(event.device_id)
        known = self._kept.get(event.device_id)
        if known is not None:
            self._kept[event.device_id] = replace(known, settings=event.settings)

    def forget(self, device_id: str) -> None:
        """It has changed, or is gone."""
        self._outdate(device_id)
        self._kept.pop(device_id, None)

    def _outdate(self, device_id: str) -> None:
        for reading in self._readings.get(device_id, ()):
            reading.is_old = True


def _settings_of(record: DeviceRecord, of_all: PhoneSettings) -> PhoneSettings:
    """The settings of every phone, with what was changed for this one."""
    changes = record.settings_changes()
    return msgspec.convert({**msgspec.structs.asdict(of_all), **changes}, PhoneSettings) if changes else of_all
