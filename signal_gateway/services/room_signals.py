"""Signals between the members of a room (S-32): passed on at once, or kept for one whose link is lost; never lost in silence."""

from collections.abc import Sequence

import trio

from signal_gateway.bus.local import Bus
from signal_gateway.domain.errors import TooManySignals
from signal_gateway.domain.events import SignalDue
from signal_gateway.domain.room import Room, RoomRules, Seat
from signal_gateway.domain.signals import Routed, SignalKind, goes_straight, route, welcome
from signal_gateway.observe.metrics import Metrics


class RoomSignals:
    """Passes them on over the bus, and counts them. Nothing here waits."""

    def __init__(self, bus: Bus, rules: RoomRules, metrics: Metrics) -> None:
        self._bus = bus
        self._rules = rules
        self._limits = metrics.limits
        self._unheard: set[str] = set()  # of the signal that is passed on: members whose link is closing, and line full
        self._signals = metrics.counter("signals_total", "Signals between members of rooms, by kind and outcome.", ("kind", "outcome"))

    def pass_on(self, room: Room, seat: Seat, kind: SignalKind, to: str | None, signal: object) -> None:
        """A member's signal. Raises MemberNotFound, TooManySignals, which names those who do not get it if others do."""
        self._unheard.clear()
        if to is not None and goes_straight(room, seat, to):
            self._signals.values[kind, "relayed"] += 1
            self._bus.publish(SignalDue((to,), signal))
            if self._unheard:
                self._refuse([], is_for_all=False)
            return
        try:
            routed = route(room, seat, kind, to, signal, self._rules, trio.current_time())
        except TooManySignals:
            self._limits.add("rooms.signals_held_max")
            raise
        self._say(routed, kind, signal)
        if routed.pushes_out:
            self._limits.add("rooms.signals_held_max")
        if routed.unheard or self._unheard:
            self._refuse(routed.unheard, is_for_all=to is None)

    def welcome(self, room: Room, seat: Seat) -> None:
        """Give one who has come in what the sender said to all (C-07)."""
        routed = welcome(room, seat, trio.current_time())
        self._say(routed, SignalKind.OFFER if routed.at_once else SignalKind.CANDIDATE, room.offer)

    def missed(self, seat: Seat, signal: object) -> None:
        """A signal found no link of its member, whose end is under way: it is kept for the next one, or its sender is told."""
        if len(seat.held) < self._rules.signals_held_max:
            seat.held.append(signal)
        else:
            self._limits.add("rooms.signals_held_max")
            self._unheard.add(seat.client_id)

    def _say(self, routed: Routed, kind: SignalKind, signal: object) -> None:
        counts = self._signals.values
        if routed.at_once:
            counts[kind, "relayed"] += len(routed.at_once)
            self._bus.publish(SignalDue(routed.at_once, signal))
            for member_id, early in routed.after:
                counts[SignalKind.CANDIDATE, "relayed"] += 1
                self._bus.publish(SignalDue((member_id,), early))
        if routed.held:
            counts[kind, "held"] += routed.held

    def _refuse(self, unheard: Sequence[str], *, is_for_all: bool) -> None:
        if unheard:
            self._limits.add("rooms.signals_held_max")
        if not is_for_all:
            raise TooManySignals
        raise TooManySignals(
            "Too many signals wait for some members; all others have this one", {"unheard_by": sorted({*unheard, *self._unheard})}
        )
