"""Rooms: who sits in one, who may come, and what ends it (S-20 to S-30; CONTRACT.md §7). Rules without a clock; times are arguments.

One client sends, several receive. A client whose link is lost keeps its seat for a grace, and a room goes on as long as somebody sits in
it. What is over does not begin again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import msgspec

from signal_gateway.domain.errors import AlreadyInRoom, Forbidden, InvalidRole, RoomFull

SenderLeaves = Literal["close", "promote", "wait"]
P2P = "p2p"
"""The `app_id` of a room on no media backend: its members talk to each other directly, and the session of each is its link's own."""


class RoomState(StrEnum):
    """Of a room's life (S-27, C-14)."""

    PENDING = "pending"
    """Made by an operator, and nobody has come yet."""
    ACTIVE = "active"
    INACTIVE = "inactive"
    """Over, because everybody has left."""
    TERMINATED = "terminated"
    """Over, because it was ended: by an operator, by its sender's leaving, by time."""


class RoomRole(StrEnum):
    """What a member does (S-25)."""

    SENDER = "sender"
    RECEIVER = "receiver"


class Leaving(StrEnum):
    """How a stay ended (S-39)."""

    VOLUNTARY = "voluntary_disconnect"
    LOST = "disconnected"
    KICKED = "kicked"
    BANNED = "banned"
    ENDED = "room_ended"
    """The room ended around it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomRules:
    """What holds for every room. Seconds."""

    receivers_max: int = 50
    grace_s: float = 20.0
    """For which a lost link keeps its seat, and a room whose sender has left waits for another one."""
    empty_s: float = 300.0
    """For which a room that was made waits for its first member."""
    life_s: float = 86_400.0
    sender_leaves: SenderLeaves = "wait"
    signals_held_max: int = 200
    """For one seat: candidates before their description, and what comes while its link is lost. For those to come: candidates to all."""


class StayEnd(msgspec.Struct, frozen=True):
    """How a stay ended: `at` is in milliseconds since 1970, UTC; `by` is a client, an operator or the server."""

    at: int
    reason: str
    leaving: Leaving
    by: str


class RoomEnd(msgspec.Struct, frozen=True):
    """How a room ended."""

    at: int
    state: RoomState
    reason: str
    by: str


@dataclass(slots=True, eq=False)
class Seat:
    """One member's place. `generation` is of the link that it is reached by, `joined_by` of the one that asked to come in."""

    client_id: str
    role: RoomRole
    stay_id: str
    session_id: str
    joined_at: int
    """Milliseconds since 1970, UTC."""
    generation: int
    joined_by: int
    metadata: Mapping[str, Any] | None = None
    lost_at_s: float | None = None
    """Since when it has no link; None while it has one."""
    described_by: set[str] = field(default_factory=set[str])
    """Members whose offer or answer it was given: from then on their candidates mean something to it."""
    early: dict[str, list[object]] = field(default_factory=dict[str, list[object]])
    """Candidates that came before their description, by sender."""
    early_since_s: dict[str, float] = field(default_factory=dict[str, float])
    """Since when the first of them waits."""
    held: list[object] = field(default_factory=list[object])
    """What is to be said when its link is back."""
    end: StayEnd | None = None
    """Set once it has been given up."""

    def begin_anew(self) -> None:
        """The client has nothing of before: its page was loaded again, say."""
        self.described_by.clear()
        self.early.clear()
        self.early_since_s.clear()
        self.held.clear()

    def forget(self, client_id: str) -> None:
        """Whoever this is, what they said before means nothing any more."""
        self.described_by.discard(client_id)
        self.early.pop(client_id, None)
        self.early_since_s.pop(client_id, None)

    def overdue(self, until_s: float) -> list[list[object]]:
        """Early candidates that have waited since then or longer, taken out; from now on those who sent them need not describe first."""
        if not self.early:
            return []
        clients = [client_id for client_id, since_s in self.early_since_s.items() if since_s <= until_s]
        self.described_by.update(clients)
        for client_id in clients:
            del self.early_since_s[client_id]
        return [self.early.pop(client_id) for client_id in clients if client_id in self.early]


@dataclass(slots=True, eq=False)
class Room:
    """One room that is not over. `began_at_s` and all other times in seconds are of the monotonic clock."""

    room_id: str
    created_at: int
    created_by: str
    began_at_s: float
    metadata: Mapping[str, Any] | None = None
    seats: dict[str, Seat] = field(default_factory=dict[str, Seat])
    banned: set[str] = field(default_factory=set[str])
    offer: object | None = None
    """What its sender offered to all, for those who are still to come (C-07)."""
    candidates: list[object] = field(default_factory=list[object])
    """And the candidates that belong to it, or, without one, to what it will offer: to all, or to each who comes."""
    senderless_since_s: float | None = None
    """Since when receivers wait for another sender."""
    stays: int = 0
    """How many there were."""
    is_made: bool = False
    """By an operator, for others."""
    app_id: str = P2P
    """On what it stands: P2P, or the media backend's name for the application. The first who comes decides, for all."""
    end: RoomEnd | None = None
    sent_last: tuple[str, str] | None = None
    """Client and session of the last one who sent and has gone; None before the first."""

    @property
    def state(self) -> RoomState:
        """Pending until the first member comes."""
        if self.end is not None:
            return self.end.state
        return RoomState.ACTIVE if self.stays else RoomState.PENDING

    @property
    def sender(self) -> Seat | None:
        """Who sends, if anybody does."""
        return next((seat for seat in self.seats.values() if seat.role is RoomRole.SENDER), None)

    @property
    def sends_or_sent(self) -> tuple[str, str] | None:
        """Client and session of the one who sends, or who did last."""
        sender = self.sender
        return self.sent_last if sender is None else (sender.client_id, sender.session_id)

    def others(self, client_id: str) -> Iterator[Seat]:
        """Everybody but this one."""
        return (seat for seat in self.seats.values() if seat.client_id != client_id)

    def admit(self, client_id: str, role_word: str, generation: int, rules: RoomRules) -> RoomRole:
        """The role in which a client may come in, or come back. Raises InvalidRole, AlreadyInRoom, RoomFull, Forbidden.

        One that has a seat comes back to it by another link than the one that took it: its page was loaded again, or the link was lost.
        """
        role = role_of(role_word)
        if client_id in self.banned:
            raise Forbidden("Client was banned from this room", "banned")
        seat = self.seats.get(client_id)
        if seat is not None:
            if seat.joined_by == generation:
                raise AlreadyInRoom
            if seat.role is not role:
                raise InvalidRole
            return role
        if role is RoomRole.SENDER and self.sender is not None:
            raise InvalidRole
        if role is RoomRole.RECEIVER and self._receivers() >= rules.receivers_max:
            raise RoomFull
        return role

    def sit(self, seat: Seat) -> None:
        """Take a new seat."""
        self.seats[seat.client_id] = seat
        self.stays += 1
        if seat.role is RoomRole.SENDER:
            self.senderless_since_s = None

    def sit_again(self, seat: Seat, session_id: str, generation: int) -> None:
        """Take the seat that was kept. The connections to all others are to be made anew."""
        seat.session_id, seat.generation, seat.joined_by, seat.lost_at_s = session_id, generation, generation, None
        seat.begin_anew()
        for other in self.others(seat.client_id):
            other.forget(seat.client_id)
        if seat.role is RoomRole.SENDER:
            self.withdraw_offer()

    def rise(self, client_id: str) -> None:
        """Give up a seat."""
        self.sent_last = self.sends_or_sent
        seat = self.seats.pop(client_id)
        for other in self.seats.values():
            other.forget(client_id)
        if seat.role is RoomRole.SENDER:
            self.withdraw_offer()

    def clear(self) -> None:
        """It is over: all seats are given up."""
        self.sent_last = self.sends_or_sent
        self.seats.clear()

    def withdraw_offer(self) -> None:
        """What was offered to all holds no more."""
        self.offer = None
        self.candidates.clear()

    def promote(self) -> Seat | None:
        """The receiver who has been here longest sends from now on: of those who have a link, if anybody has."""
        seat = min(self.seats.values(), key=lambda seat: seat.lost_at_s is not None, default=None)
        if seat is not None:
            seat.role = RoomRole.SENDER
        return seat

    def over_at_s(self, rules: RoomRules) -> float:
        """When time ends the room, if nothing happens before."""
        ends_at = self.began_at_s + rules.life_s
        if not self.stays:
            ends_at = min(ends_at, self.began_at_s + rules.empty_s)
        if self.senderless_since_s is not None:
            ends_at = min(ends_at, self.senderless_since_s + rules.grace_s)
        return ends_at

    def lost_for_good(self, now_s: float, rules: RoomRules) -> list[Seat]:
        """The seats whose grace is over."""
        until_s = now_s - rules.grace_s
        return [seat for seat in self.seats.values() if seat.lost_at_s is not None and seat.lost_at_s <= until_s]

    def _receivers(self) -> int:
        return sum(seat.role is RoomRole.RECEIVER for seat in self.seats.values())


def role_of(word: str) -> RoomRole:
    """The role that a word means, however it is written (C-16). Raises InvalidRole."""
    try:
        return RoomRole(word.lower())
    except ValueError:
        raise InvalidRole from None
