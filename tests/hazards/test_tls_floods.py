"""What TLS itself says counts as what is said in it: new keys without end cost an abuser its rate of frames, and nobody else (H09)."""

import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.testing.localhost import client_context, server_context
from signal_gateway.testing.world import World, open_world, socket_pair
from signal_gateway.websocket.link import Link
from signal_gateway.websocket.server_settings import ServerSettings
from signal_gateway.websocket.tls import OWN_BYTES_A_FRAME, OWN_BYTES_FREE, TlsSession, TlsStream
from tests.hazards.upgrades import PHONE, head
from tests.websocket.client_frames import text
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.test_links import report
from tests.websocket.test_tls import Peer
from tests.websocket.tls_words import WordyPeer

FRAMES_PER_S, FRAMES_BURST = 200, 400
READ_BYTES = 8192
OUTBOX_BYTES = 262_144
MOST_AT_ONCE_BYTES = 16_384
SOCKET_BYTES = 212_992


@asynccontextmanager
async def wordy_phone(world: World, folder: Path) -> AsyncGenerator[tuple[WordyPeer, Link]]:
    """A phone on TLS that is linked, and its link.

    The socket takes all that is said there at once: acknowledgements of the kernel take real time, for which virtual time does not wait.
    """
    ours, theirs = socket_pair()
    theirs.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, SOCKET_BYTES)
    world.links.start_soon(world.gateway.listener.serve_connection, TlsStream(theirs, server_context()))
    peer = WordyPeer(ours, folder)
    await peer.shake()
    await ours.send_all(peer.sealed(head(*PHONE, host=b"localhost")))
    heard = b""
    while b"connection_established" not in heard:
        heard += await peer.heard()
    link = world.gateway.hub.link_of("raw-phone")
    assert isinstance(link, Link)
    yield peer, link
    await trio.aclose_forcefully(ours)


@pytest.fixture(params=["epoll", "task"])
async def world(request: pytest.FixtureRequest) -> AsyncGenerator[World]:
    """On sockets, with either pump."""
    async with open_world(Config(auth=DEMO_AUTH, server=ServerSettings(pump=request.param)), transport="sockets") as world:
        yield world


@pytest.mark.slow
@pytest.mark.parametrize("asks", [False, True])
async def test_new_keys_are_read_at_the_rate_of_frames_and_the_link_goes_on(
    autojump_clock: MockClock, world: World, tmp_path: Path, asks: bool
):
    """128 bytes of TLS's own are a frame, beyond the first 32 KiB: of 189 KB the last is read some 4 seconds later."""
    async with wordy_phone(world, tmp_path) as (peer, link), trio.open_nursery() as nursery:
        session, heard = session_of(link), bytearray()

        async def read_on() -> None:
            while True:
                heard.extend(await peer.heard())

        words = b"".join(peer.new_keys(asks) for _ in range(7_000)) + peer.sealed(text(report("after all")))
        read = bytes_opened(session)
        nursery.start_soon(read_on)
        nursery.start_soon(peer.stream.send_all, words)
        second = 0
        while b"after all" not in heard:
            assert read() <= OWN_BYTES_FREE + OWN_BYTES_A_FRAME * (FRAMES_BURST + FRAMES_PER_S * (second + 1)) + READ_BYTES
            await trio.sleep(1)
            second += 1
            assert second < 10
        assert 3 <= second <= 5
        assert world.metrics.limits.value("limits.frames_per_s") >= 1
        nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_who_asks_for_new_keys_and_reads_none_holds_one_outbox_at_most(autojump_clock: MockClock, world: World, tmp_path: Path):
    async with wordy_phone(world, tmp_path) as (peer, link), trio.open_nursery() as nursery:
        link.stream._raw.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)  # type: ignore[attr-defined]
        words = b"".join(peer.new_keys(True) for _ in range(20_000))

        async def abuse() -> None:
            with suppress(trio.BrokenResourceError):
                await peer.stream.send_all(words)

        nursery.start_soon(abuse)
        most = 0
        while link._goodbye is None:
            most = max(most, link.outbox.bytes_waiting)
            await trio.sleep(0.1)
        assert 0 < most <= OUTBOX_BYTES
        assert link._goodbye[0] == 4001
        nursery.cancel_scope.cancel()


async def test_who_says_new_keys_in_place_of_a_request_is_gone(autojump_clock: MockClock, world: World, tmp_path: Path):
    ours, theirs = socket_pair()
    stream = TlsStream(theirs, server_context())
    world.links.start_soon(world.gateway.listener.serve_connection, stream)
    peer = WordyPeer(ours, tmp_path)
    await peer.shake()
    begun_at = trio.current_time()
    with suppress(trio.BrokenResourceError):
        await ours.send_all(b"".join(peer.new_keys(False) for _ in range(4_000)))
        while await ours.receive_some():
            pass
    assert trio.current_time() == begun_at
    assert OWN_BYTES_FREE < stream.session.own_bytes <= OWN_BYTES_FREE + MOST_AT_ONCE_BYTES
    assert world.metrics.refusals.value("gone_before_request") == 1
    await ours.aclose()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("records", [1, 2])
def test_who_says_each_frame_in_a_record_or_two_owes_none(version: ssl.TLSVersion, records: int):
    session, peer = shaken(version)
    frame = text(report("r"))
    middle = len(frame) // records
    for _ in range(1000):
        parts = (frame,) if records == 1 else (frame[:middle], frame[middle:])
        session.opened(b"".join(map(peer.sealed, parts)))
        assert session.frames_owed(1) == 0
    assert session.own_bytes == 0


def test_large_messages_owe_next_to_nothing_and_a_record_that_is_not_whole_nothing():
    session, peer = shaken(ssl.TLSVersion.TLSv1_3)
    sealed = peer.sealed(bytes(1_048_576))
    owed = 0
    for _ in range(100):
        for place in range(0, len(sealed), READ_BYTES):
            session.opened(sealed[place : place + READ_BYTES])
            owed += session.frames_owed(0)
        owed += session.frames_owed(1)
        sealed = peer.sealed(bytes(1_048_576))
    assert owed <= 100 * 64 * 22 / OWN_BYTES_A_FRAME


def shaken(version: ssl.TLSVersion) -> tuple[TlsSession, Peer]:
    """A session and its peer, in memory."""
    context = client_context()
    context.maximum_version = version
    session, peer = TlsSession(server_context()), Peer(context)
    peer.shake(session)
    return session, peer


def session_of(link: Link) -> TlsSession:
    session = link.stream._tls
    assert session is not None
    return session


def bytes_opened(session: TlsSession) -> Callable[[], int]:
    """Asks how many bytes the session was given from now on."""
    incoming, given = session._incoming, [0]

    class Counting:
        """A MemoryBIO's place, as far as a session uses it."""

        @property
        def pending(self) -> int:
            return incoming.pending

        def write(self, data: bytes) -> int:
            given[0] += len(data)
            return incoming.write(data)

    session._incoming = Counting()  # type: ignore[assignment]
    return lambda: given[0]
