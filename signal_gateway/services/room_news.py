"""What members of a room are told of each other: at once, or, where their link is lost, when it is back."""

from collections.abc import Mapping, Sequence
from typing import Literal

from signal_gateway.bus.local import Bus
from signal_gateway.domain.events import RoomChanged, SignalDue
from signal_gateway.domain.room import Room, RoomRole, Seat
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.room_partings import RoomPartings

EVENTS: Mapping[str, Literal["member_joined", "member_left", "room_terminated"]] = {
    "joined": "member_joined",
    "left": "member_left",
    "over": "room_terminated",
}


class RoomNews:
    """Tells it over the bus. Of what waits for one seat, no more than `held_max` things may be of those who came and went meanwhile."""

    def __init__(self, bus: Bus, held_max: int, partings: RoomPartings, metrics: Metrics) -> None:
        self._bus = bus
        self._held_max = held_max
        self._partings = partings
        self._limits = metrics.limits

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
            else:
                self.keep(seat, later)
        self._bus.publish(RoomChanged(room.room_id, event, client_id, role_word, reason, tuple(linked)))

    def keep(self, seat: Seat, news: RoomChanged) -> None:
        """A member whose link is lost is to hear this when it is back, however many signals wait: what is news no more makes room.

        So of each who sat there, or sits there, four things wait at the most. Of one who came and went meanwhile that they went, as far as
        there is room: it has a meaning only to who hears their signals.
        """
        known = [each for each in seat.held if isinstance(each, RoomChanged) and each.client_id == news.client_id]
        came_since = bool(known) and (known[0].event, known[0].reason) == ("member_joined", None)
        void = [each for each in known if makes_void(news, each)]
        seat.held = [each for each in seat.held if not any(each is one for one in void)]
        if news.event == "member_left" and came_since and len(seat.held) >= self._held_max:
            self._limits.add("rooms.signals_held_max")
        else:
            seat.held.append(news)

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


def makes_void(newer: RoomChanged, older: RoomChanged) -> bool:
    """Whether a member to whom neither was told yet need not hear the older one: whoever left again, or came back once more."""
    is_the_same = (newer.room_id, newer.client_id) == (older.room_id, older.client_id)
    return is_the_same and (newer.event == "member_left" or (newer.event, newer.reason) == (older.event, older.reason))
