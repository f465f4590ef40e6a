"""Rooms that begin while the media backend is down, and rooms that had begun before (cloudflare.fall_back)."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.errors import MediaDown, SessionError
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.direct_media import DirectMedia
from signal_gateway.services.fall_back import FallBackMedia
from signal_gateway.services.media import MediaSession
from signal_gateway.services.negotiation import RoomSession
from signal_gateway.services.turn import IceServers, MediaSettings


class FakeBackend:
    """A backend that is down when it is told so, and takes `seconds` to say so or to open. Records what is closed and answered."""

    def __init__(self) -> None:
        self.app_id, self.stun_url = "app", "stun:backend.example"
        self.is_down = False
        self.seconds = 0.0
        self.closed: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self._opened = 0

    def ice_servers(self, client_id: str) -> Sequence[Mapping[str, Any]]:
        return [{"urls": [self.stun_url]}]

    async def open(self, room_id: str, client_id: str, role: str, offer_sdp: str | None) -> RoomSession:
        is_down = self.is_down
        await trio.sleep(self.seconds)
        if is_down:
            raise MediaDown(reason="media_timeout")
        self._opened += 1
        return RoomSession(f"backend-{self._opened}", room_id=room_id, app_id=self.app_id)

    async def close(self, session: MediaSession) -> None:
        self.closed.append(session.session_id)

    async def receive(self, session: RoomSession) -> RoomSession:
        self.asked.append(("receive", session.session_id))
        return session

    async def answer(self, session: MediaSession, answer_sdp: str) -> None:
        self.asked.append((answer_sdp, session.session_id))


class Made:
    """A FallBackMedia over a fake backend; each client's link has the session `link-<client>`."""

    def __init__(self, rooms_kept: int = 100) -> None:
        self.metrics = Metrics()
        self.backend = FakeBackend()
        direct = DirectMedia(IceServers(MediaSettings(), "", lambda: 0), lambda client_id: f"link-{client_id}" if client_id else None)
        self.media = FallBackMedia(self.backend, direct, rooms_kept, self.metrics)

    async def open(self, client_id: str, room_id: str = "room", role: str = "receiver") -> RoomSession:
        return await self.media.open(room_id, client_id, role, None)

    @property
    def fell_back(self) -> int:
        page = self.metrics.text().decode()
        return int(float(page.partition("\nsignal_gateway_media_fall_backs_total ")[2].partition("\n")[0]))


async def test_while_the_backend_is_well_rooms_are_on_it(autojump_clock: MockClock):
    made = Made()
    session = await made.open("robot", role="sender")
    assert (session.session_id, session.app_id, made.media.app_id, made.media.stun_url) == (
        "backend-1",
        "app",
        "app",
        "stun:backend.example",
    )
    assert made.media.ice_servers("robot") == [{"urls": ["stun:backend.example"]}]
    assert made.fell_back == 0


async def test_a_room_that_begins_while_it_is_down_is_direct_for_all_its_members_also_when_it_is_well_again(autojump_clock: MockClock):
    made = Made()
    made.backend.is_down = True
    sender = await made.open("robot", role="sender")
    made.backend.is_down = False
    receiver = await made.open("viewer")
    assert [(each.session_id, each.app_id, each.room_id) for each in (sender, receiver)] == [
        ("link-robot", "p2p", "room"),
        ("link-viewer", "p2p", "room"),
    ]
    assert (await made.open("other", "other room")).app_id == "app"
    assert made.fell_back == 1


async def test_who_joins_a_room_of_the_backend_while_it_is_down_is_refused(autojump_clock: MockClock):
    """A member that talks directly would hear nobody of those who talk to the backend."""
    made = Made()
    await made.open("robot", role="sender")
    made.backend.is_down = True
    with pytest.raises(MediaDown) as refused:
        await made.open("viewer")
    assert refused.value.reason == "media_timeout"
    made.backend.is_down = False
    assert (await made.open("viewer")).app_id == "app"


@pytest.mark.parametrize("was_down", [True, False])
async def test_when_its_last_session_is_closed_a_room_begins_anew(autojump_clock: MockClock, was_down: bool):
    made = Made()
    made.backend.is_down = was_down
    sessions = [await made.open(client_id) for client_id in ("a", "b")]
    made.backend.is_down = not was_down
    await made.media.close(sessions[0])
    if was_down:
        assert (await made.open("c")).app_id == "p2p"
    else:
        with pytest.raises(MediaDown):
            await made.open("c")
    for session in [*sessions[1:], *([RoomSession("link-c", room_id="room", app_id="p2p")] if was_down else [])]:
        await made.media.close(session)
    assert (await made.open("d")).app_id == ("app" if was_down else "p2p")
    assert made.backend.closed == ([] if was_down else ["backend-1", "backend-2"])


async def test_two_that_begin_a_room_at_once_while_the_backend_comes_back_are_in_one_room(autojump_clock: MockClock):
    """The first asks while it is down and hears of it last; by then the second has its session on the backend."""
    made = Made()
    sessions: dict[str, RoomSession] = {}

    async def join(client_id: str) -> None:
        sessions[client_id] = await made.open(client_id)

    async with trio.open_nursery() as nursery:
        made.backend.is_down, made.backend.seconds = True, 5.0
        nursery.start_soon(join, "first")
        await trio.sleep(1)
        made.backend.is_down, made.backend.seconds = False, 1.0
        nursery.start_soon(join, "second")
    assert {session.app_id for session in sessions.values()} == {"app"}
    assert made.fell_back == 0


async def test_two_that_begin_a_room_at_once_while_the_backend_goes_down_are_in_one_room(autojump_clock: MockClock):
    made = Made()
    sessions: dict[str, RoomSession] = {}

    async def join(client_id: str) -> None:
        sessions[client_id] = await made.open(client_id)

    async with trio.open_nursery() as nursery:
        made.backend.seconds = 5.0
        nursery.start_soon(join, "first")
        await trio.sleep(1)
        made.backend.is_down, made.backend.seconds = True, 1.0
        nursery.start_soon(join, "second")
    assert {session.app_id for session in sessions.values()} == {"p2p"}
    assert made.backend.closed == ["backend-1"]


async def test_a_client_without_a_link_gets_no_session_and_leaves_no_room(autojump_clock: MockClock):
    made = Made()
    made.backend.is_down = True
    with pytest.raises(SessionError):
        await made.open("")
    made.backend.is_down = False
    assert (await made.open("robot")).app_id == "app"


async def test_what_members_negotiate_goes_to_the_backend_where_the_room_is_on_it(autojump_clock: MockClock):
    made = Made()
    session = await made.open("robot")
    made.backend.is_down = True
    direct = await made.open("other", "other room")
    assert await made.media.receive(session) is session
    assert await made.media.receive(direct) is direct
    await made.media.answer(session, "answer")
    await made.media.answer(direct, "answer")
    assert made.backend.asked == [("receive", "backend-1"), ("answer", "backend-1")]


async def test_the_oldest_room_is_forgotten_where_too_many_are_remembered(autojump_clock: MockClock):
    made = Made(rooms_kept=2)
    for room_id in ("first", "second", "third"):
        await made.open("robot", room_id)
    assert made.metrics.limits.value("cloudflare.rooms_kept") == 1
    made.backend.is_down = True
    assert (await made.open("viewer", "first")).app_id == "p2p"
    with pytest.raises(MediaDown):
        await made.open("viewer", "third")
