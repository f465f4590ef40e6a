"""What was said is heard, in order, once: whoever puts it together, whoever waits for it, however the bytes come (hypothesis)."""

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from protocol.phone_reports import PhoneReport
from signal_gateway.config import Config
from signal_gateway.services.limits import LimitsSettings
from signal_gateway.testing.world import Transport, open_world
from signal_gateway.websocket.ears import Ears
from signal_gateway.websocket.link import Link
from signal_gateway.websocket.server_settings import ServerSettings
from tests.websocket.client_frames import client_frame, ping
from tests.websocket.conftest import DEMO_AUTH, TRANSPORT_NAMES, TRANSPORTS, Pump
from tests.websocket.test_links import PHONE_HEAD, RawLink

PARTS_MAX = 5
LARGE_BYTES = 70_000
"""More than our parser takes itself: the library puts such a message together."""
CONFIG = Config(auth=DEMO_AUTH, limits=LimitsSettings(frames_per_s=0, data_per_s=0))

Said = tuple[int, bool, bool, bool]
"""In how many fragments, whether large, whether its handler waits, whether a ping stands in its middle."""
SAID = st.tuples(st.integers(1, PARTS_MAX), st.booleans(), st.booleans(), st.booleans())


def frames_of(number: int, said: Said) -> bytes:
    """One message as a client may send it."""
    parts, is_large, waits, has_ping = said
    data = {"number": number, "waits": waits, "padding": "x" * (LARGE_BYTES if is_large else 0)}
    payload = json.dumps({"type": "heartbeat", "data": data}).encode()
    cuts = [len(payload) * place // parts for place in range(parts + 1)]
    pieces = [payload[start:stop] for start, stop in pairwise(cuts)]
    frames = [client_frame(1 if place == 0 else 0, piece, fin=place == parts - 1) for place, piece in enumerate(pieces)]
    return frames[0] + (ping(b"%d" % number) if has_ping else b"") + b"".join(frames[1:])


async def converse(said: list[Said], cuts: list[int], transport: Transport, pump: Pump) -> list[int]:
    """Say all that, cut into writes at these places; the numbers in the order in which they were heard."""
    heard: list[int] = []

    async def wait_and_note(number: int) -> None:
        await trio.sleep(0.01 * (number % 3))
        heard.append(number)

    def hear(link: Link, message: PhoneReport, question: object) -> Any:
        if message.raw["waits"]:
            return wait_and_note(message.raw["number"])
        heard.append(message.raw["number"])
        return None

    config = msgspec.structs.replace(CONFIG, server=ServerSettings(pump=pump))
    async with open_world(config, transport=transport) as world:
        raw = RawLink(world.connect())
        await raw.open(PHONE_HEAD)
        assert (await raw.said())["type"] == "connection_established"
        link = world.gateway.hub.link_of("raw-phone")
        assert isinstance(link, Link)
        link._ears = Ears({}, {PhoneReport: hear})
        stream = b"".join(frames_of(number, each) for number, each in enumerate(said))
        places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
        for start, stop in pairwise(places):
            await raw.stream.send_all(stream[start:stop])
            await trio.sleep(0.001)
        await trio.sleep(5)
        assert world.gateway.hub.link_of("raw-phone") is link
        await raw.stream.aclose()
    return heard


@pytest.mark.slow
@pytest.mark.parametrize(("transport", "pump"), TRANSPORTS, ids=TRANSPORT_NAMES)
@given(said=st.lists(SAID, min_size=1, max_size=6), cuts=st.lists(st.integers(0, 1_000_000), max_size=8))
@settings(max_examples=40, deadline=None)
def test_what_was_said_is_heard_in_order_once(transport: Transport, pump: Pump, said: list[Said], cuts: list[int]):
    heard = trio.run(converse, said, cuts, transport, pump, clock=MockClock(autojump_threshold=0))
    assert heard == list(range(len(said)))
