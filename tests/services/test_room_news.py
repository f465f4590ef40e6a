"""What waits of who came and went for a member whose link is lost: what is still so, whatever else waits, and no more (H35)."""

from random import Random
from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from signal_gateway.bus.local import LocalBus
from signal_gateway.domain.events import DeviceUnlinked, RoomChanged, SignalDue
from signal_gateway.domain.ids import uuid_v4
from signal_gateway.domain.principal import Caller
from signal_gateway.domain.signals import SignalKind
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.services.rooms import Rooms
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.settings import StorageSettings

HELD_MAX = 3
RECEIVERS_MAX = 5
VOLUNTARY = "voluntary_disconnect"


class Place:
    """A room in which "host" sends and "away" is a member whose link is lost; of others "old" sits there."""

    def __init__(self) -> None:
        database, self.metrics, random = InlineDatabase(), Metrics(), Random(0)
        self.bus = LocalBus(self.metrics)
        writer = BatchWriter(database, StorageSettings(), self.metrics)
        config = RoomsSettings(signals_held_max=HELD_MAX, max_receivers=RECEIVERS_MAX)
        self.rooms = Rooms(database, writer, self.bus, config, self.metrics, lambda: 0, lambda: str(uuid_v4(random.randbytes(16))))
        self.generations: dict[str, int] = {}
        self.room = self.rooms.create(self.caller("host"), "sender", None)
        self.join("away")
        self.join("old")
        self.told: list[Any] = []
        self.bus.subscribe(RoomChanged, self._hear_change)
        self.bus.subscribe(SignalDue, lambda event: self.told.extend(event.signal for client in event.to if client == "away"))

    def caller(self, client_id: str, *, new: bool = True) -> Caller:
        generation = self.generations[client_id] = self.generations.get(client_id, 0) + new
        return Caller(client_id, f"{client_id}-{generation}", generation)

    def join(self, client_id: str) -> None:
        """Come in, or come back by another link."""
        self.rooms.join(self.caller(client_id), self.room.room_id, "receiver", None)

    def leave(self, client_id: str) -> None:
        self.rooms.leave(self.caller(client_id, new=False), self.room.room_id, None)

    def lose(self) -> None:
        self.bus.publish(DeviceUnlinked("away", "agent", 1, 0, "lost"))

    def come_back(self) -> list[Any]:
        """What it is told then."""
        self.told.clear()
        self.rooms.returned(self.caller("away"))
        return self.told

    def limits(self) -> float:
        return self.metrics.limits.values[("rooms.signals_held_max",)]

    def _hear_change(self, event: RoomChanged) -> None:
        if "away" in event.to:
            self.told.append((event.client_id, event.event, event.reason))


async def test_whoever_comes_back_hears_who_is_there_however_much_has_happened(autojump_clock: MockClock):
    """Ten have come and gone, and the last news are of those who matter."""
    place = Place()
    place.lose()
    for number in range(10):
        place.join(f"guest-{number}")
        place.leave(f"guest-{number}")
    place.leave("old")
    place.join("new")
    for number in range(7, 10):
        place.join(f"guest-{number}")
        place.join(f"guest-{number}")  # a page that is loaded again
    assert place.limits() > 0  # of those who came and went not all are told
    told = place.come_back()
    assert told[-8:] == [
        ("old", "member_left", VOLUNTARY),
        ("new", "member_joined", None),
        *[(f"guest-{number}", "member_joined", reason) for number in range(7, 10) for reason in (None, "returned")],
    ]
    assert len(told) == 8 + HELD_MAX


async def test_news_wait_behind_a_full_line_and_in_its_order(autojump_clock: MockClock):
    """Signals fill the line; that a member has left takes no place from them, and comes behind what it said."""
    place = Place()
    place.lose()
    for number in range(HELD_MAX):
        place.rooms.signal(place.caller("old", new=False), place.room.room_id, SignalKind.OFFER, "away", f"signal {number}")
    place.leave("old")
    place.join("old")
    signals = [f"signal {number}" for number in range(HELD_MAX)]
    assert place.come_back() == [*signals, ("old", "member_left", VOLUNTARY), ("old", "member_joined", None)]
    assert place.limits() == 0


async def test_who_comes_back_twice_and_leaves_has_left(autojump_clock: MockClock):
    place = Place()
    place.lose()
    place.join("old")
    place.join("old")
    place.leave("old")
    assert place.come_back() == [("old", "member_left", VOLUNTARY)]


OTHERS = ("old", "b", "c", "d", "e")
STEPS = st.lists(st.tuples(st.sampled_from(["join", "leave"]), st.sampled_from(OTHERS)), max_size=60)


@given(STEPS)
def test_after_whatever_has_happened_a_member_knows_who_is_there(steps: list[tuple[str, str]]):
    """And never more than four things for each wait for it."""

    async def run() -> None:
        place = Place()
        place.lose()
        for what, client_id in steps:
            sits = client_id in place.room.seats
            if what == "leave" and sits:
                place.leave(client_id)
            elif what == "join" and (sits or len(place.room.seats) <= RECEIVERS_MAX):
                place.join(client_id)
        known = {"old"}
        told = place.come_back()
        for client_id, event, _ in told:
            (known.discard if event == "member_left" else known.add)(client_id)
        assert known == place.room.seats.keys() - {"host", "away"}
        assert len(told) <= 4 * len(OTHERS)

    trio.run(run, clock=MockClock(autojump_threshold=0))
