"""TLS in memory: what the other side of it, OpenSSL in Trio's own stream, hears and says, and what ends it."""

import select
import ssl
from itertools import pairwise

import pytest
import trio
import trio.testing

from signal_gateway.config import Config
from signal_gateway.observe.metrics import Metrics
from signal_gateway.testing.localhost import client_context, server_context
from signal_gateway.testing.world import open_world, socket_pair
from signal_gateway.websocket.outbox import Outbox, OutboxSettings
from signal_gateway.websocket.tls import RECORD_BYTES_MAX, TlsSession, TlsStream
from signal_gateway.websocket.turn import Turn
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.talk import phone_headers

SERVER, CLIENT = server_context(), client_context()


class Peer:
    """The client's side, in memory, for bytes that a test moves by hand."""

    def __init__(self, context: ssl.SSLContext = CLIENT, before: ssl.SSLSession | None = None) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost", session=before)

    def shake(self, session: TlsSession) -> None:
        """Both sides of the handshake."""
        data, is_done = b"", False
        while not is_done:
            self.incoming.write(data)
            try:
                self.tls.do_handshake()
                is_done = True
            except ssl.SSLWantReadError:
                pass
            session.is_shaken(self.outgoing.read())
            data = session.to_say() if session.is_waited_for or not is_done else b""
        self.incoming.write(data)

    def sealed(self, data: bytes) -> bytes:
        for start in range(0, len(data), RECORD_BYTES_MAX):
            self.tls.write(data[start : start + RECORD_BYTES_MAX])
        return self.outgoing.read()

    def opened(self, data: bytes) -> bytes:
        self.incoming.write(data)
        said = b""
        try:
            while chunk := self.tls.read(RECORD_BYTES_MAX):
                said += chunk
        except ssl.SSLWantReadError:
            pass
        return said


def versions() -> list[ssl.TLSVersion]:
    return [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", versions())
@pytest.mark.parametrize("size", [1, RECORD_BYTES_MAX, RECORD_BYTES_MAX + 1, 300_000])
def test_what_one_side_seals_the_other_opens_however_it_is_cut(version: ssl.TLSVersion, size: int):
    context = client_context()
    context.maximum_version = version
    session, peer = TlsSession(SERVER), Peer(context)
    peer.shake(session)
    said = bytes(number % 251 for number in range(size))
    assert peer.opened(session.sealed(said)) == said
    sealed = peer.sealed(said)
    cuts = [0, 1, 5, 6, len(sealed) // 2, len(sealed) - 1, len(sealed)]
    assert b"".join(session.opened(sealed[start:stop]) for start, stop in pairwise(cuts)) == said
    assert not session.is_over


def test_many_records_in_one_read_are_opened_all():
    session, peer = TlsSession(SERVER), Peer()
    peer.shake(session)
    sealed = b"".join(peer.sealed(b"%03d" % number) for number in range(300))
    assert session.opened(sealed) == b"".join(b"%03d" % number for number in range(300))


@pytest.mark.parametrize("place", [0, 1, 5, 20, -1])
def test_a_record_that_was_tampered_with_is_an_error_and_nothing_of_it_is_heard(place: int):
    session, peer = TlsSession(SERVER), Peer()
    peer.shake(session)
    record = bytearray(peer.sealed(b"transfer 100"))
    record[place] ^= 0x10
    with pytest.raises(ssl.SSLError):
        session.opened(bytes(record) + bytes(20_000))
    assert session.to_say() != b""  # the alert


def test_a_farewell_is_heard_by_either_side():
    session, peer = TlsSession(SERVER), Peer()
    peer.shake(session)
    last = peer.sealed(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        peer.tls.unwrap()
    assert session.opened(last + peer.outgoing.read()) == b"last"
    assert session.is_over
    peer.incoming.write(session.farewell())
    assert peer.tls.unwrap() is None


async def shaken_pair() -> tuple[TlsStream, trio.SSLStream[trio.SocketStream]]:
    """Our stream, and Trio's at the other end of real sockets, handshake done."""
    ours, theirs = socket_pair()
    server = TlsStream(theirs, SERVER)
    client = trio.SSLStream(ours, CLIENT, server_hostname="localhost", https_compatible=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.send_all, b"welcome")
        assert await client.receive_some(100) == b"welcome"
    return server, client


@pytest.mark.parametrize("version", versions())
async def test_nothing_comes_between_the_handshake_and_the_answer(nursery: trio.Nursery, version: ssl.TLSVersion):
    """Not even tickets: they would meet a client that writes its request in one thread and reads in another."""
    context = client_context()
    context.maximum_version = version
    ours, theirs = socket_pair()
    server = TlsStream(theirs, SERVER)
    client = trio.SSLStream(ours, context, server_hostname="localhost", https_compatible=True)
    asked: list[bytes] = []

    async def serve() -> None:
        asked.append(await server.receive_some())
        await server.send_all(b"welcome")

    nursery.start_soon(serve)
    await client.do_handshake()
    await trio.testing.wait_all_tasks_blocked()
    assert not select.select([ours.socket.fileno()], [], [], 0)[0]
    await client.send_all(b"hello")
    assert await client.receive_some(100) == b"welcome"
    assert asked == [b"hello"]
    await trio.aclose_forcefully(client)
    await server.aclose()


@pytest.mark.parametrize("version", versions())
def test_who_comes_back_goes_on_with_the_ticket_that_came_before_the_answer(version: ssl.TLSVersion):
    context = client_context()
    context.maximum_version = version
    session, peer = TlsSession(SERVER), Peer(context)
    peer.shake(session)
    assert peer.opened(session.sealed(b"welcome")) == b"welcome"
    again = Peer(context, peer.tls.session)
    again.shake(TlsSession(SERVER))
    assert again.tls.session_reused


async def test_trios_own_stream_understands_ours():
    server, client = await shaken_pair()
    large = bytes(range(256)) * 2000
    heard = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, large)
        while len(heard) < len(large):
            heard += await server.receive_some(10)
    assert heard == large
    await client.aclose()
    assert await server.receive_some() == b""
    await server.aclose()


async def test_after_our_end_of_file_the_peer_may_still_speak():
    server, client = await shaken_pair()
    await server.send_eof()
    await client.send_all(b"one more thing")
    assert await server.receive_some() == b"one more thing"
    assert await client.receive_some(10) == b""
    await client.aclose()
    await server.aclose()


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(100), b"\0" * 600])
async def test_who_speaks_no_tls_is_gone_before_a_request(first: bytes):
    ours, theirs = socket_pair()
    server = TlsStream(theirs, SERVER)
    await ours.send_all(first)
    await ours.send_eof()
    with pytest.raises(trio.BrokenResourceError):
        await server.receive_some()
    await ours.aclose()
    await server.aclose()


async def test_tls_1_1_is_refused_with_an_alert():
    old = client_context()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    ours, theirs = socket_pair()
    server, client = TlsStream(theirs, SERVER), trio.SSLStream(ours, old, server_hostname="localhost")
    async with trio.open_nursery() as nursery:

        async def refuse() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await server.receive_some()

        nursery.start_soon(refuse)
        with pytest.raises(trio.BrokenResourceError) as caught:
            await client.do_handshake()
    assert "alert" in repr(caught.value.__cause__).lower()
    await trio.aclose_forcefully(client)
    await server.aclose()


async def test_what_the_socket_takes_in_part_stays_one_stream_of_records(nursery: trio.Nursery):
    """Half a record is on the wire while more is put, and TLS itself has something to say in between."""
    server, client = await shaken_pair()
    server.raw.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_SNDBUF, 4096)
    turn = Turn(lambda: True, Metrics())
    outbox = Outbox(OutboxSettings(bytes_max=10_000_000), server, Metrics(), turn, nursery.start_soon, lambda limit: None)
    said = b""
    while not outbox.bytes_waiting or len(said) < 1_000_000:
        said += (chunk := b"%06d" % len(said) * 5000)
        outbox.put(chunk)
        outbox.put_sealed(b"")
    turn.begin(0.0)
    outbox.put(b"the end")
    turn.end()
    heard = b""
    while not heard.endswith(b"the end"):
        heard += bytes(await client.receive_some(100_000))
    await outbox.drain()
    assert heard == said + b"the end"
    outbox.end()
    await trio.aclose_forcefully(client)
    await server.aclose()


async def test_a_link_whose_records_are_tampered_with_ends_counted():
    async with open_world(Config(auth=DEMO_AUTH), transport="tls") as world:
        stream = world.connect()
        assert isinstance(stream, trio.SSLStream)
        await open_phone(stream)
        await stream.transport_stream.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert await read_to_end(stream)
        assert world.metrics.refusals.value("bad_tls") == 1
        assert not world.gateway.lane
        await trio.aclose_forcefully(stream)


async def open_phone(stream: trio.abc.Stream) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in phone_headers().items())
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    await stream.send_all(f"GET /ws HTTP/1.1\r\nHost: localhost\r\n{upgrade}{lines}\r\n".encode())
    data = b""
    while b"connection_established" not in data:
        data += bytes(await stream.receive_some())


async def read_to_end(stream: trio.abc.Stream) -> bool:
    """Whether the server ended the connection."""
    with trio.move_on_after(5):
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            return True
        return True
    return False
