"""A device's own key is changed for a newer one: by the phone itself, or by an operator, for a phone or an agent (W-31, CONTRACT §3)."""

from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from protocol.frame import FrameType
from signal_gateway.config import Config
from signal_gateway.domain.access import Operator, Role
from signal_gateway.domain.credential import CredentialKind
from signal_gateway.testing.world import World
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.talk import ask, closing, connect, hear, phone_headers, refusal

BOSS = Operator("boss", Role.ADMIN)
UNIT = "unit-7"
KEY_S = 864


@pytest.fixture
def config() -> Config:
    return Config(auth=msgspec.structs.replace(DEMO_AUTH, device_key_days=KEY_S / 86_400))


async def told_key(world: World, key: str) -> str | None:
    async with world.dial("/ws", phone_headers("phone-1", key, wants_device_key=True)) as phone:
        return (await hear(phone)).get("device_key")


async def client_key(world: World) -> str:
    return (await world.gateway.credentials.create(CredentialKind.CLIENT, client_id=UNIT))[1]


async def register(client: Any, token: str) -> int:
    return (await ask(client, FrameType.REGISTER, {"version": "1.0.0", "client_id": UNIT, "auth_token": token}))[1]["status"]


async def test_a_phone_gets_a_newer_key_when_its_own_is_old_and_uses_up_the_old_one(autojump_clock: MockClock, world: World):
    first = await told_key(world, "demo-enrolment-key")
    assert first is not None
    assert await told_key(world, first) is None
    await trio.sleep(KEY_S - 100)
    assert await told_key(world, first) is None
    await trio.sleep(101)
    lost = await told_key(world, first)
    second = await told_key(world, first)  # the answer was lost: it asks again, by the key that it has
    assert lost != second
    assert second is not None
    assert await refusal(world, "/ws", phone_headers("phone-1", lost)) == 401
    assert await told_key(world, second) is None
    assert await refusal(world, "/ws", phone_headers("phone-1", first)) == 401


async def test_a_phone_that_does_not_ask_keeps_its_key(autojump_clock: MockClock, world: World):
    first = await told_key(world, "demo-enrolment-key")
    await trio.sleep(KEY_S)
    async with world.dial("/ws", phone_headers("phone-1", first)) as phone:
        assert "device_key" not in await hear(phone)


async def test_an_operator_makes_a_newer_key_for_an_agent_and_its_first_use_ends_the_older(autojump_clock: MockClock, world: World):
    old = await client_key(world)
    async with world.dial() as agent:
        assert await register(agent, old) == 200
        await trio.sleep(1)
        _, new = await world.gateway.devices.new_key(UNIT, BOSS)
        assert (await ask(agent, FrameType.HEARTBEAT, {"timestamp": 1}))[1] == {"timestamp": 1}  # it may take its time
        async with world.dial() as renewed:
            assert await register(renewed, new) == 200
            assert await closing(agent) == 4500
            async with world.dial() as late:
                assert (await connect(late, UNIT, old))["status"] == 401
            assert (await ask(renewed, FrameType.HEARTBEAT, {"timestamp": 2}))[1] == {"timestamp": 2}


async def test_a_link_takes_the_newer_key_and_goes_on(autojump_clock: MockClock, world: World):
    old, new = await client_key(world), ""
    async with world.dial() as agent:
        await connect(agent, UNIT, old)
        await trio.sleep(1)
        new = await client_key(world)
        assert (await ask(agent, FrameType.TOKEN_REFRESH, {"token": new}))[1] == {"status": 200, "expires_at": None}
        await trio.sleep(15)
        assert (await ask(agent, FrameType.HEARTBEAT, {"timestamp": 1}))[1] == {"timestamp": 1}
    async with world.dial() as agent:
        assert (await connect(agent, UNIT, old))["status"] == 401
    async with world.dial() as agent:
        assert (await connect(agent, UNIT, new))["status"] == 200


async def test_a_key_that_was_made_for_it_takes_the_record_of_a_groups_key_but_an_older_one_does_not(
    autojump_clock: MockClock, world: World
):
    made_before = await client_key(world)
    await trio.sleep(1)
    async with world.dial() as agent:
        assert await register(agent, "demo-enrolment-key") == 200
    async with world.dial() as agent:
        assert await register(agent, made_before) == 409
    await trio.sleep(1)
    _, made_since = await world.gateway.devices.new_key(UNIT, BOSS)
    async with world.dial() as agent:
        assert await register(agent, made_since) == 200
    async with world.dial() as agent:
        assert await register(agent, "demo-enrolment-key") == 409
