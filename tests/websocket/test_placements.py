"""Group and site that a phone tells of in its reports, and what stands above its word (T-17, T-19, T-57, H05)."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.frame import FrameType
from signal_gateway.domain.access import Operator, Role, Scope
from signal_gateway.domain.credential import CredentialKind
from signal_gateway.domain.events import DeviceMoved
from signal_gateway.domain.fleet import FleetFilter
from signal_gateway.testing.client import Client
from signal_gateway.testing.world import World, open_world
from tests.websocket.talk import ask, hear, phone_headers
from tests.websocket.test_commands import BOSS, patient, request, sms, told


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world(patient()) as world:
        yield world


async def beat(phone: Client, **info: Any) -> None:
    """Its heartbeat, with this in `device_info`; then a second goes by."""
    data = {"device_info": {"device_id": "phone-1", **info}, "battery_level": 50}
    await phone.send(json.dumps({"type": "heartbeat", "data": data}))
    await trio.sleep(1)


async def placed(world: World, device_id: str = "phone-1") -> tuple[str | None, str | None]:
    record = (await world.gateway.devices.get(device_id, BOSS.scope)).record
    return record.device_group, record.sitename


async def test_a_heartbeat_names_group_and_site_where_nothing_else_does(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await beat(phone, device_group="field", sitename="shop")
        assert await placed(world) == ("field", "shop")
        found, _ = await world.gateway.devices.find(Scope(), FleetFilter(device_group="field", sitename="shop"), 0, 10)
        assert [view.record.device_id for view in found] == ["phone-1"]
        await beat(phone, sitename="depot")
        await beat(phone, device_group="", sitename=None)
        await beat(phone)
        assert await placed(world) == ("field", "depot")
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        assert await placed(world) == ("field", "depot")


async def test_so_does_a_device_status(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await phone.send(json.dumps({"type": "device_status", "data": {"status": "online", "device_group": "field", "sitename": "shop"}}))
        await trio.sleep(1)
        assert await placed(world) == ("field", "shop")


async def test_what_the_newest_device_info_names_stands_above_it(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers(device_group="door")) as phone:
        await hear(phone)
        await beat(phone, device_group="field", sitename="shop")
        assert await placed(world) == ("door", "shop")
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await beat(phone, device_group="field", sitename="shop")
        assert await placed(world) == ("field", "shop")


async def test_the_group_of_its_key_stands_above_all_whatever_key_it_comes_with(autojump_clock: MockClock, world: World):
    _, key = await world.gateway.credentials.create(CredentialKind.ENROLMENT, device_group="north", actor="boss")
    async with world.dial("/ws", phone_headers(key=key, wants_device_key=True)) as phone:
        own_key = (await hear(phone))["device_key"]
        await beat(phone, device_group="south", sitename="shop")
        assert await placed(world) == ("north", "shop")
    async with world.dial("/ws", phone_headers(key=own_key)) as phone:
        await hear(phone)
        await beat(phone, device_group="south", sitename="depot")
        assert await placed(world) == ("north", "depot")


async def test_an_agent_moves_to_no_group_by_its_word(autojump_clock: MockClock, world: World):
    registering = {"client_id": "agent-1", "auth_token": "demo-enrolment-key", "version": "1.0.0"}
    async with world.dial("/ws") as agent:
        assert (await ask(agent, FrameType.REGISTER, registering))[1]["status"] == 200
        await ask(agent, FrameType.REPORT, {"type": "heartbeat", "data": {"device_info": {"device_group": "field", "sitename": "shop"}}})
        await trio.sleep(1)
    assert await placed(world, "agent-1") == (None, None)


async def test_a_name_is_cut_and_one_that_cannot_be_shown_is_none(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await beat(phone, device_group="g" * 200, sitename="a\u0000b")
        assert await placed(world) == ("g" * 128, None)


async def test_commands_and_operators_of_its_group_find_it_at_once(autojump_clock: MockClock, world: World):
    chief = Operator("chief", Role.OPERATOR, Scope(groups=frozenset({"field"})))
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await world.gateway.commands.submit(request(sms().kind, **sms().data), BOSS)  # so that its lane is in memory
        assert (await told(phone) or {})["type"] == "send_sms"
        await beat(phone, device_group="field")
        asked = sms(None)
        await world.gateway.commands.submit(asked, chief)
        await phone.send(json.dumps({"type": "sms_log", "data": {"status": "sent", "phone_number": asked.data["phone_number"]}}))
        assert (await told(phone) or {})["type"] == "send_sms"


async def test_what_is_known_or_was_decided_is_not_looked_at_again(
    autojump_clock: MockClock, world: World, monkeypatch: pytest.MonkeyPatch
):
    moved: list[DeviceMoved] = []
    world.bus.subscribe(DeviceMoved, moved.append)
    jobs: list[Any] = []
    post = world.writer.post

    def noted(work: Any, item: Any, *rest: Any, **more: Any) -> bool:
        if getattr(work, "__name__", "") == "take_over":
            jobs.append(item)
        return post(work, item, *rest, **more)

    monkeypatch.setattr(world.writer, "post", noted)
    async with world.dial("/ws", phone_headers(device_group="door")) as phone:
        await hear(phone)
        for level, group in enumerate(("field", "field", "door", "field")):
            await beat(phone, device_group=group, android_version=f"{level}")
        await beat(phone, device_group="door", sitename="shop")
        await beat(phone, device_group="door", sitename="shop", model="other")
    assert ([(item.device_group, item.sitename) for item in jobs], len(moved)) == ([("field", None), ("door", "shop")], 1)
