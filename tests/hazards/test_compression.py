"""Nothing is ever inflated: what is not offered cannot be a bomb (H10)."""

import zlib

import pytest
from trio.testing import MockClock

from signal_gateway.testing.world import World
from tests.hazards.upgrades import PHONE, answer_to, head
from tests.websocket.client_frames import client_frame, text
from tests.websocket.test_links import RawLink, report

RSV1 = 0x40
OFFERS = (
    b"Sec-WebSocket-Extensions: permessage-deflate",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-webkit-deflate-frame",
    b"sec-websocket-extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    b"Sec-WebSocket-Extensions: permessage-bzip2, permessage-deflate",
)


def deflated(payload: bytes) -> bytes:
    """As RFC 7692 §7.2.1 has it."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


@pytest.mark.parametrize("offer", OFFERS)
async def test_an_offer_of_compression_is_ignored(autojump_clock: MockClock, world: World, offer: bytes):
    answer = await answer_to(world, head(*PHONE, offer))
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"extensions" not in answer.lower()


async def test_two_offers_are_ignored_as_well(autojump_clock: MockClock, world: World):
    answer = await answer_to(world, head(*PHONE, *OFFERS[:2]))
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"extensions" not in answer.lower()


BOMB = deflated(b'{"type":"heartbeat","data":{"x":"' + b"a" * 10_000_000 + b'"}}')
SMALL = deflated(report("deflated").encode())


@pytest.mark.parametrize(
    "frames",
    [
        client_frame(1, BOMB, reserved=RSV1),
        client_frame(2, BOMB, reserved=RSV1),
        client_frame(1, SMALL, reserved=RSV1),
        client_frame(1, SMALL[:5], fin=False, reserved=RSV1) + client_frame(0, SMALL[5:]),
        client_frame(1, b'{"type":', fin=False) + client_frame(0, b'"heartbeat"}', reserved=RSV1),
        client_frame(9, b"x", reserved=RSV1),
        client_frame(10, b"x", reserved=RSV1),
        client_frame(8, b"\x03\xe8", reserved=RSV1),
        client_frame(1, b"", reserved=RSV1),
        client_frame(1, BOMB, reserved=0x20),
        client_frame(1, BOMB, reserved=0x10),
        client_frame(1, BOMB, reserved=0x70),
    ],
)
@pytest.mark.parametrize("offer", [(), OFFERS[:1]], ids=["not offered", "offered"])
async def test_a_frame_with_a_reserved_bit_ends_the_link_with_1002_unread(
    autojump_clock: MockClock, world: World, frames: bytes, offer: tuple[bytes, ...]
):
    link = RawLink(world.connect())
    await link.open(head(*PHONE, *offer, host=b"localhost"))
    await link.said()
    await link.stream.send_all(text(report("before")) + frames + text(report("behind")))
    assert (await link.said())["request_id"] == "before"
    assert await link.close_code() == 1002
    assert world.metrics.messages.value("in", "heartbeat") == 1
    assert world.metrics.errors.value("link") == world.metrics.errors.value("connection") == 0
    await link.stream.aclose()
