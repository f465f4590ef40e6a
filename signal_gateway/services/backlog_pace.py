"""What has waited goes out at a pace that leaves the process room for whatever else its links say.

A thousand phones that come back to full queues would be sent the next command in the moment in which they have done the one before: the
loop and the database's thread would never rest, and every other link would wait some 20 ms for each answer. So lanes that nobody has just
asked something of take turns, one each TURN_S at the most, for as long as the process uses less than its share of a core.
"""

import time
from collections.abc import Callable
from itertools import islice

import trio

from signal_gateway.observe.metrics import Metrics

TURN_S = 0.002
"""Between two of them: one transaction and one answer, instead of many at once."""
SLOWEST_S = 0.01
"""However busy the process is, one goes after so long: a hundred a second."""
LOOKS_AT_ONCE = 16
"""Of those that have nothing to send, so many are looked at before others of the loop get their turn."""
SAVED_MAX_S, OWED_MAX_S = 0.01, 0.05
"""Processor time that was left over, or was used too much, beyond which no account is kept of it."""


class BacklogPace:
    """Devices whose lanes are to be looked at when there is time. All in the Trio thread."""

    def __init__(self, share: float, metrics: Metrics) -> None:
        self._share = share
        self._names: dict[str, None] = {}
        self._hurried: set[str] = set()
        self._limits = metrics.limits
        self.cpu_s: Callable[[], float] = time.process_time
        """Processor time that the process has used, in seconds; a simulated world has none."""
        self._used_s = self._saved_s = 0.0
        self._at_s = self._went_at_s = float("-inf")
        metrics.gauge("command_lanes_waiting", "Linked devices whose commands wait for their turn.", lambda: len(self._names))

    def __len__(self) -> int:
        return len(self._names)

    @property
    def is_off(self) -> bool:
        """Whether everybody goes at once."""
        return self._share >= 1

    def add(self, device_id: str) -> bool:
        """Its lane is to be looked at in its turn. Whether others wait, too."""
        others_wait = bool(self._names)
        self._names[device_id] = None
        return others_wait

    def hurry(self, device_id: str) -> None:
        """Its lane has to be read first, for a new command, which waits for no turn then."""
        self._hurried.add(device_id)

    def is_in_a_hurry(self, device_id: str) -> bool:
        """Whether its lane was read for a new command; asked once."""
        is_hurried = device_id in self._hurried
        self._hurried.discard(device_id)
        return is_hurried

    def forget(self, device_id: str) -> None:
        """It has no link any more."""
        self._hurried.discard(device_id)
        self._names.pop(device_id, None)

    def give_turns(self, look: Callable[[str], bool]) -> None:
        """If it is anybody's turn yet, have them looked at, first come first served, until one sends something, which `look` tells."""
        now_s = trio.current_time()
        if not self._names or not self._may_go(now_s):
            return
        for device_id in list(islice(self._names, LOOKS_AT_ONCE)):
            del self._names[device_id]
            if look(device_id):
                self._went_at_s = now_s
                return

    def _may_go(self, now_s: float) -> bool:
        since_s = now_s - self._went_at_s
        if since_s < TURN_S:
            return False
        used_s = self.cpu_s()
        saved_s = self._saved_s + self._share * (now_s - self._at_s) - (used_s - self._used_s)
        self._saved_s = max(-OWED_MAX_S, min(SAVED_MAX_S, saved_s))
        self._at_s, self._used_s = now_s, used_s
        if self._saved_s > 0 or since_s >= SLOWEST_S:
            return True
        self._limits.add("commands.backlog_cpu")
        return False
