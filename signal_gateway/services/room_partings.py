"""What becomes of those who lose a seat while their link is lost: they are told so when they come back, if they do within the grace.

Without that a member would go on in a room that is over, or that it was taken out of, and never learn why nothing it says is heard.
"""

from collections.abc import Callable
from dataclasses import dataclass

import trio

from signal_gateway.bus.local import Bus
from signal_gateway.domain.events import ClientUnregistered, DeviceDeleted, DeviceLinked, RoomChanged
from signal_gateway.domain.principal import Caller
from signal_gateway.observe.metrics import Metrics

NO_GENERATION = -1


@dataclass(frozen=True, slots=True)
class _Parting:
    event: RoomChanged
    generation: int
    """Of the link that was lost, if it may be heard again."""
    until_s: float


class RoomPartings:
    """Keeps the last word of each room for each client, for `grace_s` from the loss of its link, and for `kept_max` clients at the most."""

    def __init__(self, bus: Bus, kept_max: int, grace_s: float, metrics: Metrics) -> None:
        self._bus = bus
        self._kept_max = kept_max
        self._grace_s = grace_s
        self._limits = metrics.limits
        self._of_client: dict[str, dict[str, _Parting]] = {}  # whoever lost a seat last is the last
        bus.subscribe(DeviceLinked, self._hear_linked)
        bus.subscribe(ClientUnregistered, lambda event: self._forget(event.client_id))
        bus.subscribe(DeviceDeleted, lambda event: self._forget(event.device_id))

    def keep(self, event: RoomChanged, lost_at_s: float, generation: int = NO_GENERATION) -> None:
        """This is to be told to the one client that it is for, whose link was lost then."""
        (client_id,) = event.to
        known = self._of_client.pop(client_id, {})
        known[event.room_id] = _Parting(event, generation, lost_at_s + self._grace_s)
        self._of_client[client_id] = known
        if len(self._of_client) > self._kept_max:
            self._limits.add("rooms.partings_kept")
            del self._of_client[next(iter(self._of_client))]

    def give(self, caller: Caller) -> None:
        """The client is back by a new link. A guest hears of the room of its link alone: another may have had its id."""
        self._give(caller.client_id, lambda parting: caller.room_id in (None, parting.event.room_id))

    def sweep(self, now_s: float) -> None:
        """Forget those who did not come back in time."""
        for client_id, known in list(self._of_client.items()):
            if all(parting.until_s < now_s for parting in known.values()):
                del self._of_client[client_id]

    def _forget(self, client_id: str) -> None:
        """Its record is gone: the id may be another one's when it comes again."""
        self._of_client.pop(client_id, None)

    def _hear_linked(self, event: DeviceLinked) -> None:
        """The very link is heard again after a silence. To a new one it is `given`, once it has been told that it is in."""
        self._give(event.device_id, lambda parting: parting.generation == event.generation)

    def _give(self, client_id: str, is_for_it: Callable[[_Parting], bool]) -> None:
        known, now_s = self._of_client.pop(client_id, None), trio.current_time()
        if known is None:
            return
        others = {room_id: parting for room_id, parting in known.items() if not is_for_it(parting)}
        if others:
            self._of_client[client_id] = others
        for room_id, parting in known.items():
            if room_id not in others and now_s <= parting.until_s:
                self._bus.publish(parting.event)
