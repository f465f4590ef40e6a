"""Commands for any phone, of the fleet or of a group: each goes to the linked phone that can send it best (PEERS: SIM economics)."""

from bisect import insort
from collections.abc import Iterable, Mapping
from itertools import islice

from signal_gateway.domain.command import Command, Wait
from signal_gateway.domain.events import DeviceLinked
from signal_gateway.domain.principal import LinkKind
from signal_gateway.services.command_lanes import BUSY, NO_SUCH_SIM, Lane, Place, Turn, first_to_end, order_of
from signal_gateway.storage.lanes import PoolContents

LANES_WANTED_MAX = 64
"""Phones looked at anew in one turn, to find those that can send."""
AWAITED_MS = 500
"""So long a command waits for phones that are being read, one of which may be better than those that are in memory already."""
AWAITS_PHONES = Wait("order")


class CommandPool:
    """What stands in line for any phone. `lanes` are those of devices in memory, `linked` all devices that have a link."""

    def __init__(self, lanes: Mapping[str, Lane], linked: Mapping[str, DeviceLinked]) -> None:
        self._lanes = lanes
        self._linked = linked
        self.queue: list[Command] = []
        self.waits: dict[str, Wait] = {}
        self.has_more = False
        self.is_due = False
        """Whether something has come due that is not here, and must be read although others wait."""
        self.next_due_at: int | None = None
        self.is_loading = False
        self._awaiting_since: dict[str, int] = {}  # those for which a phone that may take them is being read
        self._claimed: set[str] = set()
        self._changed: set[str] = set()
        """What left the line since the read under way began: that may still show it."""

    @property
    def wants_more(self) -> bool:
        """Whether it should be read."""
        return not self.is_loading and (self.is_due or (self.has_more and not self.queue))

    def begin_to_read(self) -> None:
        """It is being read; what changes from now on may not be in what comes."""
        self._changed.clear()
        self.is_loading, self.is_due = True, False

    def missed(self) -> None:
        """Something changed while it was read: it must be read once more."""
        self.is_due = True

    def offer(self, command: Command) -> None:
        """One more stands in line."""
        self._claimed.discard(command.message_id)
        if self.is_loading:
            self.missed()
        if self.has_more and (not self.queue or order_of(command) > order_of(self.queue[-1])):
            return
        if all(each.message_id != command.message_id for each in self.queue):
            insort(self.queue, command, key=order_of)

    def remove(self, message_id: str) -> None:
        """It stands there no more."""
        if self.is_loading:
            self._changed.add(message_id)
        self.queue = [command for command in self.queue if command.message_id != message_id]

    def claim(self, message_id: str) -> None:
        """It is being given to a phone: what is read meanwhile still shows it."""
        self._claimed.add(message_id)
        self.remove(message_id)

    def settled(self, message_id: str) -> None:
        """It was given to a phone, or not."""
        self._claimed.discard(message_id)

    def fill(self, contents: PoolContents) -> None:
        """Take what was read."""
        self.is_loading = False
        known = self._claimed | self._changed
        self.queue = sorted((command for command in contents.queued if command.message_id not in known), key=order_of)
        self.has_more, self.next_due_at = not contents.is_all, contents.next_due_at

    def wanted_lanes(self) -> list[str]:
        """Phones that might send and are not in memory."""
        if not self.queue:
            return []
        phones = (device_id for device_id, event in self._linked.items() if event.kind == LinkKind.PHONE and device_id not in self._lanes)
        return list(islice(phones, LANES_WANTED_MAX))

    def next_ones(self, now_ms: int) -> list[tuple[Command, Lane, Place]]:
        """What may set out now, to which phone and by which SIM. In a phone's line each has the place of its priority and age."""
        self.waits.clear()
        phones = [lane for lane in self._lanes.values() if lane.device.kind == LinkKind.PHONE]
        turns = [(lane, Turn(lane, now_ms)) for lane in phones if lane.is_loaded]
        self._await(phones, now_ms)
        taken: set[str] = set()
        chosen: list[tuple[Command, Lane, Place]] = []
        for command in self.queue:
            if self._is_awaiting(command, now_ms):
                self.waits[command.message_id] = AWAITS_PHONES
                continue
            best: tuple[int, Lane, Place] | None = None
            waits: list[Wait] = []
            for lane, turn in turns:
                if not _may_take(lane, command):
                    continue
                offer = BUSY if lane.device.device_id in taken else turn.offer(command)
                if isinstance(offer, Wait):
                    waits.append(offer)
                elif best is None or offer[0] > best[0]:
                    best = offer[0], lane, offer[1]
            if best is None:
                able = [wait for wait in waits if wait != NO_SUCH_SIM]
                self.waits[command.message_id] = first_to_end(able) if able else Wait("no_phone")
                continue
            taken.add(best[1].device.device_id)
            chosen.append((command, best[1], best[2]))
        return chosen

    def _await(self, phones: Iterable[Lane], now_ms: int) -> None:
        """Note which commands have better wait for phones that are being read. One that has waited stays noted, and waits no more."""
        unread = [lane for lane in phones if not lane.is_loaded]
        groups = {lane.device.device_group for lane in unread}
        before, self._awaiting_since = self._awaiting_since, {}
        for command in self.queue if unread else ():
            is_of_them = command.device_group is None or command.device_group in groups
            if is_of_them and any(_may_take(lane, command) for lane in unread):
                self._awaiting_since[command.message_id] = before.get(command.message_id, now_ms)

    def _is_awaiting(self, command: Command, now_ms: int) -> bool:
        since = self._awaiting_since.get(command.message_id)
        return since is not None and 0 <= now_ms - since < AWAITED_MS  # below 0: the wall clock was set back

    def wakes_at(self, now_ms: int) -> int | None:
        """When to look again: a scheduled one comes due; one has awaited a phone long enough; while some wait for a phone, soon."""
        times = [] if self.next_due_at is None else [self.next_due_at]
        times += [since + AWAITED_MS for since in self._awaiting_since.values() if since + AWAITED_MS > now_ms]
        if self.queue:
            times.append(now_ms + 1000)
        return min(times, default=None)


def _may_take(lane: Lane, command: Command) -> bool:
    device = lane.device
    if command.device_group is not None and device.device_group != command.device_group:
        return False
    return command.scope is None or command.scope.allows(device.device_id, device.device_group)
