"""The archive of rooms follows memory: what has changed is written as it is by then, a few times a second; and read at the start."""

from collections import deque
from collections.abc import Sequence
from functools import partial

import trio

from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.domain.room import Room, RoomRole, Seat
from signal_gateway.storage import rooms as archive
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.rooms import OpenRoom
from signal_gateway.storage.rows import Insert, Row


class RoomArchive:
    """Knows which rooms and stays the archive has not seen as they are. What waits says so."""

    def __init__(self, writer: BatchWriter, rooms_max: int) -> None:
        self._writer = writer
        self._rooms_max = rooms_max
        self._changed: dict[str, Room] = {}
        self._changed_seats: dict[str, tuple[str, Seat]] = {}
        self._former: deque[Insert] = deque(maxlen=rooms_max)  # sessions of before; of what waits long, the newest
        self._given: dict[str, Sequence[str]] = {}  # rooms of which the writer has rows that are not on disk, each with those given last
        self._noted = trio.Event()

    async def run(self, write_s: float) -> None:
        """Write what has changed `write_s` seconds after the first change, until cancelled; then what is left."""
        try:
            while True:
                await self._noted.wait()
                await trio.sleep(write_s)
                self.flush()
                if not self._changed:
                    self._noted = trio.Event()
        finally:
            self.flush()

    def note(self, room: Room, *seats: Seat) -> None:
        """The archive is to know of it: soon, and of what changes meanwhile only the last."""
        self._changed[room.room_id] = room
        for seat in seats:
            self._changed_seats[seat.stay_id] = (room.room_id, seat)
        self._noted.set()

    def note_session(self, room: Room, seat: Seat, former: str, at: int) -> None:
        """The same, where a member sat there by the session `former` until now."""
        if former != seat.session_id:
            self._former.append(archive.former_session_row(seat.stay_id, former, at))
        self.note(room, seat)

    def flush(self) -> None:
        """Give what has changed to the writer; what it has no room for comes again, as far as it is still open."""
        if not self._changed:
            return
        rows: list[Row] = [archive.room_row(room) for room in self._changed.values()]
        rows += self._former
        rows += [archive.stay_row(room_id, seat) for room_id, seat in self._changed_seats.values()]
        room_ids = tuple(self._changed)
        is_written = partial(self._forget_given, room_ids)
        if self._writer.put(rows, is_written, is_written):
            self._given.update(dict.fromkeys(room_ids, room_ids))
            self._changed.clear()
            self._changed_seats.clear()
            self._former.clear()
        elif len(self._changed) > self._rooms_max:
            self._changed = {room_id: room for room_id, room in self._changed.items() if room.end is None}
            self._changed_seats = {stay_id: known for stay_id, known in self._changed_seats.items() if known[1].end is None}

    async def settle(self, room_id: str) -> None:
        """Until what was noted of this room is on disk. Raises DatabaseDown, DiskFull."""
        if room_id in self._changed:
            self.flush()
        if room_id in self._changed:  # the writer has no room for it
            raise DatabaseDown
        if room_id in self._given:
            await self._writer.call(lambda _: None)

    def _forget_given(self, room_ids: Sequence[str]) -> None:
        for room_id in room_ids:
            if self._given[room_id] is room_ids:
                del self._given[room_id]


def restored(known: OpenRoom, now_s: float, now_ms: int, lost_at_s: float) -> Room:
    """A room that was open when the last process ended. Everybody's seat is kept, as if its link was lost at `lost_at_s`."""
    room = Room(known.room_id, known.created_at, known.created_by, now_s - (now_ms - known.created_at) / 1000, known.metadata)
    room.stays, room.banned, room.is_made, room.app_id = known.stays, set(known.banned), known.is_made, known.app_id
    room.sent_last = known.sends_or_sent
    for stay in known.seats:
        role = RoomRole(stay.role)
        room.seats[stay.client_id] = Seat(
            stay.client_id, role, stay.stay_id, stay.session_id, stay.joined_at, 0, -1, stay.metadata, lost_at_s
        )
    if room.stays and room.sender is None:
        room.senderless_since_s = lost_at_s
    return room
