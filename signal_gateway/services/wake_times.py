"""When to look at something again, by name: of each name the earliest time is kept, for whoever is looked at says when to come next."""

from heapq import heappop, heappush


class WakeTimes:
    """Times are milliseconds since 1970, on the wall clock."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._at: dict[str, int] = {}

    def add(self, at_ms: int | None, name: str) -> bool:
        """Look at `name` then; None: at no time of its own. Whether that is earlier than was known."""
        if at_ms is None or at_ms >= self._at.get(name, float("inf")):
            return False
        self._at[name] = at_ms
        heappush(self._heap, (at_ms, name))
        return True

    def due(self, now_ms: int) -> list[str]:
        """Those whose time has come; they are kept no more."""
        names: list[str] = []
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, name = heappop(self._heap)
            if self._at.get(name) == at_ms:
                del self._at[name]
            names.append(name)
        return names

    def wait_s(self, now_ms: int) -> float:
        """Seconds until the next one; infinite when there is none."""
        return max(0.0, (self._heap[0][0] - now_ms) / 1000) if self._heap else float("inf")
