"""Signals between the members of a room: to whom one goes, and when (S-32, C-07; CONTRACT.md §7). What it says is nobody's business here.

A candidate means nothing before the offer or answer that it belongs to: one that overtakes it waits for it. What comes for a member whose
link is lost waits for the link. Both wait in bounded room, and nothing is dropped without its sender being told: of what is for all, who
does not get it. Of the candidates that all others have heard, the newest are kept for those who are still to come.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from signal_gateway.domain.errors import MemberNotFound, TooManySignals
from signal_gateway.domain.room import Room, RoomRole, RoomRules, Seat


class SignalKind(StrEnum):
    """What is signalled (S-03)."""

    __hash__ = str.__hash__  # that of an enumeration is a function in Python, and every signal is counted by its kind

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
    unheard: list[str] = field(default_factory=list[str])
    """Members for whom as much waits as may: they neither get it nor will. The sender is to be told."""
    pushes_out: bool = False
    """Whether an older candidate is kept no longer for those who are still to come, since this one is."""


def goes_straight(room: Room, source: Seat, to: str) -> bool:
    """Whether a signal to this member has nothing to wait for, as nearly every one: `route` would say the same."""
    target = room.seats.get(to)
    return target is not None and target is not source and target.lost_at_s is None and source.client_id in target.described_by


def route(room: Room, source: Seat, kind: SignalKind, to: str | None, signal: object, rules: RoomRules, now_s: float) -> Routed:
    """To whom a member's signal goes: to one, or to all others. Raises MemberNotFound; TooManySignals, when nothing of it has happened.

    What the room's sender says to all is also kept for those who come later.
    """
    client_id, routed = source.client_id, Routed()
    if to is not None:
        target = room.seats.get(to)
        if target is None or target is source:
            raise MemberNotFound
        targets = [target]
    else:
        targets = list(room.others(client_id))
        if source.role is RoomRole.SENDER and kind is not SignalKind.ANSWER:
            routed.pushes_out = _keep_for_later(room, kind, signal, rules, is_alone=not targets)
        elif not targets:
            raise MemberNotFound("Nobody else is in this room")
    for target in targets:
        _give(target, client_id, kind, signal, routed, rules, now_s)
    if to is not None and routed.unheard:
        raise TooManySignals
    return routed


def welcome(room: Room, seat: Seat, now_s: float) -> Routed:
    """Give one who has just come in what the room's sender offered to all, and the candidates that belong to it (C-07).

    Where nothing was offered to all, the candidates are early: they wait for what their sender offers to this one.
    """
    sender = room.sender
    if sender is None or sender is seat:
        return Routed()
    if room.offer is not None:
        seat.described_by.add(sender.client_id)
        return Routed([seat.client_id], [(seat.client_id, candidate) for candidate in room.candidates])
    if room.candidates:
        seat.early[sender.client_id] = room.candidates.copy()
        seat.early_since_s[sender.client_id] = now_s
    return Routed(held=len(room.candidates))


def _keep_for_later(room: Room, kind: SignalKind, signal: object, rules: RoomRules, *, is_alone: bool) -> bool:
    """Whether an older candidate had to go for this one. Raises TooManySignals for a sender who is alone: some would reach nobody."""
    if kind is SignalKind.OFFER:
        if room.offer is not None:
            room.candidates.clear()
        room.offer = signal
        return False
    is_full = len(room.candidates) >= rules.signals_held_max
    if is_full and is_alone:
        raise TooManySignals("Too many signals wait for those who are still to come")
    room.candidates.append(signal)
    if is_full:
        del room.candidates[0]
    return is_full


def _give(target: Seat, client_id: str, kind: SignalKind, signal: object, routed: Routed, rules: RoomRules, now_s: float) -> None:
    is_early = kind is SignalKind.CANDIDATE and client_id not in target.described_by
    if not is_early and target.lost_at_s is None:
        routed.at_once.append(target.client_id)
        routed.after.extend((target.client_id, each) for each in _described(target, client_id, kind))
    elif len(target.held) + sum(map(len, target.early.values())) >= rules.signals_held_max:
        routed.unheard.append(target.client_id)
    elif is_early:
        target.early.setdefault(client_id, []).append(signal)
        target.early_since_s.setdefault(client_id, now_s)
        routed.held += 1
    else:
        early = _described(target, client_id, kind)  # these were counted as waiting before: they need no more room
        target.held += (signal, *early)
        routed.held += 1 + len(early)


def _described(target: Seat, client_id: str, kind: SignalKind) -> list[object]:
    """An offer or answer makes something of the candidates that overtook it: these."""
    if kind is SignalKind.CANDIDATE:
        return []
    target.described_by.add(client_id)
    target.early_since_s.pop(client_id, None)
    return target.early.pop(client_id, [])
