"""How often somebody may be wrong (H04): failures are remembered for a minute, per key, in a table that cannot grow for ever."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

IPV6_NETWORK_BITS = 64


class FailedAttempts:
    """The newest failures of each key within a sliding window. A `limit` of 0 means unlimited.

    At most `entries_max` keys are remembered; beyond that the one whose last failure is oldest is forgotten, and `forgotten` counts it.
    """

    def __init__(self, limit: int, window_s: float, entries_max: int) -> None:
        self._limit = limit
        self._window_s = window_s
        self._entries_max = entries_max
        self._failed_at: OrderedDict[Hashable, deque[float]] = OrderedDict()
        self.forgotten = 0

    def __len__(self) -> int:
        return len(self._failed_at)

    def wait_s(self, key: Hashable, now_s: float) -> float:
        """0.0 while the key may try, else the seconds until it may."""
        failed_at = self._failed_at.get(key)
        if failed_at is None or len(failed_at) < self._limit:
            return 0.0
        return max(0.0, failed_at[0] + self._window_s - now_s)

    def add(self, key: Hashable, now_s: float) -> None:
        """The key failed once more."""
        if self._limit <= 0:
            return
        failed_at = self._failed_at.get(key)
        if failed_at is None:
            failed_at = self._failed_at[key] = deque(maxlen=self._limit)
        failed_at.append(now_s)
        self._failed_at.move_to_end(key)
        self._forget(now_s)

    def _forget(self, now_s: float) -> None:
        """Drop what is older than the window, a little at a time, and what is too much."""
        for _ in range(2):
            key, failed_at = next(iter(self._failed_at.items()))
            if now_s - failed_at[-1] < self._window_s:
                break
            del self._failed_at[key]
        while len(self._failed_at) > self._entries_max:
            self._failed_at.popitem(last=False)
            self.forgotten += 1


@lru_cache(maxsize=4096)
def counted_address(address: str) -> str:
    """The address under which failures are counted. An IPv6 host commands its whole /64, so that is counted as one."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    network = int(ip) >> IPV6_NETWORK_BITS << IPV6_NETWORK_BITS
    return f"{IPv6Address(network)}/{IPV6_NETWORK_BITS}"
