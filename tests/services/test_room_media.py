"""Sessions of those who sit in rooms, on virtual time: who gets whose tracks when, and what is closed (S-24 to S-30; C-15)."""

from collections.abc import AsyncIterator
from functools import partial
from random import Random
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from signal_gateway.bus.local import LocalBus
from signal_gateway.domain.errors import MediaDown, OfferOutstanding, SessionError
from signal_gateway.domain.events import DeviceUnlinked, MediaSaid
from signal_gateway.domain.ids import uuid_v4
from signal_gateway.domain.principal import Caller
from signal_gateway.domain.room import RoomRole
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.media_closings import MediaClosings
from signal_gateway.services.room_media import Entered, RoomMedia, Wish
from signal_gateway.services.room_settings import RoomsSettings
from signal_gateway.services.rooms import Rooms
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.settings import StorageSettings

from .media_made import FakeMedia


def caller(client_id: str) -> Caller:
    return Caller(client_id, f"link of {client_id}", 1)


class Place:
    """Rooms on a fake backend, and what it says to whom."""

    def __init__(self, database: InlineDatabase, **settings: Any) -> None:
        self.metrics = Metrics()
        self.media = FakeMedia()
        self.bus, random = LocalBus(self.metrics), Random(0)
        self.writer = BatchWriter(database, StorageSettings(), self.metrics)
        self.rooms = Rooms(
            database,
            self.writer,
            self.bus,
            RoomsSettings(**settings),
            self.metrics,
            lambda: 1_767_225_600_000 + round(1000 * trio.current_time()),
            lambda: str(uuid_v4(random.randbytes(16))),
        )
        self.closings = MediaClosings(self.media, 100, 5.0, self.metrics)
        self.room_media = RoomMedia(self.media, self.rooms, self.bus, self.closings, self.metrics, falls_back=False)
        self.said: list[tuple[str, str, str]] = []
        self.bus.subscribe(MediaSaid, lambda event: self.said.append((event.client_id, event.kind.value, event.sdp)))

    async def enter(self, client_id: str, wish: Wish, generation: int = 1) -> Entered:
        caller = Caller(client_id, f"link of {client_id}", generation)
        entered = await self.room_media.enter(caller, wish, lambda: True)
        self.room_media.begin(entered)
        return entered

    async def create(self, client_id: str = "a", offer: str | None = None) -> str:
        return (await self.enter(client_id, Wish(None, "sender", None, offer))).room.room_id

    async def join(self, client_id: str, room_id: str, offer: str | None = None, role: str = "receiver", generation: int = 1) -> None:
        await self.enter(client_id, Wish(room_id, role, None, offer), generation)

    def closings_failed(self) -> int:
        """Sessions that were left to the backend, which was down at every attempt to close them."""
        return int(self.closings._closed.value("failed"))

    def leave(self, client_id: str, room_id: str) -> None:
        self.rooms.leave(Caller(client_id, "", 1), room_id, None)


@pytest.fixture
async def place(nursery: trio.Nursery) -> AsyncIterator[Place]:
    database = InlineDatabase()
    made = Place(database)
    for loop in (made.writer.run, made.rooms.run, made.room_media.run):
        await nursery.start(loop)
    yield made
    nursery.cancel_scope.cancel()


async def test_tracks_that_are_not_there_yet_are_asked_for_after_doubled_waits(autojump_clock: MockClock, place: Place):
    room_id = await place.create(offer="x y")
    place.media.hidden = {"x", "y"}
    began_at = trio.current_time()
    await place.join("b", room_id)
    await trio.sleep(40)
    assert [round(at - began_at) for at in place.media.times("receive")] == [0, 1, 3, 7, 15, 31]
    place.media.hidden = {"y"}
    await trio.sleep(30)
    assert place.said == [("b", "offer", "offer of x")]
    place.media.hidden.clear()
    await trio.sleep(100)
    assert len(place.said) == 1  # it has not answered: nothing more may be asked
    await place.room_media.answer(caller("b"), room_id, "answer")
    await trio.sleep(1)
    assert place.said[1:] == [("b", "offer", "offer of y")]
    await place.room_media.answer(caller("b"), room_id, "answer")
    asked = len(place.media.asked)
    await trio.sleep(1000)
    assert len(place.media.asked) == asked  # it has all that there is
    missed = place.metrics.text().decode().partition('media_tracks_missed_total{reason="not_there_yet"} ')[2]
    assert missed.startswith("6.0")


async def test_while_the_backend_is_down_a_receiver_waits_for_its_tracks_and_gets_them_later(autojump_clock: MockClock, place: Place):
    room_id = await place.create()
    await place.join("b", room_id)
    place.media.faults.extend([None, MediaDown(reason="media_timeout"), SessionError(), RuntimeError("a bug")])
    await place.room_media.offer(caller("a"), room_id, "x")
    await trio.sleep(10)
    assert place.said == [("a", "answer", "answer to x"), ("b", "offer", "offer of x")]
    page = place.metrics.text().decode()
    assert 'media_tracks_missed_total{reason="media_timeout"} 1.0' in page
    assert 'media_tracks_missed_total{reason="session_error"} 1.0' in page
    assert place.metrics.errors.value("media") == 1


async def test_who_stops_waiting_for_a_session_gets_no_seat_and_the_session_is_closed(autojump_clock: MockClock, place: Place):
    place.media.seconds = 5.0
    with trio.move_on_after(1):
        await place.create(offer="x")
    await trio.sleep(20)
    assert (place.media.done("close"), list(place.rooms.opened())) == (["s1"], [])


async def test_whose_link_is_another_ones_by_then_gets_no_seat_and_the_session_is_closed(autojump_clock: MockClock, place: Place):
    with pytest.raises(SessionError):
        await place.room_media.enter(Caller("a", "", 1), Wish(None, "sender"), lambda: False)
    await wait_all_tasks_blocked()
    assert (place.media.done("close"), list(place.rooms.opened())) == (["s1"], [])


async def test_an_exchange_of_one_who_goes_in_its_middle_ends_with_its_session_closed(autojump_clock: MockClock, place: Place):
    room_id = await place.create()
    await place.join("b", room_id)
    place.media.seconds = 2.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.room_media.offer, caller("b"), room_id, "x")
        await trio.sleep(1)
        with pytest.raises(OfferOutstanding):
            await place.room_media.offer(caller("b"), room_id, "x")
        place.leave("b", room_id)
    await trio.sleep(10)
    assert place.media.times("close") == [1.0, 2.0]  # and once more behind what came late
    assert set(place.media.done("close")) == {"s2"}
    assert place.said == []


async def test_a_link_that_is_lost_for_good_ends_its_session_and_one_that_comes_back_keeps_it(autojump_clock: MockClock, place: Place):
    room_id = await place.create(offer="x")
    for client_id in ("b", "c"):
        await place.join(client_id, room_id)
        place.bus.publish(DeviceUnlinked(client_id, "agent", 1, 0, "gone"))
    await trio.sleep(10)
    place.rooms.returned(Caller("c", "its new link", 2))
    await trio.sleep(15)
    assert place.media.done("close") == ["s2"]
    room = place.rooms.find(room_id)
    assert room is not None
    assert room.seats["c"].session_id == "s3"


async def test_who_comes_back_and_joins_has_another_session(autojump_clock: MockClock, place: Place):
    room_id = await place.create(offer="x")
    await place.join("b", room_id)
    await place.join("b", room_id, generation=2)
    await wait_all_tasks_blocked()
    assert place.media.done("close") == ["s2"]
    assert place.said == [("b", "offer", "offer of x")] * 2


async def test_a_receiver_that_published_something_sends_as_soon_as_it_is_promoted(autojump_clock: MockClock, nursery: trio.Nursery):
    place = Place(InlineDatabase(), sender_leaves="promote")
    for loop in (place.writer.run, place.rooms.run, place.room_media.run):
        await nursery.start(loop)
    room_id = await place.create()
    await place.join("b", room_id, offer="y")
    await place.join("c", room_id)
    place.leave("a", room_id)
    await wait_all_tasks_blocked()
    room = place.rooms.find(room_id)
    assert room is not None
    assert room.seats["b"].role is RoomRole.SENDER
    assert place.said == [("c", "offer", "offer of y")]
    nursery.cancel_scope.cancel()


async def test_before_it_runs_and_when_it_ends_meanwhile_members_are_told_that_the_backend_is_down(autojump_clock: MockClock):
    place = Place(InlineDatabase())
    with pytest.raises(MediaDown):
        await place.create()
    place.media.seconds = 5.0
    told: list[str] = []

    async def ask() -> None:
        try:
            await place.create()
        except MediaDown as down:
            told.append(down.reason)

    async with trio.open_nursery() as links, trio.open_nursery() as bridge:
        await bridge.start(place.room_media.run)
        links.start_soon(ask)
        await trio.sleep(1)
        bridge.cancel_scope.cancel()
    assert told == ["media_left_alone"]


async def test_at_the_end_all_sessions_of_those_who_sit_are_closed(autojump_clock: MockClock):
    place = Place(InlineDatabase())
    async with trio.open_nursery() as bridge:
        await bridge.start(place.room_media.run)
        room_id = await place.create(offer="x")
        for client_id in ("b", "c"):
            await place.join(client_id, room_id)
        assert "signal_gateway_media_sessions 3.0" in place.metrics.text().decode()
        bridge.cancel_scope.cancel()
    assert sorted(place.media.done("close")) == ["s1", "s2", "s3"]


async def test_many_who_come_at_once_do_not_wait_for_each_other(autojump_clock: MockClock, place: Place):
    room_id = await place.create(offer="x")
    place.media.seconds = 2.0
    began_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(partial(place.join, f"r{number}", room_id))
    assert trio.current_time() - began_at == 2
    assert sorted(client_id for client_id, _, _ in place.said) == sorted(f"r{number}" for number in range(20))
