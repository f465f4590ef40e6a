"""Rooms: opened, entered, left and ended (S-20 to S-31; CONTRACT.md §7), and the signals between those who sit in one (S-32).

Memory is the truth while the process lives, and the archive follows it through the batch writer; after a restart the archive tells which
rooms were open and who sat in them. Nothing here waits, but the reading at the start and `settle`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import trio

from signal_gateway.bus.local import Bus
from signal_gateway.domain.errors import AlreadyInRoom, InvalidRole, RoomNotFound, TooManyRooms
from signal_gateway.domain.events import ClientUnregistered, DeviceDeleted, DeviceLinked, DeviceUnlinked, RoomChanged, StayEnded
from signal_gateway.domain.principal import Caller
from signal_gateway.domain.room import P2P, Leaving, Room, RoomEnd, RoomRole, RoomState, Seat, StayEnd, role_of
from signal_gateway.domain.signals import SignalKind
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.room_archive import RoomArchive, restored
from signal_gateway.services.room_news import RoomNews
from signal_gateway.services.room_partings import RoomPartings
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.services.room_signals import RoomSignals
from signal_gateway.storage import rooms as archive
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import Database

SWEEP_EVERY_S = 1.0
SERVER = "server"
"""Who ends rooms and stays when nobody does."""
ENDS = ("all_left", "sender_left", "operator", "timeout", "empty_timeout", "server_restart")
"""Why rooms end: words of ours."""

log = logger("room")


class Rooms:
    """All open rooms. `run` is its loop; all else may be called by anybody, and never waits but where it says so."""

    def __init__(
        self,
        database: Database,
        writer: BatchWriter,
        bus: Bus,
        settings: RoomsSettings,
        metrics: Metrics,
        wall_ms: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self._database = database
        self._bus = bus
        self._settings = settings
        self._rules = settings.rules()
        self._wall_ms = wall_ms
        self._new_id = new_id
        self._rooms: dict[str, Room] = {}
        self._of_client: dict[str, dict[str, Room]] = {}
        self._archive = RoomArchive(writer, settings.max)
        self._partings = RoomPartings(bus, settings.partings_kept, self._rules.grace_s, metrics)
        self._news = RoomNews(bus, settings.signals_held_max, self._partings, metrics)
        self._limits = metrics.limits
        self._ends = metrics.counter("room_ends_total", "Rooms that ended, by reason.", ("reason",))
        self._signals = RoomSignals(bus, self._rules, metrics)
        metrics.gauge("rooms", "Open rooms, by state.", self._count_by_state, "state")
        metrics.gauge("room_members", "Seats that are taken, by whether their client has a link.", self._count_members, "linked")
        bus.subscribe(DeviceUnlinked, self._hear_unlinked)
        bus.subscribe(DeviceLinked, self._hear_linked)
        bus.subscribe(ClientUnregistered, lambda event: self._leave_all(event.client_id, "unregistered", Leaving.VOLUNTARY))
        bus.subscribe(DeviceDeleted, lambda event: self._leave_all(event.device_id, "unregistered", Leaving.VOLUNTARY))

    # asked by members

    def check(self, caller: Caller, role: str, room_id: str | None) -> Room | None:
        """Whether the caller may come into this room, or, without one, open one, as things are now: raises what `join` and `create` would.

        Changes nothing. Returns the room to come into.
        """
        if room_id is None:
            self._check_may_open(caller, role)
            room = None
        else:
            role_of(role)
            room = self._room(caller, room_id)
            room.admit(caller.client_id, role, caller.generation, self._rules)
        if room is None or caller.client_id not in room.seats:
            self._check_has_seat_left(caller)
        return room

    def create(self, caller: Caller, role: str, metadata: Mapping[str, Any] | None, app_id: str = P2P) -> Room:
        """Open a room in which the caller sends (S-20). Raises InvalidRole, AlreadyInRoom, TooManyRooms, RoomNotFound (a guest)."""
        self._check_may_open(caller, role)
        self._check_may_sit(caller)
        room = self._open(caller.client_id, metadata)
        room.app_id = app_id
        self._sit(room, caller, RoomRole.SENDER, metadata)
        log.info("room opened", room_id=room.room_id, client_id=caller.client_id)
        return room

    def join(self, caller: Caller, room_id: str, role: str, metadata: Mapping[str, Any] | None, app_id: str = P2P) -> Room:
        """Come in, or come back to a seat that was kept (S-22). The others hear of it at once, the caller of the others by `welcome`.

        `app_id` is on what the room stands from now on. Raises RoomNotFound, InvalidRole, AlreadyInRoom, RoomFull, Forbidden (banned).
        """
        role_of(role)
        room = self._room(caller, room_id)
        wanted = room.admit(caller.client_id, role, caller.generation, self._rules)
        seat = room.seats.get(caller.client_id)
        if seat is None:
            self._check_may_sit(caller)
            room.app_id = app_id
            self._sit(room, caller, wanted, metadata)
            self._news.tell(room, "joined", caller.client_id, wanted)
            log.info("room entered", room_id=room_id, client_id=caller.client_id, role=wanted.value)
        else:
            room.app_id, former = app_id, seat.session_id
            room.sit_again(seat, caller.session_id, caller.generation)
            self._archive.note_session(room, seat, former, self._wall_ms())
            self._news.tell(room, "joined", caller.client_id, wanted, "returned")
        return room

    def welcome(self, room: Room, client_id: str) -> None:
        """Give one who has come in what the sender said to all (C-07). Called after the answer that let them in."""
        seat = room.seats.get(client_id)
        if seat is not None:
            self._signals.welcome(room, seat)

    def leave(self, caller: Caller, room_id: str, reason: str | None) -> None:
        """Give up a seat (S-23). Raises RoomNotFound, for a room that the caller is not in, too."""
        room, _ = self._seated(caller, room_id)
        told = Leaving.VOLUNTARY.value  # their own word is for the archive: to the others it might look like one of ours
        self._rise(room, caller.client_id, reason or "left", Leaving.VOLUNTARY, caller.client_id, told=told)

    def seat_of(self, caller: Caller, room_id: str) -> Seat:
        """The caller's seat in this room. Raises RoomNotFound, for a room that the caller is not in, too."""
        return self._seated(caller, room_id)[1]

    def sits_elsewhere(self, client_id: str, room_id: str | None) -> bool:
        """Whether this id has a seat in a room that the guest of `room_id` may not be in; with or without a link, for the seat is kept."""
        return room_id is not None and any(taken != room_id for taken in self._of_client.get(client_id, ()))

    def signal(self, caller: Caller, room_id: str, kind: SignalKind, to: str | None, signal: object) -> None:
        """Pass a signal on: at most once to each member that is linked, later to one whose link is lost (S-32).

        Raises RoomNotFound where the client does not sit, MemberNotFound, TooManySignals: it is never silently lost, and nothing of it
        has happened then, but where TooManySignals names those of all who do not get it.
        """
        room, seat = self._seated(caller, room_id)
        self._signals.pass_on(room, seat, kind, to, signal)

    def missed(self, client_id: str, room_id: str, said: object) -> None:
        """A signal or an event found no link of its member, whose end is under way: it is kept for the next one."""
        room = self._rooms.get(room_id)
        seat = None if room is None else room.seats.get(client_id)
        if not isinstance(said, RoomChanged):
            if seat is not None:
                self._signals.missed(seat, said)
        elif seat is not None:
            self._news.keep(seat, said)
        elif room is None or said.client_id == client_id:
            self._partings.keep(said, trio.current_time())

    def depart(self, caller: Caller) -> None:
        """A client says that it goes: its seats are free at once (S-30)."""
        self._leave_all(caller.client_id, "disconnected", Leaving.VOLUNTARY, caller.room_id)

    def returned(self, caller: Caller) -> None:
        """A client is linked again and has been told so: it has its seats, and hears what was said meanwhile, and which it has no more."""
        for room in self._rooms_of(caller.client_id, caller.room_id):
            seat = room.seats[caller.client_id]
            seat.generation = caller.generation
            if room.app_id == P2P and seat.session_id != caller.session_id:  # a session at a media backend has outlived the link
                former, seat.session_id = seat.session_id, caller.session_id
                self._archive.note_session(room, seat, former, self._wall_ms())
            self._news.give_held(seat)
        self._partings.give(caller)

    # asked by operators

    def make(self, created_by: str, metadata: Mapping[str, Any] | None) -> Room:
        """Open a room that nobody sits in yet. Raises TooManyRooms."""
        room = self._open(created_by, metadata, is_made=True)
        log.info("room made", room_id=room.room_id, actor=created_by)
        return room

    def find(self, room_id: str) -> Room | None:
        """An open room."""
        return self._rooms.get(room_id)

    def opened(self) -> Iterable[Room]:
        """All open rooms, oldest first."""
        return self._rooms.values()

    async def settle(self, room_id: str) -> None:
        """Wait until the archive has a room as it is, or was in the end. Raises DatabaseDown, DiskFull."""
        await self._archive.settle(room_id)

    def end(self, room: Room, actor: str) -> None:
        """End a room, whoever sits in it."""
        self._end(room, RoomState.TERMINATED, "operator", actor)

    def remove(self, room: Room, client_id: str, actor: str, *, ban: bool) -> bool:
        """Take a member's seat, and with `ban` bar them from this room for the rest of its life. False when there is nobody to take out."""
        if ban:
            room.banned.add(client_id)
            self._archive.note(room)
        if client_id not in room.seats:
            return ban
        self._rise(room, client_id, "banned" if ban else "kicked", Leaving.BANNED if ban else Leaving.KICKED, actor, tells_them=True)
        return True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Read which rooms were open when the server ended, then end seats and rooms whose time is over, until cancelled."""
        self._restore(await self._database.read(archive.find_open))
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._archive.run, self._settings.archive_write_s)
            while True:
                await trio.sleep(SWEEP_EVERY_S)
                self._sweep(trio.current_time())

    # inside

    def _room(self, caller: Caller, room_id: str) -> Room:
        room = self._rooms.get(room_id)
        if room is None or caller.room_id not in (None, room_id):
            raise RoomNotFound
        return room

    def _seated(self, caller: Caller, room_id: str) -> tuple[Room, Seat]:
        room = self._room(caller, room_id)
        seat = room.seats.get(caller.client_id)
        if seat is None:
            raise RoomNotFound
        return room, seat

    def _rooms_of(self, client_id: str, guest_of: str | None) -> list[Room]:
        """Where it sits: a guest, in the room of its link at the most."""
        return [room for room in self._of_client.get(client_id, {}).values() if guest_of in (None, room.room_id)]

    def _check_may_open(self, caller: Caller, role: str) -> None:
        if role_of(role) is not RoomRole.SENDER:
            raise InvalidRole
        if caller.room_id is not None:
            raise RoomNotFound("A guest may only join the room of its link")
        self._check_count()

    def _check_count(self) -> None:
        if len(self._rooms) >= self._settings.max:
            self._limits.add("rooms.max")
            raise TooManyRooms

    def _check_has_seat_left(self, caller: Caller) -> None:
        """Seats that an older link took do not count: they make room."""
        rooms = self._of_client.get(caller.client_id, {}).values()
        if sum(room.seats[caller.client_id].joined_by == caller.generation for room in rooms) >= self._settings.per_client_max:
            self._limits.add("rooms.per_client_max")
            raise AlreadyInRoom

    def _check_may_sit(self, caller: Caller) -> None:
        """Seats that an older link took are given up: its client may not even have heard that it has them."""
        client_id = caller.client_id
        for room in list(self._of_client.get(client_id, {}).values()):
            if len(self._of_client[client_id]) >= self._settings.per_client_max and room.seats[client_id].joined_by != caller.generation:
                self._rise(room, client_id, "moved", Leaving.VOLUNTARY, client_id)
                if client_id not in self._of_client:
                    return
        self._check_has_seat_left(caller)

    def _open(self, created_by: str, metadata: Mapping[str, Any] | None, *, is_made: bool = False) -> Room:
        self._check_count()
        room = Room(self._new_id(), self._wall_ms(), created_by, trio.current_time(), metadata, is_made=is_made)
        self._rooms[room.room_id] = room
        self._archive.note(room)
        return room

    def _sit(self, room: Room, caller: Caller, role: RoomRole, metadata: Mapping[str, Any] | None) -> None:
        seat = Seat(
            caller.client_id,
            role,
            self._new_id(),
            caller.session_id,
            self._wall_ms(),
            caller.generation,
            caller.generation,
            metadata,
        )
        room.sit(seat)
        self._of_client.setdefault(caller.client_id, {})[room.room_id] = room
        self._archive.note(room, seat)

    def _rise(
        self, room: Room, client_id: str, reason: str, leaving: Leaving, by: str, *, told: str | None = None, tells_them: bool = False
    ) -> None:
        """A seat is given up, or taken away; what becomes of the room follows from who is left. Others hear the reason, or `told`."""
        seat = room.seats[client_id]
        room.rise(client_id)
        self._forget(client_id, room)
        seat.end = StayEnd(self._wall_ms(), reason, leaving, by)
        self._archive.note(room, seat)
        self._bus.publish(StayEnded(room.room_id, client_id, seat.stay_id))
        self._news.tell(room, "left", client_id, seat.role, told or reason, also=(seat,) if tells_them else ())
        log.info("room left", room_id=room.room_id, client_id=client_id, reason=leaving.value)
        if not room.seats:
            self._end(room, RoomState.INACTIVE, "all_left", by)
        elif seat.role is RoomRole.SENDER:
            self._go_on_without_sender(room, leaving, by)

    def _go_on_without_sender(self, room: Room, leaving: Leaving, by: str) -> None:
        policy = self._rules.sender_leaves
        if policy == "promote" and (promoted := room.promote()) is not None:
            self._archive.note(room, promoted)
            self._news.tell(room, "joined", promoted.client_id, promoted.role, "promoted", also=(promoted,))
        elif policy == "close" or leaving is Leaving.LOST:  # whoever was lost has been waited for already
            self._end(room, RoomState.TERMINATED, "sender_left", by)
        else:
            room.senderless_since_s = trio.current_time()

    def _end(self, room: Room, state: RoomState, reason: str, by: str) -> None:
        now = self._wall_ms()
        del self._rooms[room.room_id]
        self._news.tell(room, "over", "", None, reason)
        room.end = RoomEnd(now, state, reason, by)
        for seat in room.seats.values():
            self._forget(seat.client_id, room)
            seat.end = StayEnd(now, reason, Leaving.ENDED, by)
            self._bus.publish(StayEnded(room.room_id, seat.client_id, seat.stay_id))
        self._archive.note(room, *room.seats.values())
        room.clear()
        self._ends.add(reason)
        log.info("room ended", room_id=room.room_id, reason=reason)

    def _forget(self, client_id: str, room: Room) -> None:
        rooms = self._of_client[client_id]
        del rooms[room.room_id]
        if not rooms:
            del self._of_client[client_id]

    def _leave_all(self, client_id: str, reason: str, leaving: Leaving, guest_of: str | None = None) -> None:
        for room in self._rooms_of(client_id, guest_of):
            self._rise(room, client_id, reason, leaving, client_id)

    def _hear_unlinked(self, event: DeviceUnlinked) -> None:
        for room in self._of_client.get(event.device_id, {}).values():
            seat = room.seats[event.device_id]
            if seat.generation <= event.generation and seat.lost_at_s is None:
                seat.lost_at_s = trio.current_time()

    def _hear_linked(self, event: DeviceLinked) -> None:
        """The very link is heard again after a silence. A new one comes by `returned`, once it has been told that it is in."""
        for room in self._of_client.get(event.device_id, {}).values():
            seat = room.seats[event.device_id]
            if seat.generation == event.generation:
                self._news.give_held(seat)

    def _sweep(self, now_s: float) -> None:
        self._partings.sweep(now_s)
        for room in list(self._rooms.values()):
            for seat in room.seats.values():
                for early in seat.overdue(now_s - self._settings.early_s):
                    self._news.give_late(seat, early)
            for seat in room.lost_for_good(now_s, self._rules):
                if seat.client_id in room.seats:  # the room may have ended with one before
                    self._rise(room, seat.client_id, "link_lost", Leaving.LOST, SERVER)
            if room.room_id in self._rooms and room.over_at_s(self._rules) <= now_s:
                self._end_by_time(room)

    def _end_by_time(self, room: Room) -> None:
        reason = "empty_timeout" if not room.stays else "sender_left" if room.senderless_since_s is not None else "timeout"
        self._end(room, RoomState.TERMINATED, reason, SERVER)

    def _restore(self, found: Sequence[archive.OpenRoom]) -> None:
        """Everybody's seat is kept for `restart_grace_s`. What was offered is not: the sender offers anew."""
        now_s, now = trio.current_time(), self._wall_ms()
        lost_at_s = now_s + self._settings.restart_grace_s - self._rules.grace_s
        for known in found:
            room = restored(known, now_s, now, lost_at_s)
            for client_id in room.seats:
                self._of_client.setdefault(client_id, {})[room.room_id] = room
            self._rooms[room.room_id] = room
            if room.stays and not room.seats:  # the end was not written any more
                self._end(room, RoomState.TERMINATED, "server_restart", SERVER)
        if found:
            log.info("rooms of before the restart wait for their members", rooms=len(self._rooms))

    def _count_by_state(self) -> dict[str, float]:
        counts = Counter(room.state for room in self._rooms.values())
        return {state.value: counts[state] for state in (RoomState.PENDING, RoomState.ACTIVE)}

    def _count_members(self) -> dict[str, float]:
        counts = Counter(seat.lost_at_s is None for room in self._rooms.values() for seat in room.seats.values())
        return {"yes": counts[True], "no": counts[False]}
