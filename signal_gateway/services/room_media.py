"""The media of rooms on a backend: whose session is which, who is to get whose tracks, what is to be closed (S-24, S-41; C-15).

Who comes into a room gets a session first and a seat then: nobody sits in a room without one, and a session for which there is no seat any
more is closed again. All that is asked of the backend runs in a nursery of its own, so no link that is lost leaves anything half done.
Rooms on no backend have nothing to do with this but their beginning.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import msgspec
import trio

from signal_gateway.bus.local import Bus
from signal_gateway.domain.errors import (
    GatewayError,
    MediaDown,
    MemberNotFound,
    NothingOffered,
    OfferOutstanding,
    SessionError,
)
from signal_gateway.domain.events import MediaSaid, RoomChanged, StayEnded
from signal_gateway.domain.principal import Caller
from signal_gateway.domain.room import P2P, Room, RoomRole, Seat, role_of
from signal_gateway.domain.signals import SignalKind
from signal_gateway.observe.logs import logger
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.errand import Errand
from signal_gateway.services.media import Media, MediaSession
from signal_gateway.services.media_closings import MediaClosings
from signal_gateway.services.rooms import Rooms

T = TypeVar("T")

LOOK_EVERY_S = 1.0
"""How often it is looked whose tracks may be asked for again."""
AGAIN_FIRST_S, AGAIN_LONGEST_S = 1.0, 30.0
"""Waits between such attempts, doubled each time: a sender may have published, and not be connected yet."""

log = logger("media")


class Wish(msgspec.Struct, frozen=True):
    """What somebody asks for: to come into this room, or, without `room_id`, to open one."""

    room_id: str | None
    role: str
    metadata: Mapping[str, Any] | None = None
    offer_sdp: str | None = None


@dataclass(frozen=True, slots=True)
class Entered:
    """Who has come in, and on what. Without a `session` the room stands on no backend."""

    room: Room
    seat: Seat
    session: MediaSession | None
    publisher: MediaSession | None


@dataclass(slots=True, eq=False)
class _Held:
    """The session of one stay."""

    room: Room
    seat: Seat
    session: MediaSession
    is_asked: bool = False
    """The backend is being asked for it: one thing after the other."""
    owes_answer: bool = False
    """The member was given an offer of the backend's, and has not answered it."""
    again_at_s: float = 0.0
    wait_s: float = AGAIN_FIRST_S


class RoomMedia:
    """Knows the sessions of those who sit in rooms on `media`. `run` is its loop; what waits says so, and all else never does."""

    def __init__(self, media: Media, rooms: Rooms, bus: Bus, closings: MediaClosings, metrics: Metrics, *, falls_back: bool) -> None:
        self._media = media
        self._rooms = rooms
        self._bus = bus
        self._closings = closings
        self._falls_back = falls_back
        self._held: dict[str, _Held] = {}
        self._lacking: set[_Held] = set()
        self._nursery: trio.Nursery | None = None
        self._errors = metrics.errors
        self._fall_backs = metrics.counter("media_fall_backs_total", "Rooms that began without the media backend, since it was down.")
        self._missed = metrics.counter("media_tracks_missed_total", "Times the sender's tracks could not be had for a member.", ("reason",))
        metrics.gauge("media_sessions", "Sessions at the media backend of those who sit in rooms.", lambda: len(self._held))
        bus.subscribe(StayEnded, self._hear_end)
        bus.subscribe(RoomChanged, self._hear_change)

    @property
    def backend(self) -> Media:
        """What the rooms stand on, for STUN and TURN servers and its name."""
        return self._media

    # asked by members

    async def enter(self, caller: Caller, wish: Wish, is_here: Callable[[], bool]) -> Entered:
        """A session, then a seat. `is_here` tells whether the link that asks is still the client's; it is asked when the session is there.

        Raises what Rooms.create and Rooms.join raise, MediaDown, SessionError; then there is neither. After the answer to it: `begin`.
        """
        known = self._rooms.check(caller, wish.role, wish.room_id)
        session, down = None, None
        if known is None or not known.stays or known.app_id != P2P:
            session, down = await self._session_for(known, wish)
        try:
            if not is_here():
                raise SessionError
            session = self._on_the_way_of(wish.room_id, session, down)
            room = self._sit(caller, wish, session)
        except GatewayError:
            self._closings.close_soon(session)
            raise
        seat = room.seats[caller.client_id]
        if (old := self._held.pop(seat.stay_id, None)) is not None:  # it has come back, and begins anew
            self._let_go(old)
        if session is not None:
            self._held[seat.stay_id] = _Held(room, seat, session, owes_answer=session.offer_sdp is not None)
        elif down is not None and room.stays == 1:
            self._fall_backs.add()
            log.info("a room begins without the media backend", room_id=room.room_id, reason=down.reason)
        return Entered(room, seat, session, self._publisher(room))

    def begin(self, entered: Entered) -> None:
        """Whoever has come in has been told so: what the backend offers follows, and the others get what is new."""
        held = self._held.get(entered.seat.stay_id)
        if held is not None and held.session is entered.session:
            self._say(held, SignalKind.OFFER, held.session.offer_sdp)
        self._look_around(entered.room)

    def stands_behind(self, room_id: str) -> bool:
        """Whether signals to nobody in particular are for the backend in this room."""
        room = self._rooms.find(room_id)
        return room is not None and room.app_id != P2P

    async def offer(self, caller: Caller, room_id: str, sdp: str) -> None:
        """A member's further offer; the answer follows by MediaSaid. Raises RoomNotFound, MemberNotFound, OfferOutstanding, MediaDown,
        SessionError."""
        held = self._session_of(caller, room_id)
        if held.is_asked or held.owes_answer:
            raise OfferOutstanding
        held.is_asked = True
        await self._apart(partial(self._ask_offer, held, sdp))

    async def answer(self, caller: Caller, room_id: str, sdp: str) -> None:
        """A member's answer to the backend's offer. Raises RoomNotFound, MemberNotFound, NothingOffered, MediaDown, SessionError."""
        held = self._session_of(caller, room_id)
        if not held.owes_answer or held.is_asked:
            raise NothingOffered
        held.is_asked = True
        await self._apart(partial(self._ask_answer, held, sdp))

    def candidate(self, caller: Caller, room_id: str) -> None:
        """A member's candidate: the backend sees where a member is by its packets, and has no use for it. Raises RoomNotFound,
        MemberNotFound."""
        self._session_of(caller, room_id)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do what members and rooms ask for, until cancelled; then close all sessions, as far as there is time."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._closings.begin(nursery)
                task_status.started()
                while True:
                    await trio.sleep(LOOK_EVERY_S)
                    for held in list(self._lacking):
                        self._give_tracks(held)
        finally:
            self._nursery = None
            await self._closings.end([held.session for held in self._held.values()])

    # inside

    async def _session_for(self, known: Room | None, wish: Wish) -> tuple[MediaSession | None, MediaDown | None]:
        """A session, or why the room has to begin without."""
        publisher = None if known is None or role_of(wish.role) is RoomRole.SENDER else self._publisher(known)
        try:
            return await self._apart(partial(self._media.open, wish.offer_sdp, publisher), self._closings.close_soon), None
        except MediaDown as down:
            if not self._falls_back:
                raise
            return None, down

    def _on_the_way_of(self, room_id: str | None, session: MediaSession | None, down: MediaDown | None) -> MediaSession | None:
        """Two who were the first in a room may have found the backend in two states: the one who sat first has decided for both."""
        room = None if room_id is None else self._rooms.find(room_id)
        if room is None or not room.stays:
            return session
        if room.app_id == P2P:
            self._closings.close_soon(session)
            return None
        if session is None and down is not None:
            raise down
        return session

    def _sit(self, caller: Caller, wish: Wish, session: MediaSession | None) -> Room:
        app_id = P2P
        if session is not None:
            app_id, caller = self._media.app_id, msgspec.structs.replace(caller, session_id=session.session_id)
        if wish.room_id is None:
            return self._rooms.create(caller, wish.role, wish.metadata, app_id)
        return self._rooms.join(caller, wish.room_id, wish.role, wish.metadata, app_id)

    def _session_of(self, caller: Caller, room_id: str) -> _Held:
        seat = self._rooms.seat_of(caller, room_id)
        held = self._held.get(seat.stay_id)
        if held is None:  # it is of before a restart
            raise MemberNotFound("The media backend has no session of yours: join again")
        return held

    def _publisher(self, room: Room) -> MediaSession | None:
        """The session of the one who sends, once there is something to be had of it."""
        seat = room.sender
        held = None if seat is None else self._held.get(seat.stay_id)
        return held.session if held is not None and held.session.published else None

    def _look_around(self, room: Room) -> None:
        for seat in room.seats.values():
            if (held := self._held.get(seat.stay_id)) is not None:
                held.again_at_s, held.wait_s = 0.0, AGAIN_FIRST_S
                self._give_tracks(held)

    def _give_tracks(self, held: _Held) -> None:
        """Ask for what the member lacks of the sender's tracks, unless something else is under way: then afterwards."""
        publisher = self._publisher(held.room)
        if not self._is_current(held) or publisher is None or held.seat.role is RoomRole.SENDER or not held.session.lacks(publisher):
            self._lacking.discard(held)
            return
        self._lacking.add(held)
        if self._nursery is None or held.is_asked or held.owes_answer or trio.current_time() < held.again_at_s:
            return
        held.again_at_s = trio.current_time() + held.wait_s
        held.wait_s = min(2 * held.wait_s, AGAIN_LONGEST_S)
        held.is_asked = True
        self._nursery.start_soon(self._contained, partial(self._ask_tracks, held, publisher))

    async def _ask_tracks(self, held: _Held, publisher: MediaSession) -> None:
        try:
            session = await self._media.receive(held.session, publisher)
        except (MediaDown, SessionError) as error:
            self._missed.add(error.reason)
            return
        finally:
            self._has_asked(held)
        if not self._is_current(held):
            return
        held.session, held.owes_answer = session, session.offer_sdp is not None
        if held.owes_answer:
            self._say(held, SignalKind.OFFER, session.offer_sdp)
        else:
            self._missed.add("not_there_yet")
        self._give_tracks(held)

    async def _ask_offer(self, held: _Held, sdp: str) -> None:
        try:
            session = await self._media.offer(held.session, sdp)
        finally:
            self._has_asked(held)
        if self._is_current(held):
            held.session = session
            self._say(held, SignalKind.ANSWER, session.answer_sdp)
            self._look_around(held.room)

    async def _ask_answer(self, held: _Held, sdp: str) -> None:
        try:
            await self._media.answer(held.session, sdp)
            held.owes_answer = False
        finally:
            self._has_asked(held)
        self._give_tracks(held)

    def _has_asked(self, held: _Held) -> None:
        """What was asked for one who has gone meanwhile may have come after their session was closed: it is closed once more."""
        held.is_asked = False
        if not self._is_current(held):
            self._closings.close_soon(held.session)

    def _is_current(self, held: _Held) -> bool:
        return self._held.get(held.seat.stay_id) is held

    def _say(self, held: _Held, kind: SignalKind, sdp: str | None) -> None:
        if sdp is not None:
            self._bus.publish(MediaSaid(held.room.room_id, held.seat.client_id, kind, sdp))

    async def _apart(self, work: Callable[[], Awaitable[T]], unwanted: Callable[[T], None] = lambda _: None) -> T:
        """Wait for work that goes on when the link that asks for it is lost; what it brings then is `unwanted`."""
        if self._nursery is None:
            raise MediaDown(reason="media_left_alone")
        errand = Errand(work, unwanted)
        self._nursery.start_soon(self._contained, errand.run)
        return await errand.wait(MediaDown(reason="media_left_alone"))

    async def _contained(self, work: Callable[[], Awaitable[None]]) -> None:
        """A border: what goes wrong with one session stays there. A refusal that nobody waits for any more has been counted below."""
        try:
            await work()
        except GatewayError as refused:
            log.info("a member did not wait for its refusal", reason=refused.reason)
        except Exception:
            self._errors.add("media")
            log.exception("media of a room failed")

    def _hear_end(self, event: StayEnded) -> None:
        held = self._held.pop(event.stay_id, None)
        if held is not None:
            self._let_go(held)

    def _let_go(self, held: _Held) -> None:
        self._lacking.discard(held)
        self._closings.close_soon(held.session)

    def _hear_change(self, event: RoomChanged) -> None:
        """Another one sends, who may publish something already."""
        room = self._rooms.find(event.room_id)
        if event.reason == "promoted" and room is not None:
            self._look_around(room)
