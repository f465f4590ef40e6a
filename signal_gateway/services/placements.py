"""Group and site that phones tell of in what they report, for those that do not name them when they come (T-17, T-19, T-57)."""

from collections.abc import Callable

from signal_gateway.bus.local import Bus
from signal_gateway.domain.events import DeviceLinked, DeviceMoved, DeviceUnlinked
from signal_gateway.observe.logs import logger
from signal_gateway.services.device_directory import DeviceDirectory
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.devices import DeviceRecord
from signal_gateway.storage.placements import Placement, take_over

log = logger("device")


class Placements:
    """Hears where phones stand. What is known already costs two look-ups; all else is decided on what is on disk."""

    def __init__(self, writer: BatchWriter, bus: Bus, directory: DeviceDirectory, wall_ms: Callable[[], int]) -> None:
        self._writer = writer
        self._bus = bus
        self._directory = directory
        self._wall_ms = wall_ms
        self._told: dict[str, tuple[str | None, str | None]] = {}  # of linked devices: the last that was decided on, or is being
        bus.subscribe(DeviceLinked, self._forget)
        bus.subscribe(DeviceUnlinked, self._forget)

    def hear(self, device_id: str, device_group: str | None, sitename: str | None) -> None:
        """A device says that it is of this group and site; None or empty: it does not say."""
        known = self._directory.known(device_id)
        if (
            known is not None
            and (device_group or known.device_group) == known.device_group
            and (sitename or known.sitename) == known.sitename
        ):
            return
        told = device_group, sitename
        if self._told.get(device_id) == told:
            return
        if self._writer.post(take_over, Placement(device_id, device_group, sitename, self._wall_ms()), self._taken_over):
            self._told[device_id] = told

    def _forget(self, event: DeviceLinked | DeviceUnlinked) -> None:
        self._told.pop(event.device_id, None)

    def _taken_over(self, record: DeviceRecord | Exception | None) -> None:
        if not isinstance(record, DeviceRecord):
            return
        self._directory.learn(record)
        log.info("device moved", device_id=record.device_id, device_group=record.device_group, sitename=record.sitename)
        self._bus.publish(DeviceMoved(record.device_id))
