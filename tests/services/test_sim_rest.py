"""A SIM rests after errors of its carrier, and after nothing else; and nothing but what it did itself ends that."""

import pytest
import trio
from trio.testing import MockClock

from signal_gateway.domain.command import CommandKind, CommandRequest
from signal_gateway.domain.phone_settings import PhoneSettings
from signal_gateway.services.alarm_settings import AlarmsSettings
from signal_gateway.storage import alarms
from signal_gateway.testing.client import Client
from signal_gateway.testing.world import WORLD_BEGINS_MS, World, open_world
from tests.websocket.talk import hear, phone_headers
from tests.websocket.test_commands import NUMBER, log_of, patient, report, request, sms, submit, told, waits

ARGUMENTS, NO_SERVICE = 104, 4
NO_PAUSE = PhoneSettings(sim1_guard_interval=0)


def rcs() -> CommandRequest:
    return request(CommandKind.SEND_RCS, phone_number=NUMBER, message="hello")


async def answer(phone: Client, status: str, error_code: int | None = None) -> str:
    """Answer the next command, whatever it is; which one it was."""
    command = await told(phone, 30)
    assert command is not None
    if command["type"] == "send_rcs":
        await report(phone, "rcs_log", message_id=command["message_id"], phone_number=NUMBER, status=status)
    else:
        await log_of(phone, command, status, **({} if error_code is None else {"error_code": error_code}))
    await trio.sleep(0.5)
    return command["message_id"]


@pytest.mark.parametrize(("asked", "code"), [(sms(sim_slot=0), ARGUMENTS), (rcs(), None)])
async def test_failures_that_are_no_fault_of_the_carrier_give_no_rest(autojump_clock: MockClock, asked: CommandRequest, code: int | None):
    config = patient(phones=NO_PAUSE, alarms=AlarmsSettings(blocked_after=3))
    async with open_world(config) as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        for _ in range(3):
            await submit(world, asked)
            await answer(phone, "failed", code)
        last = await submit(world, sms(sim_slot=0))
        assert await told_in_turn(phone, last)
        assert await open_alarms(world) == []


async def told_in_turn(phone: Client, message_id: str) -> bool:
    heard = await told(phone, 4)
    while heard is not None and heard["message_id"] != message_id:
        await report(phone, "rcs_log", message_id=heard["message_id"], phone_number=NUMBER, status="failed")
        heard = await told(phone, 4)
    return heard is not None


async def open_alarms(world: World) -> list[str]:
    return [key.type.value for key in await world.database.read(alarms.open_severities)]


async def test_what_goes_over_data_does_not_prove_that_the_carrier_works(autojump_clock: MockClock):
    async with open_world(patient(phones=NO_PAUSE)) as world, world.dial("/ws", phone_headers()) as phone:
        await hear(phone)
        ids = [await submit(world, sms(sim_slot=0)) for _ in range(2)]
        assert [await answer(phone, "failed", NO_SERVICE) for _ in ids] == ids
        await submit(world, rcs())
        await answer(phone, "sent")
        last = await submit(world, sms(sim_slot=0))
        await answer(phone, "failed", NO_SERVICE)
        await trio.sleep(20)
        wait = await waits(world, last)
        assert wait is not None
        assert (wait.reason, wait.until in range(WORLD_BEGINS_MS + 300_000, WORLD_BEGINS_MS + 310_000)) == ("sim_parked", True)
