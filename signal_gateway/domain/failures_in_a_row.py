"""How often something failed since it last succeeded."""

from collections import Counter


class FailuresInARow:
    """Of devices, and of what their SIMs do. One that succeeds is not remembered, nor is one that was forgotten with its device."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, object]] = Counter()

    def __len__(self) -> int:
        return len(self._counts)

    def failed(self, device_id: str, what: object = None) -> int:
        """Once more; how often in a row."""
        self._counts[device_id, what] += 1
        return self._counts[device_id, what]

    def succeeded(self, device_id: str, what: object = None) -> None:
        """It works."""
        self._counts.pop((device_id, what), None)

    def forget(self, device_id: str) -> None:
        """The device is no more."""
        for key in [key for key in self._counts if key[0] == device_id]:
            del self._counts[key]
