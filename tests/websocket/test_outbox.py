"""The outbox: what is said goes out in order, in few writes, within bounds."""

import os
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from signal_gateway.observe.metrics import Metrics
from signal_gateway.websocket.outbox import BATCH_MESSAGES_MAX, Outbox, OutboxSettings
from signal_gateway.websocket.turn import Turn


class Slow:
    """Records that, and why, the peer was called slow."""

    def __init__(self) -> None:
        self.limits: list[str] = []

    def __call__(self, limit: str) -> None:
        self.limits.append(limit)


def never(task: Callable[[], Awaitable[None]]) -> None:
    """Starts nothing: for tests in which nothing but the socket is to be written to."""


Pair = tuple[trio.SocketStream, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Our end as the outbox sees it, with a small buffer, and the peer's end."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.setblocking(False)
    theirs.setblocking(False)
    yield trio.SocketStream(trio.socket.from_stdlib_socket(ours)), theirs
    ours.close()
    theirs.close()


@pytest.fixture
def turn() -> Turn:
    """No turn is on; a test may begin one."""
    return Turn(lambda: True, Metrics())


async def test_outside_a_turn_each_message_is_written_at_once(pair: Pair, turn: Turn):
    transport, peer = pair
    outbox = Outbox(OutboxSettings(), transport, Metrics(), turn, never, Slow())
    outbox.put(b"one")
    assert peer.recv(100) == b"one"
    outbox.put(b"two")
    assert peer.recv(100) == b"two"
    assert outbox.bytes_waiting == 0


async def test_what_is_put_in_a_turn_is_one_write_at_its_end(pair: Pair, monkeypatch: pytest.MonkeyPatch, turn: Turn):
    transport, peer = pair
    outbox = Outbox(OutboxSettings(), transport, Metrics(), turn, never, Slow())
    writes: list[bytes] = []

    def write(descriptor: int, data: bytes) -> int:
        writes.append(bytes(data))
        return peer.send(b"") + len(data)

    monkeypatch.setattr(os, "write", write)
    turn.begin(0.0)
    for number in range(10):
        outbox.put(b"%d" % number)
    assert writes == []
    turn.end()
    assert writes == [b"0123456789"]


async def test_a_long_turn_of_short_answers_is_not_a_slow_peer(pair: Pair, turn: Turn):
    transport, peer = pair
    slow = Slow()
    outbox = Outbox(OutboxSettings(messages_max=BATCH_MESSAGES_MAX), transport, Metrics(), turn, never, slow)
    turn.begin(0.0)
    for _ in range(10 * BATCH_MESSAGES_MAX):
        outbox.put(b"x")
    turn.end()
    assert len(peer.recv(100_000)) + outbox.bytes_waiting == 10 * BATCH_MESSAGES_MAX
    assert slow.limits == []


async def test_what_the_socket_does_not_take_is_written_later_in_order(pair: Pair, nursery: trio.Nursery, turn: Turn):
    transport, peer = pair
    outbox = Outbox(OutboxSettings(), transport, Metrics(), turn, nursery.start_soon, Slow())
    said = b"".join(b"%08d" % number for number in range(20_000))
    for start in range(0, len(said), 1000):
        outbox.put(said[start : start + 1000])
    assert outbox.bytes_waiting > 0
    heard = bytearray()
    reader = trio.socket.from_stdlib_socket(peer)
    while len(heard) < len(said):
        heard += await reader.recv(3000)
    await outbox.drain()
    assert bytes(heard) == said
    assert outbox.bytes_waiting == 0
    outbox.end()


@pytest.mark.parametrize(
    ("settings", "size", "limit"),
    [
        (OutboxSettings(messages_max=256), 10, "outbox.messages_max"),
        (OutboxSettings(bytes_max=262_144), 10_000, "outbox.bytes_max"),
    ],
)
async def test_a_peer_that_does_not_read_is_told_off_once(pair: Pair, settings: OutboxSettings, size: int, limit: str, turn: Turn):
    transport, _peer = pair
    slow, metrics = Slow(), Metrics()
    outbox = Outbox(settings, transport, metrics, turn, never, slow)
    for _ in range(2000):
        outbox.put(b"x" * size)
    assert slow.limits == [limit]
    assert metrics.limits.value(limit) == 1
    assert outbox.messages_waiting <= settings.messages_max + 1
    assert outbox.bytes_waiting <= settings.bytes_max + size


async def test_after_the_bound_only_a_last_word_is_taken(pair: Pair, turn: Turn):
    transport, _peer = pair
    outbox = Outbox(OutboxSettings(bytes_max=100), transport, Metrics(), turn, never, Slow())
    while outbox.bytes_waiting <= 100:
        outbox.put(b"x" * 1000)
    waiting = outbox.bytes_waiting
    outbox.put(b"more")
    assert outbox.bytes_waiting == waiting
    outbox.put(b"goodbye", is_last_word=True)
    assert outbox.bytes_waiting == waiting + len(b"goodbye")


class StalledStream(trio.abc.Stream):
    """Takes nothing."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await trio.sleep_forever()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.sleep_forever()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_peer_that_takes_nothing_for_ten_seconds_is_slow(autojump_clock: MockClock, nursery: trio.Nursery, turn: Turn):
    slow = Slow()
    outbox = Outbox(OutboxSettings(), StalledStream(), Metrics(), turn, nursery.start_soon, slow)
    outbox.put(b"anybody there?")
    await trio.sleep(9.9)
    assert slow.limits == []
    await trio.sleep(0.2)
    assert slow.limits == ["outbox.write_deadline_s"]


async def test_any_trio_stream_will_do(nursery: trio.Nursery, turn: Turn):
    ours, theirs = memory_stream_pair()
    outbox = Outbox(OutboxSettings(), ours, Metrics(), turn, nursery.start_soon, Slow())
    outbox.put(b"one ")
    outbox.put(b"two")
    await outbox.drain()
    assert await theirs.receive_some() == b"one two"
    outbox.end()


async def test_after_the_end_nothing_is_written_and_nobody_waits(pair: Pair, nursery: trio.Nursery, turn: Turn):
    transport, _peer = pair
    outbox = Outbox(OutboxSettings(), transport, Metrics(), turn, nursery.start_soon, Slow())
    while outbox.bytes_waiting == 0:
        outbox.put(b"x" * 1000)
    nursery.start_soon(outbox.drain)
    await wait_all_tasks_blocked()
    outbox.end()
    outbox.put(b"late")
    assert outbox.bytes_waiting == 0


async def test_every_byte_is_counted(pair: Pair, turn: Turn):
    transport, _peer = pair
    metrics = Metrics()
    outbox = Outbox(OutboxSettings(), transport, metrics, turn, never, Slow())
    outbox.put(b"12345")
    assert metrics.socket_bytes.value("out") == 5


async def test_many_short_answers_at_once_are_no_slow_peer_where_another_task_writes(nursery: trio.Nursery, turn: Turn):
    """One commit acknowledges hundreds of reports before any other task runs."""
    ours, theirs = memory_stream_pair()
    slow = Slow()
    outbox = Outbox(OutboxSettings(), ours, Metrics(), turn, nursery.start_soon, slow)
    for round_number in range(2):
        for number in range(1000):
            outbox.put(b"%d:%03d " % (round_number, number))
        await wait_all_tasks_blocked()
    heard = b""
    while len(heard) < 2 * 1000 * 6:
        heard += await theirs.receive_some()
    assert heard.split() == [b"%d:%03d" % (round_number, number) for round_number in range(2) for number in range(1000)]
    assert slow.limits == []
    outbox.end()


async def test_all_who_wait_for_the_peer_to_take_it_are_told(pair: Pair, nursery: trio.Nursery, turn: Turn):
    transport, peer = pair
    outbox = Outbox(OutboxSettings(), transport, Metrics(), turn, nursery.start_soon, Slow())
    while outbox.bytes_waiting == 0:
        outbox.put(b"x" * 1000)
    async with trio.open_nursery() as waiting:
        for _ in range(3):
            waiting.start_soon(outbox.drain)
        await wait_all_tasks_blocked()
        reader = trio.socket.from_stdlib_socket(peer)
        while outbox.bytes_waiting:
            await reader.recv(100_000)
    assert outbox._drained is None
    outbox.end()


async def test_what_others_put_in_one_turn_is_one_write_too(pair: Pair, turn: Turn, monkeypatch: pytest.MonkeyPatch):
    """Ten links have something for this one: it is written once, behind what its own turn said."""
    transport, _peer = pair
    outbox = Outbox(OutboxSettings(), transport, Metrics(), turn, never, Slow())
    writes: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda descriptor, data: writes.append(bytes(data)) or len(data))
    turn.begin(7.0)
    for number in range(10):
        outbox.put(b"%d" % number)
        assert outbox.bytes_waiting == number + 1
    turn.end()
    turn.begin(8.0)
    turn.end()
    assert writes == [b"0123456789"]
    assert (outbox.bytes_waiting, outbox.messages_waiting, outbox.sent_at) == (0, 0, 7.0)


async def test_a_turn_that_says_more_than_may_wait_is_written_before_it_ends(pair: Pair, turn: Turn):
    transport, peer = pair
    slow = Slow()
    outbox = Outbox(OutboxSettings(bytes_max=1000), transport, Metrics(), turn, never, slow)
    turn.begin(0.0)
    for _ in range(3):
        outbox.put(b"x" * 600)
    assert peer.recv(10_000) == b"x" * 1200
    turn.end()
    assert peer.recv(10_000) == b"x" * 600
    assert slow.limits == []


async def test_what_tls_says_itself_is_within_the_bounds_too(pair: Pair, turn: Turn):
    transport, _ = pair
    slow = Slow()
    outbox = Outbox(OutboxSettings(bytes_max=20_000), transport, Metrics(), turn, never, slow)
    while not outbox.bytes_waiting:
        outbox.put_sealed(bytes(1000))
    while outbox.bytes_waiting <= 19_000:
        assert slow.limits == []
        outbox.put_sealed(bytes(1000))
    outbox.put_sealed(bytes(1000))
    assert slow.limits == ["outbox.bytes_max"]
    outbox.put(b"the last word", is_last_word=True)
    assert outbox.bytes_waiting > 20_000
    outbox.put_sealed(bytes(1000))
    assert (outbox.bytes_waiting, slow.limits) == (0, ["outbox.bytes_max"])
