"""Which alarms are open, by device; and of whom the last status was looked at already, so that the same one need not be looked at again."""

from collections.abc import Mapping

from signal_gateway.domain.alarm import AlarmKey, Severity
from signal_gateway.domain.device import DeviceStatus


class OpenAlarms:
    """What memory knows of open alarms. Whatever changes those of a device makes its next status worth a look, whatever it says."""

    def __init__(self) -> None:
        self._of: dict[str, dict[AlarmKey, Severity]] = {}
        self._judged: dict[str, DeviceStatus] = {}

    def __len__(self) -> int:
        return sum(map(len, self._of.values()))

    def __contains__(self, key: AlarmKey) -> bool:
        return key in self._of.get(key.device_id, ())

    def begin(self, found: Mapping[AlarmKey, Severity]) -> None:
        """These are open on disk."""
        for key, severity in found.items():
            self.add(key, severity)

    def severity(self, key: AlarmKey) -> Severity | None:
        """None: it is not open."""
        return self._of.get(key.device_id, {}).get(key)

    def of(self, device_id: str) -> list[AlarmKey]:
        """All open alarms of a device."""
        return list(self._of.get(device_id, ()))

    def add(self, key: AlarmKey, severity: Severity) -> None:
        """It is open, and so severe."""
        self._of.setdefault(key.device_id, {})[key] = severity
        self._judged.pop(key.device_id, None)

    def remove(self, key: AlarmKey) -> Severity | None:
        """It is not open any more. Returns how severe it was; None when it was not open."""
        of_device = self._of.get(key.device_id)
        severity = None if of_device is None else of_device.pop(key, None)
        if severity is not None:
            self._judged.pop(key.device_id, None)
            if not of_device:
                del self._of[key.device_id]
        return severity

    def is_judged(self, device_id: str, status: DeviceStatus) -> bool:
        """Whether this very status was looked at, and nothing has changed since. Who says the same again is given the same object."""
        return self._judged.get(device_id) is status

    def judged(self, device_id: str, status: DeviceStatus) -> None:
        """It was looked at."""
        self._judged[device_id] = status

    def look_again(self, device_id: str) -> None:
        """Its next status is worth a look."""
        self._judged.pop(device_id, None)
