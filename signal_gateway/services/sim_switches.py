"""SIMs that are switched off because of an alarm, and on when it is over (T-45). Each wish is on disk before anybody hears of it."""

from signal_gateway.bus.local import Bus
from signal_gateway.domain.events import SimSwitched
from signal_gateway.storage import sims
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.sims import SimKey, Switch


class SimSwitches:
    """The newest wish for each SIM, until the database has it. `again` is called from time to time by whoever has a loop."""

    def __init__(self, writer: BatchWriter, bus: Bus) -> None:
        self._writer = writer
        self._bus = bus
        self._wanted: dict[SimKey, str | None] = {}
        self._asked: set[SimKey] = set()

    def switch(self, key: SimKey, reason: str | None) -> None:
        """Switch a SIM off for this reason; None: on."""
        self._wanted[key] = reason
        if key not in self._asked:
            self._ask(key)

    def again(self) -> None:
        """Ask once more for what the writer had no room for, or the database refused."""
        for key in self._wanted.keys() - self._asked:
            self._ask(key)

    def forget(self, device_id: str) -> None:
        """The device is no more."""
        for key in [key for key in self._wanted if key[0] == device_id]:
            del self._wanted[key]

    def _ask(self, key: SimKey) -> None:
        reason = self._wanted[key]

        def done(came: object) -> None:
            self._asked.discard(key)
            if isinstance(came, Exception) or key not in self._wanted:
                return
            self._bus.publish(SimSwitched(*key, reason))
            if self._wanted[key] == reason:
                del self._wanted[key]
            else:  # it was wanted otherwise meanwhile
                self._ask(key)

        if self._writer.post(sims.switch, Switch(key, reason), done):
            self._asked.add(key)
