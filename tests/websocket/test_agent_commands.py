"""What an agent is told to do, and how it answers: by the command's id, or by the UUID of its frame."""

import json
from typing import Any

import trio
from trio.testing import MockClock

from protocol.frame import FrameType
from protocol.payload import PayloadKind
from signal_gateway.domain.access import Operator, Role
from signal_gateway.domain.command import CommandKind, CommandRequest, CommandState, Target
from signal_gateway.testing.client import Client
from signal_gateway.testing.world import World
from signal_gateway.websocket.commands_said import COMMANDS_MAX, CommandsSaid
from tests.websocket.talk import ask, ask_json, frame, hear

BOSS = Operator("boss", Role.ADMIN)
REGISTER = {"version": "1.0.0", "client_id": "unit-7", "auth_token": "demo-enrolment-key"}
S = CommandState


async def submit(world: World, kind: CommandKind, **data: Any) -> str:
    asked = CommandRequest(kind=kind, target=Target(device_id="unit-7"), data=data)
    return (await world.gateway.commands.submit(asked, BOSS)).message_id


async def states(world: World, *message_ids: str) -> list[CommandState]:
    await trio.sleep(1)
    return [(await world.gateway.commands.view(each, BOSS)).command.state for each in message_ids]


async def command(agent: Client) -> tuple[bytes, Any]:
    """The UUID of the next COMMAND, and what it says."""
    frame_type, uuid, _, payload = await hear(agent)
    assert frame_type is FrameType.COMMAND
    return uuid, payload


async def test_an_agent_is_told_the_id_of_each_command_and_answers_by_it(autojump_clock: MockClock, world: World):
    asked: list[tuple[CommandKind, dict[str, Any]]] = [
        (CommandKind.FIND_DEVICE, {"message": "blink"}),
        (CommandKind.ALARM_START, {"alarm_type": "offline", "message": "loud"}),
        (CommandKind.ALARM_STOP, {}),
    ]
    async with world.dial() as agent:
        await ask_json(agent, {"type": "register", "request_id": "1", "data": REGISTER})
        for kind, data in asked:
            message_id = await submit(world, kind, **data)
            told = await hear(agent)
            assert told == {"type": kind.value, "message_id": message_id, **({"data": data} if data else {})}
            await agent.send(json.dumps({"type": "command_result", "data": {"message_id": told["message_id"], "status": "done"}}))
            assert await states(world, message_id) == [S.DELIVERED]


async def test_an_ack_without_an_id_is_of_the_command_whose_uuid_it_has(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await ask(agent, FrameType.REGISTER, REGISTER)
        sms = await submit(world, CommandKind.SEND_SMS, phone_number="+905551234567", message="hello")
        sms_uuid, _ = await command(agent)
        stop = await submit(world, CommandKind.ALARM_STOP)
        stop_uuid, _ = await command(agent)
        await agent.send(frame(FrameType.COMMAND_ACK, {"status": 200}, uuid=stop_uuid))
        assert await states(world, sms, stop) == [S.DISPATCHED, S.ACCEPTED]
        await agent.send(frame(FrameType.COMMAND_ACK, {"status": 200}, PayloadKind.CBOR, uuid=sms_uuid))
        assert await states(world, sms, stop) == [S.ACCEPTED, S.ACCEPTED]
        await agent.send(frame(FrameType.COMMAND_ACK, {"status": 409}, uuid=stop_uuid))
        assert await states(world, sms, stop) == [S.ACCEPTED, S.FAILED]


async def test_an_ack_that_names_no_command_of_the_link_is_refused_and_changes_nothing(autojump_clock: MockClock, world: World):
    async with world.dial() as agent:
        await ask(agent, FrameType.REGISTER, REGISTER)
        sms = await submit(world, CommandKind.SEND_SMS, phone_number="+905551234567", message="hello")
        await command(agent)
        answer_type, error = await ask(agent, FrameType.COMMAND_ACK, {"status": 200})  # under a UUID of its own
        assert (answer_type, error["status"], error["reason"]) == (FrameType.ERROR, 404, "command_not_found")
        assert await states(world, sms) == [S.DISPATCHED]


def test_so_many_commands_of_a_link_are_known_by_their_uuids():
    said = CommandsSaid()
    for number in range(COMMANDS_MAX + 1):
        said.note(number.to_bytes(16, "big"), f"m{number}")
    assert said.find(bytes(16)) is None
    assert said.find(COMMANDS_MAX.to_bytes(16, "big")) == f"m{COMMANDS_MAX}"
