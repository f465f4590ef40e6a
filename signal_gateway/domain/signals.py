"""Signals between the members of a room: to whom one goes, and when (S-32, C-07; CONTRACT.md §7). What it says is nobody's business here.

A candidate means nothing before the offer or answer that it belongs to: one that overtakes it waits for it. What comes for a member whose
link is lost waits for the link. Both wait in bounded room, and nothing is dropped without its sender being told.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from signal_gateway.domain.errors import MemberNotFound, TooManySignals
from signal_gateway.domain.room import Room, RoomRole, RoomRules, Seat


class SignalKind(StrEnum):
    """What is signalled (S-03)."""

    OFFER = "offer"
    ANSWER = "answer"
    CANDIDATE = "candidate"


@dataclass(slots=True)
class Routed:
    """Where a signal goes now. `held` counts those that it waits for."""

    at_once: list[str] = field(default_factory=list[str])
    """Members who get it now."""
    after: list[tuple[str, object]] = field(default_factory=list[tuple[str, object]])
    """What they get behind it: candidates that waited for it."""
    held: int = 0


def goes_straight(room: Room, source: Seat, to: str) -> bool:
    """Whether a signal to this member has nothing to wait for, as nearly every one: `route` would say the same."""
    target = room.seats.get(to)
    return target is not None and target is not source and target.lost_at_s is None and source.client_id in target.described_by


def route(room: Room, source: Seat, kind: SignalKind, to: str | None, signal: object, rules: RoomRules, now_s: float) -> Routed:
    """To whom a member's signal goes: to one, or to all others. Raises MemberNotFound, TooManySignals.

    What the room's sender says to all is also kept for those who come later.
    """
    client_id = source.client_id
    if to is not None:
        target = room.seats.get(to)
        if target is None or target is source:
            raise MemberNotFound
        targets = [target]
    else:
        targets = list(room.others(client_id))
        if not _keep_for_later(room, source, kind, signal, rules) and not targets:
            raise MemberNotFound("Nobody else is in this room")
    routed = Routed()
    for target in targets:
        if kind is SignalKind.CANDIDATE and client_id not in target.described_by:
            target.early_since_s.setdefault(client_id, now_s)
        _give(target, client_id, kind, signal, routed, rules, is_only=to is not None)
    return routed


def welcome(room: Room, seat: Seat) -> list[object]:
    """What the room's sender offered to all, and the candidates that belong to it: for one who has just come in (C-07)."""
    sender = room.sender
    if sender is None or sender is seat or room.offer is None:
        return []
    seat.described_by.add(sender.client_id)
    return [room.offer, *room.candidates]


def _keep_for_later(room: Room, source: Seat, kind: SignalKind, signal: object, rules: RoomRules) -> bool:
    if source.role is not RoomRole.SENDER or kind is SignalKind.ANSWER:
        return False
    if kind is SignalKind.OFFER:
        if room.offer is not None:
            room.candidates.clear()
        room.offer = signal
    elif len(room.candidates) < rules.signals_held_max:
        room.candidates.append(signal)
    else:
        raise TooManySignals
    return True


def _give(target: Seat, client_id: str, kind: SignalKind, signal: object, routed: Routed, rules: RoomRules, *, is_only: bool) -> None:
    early: list[object] = []
    if kind is not SignalKind.CANDIDATE:
        target.described_by.add(client_id)
        if target.early:
            early = target.early.pop(client_id, early)
            target.early_since_s.pop(client_id, None)
    elif client_id not in target.described_by:
        _hold(target, target.early.setdefault(client_id, []), signal, rules, is_only=is_only)
        routed.held += 1
        return
    if target.lost_at_s is None:
        routed.at_once.append(target.client_id)
        routed.after.extend((target.client_id, each) for each in early)
        return
    for each in (signal, *early):
        _hold(target, target.held, each, rules, is_only=is_only)
        routed.held += 1


def _hold(target: Seat, line: list[object], signal: object, rules: RoomRules, *, is_only: bool) -> None:
    if len(target.held) + sum(map(len, target.early.values())) < rules.signals_held_max:
        line.append(signal)
    elif is_only:
        raise TooManySignals
