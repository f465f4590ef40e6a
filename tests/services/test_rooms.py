"""Rooms in any order of what may happen: one sender, so many receivers, no signal lost in silence, the archive as memory (H35)."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from signal_gateway.bus.local import LocalBus
from signal_gateway.domain.errors import GatewayError, MemberNotFound, RoomNotFound, TooManySignals
from signal_gateway.domain.events import ClientUnregistered, DeviceLinked, DeviceUnlinked, RoomChanged, SignalDue
from signal_gateway.domain.ids import uuid_v4
from signal_gateway.domain.room import RoomRole, RoomState
from signal_gateway.domain.signals import SignalKind
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.services.rooms import Caller, Rooms
from signal_gateway.storage import rooms as archive
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.settings import StorageSettings

CLIENTS: tuple[str, ...] = ("a", "b", "c", "d")
RECEIVERS_MAX = 2
HELD_MAX = 3


@dataclass
class Happening:
    """One thing that happens."""

    what: str
    client: str
    other: str
    kind: SignalKind
    seconds: float


WHATS = (
    *("create", "join", "join", "join", "join as sender", "leave", "signal", "signal", "signal to all"),
    *("lose", "come back", "take over", "unregister", "wait", "kick", "ban", "end"),
)
HAPPENINGS = st.lists(
    st.builds(
        Happening,
        st.sampled_from(WHATS),
        st.sampled_from(CLIENTS),
        st.sampled_from(CLIENTS),
        st.sampled_from(SignalKind),
        st.sampled_from([0.5, 4.0, 21.0]),
    ),
    min_size=12,
    max_size=40,
)

BEGINNING = [Happening(what, client, "a", SignalKind.OFFER, 0.5) for what, client in (("create", "a"), ("join", "b"), ("signal", "b"))]
"""So that what follows happens in a room."""


class Model:
    """Drives the service, remembers what was said to whom, and looks after each step whether all is as it must be."""

    def __init__(self, rooms: Rooms, bus: LocalBus, policy: str) -> None:
        self.rooms = rooms
        self.bus = bus
        self.policy = policy
        self.generations: dict[str, int] = dict.fromkeys(CLIENTS, 1)
        self.linked: set[str] = set(CLIENTS)
        self.ids: list[str] = []
        self.said: list[tuple[str, object]] = []
        """To whom, what."""
        self.sent = 0
        bus.subscribe(SignalDue, lambda event: self.said.extend((client, event.signal) for client in event.to))
        bus.subscribe(RoomChanged, lambda event: self.said.extend((client, event) for client in event.to))

    def caller(self, client: str) -> Caller:
        generation = self.generations[client]
        return Caller(client, f"{client}-{generation}", generation)

    async def do(self, step: Happening) -> None:
        client = step.client
        if step.what == "wait":
            await trio.sleep(step.seconds)
        elif step.what in ("lose", "come back", "take over", "unregister"):
            self.relink(step)
        elif client in self.linked:
            with suppress(GatewayError):
                self.ask(step)
        self.check()

    def relink(self, step: Happening) -> None:
        client = step.client
        if step.what == "unregister":
            self.bus.publish(ClientUnregistered(client))
        elif step.what == "lose" and client in self.linked:
            self.linked.discard(client)
            self.bus.publish(DeviceUnlinked(client, "agent", self.generations[client], 0, "lost"))
        elif (step.what == "come back") != (client in self.linked):
            self.linked.add(client)
            self.generations[client] += 1
            self.bus.publish(DeviceLinked(client, "agent", self.generations[client], 0))
            self.rooms.returned(self.caller(client))

    def ask(self, step: Happening) -> None:
        caller, room_id = self.caller(step.client), self.ids[-1] if self.ids else "none"
        if step.what == "create":
            self.ids.append(self.rooms.create(caller, "sender", None).room_id)
        elif step.what.startswith("join"):
            room = self.rooms.join(caller, room_id, "sender" if "sender" in step.what else "receiver", None)
            self.rooms.welcome(room, caller.client_id)
        elif step.what == "leave":
            self.rooms.leave(caller, room_id, None)
        elif step.what.startswith("signal"):
            self.signal(step, room_id)
        elif (room := self.rooms.find(room_id)) is not None:
            if step.what == "end":
                self.rooms.end(room, "boss")
            else:
                self.rooms.remove(room, step.other, "boss", ban=step.what == "ban")

    def signal(self, step: Happening, room_id: str) -> None:
        """It reaches members of the room alone, or waits for one, or its sender is told."""
        self.sent += 1
        signal, to = (step.client, self.sent), None if "all" in step.what else step.other
        room = self.rooms.find(room_id)
        members: set[str] = set() if room is None else set(room.seats)
        before, unheard = len(self.said), set[str]()
        try:
            self.rooms.signal(self.caller(step.client), room_id, step.kind, to, signal)
        except (RoomNotFound, MemberNotFound):
            assert step.client not in members or to == step.client or (to or "") not in members
            assert self.said[before:] == []
            return
        except TooManySignals as error:
            unheard = set((error.details or {}).get("unheard_by", ()))
            if not unheard:  # it was for one, or there is no room to keep it for those who come later
                assert self.said[before:] == []
                return
        assert room is not None
        assert step.client in members
        reached = [client for client, said in self.said[before:] if said == signal]
        waits = [seat.client_id for seat in room.seats.values() if signal in seat.held or signal in seat.early.get(step.client, ())]
        assert len(set(reached)) == len(reached)
        told = [*reached, *waits, *unheard]
        assert len(set(told)) == len(told)
        assert set(told) == (members - {step.client} if to is None else {to})
        assert all(client in self.linked for client in reached)

    def check(self) -> None:
        for room in self.rooms.opened():
            roles = [seat.role for seat in room.seats.values()]
            assert roles.count(RoomRole.SENDER) <= 1
            assert roles.count(RoomRole.RECEIVER) <= RECEIVERS_MAX
            assert room.seats or room.state is RoomState.PENDING
            assert not room.banned & room.seats.keys()
            for seat in room.seats.values():
                assert (seat.lost_at_s is None) == (seat.client_id in self.linked)
                assert sum(isinstance(held, tuple) for held in seat.held) + sum(map(len, seat.early.values())) <= HELD_MAX
                assert not seat.held or seat.lost_at_s is not None
                assert seat.end is None
        sits = [client for room in self.rooms.opened() for client in room.seats]
        assert len(sits) == len(set(sits))  # one room a client
        assert self.rooms._of_client.keys() == set(sits)


async def test_a_guests_word_holds_in_the_room_of_its_link_alone(autojump_clock: MockClock):
    """Whoever let it in: under an id that sits in another room it is given nothing, and says and gives up nothing there (H35)."""
    database, metrics, said = InlineDatabase(), Metrics(), list[object]()
    bus, random = LocalBus(metrics), Random(0)
    writer = BatchWriter(database, StorageSettings(), metrics)
    rooms = Rooms(database, writer, bus, RoomsSettings(), metrics, lambda: 0, lambda: str(uuid_v4(random.randbytes(16))))
    bus.subscribe(SignalDue, lambda event: said.append(event.signal))
    host, member = Caller("host", "s", 1), Caller("guest-1", "s", 1)
    room = rooms.create(host, "sender", None)
    rooms.join(member, room.room_id, "receiver", None)
    bus.publish(DeviceUnlinked("guest-1", "agent", 1, 0, "lost"))
    rooms.signal(host, room.room_id, SignalKind.OFFER, "guest-1", "for the member")

    stranger = Caller("guest-1", "s", 2, "another room")
    assert (rooms.sits_elsewhere("guest-1", "another room"), rooms.sits_elsewhere("guest-1", room.room_id)) == (True, False)
    rooms.returned(stranger)
    rooms.depart(stranger)
    for ask in (
        lambda: rooms.signal(stranger, room.room_id, SignalKind.ANSWER, "host", "by a stranger"),
        lambda: rooms.leave(stranger, room.room_id, None),
        lambda: rooms.seat_of(stranger, room.room_id),
    ):
        with pytest.raises(RoomNotFound):
            ask()
    assert (said, room.seats["guest-1"].generation) == ([], 1)
    rooms.returned(Caller("guest-1", "s", 3, room.room_id))
    assert said == ["for the member"]


async def test_the_archive_knows_by_which_session_a_member_sits_there(autojump_clock: MockClock):
    """Also of an open room, and of its sender, once another link has taken over."""
    database, metrics = InlineDatabase(), Metrics()
    bus, random = LocalBus(metrics), Random(0)
    writer = BatchWriter(database, StorageSettings(), metrics)
    rooms = Rooms(database, writer, bus, RoomsSettings(), metrics, lambda: 0, lambda: str(uuid_v4(random.randbytes(16))))
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await nursery.start(rooms.run)
        room_id = rooms.create(Caller("a", "old", 1), "sender", None).room_id
        await trio.sleep(1)
        rooms.returned(Caller("a", "new", 2))
        await trio.sleep(1)
        (stay,) = await database.read(lambda connection: archive.find_stays(connection, room_id))
        of_session = archive.Wanted(session_id="new")
        (record,) = await database.read(lambda connection: archive.find_rooms(connection, of_session, None, 10))
        assert (stay.session_id, record.session_id) == ("new", "new")
        room = rooms.find(room_id)
        assert room is not None
        rooms.end(room, "boss")
        await trio.sleep(1)
        over = await database.read(lambda connection: archive.find_room(connection, room_id))
        assert over
        assert (over.state, over.sender_client_id, over.session_id) == ("terminated", "a", "new")
        nursery.cancel_scope.cancel()


async def test_the_archive_is_written_as_often_as_is_set_and_at_the_end(autojump_clock: MockClock):
    """Also where that is less often than rooms are looked after."""
    database, metrics = InlineDatabase(), Metrics()
    bus, random = LocalBus(metrics), Random(0)
    writer = BatchWriter(database, StorageSettings(), metrics)
    rooms = Rooms(database, writer, bus, RoomsSettings(archive_write_s=5.0), metrics, lambda: 0, lambda: str(uuid_v4(random.randbytes(16))))
    sender = Caller("a", "s", 1)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        async with trio.open_nursery() as inner:
            await inner.start(rooms.run)
            room_id = rooms.create(sender, "sender", None).room_id
            await trio.sleep(4.9)
            assert await database.read(lambda connection: archive.find_room(connection, room_id)) is None
            await trio.sleep(0.2)
            kept = await database.read(lambda connection: archive.find_room(connection, room_id))
            assert kept is not None
            rooms.leave(sender, room_id, None)
            inner.cancel_scope.cancel()
        await trio.sleep(0.1)
        (stay,) = await database.read(lambda connection: archive.find_stays(connection, room_id))
        assert stay.left_at is not None
        nursery.cancel_scope.cancel()


async def run(steps: Sequence[Happening], policy: Any) -> None:
    database, metrics = InlineDatabase(), Metrics()
    bus, random = LocalBus(metrics), Random(0)
    config = RoomsSettings(max_receivers=RECEIVERS_MAX, sender_leaves=policy, signals_held_max=HELD_MAX)
    writer = BatchWriter(database, StorageSettings(), metrics)

    def wall_ms() -> int:
        return 1_767_225_600_000 + round(1000 * trio.current_time())

    rooms = Rooms(database, writer, bus, config, metrics, wall_ms, lambda: str(uuid_v4(random.randbytes(16))))
    model = Model(rooms, bus, policy)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await nursery.start(rooms.run)
        for step in (*BEGINNING, *steps):
            await model.do(step)
        await trio.sleep(1)
        found = await database.read(archive.find_open)
        assert {room.room_id: sorted(seat.client_id for seat in room.seats) for room in found} == {
            room.room_id: sorted(room.seats) for room in rooms.opened()
        }
        for room_id in model.ids:
            stays = await database.read(lambda connection, room_id=room_id: archive.find_stays(connection, room_id))
            record = await database.read(lambda connection, room_id=room_id: archive.find_room(connection, room_id))
            assert record is not None
            assert record.stays == len(stays)
            assert (record.ended_at is not None) == (rooms.find(room_id) is None)
            assert all((stay.left_at is None) == (stay.final_status is None) for stay in stays)
        nursery.cancel_scope.cancel()
    database.close()


@settings(max_examples=200, deadline=None)
@given(HAPPENINGS, st.sampled_from(["close", "promote", "wait"]))
def test_whatever_happens_in_whatever_order(steps: list[Happening], policy: str):
    trio.run(run, steps, policy, clock=MockClock(autojump_threshold=0))
