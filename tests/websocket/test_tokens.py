"""Signed tokens of clients on the wire: they bring a link in, are renewed on it, and end it (W-30, C-18, H03; CONTRACT §2, §9)."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.frame import FrameType
from protocol.payload import PayloadKind
from signal_gateway.domain.access import WHOLE_FLEET, Role, Scope
from signal_gateway.domain.credential import CredentialKind
from signal_gateway.domain.events import CredentialRevoked
from signal_gateway.services.tokens import Signer
from signal_gateway.testing.world import World
from tests.websocket.talk import ask, ask_json, closing, connect, frame, hear, phone_headers

UNIT = "unit-7"
REGISTER = {"version": "1.0.0", "client_id": UNIT}


async def issue(world: World, seconds: int = 3600, client_id: str = UNIT) -> str:
    return await world.gateway.operators.issue(client_id, Role.DEVICE, WHOLE_FLEET, seconds)


def id_of(world: World, token: str) -> str:
    return world.gateway.operators.token_id_of(token) or ""


async def test_a_link_is_warned_a_minute_before_its_token_ends_and_closed_with_4003(autojump_clock: MockClock, world: World):
    token, begun_s = await issue(world, 120), trio.current_time()
    ends_at = world.wall_ms() // 1000 * 1000 + 120_000
    async with world.dial() as agent:
        assert (await connect(agent, UNIT, token))["status"] == 200
        await trio.sleep(50)
        frame_type, _, kind, warning = await hear(agent)
        assert (frame_type, kind) == (FrameType.TOKEN_REFRESH, PayloadKind.JSON)
        assert warning["expires_at"] == ends_at
        assert 58 <= warning["expires_in_s"] <= 60
        assert 60 <= trio.current_time() - begun_s <= 62
        await trio.sleep(50)
        frame_type, _, _, goodbye = await hear(agent)
        assert (frame_type, goodbye["code"], goodbye["reconnect"]) == (FrameType.DISCONNECT, 4003, True)
        assert await closing(agent) == 4003
        assert 119 <= trio.current_time() - begun_s <= 122
    assert world.metrics.limits.value("auth.token_expiry") == 1


@pytest.mark.parametrize("is_text", [False, True])
async def test_a_newer_token_keeps_the_link_open(autojump_clock: MockClock, world: World, is_text: bool):
    old = await issue(world, 100)
    async with world.dial() as agent:
        await connect(agent, UNIT, old)
        new = await issue(world, 1000)
        ends_at = world.wall_ms() // 1000 * 1000 + 1_000_000
        if is_text:
            answer = await ask_json(agent, {"type": "token_refresh", "request_id": "r", "data": {"token": new}})
            assert answer == {"type": "token_refresh_ack", "request_id": "r", "data": {"status": 200, "expires_at": ends_at}}
        else:
            answered = await ask(agent, FrameType.TOKEN_REFRESH, {"token": new})
            assert answered == (FrameType.TOKEN_REFRESH_ACK, {"status": 200, "expires_at": ends_at})
        for _ in range(10):
            await trio.sleep(50)
            await agent.send(frame(FrameType.HEARTBEAT, {"timestamp": 1}))
            assert (await hear(agent))[0] is FrameType.HEARTBEAT_ACK
        await world.gateway.operators.revoke(id_of(world, old))  # it vouches for nothing any more
        await trio.sleep(15)
        assert (await ask(agent, FrameType.HEARTBEAT, {"timestamp": 2}))[1] == {"timestamp": 2}
        await world.gateway.operators.revoke(id_of(world, new))
        assert await closing(agent) == 4501


async def test_a_token_without_an_end_ends_the_asking(autojump_clock: MockClock, world: World):
    _, key = await world.gateway.credentials.create(CredentialKind.CLIENT, client_id=UNIT)
    async with world.dial() as agent:
        await connect(agent, UNIT, await issue(world, 30))
        assert (await hear(agent))[0] is FrameType.TOKEN_REFRESH
        assert (await ask(agent, FrameType.TOKEN_REFRESH, {"token": key}))[1] == {"status": 200, "expires_at": None}
        await trio.sleep(40)
        assert (await ask(agent, FrameType.HEARTBEAT, {"timestamp": 1}))[1] == {"timestamp": 1}


async def test_a_wrong_token_is_refused_and_the_link_goes_on_with_its_own(autojump_clock: MockClock, world: World):
    now_s = world.wall_ms() // 1000
    forged = Signer("another secret of many characters").sign(UNIT, Role.DEVICE, WHOLE_FLEET, "forged-one", now_s, 100)
    operators = world.gateway.operators
    wrong = {
        "of another client": await issue(world, client_id="unit-8"),
        "of an operator": await operators.issue(UNIT, Role.ADMIN, WHOLE_FLEET, 100),
        "forged": forged,
        "none at all": "a.b.c",
    }
    async with world.dial() as agent:
        await connect(agent, UNIT, await issue(world))
        for what, token in wrong.items():
            frame_type, answer = await ask(agent, FrameType.TOKEN_REFRESH, {"token": token})
            assert (frame_type, answer["status"], answer["reason"]) == (FrameType.ERROR, 401, "bad_credentials"), what
        assert (await ask(agent, FrameType.HEARTBEAT, {"timestamp": 1}))[1] == {"timestamp": 1}
        await ask(agent, FrameType.TOKEN_REFRESH, {"token": "a.b.d"})
        limited = (await ask(agent, FrameType.TOKEN_REFRESH, {"token": await issue(world)}))[1]
        assert limited["status"] == 429  # five guesses a minute, here as at the door


async def test_a_token_whose_time_is_over_asks_for_a_newer_one(autojump_clock: MockClock, world: World):
    token = await issue(world, 10)
    await trio.sleep(11)
    for _ in range(12):  # it is no guess, and locks nobody out
        async with world.dial() as agent:
            answer = await connect(agent, UNIT, token)
            assert (answer["status"], answer["message"]) == (401, "The token has expired")
            assert await closing(agent) == 4003
    async with world.dial() as agent:
        assert (await connect(agent, UNIT, await issue(world)))["status"] == 200
        answer = (await ask(agent, FrameType.TOKEN_REFRESH, {"token": token}))[1]
        assert (answer["status"], answer["reason"]) == (401, "expired")
    async with world.dial() as agent:  # who names another client learns nothing
        assert (await connect(agent, "unit-8", token))["message"] == "Invalid client_id or auth_token"


async def test_a_revoked_token_ends_its_link_within_five_seconds_wherever_it_was_revoked(autojump_clock: MockClock, world: World):
    token = await issue(world)
    async with world.dial() as agent:
        await connect(agent, UNIT, token)
        begun_s = trio.current_time()
        await world.gateway.operators.revoke(id_of(world, token))
        assert await closing(agent) == 4501
        assert trio.current_time() - begun_s <= 5
    async with world.dial() as agent:
        assert (await connect(agent, UNIT, token))["status"] == 401


async def test_a_revocation_is_told_again_for_links_that_open_meanwhile(autojump_clock: MockClock, world: World):
    """Whoever was proved a moment before the revocation gets a link a moment after it."""
    token, told = await issue(world), list[Any]()
    async with world.dial() as agent:
        await connect(agent, UNIT, token)
        world.bus.subscribe(CredentialRevoked, told.append)
        await world.gateway.operators.revoke(id_of(world, token))
        await trio.sleep(20)
    assert 5 <= len(told) <= 7
    assert {event.credential_id for event in told} == {f"jti:{id_of(world, token)}"}


async def test_a_client_registers_with_a_signed_token_and_any_newer_one_is_as_good(autojump_clock: MockClock, world: World):
    first, second = await issue(world, 1000), await issue(world, 2000)
    for token in (first, first, second, second):
        async with world.dial() as agent:
            answer = (await ask(agent, FrameType.REGISTER, {**REGISTER, "auth_token": token}))[1]
            assert (answer["status"], answer["message"]) == (200, "Registration successful")
            assert answer["client_id"] == UNIT
    async with world.dial() as agent:
        assert (await connect(agent, UNIT, first))["status"] == 200
        answer = (await ask(agent, FrameType.UNREGISTER, {**REGISTER, "auth_token": await issue(world, 50)}))[1]
        assert answer["status"] == 200
        assert (await ask(agent, FrameType.UNREGISTER, {**REGISTER, "auth_token": first}))[1]["status"] == 404


async def test_a_signed_token_does_not_take_a_record_that_another_key_holds(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        assert (await ask(agent, FrameType.REGISTER, {**REGISTER, "auth_token": "demo-enrolment-key"}))[1]["status"] == 200
    async with world.dial() as agent:
        answer = (await ask(agent, FrameType.REGISTER, {**REGISTER, "auth_token": await issue(world)}))[1]
        assert (answer["status"], answer["message"]) == (409, "Client id already exists")


async def test_a_registered_link_ends_with_its_token_too(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await ask(agent, FrameType.REGISTER, {**REGISTER, "auth_token": await issue(world, 20)})
        assert await closing(agent) == 4003


@pytest.mark.parametrize("kind", [CredentialKind.CLIENT, CredentialKind.DEVICE])
async def test_a_key_that_ends_closes_its_link_with_4003(autojump_clock: MockClock, world: World, kind: CredentialKind):
    ends_at = world.wall_ms() + 100_000
    if kind is CredentialKind.DEVICE:
        async with world.dial("/ws", phone_headers("phone-1")) as phone:
            await hear(phone)
    client_id = UNIT if kind is CredentialKind.CLIENT else "phone-1"
    _, key = await world.gateway.credentials.create(kind, client_id=client_id, expires_at=ends_at)
    headers = phone_headers("phone-1", key) if kind is CredentialKind.DEVICE else None
    async with world.dial("/ws", headers) as client:
        if kind is CredentialKind.CLIENT:
            await connect(client, UNIT, key)
        else:
            assert (await hear(client))["type"] == "connection_established"
        await trio.sleep(45)
        if kind is CredentialKind.CLIENT:
            assert (await hear(client))[0] is FrameType.TOKEN_REFRESH
            await client.send(frame(FrameType.HEARTBEAT, {"timestamp": 1}))
        else:
            await client.send('{"type":"heartbeat","data":{}}')
        assert await closing(client) == 4003
        assert 99_000 <= world.wall_ms() - ends_at + 100_000 <= 103_000


async def test_a_device_token_names_one_client_and_no_scope(autojump_clock: MockClock, world: World):
    operators = world.gateway.operators
    with pytest.raises(ValueError, match="one client id"):
        await operators.issue("not an id", Role.DEVICE, WHOLE_FLEET, 100)
    with pytest.raises(ValueError, match="one client id"):
        await operators.issue(UNIT, Role.DEVICE, Scope(groups=frozenset({"shop"})), 100)
