"""The archive of rooms follows memory: when it has caught up, and what it is asked before that."""

from dataclasses import dataclass
from random import Random

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.bus.local import LocalBus
from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.domain.ids import uuid_v4
from signal_gateway.domain.principal import Caller
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.services.rooms import Rooms
from signal_gateway.storage import rooms as archive
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.settings import StorageSettings

ROWS_MAX = 6


@dataclass
class Place:
    """Rooms, and the database that keeps them."""

    rooms: Rooms
    database: InlineDatabase

    def end(self, room_id: str) -> None:
        room = self.rooms.find(room_id)
        assert room is not None
        self.rooms.end(room, "boss")

    async def state_of(self, room_id: str) -> str | None:
        record = await self.database.read(lambda connection: archive.find_room(connection, room_id))
        return None if record is None else record.state

    async def rooms_of(self, session_id: str) -> list[str]:
        wanted = archive.Wanted(session_id=session_id)
        found = await self.database.read(lambda connection: archive.find_rooms(connection, wanted, None, 10))
        return [record.room_id for record in found]

    async def settled_after_s(self, room_id: str) -> float:
        begun_at = trio.current_time()
        await self.rooms.settle(room_id)
        return trio.current_time() - begun_at


@pytest.fixture
async def place(autojump_clock: MockClock, nursery: trio.Nursery) -> Place:
    database, metrics, random = InlineDatabase(), Metrics(), Random(0)
    writer = BatchWriter(database, StorageSettings(rows_max=ROWS_MAX, high_water_rows=ROWS_MAX), metrics)
    rooms = Rooms(database, writer, LocalBus(metrics), RoomsSettings(max=3), metrics, lambda: 0, lambda: str(uuid_v4(random.randbytes(16))))
    await nursery.start(writer.run)
    await nursery.start(rooms.run)
    return Place(rooms, database)


async def test_who_asks_for_a_room_waits_until_the_archive_has_it_as_it_is_and_no_longer(autojump_clock: MockClock, place: Place):
    room_id = place.rooms.make("boss", None).room_id
    assert await place.state_of(room_id) is None
    assert await place.settled_after_s(room_id) < 0.1  # and not when its time to write has come
    assert await place.state_of(room_id) == "pending"

    place.database.answers_after = lambda: 2.0
    place.end(room_id)
    await trio.sleep(1)  # it is on its way
    assert 1 < await place.settled_after_s(room_id) < 10
    place.database.answers_after = lambda: 0.0
    assert await place.state_of(room_id) == "terminated"
    assert await place.settled_after_s(room_id) == await place.settled_after_s("another") == 0


async def test_what_changes_while_it_is_written_is_waited_for_too(autojump_clock: MockClock, place: Place):
    room_id = place.rooms.make("boss", None).room_id
    place.database.answers_after = lambda: 2.0
    await trio.sleep(0.3)
    place.end(room_id)
    await place.rooms.settle(room_id)
    place.database.answers_after = lambda: 0.0
    assert await place.state_of(room_id) == "terminated"


async def test_a_room_that_cannot_be_written_is_not_told_as_it_was(autojump_clock: MockClock, place: Place):
    """Neither where the database is down, nor where nothing more may wait for it."""
    room_id, other_id = (place.rooms.make("boss", None).room_id for _ in range(2))
    await place.rooms.settle(room_id)
    place.database.before_commit = is_down
    place.end(room_id)
    with pytest.raises(DatabaseDown):
        await place.rooms.settle(room_id)
    for number in range(ROWS_MAX):
        place.rooms.join(Caller(f"client-{number}", "s", 1), other_id, "receiver", None)
    with pytest.raises(DatabaseDown):
        await place.rooms.settle(other_id)


async def test_a_room_is_found_by_every_session_by_which_somebody_ever_sat_there(autojump_clock: MockClock, place: Place):
    """By the first one, of which CREATE_ACK tells, too: another link takes over, and a member comes back with other media."""
    rooms = place.rooms
    room_id = rooms.create(Caller("a", "first", 1), "sender", None).room_id
    await rooms.settle(room_id)
    rooms.returned(Caller("a", "second", 2))
    rooms.returned(Caller("a", "second", 2))
    rooms.join(Caller("a", "third", 3), room_id, "sender", None)
    rooms.returned(Caller("a", "third", 3))
    place.end(room_id)
    await rooms.settle(room_id)
    found = {session_id: await place.rooms_of(session_id) for session_id in ("first", "second", "third", "fourth")}
    assert found == {"first": [room_id], "second": [room_id], "third": [room_id], "fourth": []}
    assert [dict(row)["session_id"] for row in place.database.rows("room_sessions")] == ["first", "second"]


async def test_what_cannot_be_written_of_former_sessions_is_bounded(autojump_clock: MockClock, place: Place):
    place.database.before_commit = is_down
    room_id = place.rooms.create(Caller("a", "0", 1), "sender", None).room_id
    for number in range(1, 20):
        place.rooms.returned(Caller("a", str(number), number))
    place.database.before_commit = lambda number: None
    await trio.sleep(60)
    await place.rooms.settle(room_id)
    assert [dict(row)["session_id"] for row in place.database.rows("room_sessions")] == ["16", "17", "18"]


def is_down(number: int) -> None:
    raise DatabaseDown
