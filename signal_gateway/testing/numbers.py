"""What a simulated fleet counts of itself: for a table that people read, and for tests."""

from collections import Counter, deque
from dataclasses import dataclass, field

LATENCIES_KEPT = 10_000


@dataclass(slots=True)
class FleetNumbers:
    """Counted by every device of one fleet. Latencies are in seconds, of the last 10,000 answers."""

    links: int = 0
    """Open now."""
    links_most: int = 0
    """Open at one time, at the most."""
    sent: Counter[str] = field(default_factory=Counter[str])
    """Messages sent, by type."""
    heard: Counter[str] = field(default_factory=Counter[str])
    """Messages heard, by type."""
    commands: Counter[str] = field(default_factory=Counter[str])
    """Commands heard, by kind."""
    results: Counter[str] = field(default_factory=Counter[str])
    """What phones reported about commands, by type and status: `sms_log sent`, `sms_delivery_report delivered`, `ussd_response …`."""
    effects: Counter[str] = field(default_factory=Counter[str])
    """What commands did in the world, by kind: `send_sms`, `ussd`, `send_rcs`, `find_device`, …"""
    calls: Counter[str] = field(default_factory=Counter[str])
    """Calls of agents: made, completed, broken."""
    failures: Counter[str] = field(default_factory=Counter[str])
    """What went wrong, in words: refused links, lost links, answers that did not come."""
    latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_KEPT))

    def link_opened(self) -> None:
        """One more link is open."""
        self.links += 1
        self.links_most = max(self.links_most, self.links)

    def latency_s(self, share: float) -> float:
        """The latency that `share` (0 to 1) of the answers stayed below; 0 when there were none."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
