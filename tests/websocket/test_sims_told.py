"""The SIMs that a phone has told of are known from then on, be they on disk yet or not."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.command import Wait
from signal_gateway.testing.world import open_world
from tests.websocket.talk import ask_json, hear, phone_headers
from tests.websocket.test_commands import patient, sms, submit, told, waits


@pytest.mark.parametrize(
    "cards", [[{"slot_index": 1}], [{"slot_index": 0, "is_active": False}, {"slot_index": 1, "is_active": True}]], ids=["one", "inactive"]
)
async def test_a_command_right_after_the_first_heartbeat_goes_by_a_sim_that_is_there(autojump_clock: MockClock, cards: list[Any]):
    async with open_world(patient()) as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        beat = {"type": "heartbeat", "request_id": "h1", "data": {"sim_cards": cards}}
        assert await ask_json(phone, beat) == {"type": "ack", "request_id": "h1"}
        by_0 = await submit(world, sms(sim_slot=0))
        await submit(world, sms())
        assert (await told(phone) or {})["data"]["sim_slot"] == 1
        assert await waits(world, by_0) == Wait("no_sim")


async def test_what_it_told_over_its_last_link_is_known_over_the_next(autojump_clock: MockClock):
    async with open_world(patient()) as world:
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            for slot, settle_s in ((0, 5), (1, 0.1)):
                await ask_json(phone, {"type": "heartbeat", "request_id": "h1", "data": {"sim_cards": [{"slot_index": slot}]}})
                await trio.sleep(settle_s)
        async with world.dial("/ws", phone_headers()) as phone:
            await hear(phone)
            await submit(world, sms())
            assert (await told(phone) or {})["data"]["sim_slot"] == 1
