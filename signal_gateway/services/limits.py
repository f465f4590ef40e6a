"""How much each client may say: its token buckets, kept across its links (CONTRACT.md §8)."""

from collections import OrderedDict
from weakref import WeakValueDictionary

import msgspec
import trio

from signal_gateway.domain.rate_limit import Rate, TokenBucket
from signal_gateway.observe.metrics import Metrics

SECONDS_PER_MINUTE = 60.0


class LimitsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[limits]`. A rate of 0 means unlimited; a burst is what may come at once."""

    data_per_s: float = 100.0
    """Heartbeats, reports and telemetry of one client."""
    data_burst: float = 200.0
    """Of these, at once."""
    control_per_min: float = 100.0
    """CONNECT, REGISTER, rooms, and commands from consoles."""
    control_burst: float = 100.0
    """Of these, at once."""
    signal_per_min: float = 300.0
    """Offers, answers and candidates."""
    signal_burst: float = 100.0
    """Of these, at once."""
    frames_per_s: float = 200.0
    """WebSocket frames of one link, whatever is in them: over it the socket is read later."""
    frames_burst: float = 400.0
    """Of these, at once."""
    clients_kept: int = 100_000
    """How many clients' buckets are kept at a time; beyond it the one asked for longest ago starts afresh."""
    forget_every_s: float = 60.0
    """How often buckets that are full again are forgotten."""

    def __post_init__(self) -> None:
        for name, burst in (("data_per_s", "data_burst"), ("control_per_min", "control_burst"), ("signal_per_min", "signal_burst")):
            _check(getattr(self, name), name, getattr(self, burst), burst)
        _check(self.frames_per_s, "frames_per_s", self.frames_burst, "frames_burst")
        if self.clients_kept < 1 or self.forget_every_s <= 0:
            raise ValueError("clients_kept and forget_every_s must be above 0")


def _check(rate: float, rate_name: str, burst: float, burst_name: str) -> None:
    if rate < 0:
        raise ValueError(f"{rate_name} must not be below 0 (0 means unlimited)")
    if rate > 0 and burst < 1:
        raise ValueError(f"{burst_name} must be at least 1, or nothing ever passes")


class ClientBuckets:
    """What one client has left, by class of message."""

    __slots__ = ("__weakref__", "control", "data", "signal")

    def __init__(self, data: Rate, control: Rate, signal: Rate, now_s: float) -> None:
        self.data = TokenBucket(data, now_s)
        self.control = TokenBucket(control, now_s)
        self.signal = TokenBucket(signal, now_s)

    def of(self, rate_class: str) -> TokenBucket:
        """The one of this class."""
        bucket: TokenBucket = getattr(self, rate_class)  # named as the classes are
        return bucket

    def is_full(self, now_s: float) -> bool:
        """Whether nothing is owed any more."""
        return self.data.is_full(now_s) and self.control.is_full(now_s) and self.signal.is_full(now_s)


class Limits:
    """The buckets of every client, found again when it reconnects, so that a new link is no new allowance.

    Forgotten once they are full; but while a link still holds the `ClientBuckets`, they are found for the next link too.
    """

    def __init__(self, settings: LimitsSettings, metrics: Metrics) -> None:
        self._data = Rate(settings.data_per_s, settings.data_burst)
        self._control = Rate(settings.control_per_min / SECONDS_PER_MINUTE, settings.control_burst)
        self._signal = Rate(settings.signal_per_min / SECONDS_PER_MINUTE, settings.signal_burst)
        self.frames = Rate(settings.frames_per_s, settings.frames_burst)
        """WebSocket frames of one link."""
        self._clients_kept = settings.clients_kept
        self._forget_every_s = settings.forget_every_s
        self._kept: OrderedDict[str, ClientBuckets] = OrderedDict()
        self._alive: WeakValueDictionary[str, ClientBuckets] = WeakValueDictionary()
        self._limits_reached = metrics.limits
        metrics.gauge("clients_limited", "Clients whose rate buckets are kept.", lambda: len(self._kept))

    @property
    def told(self) -> dict[str, float]:
        """What a client is told of its limits (CONNECT_ACK): messages a second or a minute, and at once."""
        data, control, signal = self._data, self._control, self._signal
        return {
            "data_per_s": data.per_s,
            "data_burst": data.burst,
            "control_per_min": control.per_s * SECONDS_PER_MINUTE,
            "control_burst": control.burst,
            "signal_per_min": signal.per_s * SECONDS_PER_MINUTE,
            "signal_burst": signal.burst,
        }

    def stranger(self) -> ClientBuckets:
        """Buckets for a link that has not said yet whose it is. Nobody finds them again."""
        return ClientBuckets(self._data, self._control, self._signal, trio.current_time())

    def client(self, client_id: str) -> ClientBuckets:
        """The client's buckets: the same ones for every link that it has."""
        buckets = self._kept.get(client_id) or self._alive.get(client_id)
        if buckets is None:
            buckets = ClientBuckets(self._data, self._control, self._signal, trio.current_time())
            self._alive[client_id] = buckets
        self._kept[client_id] = buckets
        self._kept.move_to_end(client_id)
        if len(self._kept) > self._clients_kept:
            self._kept.popitem(last=False)
            self._limits_reached.add("limits.clients_kept")
        return buckets

    async def run(self, *, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED) -> None:
        """Forget buckets that are full again, now and then."""
        task_status.started()
        while True:
            await trio.sleep(self._forget_every_s)
            now_s = trio.current_time()
            for client_id in [client_id for client_id, buckets in self._kept.items() if buckets.is_full(now_s)]:
                del self._kept[client_id]
