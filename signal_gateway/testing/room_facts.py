"""What a history of rooms is read into: stays, links, signals, requests, and what was meant to be heard and was."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from protocol.frame import FrameType
from signal_gateway.domain.events import RoomChanged

WAS_MOVED_OUT = frozenset({"kicked", "banned"})
"""Reasons of leaving of which the one who left is told, too."""


@dataclass(slots=True, eq=False)
class Stay:
    """A client in a room. Times are seconds of the history, `joined_at` and `left_at` milliseconds as the archive has them."""

    room_id: str
    client_id: str
    role: str
    begun: int
    at: float
    joined_at: int
    ended: int | None = None
    ended_at: float = inf
    left_at: int | None = None
    final_status: str | None = None
    admissions: list[tuple[int, float, int]] = field(default_factory=list[tuple[int, float, int]])
    """Place, time and connection of each JOIN or CREATE that let it in, or in again."""

    undone: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    """Place and time of ends that a crash undid: the archive did not know of them any more."""

    def covers(self, since: float, until: float) -> bool:
        """Whether it lasted all the time, and did not begin anew in it."""
        return self.at < since and self.ended_at >= until and not any(since <= at <= until for _, at, _ in self.admissions if at > self.at)


@dataclass(slots=True, eq=False)
class Holding:
    """A connection speaks for a client."""

    client_id: str
    link: int
    begun: int
    at: float
    ended_at: float = inf


@dataclass(slots=True, eq=False)
class Signal:
    """Something that a member said."""

    mark: str
    kind: FrameType
    client_id: str
    link: int
    place: int
    at: float
    room_id: str | None
    to: str | None
    is_implied: bool
    """It came with a CREATE or JOIN, and the gateway decides to whom it goes."""
    is_refused: bool = False

    @property
    def number(self) -> int:
        """How many were said by the same link's owner before."""
        return int(self.mark.rpartition("/")[2].rstrip(";"))

    @property
    def is_candidate(self) -> bool:
        """Whether it is no description."""
        return self.kind == FrameType.SIGNAL_ICE_CANDIDATE


@dataclass(slots=True, eq=False)
class Request:
    """CREATE, JOIN or LEAVE, and the answer that was heard."""

    kind: FrameType
    client_id: str
    link: int
    place: int
    at: float
    room_id: str | None
    answered: int | None = None
    answered_at: float = inf
    status: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client heard of a room: a signal by its mark, an event by its fields, or an answer that is yes."""

    key: Any
    client_id: str
    link: int
    place: int
    at: float
    room_id: str
    source: str | None = None
    """Who said it, as it is told."""
    ends: bool = False
    """Whether nothing more may be heard of the room."""


@dataclass(frozen=True, slots=True)
class Due:
    """What the gateway meant to tell a client now."""

    key: Any
    client_id: str
    place: int
    at: float
    room_id: str
    sits: bool
    """Whether the client sat in the room."""


@dataclass(frozen=True, slots=True)
class Change:
    """Somebody came or went, or the room was over, as it was told when it happened."""

    place: int
    at: float
    event: RoomChanged
    others: Mapping[str, bool]
    """Everybody else who sat there, and whether they had a link."""
