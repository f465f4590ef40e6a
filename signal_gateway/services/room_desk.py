"""What operators do with rooms: see them, make one and its link, end one, take somebody out (CONTRACT.md §6, §7; H05)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from signal_gateway.domain.access import Operator
from signal_gateway.domain.errors import MemberNotFound, RoomNotFound
from signal_gateway.domain.room import Room
from signal_gateway.services.device_directory import DeviceDirectory
from signal_gateway.services.guests import Guests
from signal_gateway.services.rooms import Rooms
from signal_gateway.storage import rooms as archive
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import Database
from signal_gateway.storage.records import AuditEntry, audit_row


class MadeRoom(NamedTuple):
    """A new room, and the token that lets guests in."""

    room: Room
    token: str
    expires_at: int
    """Milliseconds since 1970, UTC."""


class RoomDesk:
    """Rooms as operators have them. A room is in an operator's scope with any of its members, or when they made it.

    One that is over is, with any who ever sat there."""

    def __init__(
        self,
        rooms: Rooms,
        guests: Guests,
        directory: DeviceDirectory,
        database: Database,
        writer: BatchWriter,
        wall_ms: Callable[[], int],
        guest_token_s: int,
    ) -> None:
        self._rooms = rooms
        self._guests = guests
        self._directory = directory
        self._database = database
        self._writer = writer
        self._wall_ms = wall_ms
        self._guest_token_s = guest_token_s

    def opened(self, operator: Operator) -> Sequence[Room]:
        """Open rooms, oldest first."""
        return [room for room in self._rooms.opened() if self._may_see(operator, room)]

    def find(self, operator: Operator, room_id: str) -> Room:
        """An open room. Raises RoomNotFound, for one that is out of scope, too."""
        room = self._rooms.find(room_id)
        if room is None or not self._may_see(operator, room):
            raise RoomNotFound
        return room

    async def history(self, operator: Operator, room_id: str) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        """A room that is over (RoomRecord), and all who sat in it (StayRecord). Raises RoomNotFound, DatabaseDown, DiskFull.

        Of an open one the archive tells nothing: who does not find it may not see who sits there now, whoever has sat there before.
        """
        if self._rooms.find(room_id) is not None:
            raise RoomNotFound
        await self._rooms.settle(room_id)
        record, stays = await self._database.read(
            lambda connection: (archive.find_room(connection, room_id), archive.find_stays(connection, room_id))
        )
        clients = {stay.client_id for stay in stays}
        if record is None or not self._is_in_scope(operator, record.created_by, clients):
            raise RoomNotFound
        return asdict(record), [asdict(stay) for stay in stays]

    def make(self, operator: Operator, metadata: Mapping[str, Any] | None, expires_s: int | None = None) -> MadeRoom:
        """A room that waits for its members, and a token for its link. Raises TooManyRooms."""
        room = self._rooms.make(operator.subject, metadata)
        self._note(operator, "room_make", room.room_id)
        life_s = expires_s or self._guest_token_s
        return MadeRoom(room, self._guests.issue(room.room_id, life_s), self._wall_ms() + 1000 * life_s)

    def end(self, operator: Operator, room_id: str) -> None:
        """End a room for all who sit in it. Raises RoomNotFound."""
        self._rooms.end(self.find(operator, room_id), operator.subject)
        self._note(operator, "room_end", room_id)

    def remove(self, operator: Operator, room_id: str, client_id: str, *, ban: bool) -> None:
        """Take a member out, and with `ban` keep them out. Raises RoomNotFound, MemberNotFound."""
        room = self.find(operator, room_id)
        if not self._rooms.remove(room, client_id, operator.subject, ban=ban):
            raise MemberNotFound
        self._note(operator, "room_ban" if ban else "room_kick", room_id, client_id)

    def _may_see(self, operator: Operator, room: Room) -> bool:
        return self._is_in_scope(operator, room.created_by, room.seats)

    def _is_in_scope(self, operator: Operator, created_by: str, clients: "Mapping[str, Any] | set[str]") -> bool:
        scope = operator.scope
        if scope.is_whole_fleet or created_by == operator.subject:
            return True
        return any(scope.allows(client_id, self._group_of(client_id)) for client_id in clients)

    def _group_of(self, client_id: str) -> str | None:
        known = self._directory.known(client_id)
        return None if known is None else known.device_group

    def _note(self, operator: Operator, action: str, room_id: str, detail: str | None = None) -> None:
        self._writer.put([audit_row(AuditEntry(self._wall_ms(), operator.subject, action, room_id, "ok", detail=detail))])
