"""Dialogues over USSD: a reply goes into a session that is open, and into no other (C-26)."""

from collections.abc import AsyncIterator

import msgspec
import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.command import CommandKind
from signal_gateway.domain.errors import SessionNotOpen
from signal_gateway.testing.client import Client
from signal_gateway.testing.world import World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import BOSS, S, patient, report, request, state, submit, told

MENU = "1. Balance\n2. Packages"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world(patient()) as world:
        yield world


async def opened(world: World, phone: Client, session_id: str, *, auto_cancel: bool = True) -> str:
    """A code was dialled, and answered by a menu."""
    message_id = await submit(world, request(CommandKind.SEND_USSD, ussd_code="*100#", auto_cancel=auto_cancel))
    assert await told(phone) is not None
    await report(phone, "ussd_response", message_id=message_id, session_id=session_id, response=MENU, is_menu=True)
    await trio.sleep(1)
    return message_id


async def test_a_menu_that_the_phone_ended_by_itself_takes_no_reply(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        answered = await opened(world, phone, "s1")
        with pytest.raises(SessionNotOpen):
            await submit(world, request(CommandKind.USSD_REPLY, session_id="s1", reply="1"))
        await report(phone, "ussd_cancelled", session_id="s1", status="CANCELLED", reason="auto_cancel_menu")
        with pytest.raises(SessionNotOpen):
            await submit(world, request(CommandKind.USSD_REPLY, session_id="s1", reply="1"))
        assert await state(world, answered) is S.DELIVERED
        assert await told(phone) is None


async def test_an_open_session_takes_replies_until_the_phone_says_that_it_is_over(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        answered = await opened(world, phone, "s1", auto_cancel=False)
        first = msgspec.structs.replace(request(CommandKind.USSD_REPLY, session_id="s1", reply="1"), idempotency_key="k1")
        replied = await submit(world, first)
        assert await told(phone) is not None
        await report(phone, "ussd_response", message_id=replied, session_id="s1", response="12,50 TL")
        await trio.sleep(1)
        await report(phone, "ussd_cancelled", session_id="s1", status="CANCELLED", reason="user")
        await trio.sleep(1)
        assert [await state(world, each) for each in (answered, replied)] == [S.DELIVERED, S.DELIVERED]
        view = await world.gateway.commands.view(replied, BOSS)
        assert (view.command.result or {})["session_over"] == "user"
        with pytest.raises(SessionNotOpen):
            await submit(world, request(CommandKind.USSD_REPLY, session_id="s1", reply="2"))
        assert await submit(world, first) == replied  # the same again: it was accepted while the session was open


async def test_a_reply_that_failed_ends_its_session(autojump_clock: MockClock, world: World):
    async with world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        await opened(world, phone, "s1", auto_cancel=False)
        replied = await submit(world, request(CommandKind.USSD_REPLY, session_id="s1", reply="1"))
        assert await told(phone) is not None
        await report(phone, "ussd_response_failed", message_id=replied, session_id="s1", failure_code=6)
        await trio.sleep(1)
        assert await state(world, replied) is S.FAILED
        with pytest.raises(SessionNotOpen):
            await submit(world, request(CommandKind.USSD_REPLY, session_id="s1", reply="2"))
