"""What is known of devices while it changes: nobody is told, or remembers, what was so before."""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.config import Config
from signal_gateway.domain.access import Operator, Role
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.services.device_directory import KnownDevice
from signal_gateway.storage.inline import InlineDatabase
from signal_gateway.testing.client import LinkClosed
from signal_gateway.testing.world import World, open_world
from tests.websocket.conftest import DEMO_AUTH
from tests.websocket.talk import hear, phone_headers

BOSS = Operator("boss", Role.ADMIN)
ANSWER_S = 0.1
MOMENTS = range(20)
"""Of a tenth of an answer each: a phone is let in on up to four answers, a change is made in two."""


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """With a database that takes its time."""
    async with open_world(Config(auth=DEMO_AUTH), database=InlineDatabase(answers_after=lambda: ANSWER_S)) as world:
        yield world


async def enrol(world: World, device_id: str) -> None:
    async with world.dial("/ws", phone_headers(device_id)) as phone:
        await hear(phone)
    world.gateway.directory.forget(device_id)


async def change(world: World, device_id: str, minutes: int) -> None:
    await world.gateway.devices.change_settings(device_id, {"offline_threshold_minutes": minutes}, BOSS)


async def settings_told(world: World, device_id: str, **info: Any) -> int:
    """A phone comes; the offline threshold that it was told last, five seconds later."""
    said: dict[str, Any] = {}
    with trio.move_on_after(5):
        async with world.dial("/ws", phone_headers(device_id, **info)) as phone:
            while True:
                said = await hear(phone)
    return said["settings"]["offline_threshold_minutes"]


@pytest.mark.parametrize("info", [{}, {"wants_device_key": True}, {"model": "Pixel"}])
async def test_a_phone_that_comes_while_its_settings_change_is_told_the_new_ones(
    autojump_clock: MockClock, world: World, info: dict[str, Any]
):
    """Whenever in its coming the operator changes them: the phone, memory and disk have the same in the end."""
    for moment in MOMENTS:
        device_id = f"phone-{moment}"
        await enrol(world, device_id)
        told: list[int] = []

        async def come(device_id: str = device_id, told: list[int] = told) -> None:
            told.append(await settings_told(world, device_id, **info))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come)
            await trio.sleep(moment * ANSWER_S / 4)
            await change(world, device_id, 99)
        assert (moment, told) == (moment, [99])
        assert world.gateway.directory.settings(device_id).offline_threshold_minutes == 99
        assert (await world.gateway.devices.get(device_id, BOSS.scope)).record.model == info.get("model")


async def test_settings_that_change_while_a_device_is_looked_up_are_found(autojump_clock: MockClock, world: World):
    directory = world.gateway.directory
    for moment in MOMENTS:
        device_id = f"phone-{moment}"
        await enrol(world, device_id)
        found: list[KnownDevice | None] = []

        async def find(device_id: str = device_id, found: list[KnownDevice | None] = found) -> None:
            found.append(await directory.find(device_id))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(change, world, device_id, 99)
            await trio.sleep(moment * ANSWER_S / 8)
            nursery.start_soon(find)
        assert (moment, directory.settings(device_id).offline_threshold_minutes) == (moment, 99)
    assert directory._readings == {}


async def test_a_device_that_is_deleted_while_it_is_looked_up_is_not_remembered(autojump_clock: MockClock, world: World):
    directory = world.gateway.directory
    for moment in MOMENTS:
        device_id = f"phone-{moment}"
        await enrol(world, device_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.gateway.devices.delete, device_id, BOSS)
            await trio.sleep(moment * ANSWER_S / 8)
            nursery.start_soon(directory.find, device_id)
        assert (moment, directory.known(device_id)) == (moment, None)


async def test_a_phone_that_is_deleted_while_it_comes_is_enrolled_anew_or_has_no_link(autojump_clock: MockClock, world: World):
    """Its enrolment key still stands, so it may come; but nothing of what it was comes with it, and no link is of a device that is none."""
    came_anew = 0
    for moment in MOMENTS:
        device_id = f"phone-{moment}"
        await enrol(world, device_id)
        await change(world, device_id, 99)

        async def come(device_id: str = device_id) -> None:
            with suppress(LinkClosed):
                await settings_told(world, device_id, wants_device_key=True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come)
            await trio.sleep(moment * ANSWER_S / 4)
            await world.gateway.devices.delete(device_id, BOSS)
            await trio.sleep(2)
            if world.gateway.hub.link_of(device_id) is not None:
                came_anew += 1
                assert (await world.gateway.devices.settings(device_id, BOSS.scope))[0] == PhoneSettings()
                assert world.gateway.directory.settings(device_id) == PhoneSettings()
            else:
                assert world.gateway.directory.known(device_id) is None
            nursery.cancel_scope.cancel()
    assert 0 < came_anew < len(MOMENTS)
