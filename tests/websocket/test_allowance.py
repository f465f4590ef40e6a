"""What a client may say is counted over all its links (CONTRACT.md §8)."""

import json

import trio
from trio.testing import MockClock

from signal_gateway.testing.world import World
from tests.websocket.talk import ask_json, hear, phone_headers
from tests.websocket.test_links import report


async def test_a_new_link_has_what_the_one_before_has_left_though_that_was_idle_long_enough_to_be_forgotten(
    autojump_clock: MockClock, world: World
):
    """200 reports at once, then 429 until it is time again: whoever comes anew with its allowance spent has no other."""
    async with world.dial("/ws", phone_headers()) as older:
        await hear(older)
        await trio.sleep(70)
        for number in range(200):
            assert (await ask_json(older, json.loads(report(str(number)))))["type"] == "ack"
        async with world.dial("/ws", phone_headers()) as newer:
            await hear(newer)
            assert (await ask_json(newer, json.loads(report("over"))))["data"]["status"] == 429
