"""What members of a room are told of each other: at once, or, where their link is lost, when it is back."""

from collections.abc import Mapping, Sequence
from typing import Literal

from signal_gateway.bus.local import Bus
from signal_gateway.domain.events import RoomChanged, SignalDue
from signal_gateway.domain.room import Room, RoomRole, Seat
from signal_gateway.services.room_partings import RoomPartings

EVENTS: Mapping[str, Literal["member_joined", "member_left", "room_terminated"]] = {
    "joined": "member_joined",
    "left": "member_left",
    "over": "room_terminated",
}


class RoomNews:
    """Tells it over the bus. For one seat, `held_max` things wait at the most."""

    def __init__(self, bus: Bus, held_max: int, partings: RoomPartings) -> None:
        self._bus = bus
        self._held_max = held_max
        self._partings = partings

    def tell(
        self, room: Room, what: str, client_id: str, role: RoomRole | None, reason: str | None = None, also: Sequence[Seat] = ()
    ) -> None:
        """Tell the others, and `also` these, that this client has "joined" or "left", or that all is "over"."""
        event, role_word = EVENTS[what], "" if role is None else role.value
        linked: list[str] = []
        for seat in (*room.others(client_id), *also):
            if seat.lost_at_s is None:
                linked.append(seat.client_id)
                continue
            later = RoomChanged(room.room_id, event, client_id, role_word, reason, (seat.client_id,))
            if what == "over" or seat.client_id not in room.seats:
                self._partings.keep(later, seat.lost_at_s, seat.generation)
            elif len(seat.held) < self._held_max:
                seat.held.append(later)
        self._bus.publish(RoomChanged(room.room_id, event, client_id, role_word, reason, tuple(linked)))

    def give_held(self, seat: Seat) -> None:
        """The member's link is back: it hears what was said meanwhile, signals among it."""
        seat.lost_at_s = None
        held, seat.held = seat.held, []
        for waited in held:
            self._bus.publish(waited if isinstance(waited, RoomChanged) else SignalDue((seat.client_id,), waited))

    def give_late(self, seat: Seat, early: Sequence[object]) -> None:
        """Candidates whose description did not come: their member may make something of them, and nobody is left without a word."""
        if seat.lost_at_s is not None:
            seat.held.extend(early)
            return
        for signal in early:
            self._bus.publish(SignalDue((seat.client_id,), signal))
