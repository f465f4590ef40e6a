"""Sessions in any order of what may happen to members, rooms and backend: each belongs to one seat, and none is left over (C-15)."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from signal_gateway.domain.errors import GatewayError, MediaDown
from signal_gateway.domain.events import DeviceUnlinked
from signal_gateway.domain.principal import Caller
from signal_gateway.domain.room import P2P, Room
from signal_gateway.services.room_media import Wish
from signal_gateway.storage.database import InlineDatabase

from .test_room_media import Place

CLIENTS: tuple[str, ...] = ("a", "b", "c")


@dataclass
class Happening:
    """One thing that happens."""

    what: str
    client: str
    seconds: float
    offers: bool


WHATS = (
    *("create", "join", "join", "join", "join as sender", "reload", "reload", "leave", "leave", "answer", "offer", "offer"),
    *("wait", "wait", "wait", "lose", "lose", "come back", "take over", "kick", "ban", "end", "slow", "down", "hide", "show"),
)
HAPPENINGS = st.lists(
    st.builds(Happening, st.sampled_from(WHATS), st.sampled_from(CLIENTS), st.sampled_from([0.1, 0.3, 3.0, 21.0]), st.booleans()),
    min_size=10,
    max_size=40,
)


class Model:
    """Drives rooms and their media as links would, each request in a task that ends with its link."""

    def __init__(self, place: Place, links: trio.Nursery) -> None:
        self.place = place
        self.links = links
        self.generations: dict[str, int] = dict.fromkeys(CLIENTS, 1)
        self.scopes: dict[str, list[trio.CancelScope]] = {client: [] for client in CLIENTS}
        """Of what waits in the link of each."""

    @property
    def room(self) -> Room | None:
        """The newest one."""
        return next(reversed(list(self.place.rooms.opened())), None)

    async def do(self, step: Happening) -> None:
        place, client, room = self.place, step.client, self.room
        room_id = "none" if room is None else room.room_id
        offer = f"track-of-{client}" if step.offers else None
        match step.what:
            case "create":
                self.links.start_soon(self.enter, client, Wish(None, "sender", None, offer))
            case "join" | "join as sender":
                self.links.start_soon(self.enter, client, Wish(room_id, "sender" if "as" in step.what else "receiver", None, offer))
            case "leave":
                with suppress(GatewayError):
                    place.rooms.leave(self.caller(client), room_id, None)
            case "answer" | "offer":
                self.links.start_soon(self.exchange, step.what, client, room_id)
            case "lose" | "take over" | "come back":
                self.relink(client, step.what)
            case "reload" if room is not None and client in room.seats:
                self.relink(client, "take over")
                self.links.start_soon(self.enter, client, Wish(room_id, room.seats[client].role.value, None, offer))
            case "kick" | "ban" if room is not None:
                place.rooms.remove(room, client, "boss", ban=step.what == "ban")
            case "end" if room is not None:
                place.rooms.end(room, "boss")
            case "slow":
                place.media.seconds = step.seconds
            case "down":
                place.media.faults.extend([MediaDown()] * 3)
            case "hide" | "show":
                place.media.hidden = {f"track-of-{each}" for each in CLIENTS} if step.what == "hide" else set()
            case _:
                await trio.sleep(step.seconds)
        await trio.sleep(0.01)
        self.check()

    def caller(self, client: str) -> Caller:
        return Caller(client, f"link of {client}", self.generations[client])

    def relink(self, client: str, what: str) -> None:
        """A link that is lost cancels what waits in it; a newer one fences the older before."""
        generation = self.generations[client]
        if what != "come back":
            self.place.bus.publish(DeviceUnlinked(client, "agent", generation, 0, "gone"))
            if what == "lose":
                for scope in self.scopes[client]:
                    scope.cancel()
        if what != "lose":
            self.generations[client] += 1
            self.place.rooms.returned(self.caller(client))

    async def enter(self, client: str, wish: Wish) -> None:
        caller, media = self.caller(client), self.place.room_media
        with trio.CancelScope() as scope, suppress(GatewayError):
            self.scopes[client].append(scope)
            entered = await media.enter(caller, wish, lambda: self.generations[client] == caller.generation)
            media.begin(entered)

    async def exchange(self, what: str, client: str, room_id: str) -> None:
        media = self.place.room_media
        with suppress(GatewayError):
            await (media.answer if what == "answer" else media.offer)(self.caller(client), room_id, f"more-of-{client}")

    def check(self) -> None:
        """Whoever sits in a room on the backend has the session that its seat tells, and all who have one sit."""
        held = self.place.room_media._held
        seats = {seat.stay_id: seat for room in self.place.rooms.opened() if room.app_id != P2P for seat in room.seats.values()}
        assert held.keys() == seats.keys()
        for stay_id, seat in seats.items():
            assert held[stay_id].session.session_id == seat.session_id
        sessions = [each.session.session_id for each in held.values()]
        assert len(sessions) == len(set(sessions))
        assert set(sessions) <= self.place.media.open_ids

    async def settle(self) -> None:
        """When all is well and everybody answers, all have what the sender publishes; and what is open is held."""
        media = self.place.media
        media.seconds, media.hidden = 0.0, set()
        media.faults.clear()
        for _ in range(6):
            await trio.sleep(61)
            for room in list(self.place.rooms.opened()):
                for client in list(room.seats):
                    await self.exchange("answer", client, room.room_id)
        held = self.place.room_media._held
        for room in self.place.rooms.opened():
            publisher = self.place.room_media._publisher(room)
            receivers = [held[seat.stay_id] for seat in room.seats.values() if seat is not room.sender]
            assert publisher is None or not any(each.session.lacks(publisher) for each in receivers)
        self.check_open({each.session.session_id for each in held.values()})
        assert self.place.metrics.errors.total == 0

    def check_open(self, wanted: set[str]) -> None:
        """Nothing but these is open at the backend, and those of which it was told that they could not be closed while it was down."""
        left = self.place.media.open_ids - wanted
        assert wanted <= self.place.media.open_ids
        assert len(left) <= self.place.closings_failed()


async def run(steps: Sequence[Happening], policy: str) -> None:
    database = InlineDatabase()
    place = Place(database, sender_leaves=policy, archive_write_s=5.0)
    async with trio.open_nursery() as services:
        for loop in (place.writer.run, place.rooms.run, place.room_media.run):
            await services.start(loop)
        async with trio.open_nursery() as links:
            model, place.media.seconds = Model(place, links), 0.2
            for step in (
                Happening("create", "a", 0.0, offers=True),
                Happening("wait", "a", 0.5, offers=False),
                Happening("join", "b", 0.0, offers=False),
                *steps,
            ):
                await model.do(step)
            await model.settle()
            for room in list(place.rooms.opened()):
                place.rooms.end(room, "boss")
            await trio.sleep(100)
            model.check_open(set())
        services.cancel_scope.cancel()
    database.close()


@settings(max_examples=60, deadline=None)
@given(HAPPENINGS, st.sampled_from(["close", "promote", "wait"]))
def test_whatever_happens_in_whatever_order_no_session_is_left_over(steps: list[Happening], policy: str):
    trio.run(run, steps, policy, clock=MockClock(autojump_threshold=0))
