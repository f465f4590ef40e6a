"""Whether the gateway should get traffic: named checks, asked when somebody asks."""

from collections.abc import Callable
from typing import Any

Check = Callable[[], str | None]
"""None = fine, else the word why not. Asked often: it looks at memory, it never waits."""


class Health:
    """The checks of one gateway. Whoever knows something adds a check; a probe reads them all."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._told: set[str] = set()
        self.draining = False
        """Set when the gateway has begun to stop: no new traffic, please; what is under way goes on."""

    def add(self, name: str, check: Check, decides: bool = True) -> None:
        """Ask `check` from now on. A name is added once. Without `decides` its word is told, and the gateway is ready all the same: what
        it is about concerns a part of the traffic, and no other gateway would do better."""
        if name in self._checks:
            raise ValueError(f"there is a health check {name!r} already")
        self._checks[name] = check
        if not decides:
            self._told.add(name)

    def report(self) -> tuple[bool, dict[str, Any]]:
        """Whether the gateway is ready, and `{status, checks: {name: "ok" or why not}}`; status is ready, not_ready or draining."""
        checks = {name: check() or "ok" for name, check in self._checks.items()}
        ready = not self.draining and all(word == "ok" for name, word in checks.items() if name not in self._told)
        status = "draining" if self.draining else "ready" if ready else "not_ready"
        return ready, {"status": status, "checks": checks}
