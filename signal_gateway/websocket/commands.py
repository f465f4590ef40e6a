"""Commands on the wire: what a device is told (T-11 to T-16), and its answers that are no reports (COMMAND_ACK, COMMAND_RESULT)."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from protocol.agent import CommandAck, CommandResult
from protocol.close_codes import CloseCode
from protocol.dialect import Question
from protocol.phone_commands import (
    COMMAND_NAMES,
    AlarmStart,
    AlarmStartData,
    AlarmStop,
    ConnectionEstablished,
    FindDevice,
    FindDeviceData,
    PhoneCommand,
    SendRcs,
    SendRcsData,
    SendSms,
    SendSmsData,
    SendUssd,
    SendUssdData,
    UssdReply,
    UssdReplyData,
)
from signal_gateway.bus.local import Bus
from signal_gateway.domain.command import Command, CommandKind, priority_word
from signal_gateway.domain.command_answers import ack_of, result_of
from signal_gateway.domain.errors import CommandNotFound, DatabaseDown
from signal_gateway.domain.events import CommandDue, DeviceDeleted, SettingsChanged
from signal_gateway.domain.principal import LinkKind
from signal_gateway.observe.metrics import Metrics
from signal_gateway.websocket.commands_said import CommandsSaid
from signal_gateway.websocket.ears import Handler
from signal_gateway.websocket.hub import Hub
from signal_gateway.websocket.link import Link


class CommandSpeaker:
    """Says what devices are to be told: commands that are due, settings that have changed, that they are no more."""

    def __init__(self, hub: Hub, bus: Bus, metrics: Metrics) -> None:
        self._hub = hub
        self._unsaid = metrics.counter("commands_unsaid_total", "Commands whose device had no link here when they were due.")
        bus.subscribe(CommandDue, self._say)
        bus.subscribe(SettingsChanged, self._tell_settings)
        bus.subscribe(DeviceDeleted, self._end)

    def _say(self, event: CommandDue) -> None:
        command = event.command
        link = self._hub.link_of(command.device_id or "")
        if link is None:
            self._unsaid.add()
            return
        message = wire_of(command, link.kind)
        uuid = link.new_uuid_bytes()
        is_text, _ = link.encoding
        if not is_text:
            if link.commands_said is None:
                link.commands_said = CommandsSaid()
            link.commands_said.note(uuid, command.message_id)
        link.say(message, COMMAND_NAMES[type(message)], uuid)

    def _tell_settings(self, event: SettingsChanged) -> None:
        """Changed settings are sent as another `connection_established` (CONTRACT.md §3)."""
        link = self._hub.link_of(event.device_id)
        if link is not None and link.kind is LinkKind.PHONE:
            link.say(ConnectionEstablished(settings=event.settings), "connection_established")

    def _end(self, event: DeviceDeleted) -> None:
        link = self._hub.link_of(event.device_id)
        if link is not None:
            link.close_soon(CloseCode.UNAUTHORISED, "the device was deleted")


def wire_of(command: Command, kind: LinkKind) -> PhoneCommand:
    """A command as its device is told it: an agent by its id, as COMMAND_RESULT wants it; a phone as the seed prints it."""
    message = _WIRES[command.kind](command)
    if kind is LinkKind.AGENT and isinstance(message, FindDevice | AlarmStart | AlarmStop):
        return msgspec.structs.replace(message, message_id=command.message_id)
    return message


def hear_command_ack(link: Link, message: CommandAck, question: Question) -> None:
    """COMMAND_ACK: the device has taken a command on. Answered by nothing.

    The command is named by its id, or by the UUID of its frame. Raises CommandNotFound where a frame names none that this link was told.
    """
    door, message_id = link.door, message.message_id
    if message_id is None and not question.is_text:
        message_id = None if link.commands_said is None else link.commands_said.find(question.uuid)
        if message_id is None:
            raise CommandNotFound
    if message.status < 400:
        door.dispatcher.reports.hear(ack_of(link.client_id, message_id, door.wall_ms()))
    elif message_id is not None:
        door.dispatcher.reports.hear(result_of(link.client_id, message_id, message.status, None, "refused by the device", door.wall_ms()))


def hear_command_result(link: Link, message: CommandResult, question: Question) -> None:
    """COMMAND_RESULT: what became of it."""
    door = link.door
    answer = result_of(link.client_id, message.message_id, message.status, message.result, message.error, door.wall_ms())
    if not door.dispatcher.reports.hear(answer):
        link.refuse(question, DatabaseDown())


def _sms(command: Command) -> PhoneCommand:
    data = command.data
    priority: Any = priority_word(command.priority)
    told = SendSmsData(sim_slot=command.sim_slot or 0, phone_number=data["phone_number"], message=data["message"], priority=priority)
    return SendSms(message_id=command.message_id, data=told)


def _ussd(command: Command) -> PhoneCommand:
    data = command.data
    told = SendUssdData(
        sim_slot=command.sim_slot or 0,
        ussd_code=data["ussd_code"],
        session_id=data.get("session_id"),
        delay=data.get("delay", 0),
        auto_cancel=data.get("auto_cancel", True),
    )
    return SendUssd(message_id=command.message_id, data=told)


def _ussd_reply(command: Command) -> PhoneCommand:
    data = command.data
    told = UssdReplyData(sim_slot=command.sim_slot or 0, session_id=data["session_id"], reply=data["reply"])
    return UssdReply(message_id=command.message_id, data=told)


def _rcs(command: Command) -> PhoneCommand:
    data = command.data
    told = SendRcsData(
        sim_slot=command.sim_slot or 0, phone_number=data["phone_number"], message=data["message"], message_type=data["message_type"]
    )
    return SendRcs(message_id=command.message_id, data=told)


_WIRES: Mapping[CommandKind, Callable[[Command], PhoneCommand]] = {
    CommandKind.SEND_SMS: _sms,
    CommandKind.SEND_USSD: _ussd,
    CommandKind.USSD_REPLY: _ussd_reply,
    CommandKind.SEND_RCS: _rcs,
    CommandKind.FIND_DEVICE: lambda command: FindDevice(data=FindDeviceData(message=command.data["message"])),
    CommandKind.ALARM_START: lambda command: AlarmStart(
        data=AlarmStartData(alarm_type=command.data["alarm_type"], message=command.data["message"])
    ),
    CommandKind.ALARM_STOP: lambda command: AlarmStop(),
}

COMMAND_HANDLERS: Mapping[type, Handler] = {CommandAck: hear_command_ack, CommandResult: hear_command_result}
"""What any device may say of a command beside its reports."""
