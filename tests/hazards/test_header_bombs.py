"""The head of a request: each bound at its last byte and one over it, however the bytes come (H08)."""

from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from signal_gateway.testing.world import World
from signal_gateway.websocket.request_head import HandshakeSettings, Refused, read_request
from tests.hazards.upgrades import PHONE, UPGRADE, answer_to, head, status_of

BYTES_MAX = 16_384
HEADERS_MAX = 64
OURS = 1 + len(UPGRADE) + len(PHONE)
"""Header fields that the upgrade of a phone has anyway, Host among them."""


def head_of(size: int) -> bytes:
    """A phone's upgrade of exactly `size` bytes, its blank line included."""
    missing = size - len(head(*PHONE, b"X-Padding: "))
    return head(*PHONE, b"X-Padding: " + b"y" * missing)


async def test_a_head_of_sixteen_kibibytes_is_read_and_one_byte_more_gets_431(autojump_clock: MockClock, world: World):
    assert len(head_of(BYTES_MAX)) == BYTES_MAX
    assert await status_of(world, head_of(BYTES_MAX)) == 101
    assert await status_of(world, head_of(BYTES_MAX + 1)) == 431
    assert await status_of(world, head_of(4 * BYTES_MAX)) == 431
    assert world.metrics.refusals.value("handshake.bytes_max") == 2


@pytest.mark.parametrize("first", [1, 3, 4, 100, 4093, 4095, 4096])
@pytest.mark.parametrize("over", range(5))
async def test_the_bound_is_the_same_byte_wherever_the_head_is_cut(autojump_clock: MockClock, first: int, over: int):
    client, server = memory_stream_pair()
    whole = head_of(BYTES_MAX + over)
    status = 0

    async def read() -> None:
        nonlocal status
        try:
            await read_request(server, HandshakeSettings())
        except Refused as refused:
            status = refused.status

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await client.send_all(whole[:first])
        await trio.sleep(0.1)
        await client.send_all(whole[first:])
    assert status == (431 if over else 0)


async def test_sixty_four_fields_are_read_and_one_more_gets_431(autojump_clock: MockClock, world: World):
    def fields(count: int) -> bytes:
        return head(*PHONE, *(b"X-%d: y" % number for number in range(count - OURS)))

    assert fields(HEADERS_MAX).count(b": ") == HEADERS_MAX
    assert await status_of(world, fields(HEADERS_MAX)) == 101
    assert await status_of(world, fields(HEADERS_MAX + 1)) == 431
    assert world.metrics.refusals.value("handshake.headers_max") == 1


async def test_sixty_five_fields_of_one_name_are_sixty_five(autojump_clock: MockClock, world: World):
    assert await status_of(world, head(*PHONE, *[b"X: y"] * (HEADERS_MAX - OURS))) == 101
    assert await status_of(world, head(*PHONE, *[b"X: y"] * (HEADERS_MAX - OURS + 1))) == 431


@pytest.mark.parametrize(
    ("noise", "status"),
    [
        (b"\r\n" * (BYTES_MAX // 2), 400),
        (b"G" * BYTES_MAX, 431),
        (b"GET /" + b"a" * BYTES_MAX, 431),
        (b"GET /ws HTTP/1.1\r\n" + b"\n" * BYTES_MAX, 431),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 2000 + b"\r\n", 431),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nX: y\r\n folded\r\n\r\n", 426),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nX\x00: y\r\n\r\n", 400),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", 400),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello", 426),
        (b"GET /ws?" + b"a&" * 40 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http://x/ws HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ],
)
async def test_a_head_that_is_noise_gets_a_plain_answer_and_ends_nothing_else(
    autojump_clock: MockClock, world: World, noise: bytes, status: int
):
    assert await status_of(world, noise) == status
    assert await status_of(world, head(*PHONE)) == 101
    assert world.metrics.errors.value("connection") == 0


async def test_a_bomb_that_never_ends_costs_no_more_than_its_bound(autojump_clock: MockClock, world: World):
    """What comes behind the answer is thrown away, for a second; then the connection is cut under the sender."""
    stream = world.connect()
    await stream.send_all(b"GET /ws HTTP/1.1\r\n")
    with trio.fail_after(4), suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(b"X: " + b"y" * 1000 + b"\r\n")
            await trio.sleep(0.1)
    assert world.metrics.refusals.value("handshake.bytes_max") == 1
    await trio.aclose_forcefully(stream)
    assert (await answer_to(world, head(*PHONE))).startswith(b"HTTP/1.1 101 ")
