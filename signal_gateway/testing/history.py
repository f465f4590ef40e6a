"""What happened in a simulated world, in order: the ground for comparing two runs, and for the checker.

An entry is cheap, since it keeps what it tells of as it is; text is made of it when somebody asks for the digest.
"""

import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from hashlib import sha256
from typing import Any, NamedTuple

import trio

from signal_gateway.bus.local import LocalBus
from signal_gateway.observe.metrics import Metrics
from signal_gateway.testing.handset import Effect

GATEWAY, LOG, DATABASE, NETWORK, SIMULATION = "gateway", "log", "database", "network", "simulation"
"""Who tells, beside the devices, which tell under their own names."""
OF_THE_GATEWAY = frozenset({GATEWAY, LOG, DATABASE})

EFFECT = "effect"
"""What a device did in the world because it was told to; it belongs to no link."""

LINK: ContextVar[int] = ContextVar("LINK", default=0)
"""The number of the connection that the running task belongs to; 0 where it belongs to none."""

WALL_CLOCK = ("handle_seconds", "lane_wake_seconds")
"""Metrics of real time: they differ from run to run."""


class Entry(NamedTuple):
    """One thing that happened. `about` must have the same `repr` in every process: no set of texts, nothing that shows an address."""

    at: float
    """Seconds of Trio's clock since the history began."""
    who: str
    """GATEWAY, LOG, DATABASE, NETWORK, SIMULATION, or the device."""
    link: int
    """The number of the connection; 0 where it is none's."""
    what: str
    """A word: `sent`, `heard`, `committed`, the name of an event of the bus…"""
    about: Any = None
    """The message, the event, the statements."""


class History:
    """An append-only list of entries. With `quiet`, log lines are kept here and written nowhere else."""

    def __init__(self, quiet: bool = False) -> None:
        self.entries: list[Entry] = []
        self.hears_gateway = True
        """Not from a crash to the beginning of the next world: what the dying one does there has no consequence."""
        self._begun_at = trio.current_time()
        self._quiet = quiet

    def now_s(self) -> float:
        """Seconds since the history began."""
        return trio.current_time() - self._begun_at

    def note(self, who: str, what: str, about: Any = None, link: int | None = None) -> None:
        """This happened now; `link` is that of the running task where it is not given."""
        if who in OF_THE_GATEWAY and not self.hears_gateway:
            return
        self.entries.append(Entry(self.now_s(), who, LINK.get() if link is None else link, what, about))

    def note_line(self, level: str, fields: Mapping[str, Any]) -> bool:
        """See `lines_told_to`: a log line. An exception is named by its class and its words."""
        told = {name: value for name, value in fields.items() if name not in ("event", "exc_info")}
        if fields.get("exc_info"):
            error = sys.exception()
            told["error"] = f"{type(error).__name__}: {error}"
        self.note(LOG, str(fields["event"]), (level, *told.items()))
        return not self._quiet

    def note_commit(self, number: int, writes: Sequence[str]) -> None:
        """See InlineDatabase.tell_commits."""
        self.note(DATABASE, "committed", (number, *writes))

    def note_fault(self, link: int, what: str) -> None:
        """See faults.Tell."""
        self.note(NETWORK, what, link=link)

    def note_effect(self, effect: Effect) -> None:
        """A command did something in the world, whatever the gateway will be told of it."""
        self.note(effect.device_id, EFFECT, effect, link=0)

    def effects(self) -> list[Effect]:
        """All that commands did, in order."""
        return [entry.about for entry in self.entries if entry.what == EFFECT]

    def note_metrics(self, metrics: Metrics) -> None:
        """Every number that the gateway tells of itself, those of real time left out."""
        samples = [
            (sample.name, *sorted(sample.labels.items()), sample.value)
            for family in metrics.collect()
            if not family.name.endswith(WALL_CLOCK)
            for sample in family.samples
        ]
        self.note(GATEWAY, "metrics", tuple(samples))

    def digest(self) -> str:
        """SHA-256 of all entries, in hex: equal for two runs in which the same things happened at the same times in the same order."""
        hashed = sha256()
        for entry in self.entries:
            hashed.update(repr(tuple(entry)).encode())
            hashed.update(b"\n")
        return hashed.hexdigest()


class NotingBus(LocalBus):
    """The bus of a world: every event is noted before its subscribers hear it."""

    def __init__(self, metrics: Metrics, history: History) -> None:
        super().__init__(metrics)
        self._history = history

    def publish(self, event: object) -> None:
        """See Bus.publish."""
        self._history.note(GATEWAY, type(event).__name__, event)
        super().publish(event)
