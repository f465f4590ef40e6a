"""What may be asked of a phone: every command is looked through before it is kept, so that a refusal is known at once (H29)."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from signal_gateway.domain.alarm import AlarmType
from signal_gateway.domain.command import PRIORITY_MAX, PRIORITY_MIN, CommandKind, CommandRequest
from signal_gateway.domain.errors import InvalidCommand
from signal_gateway.domain.ids import CLIENT_ID_CHARS_MAX
from signal_gateway.domain.phone_number import InvalidNumber, NumberRules, normalise
from signal_gateway.domain.sms_text import segments
from signal_gateway.domain.ussd import UssdRules
from signal_gateway.services.command_settings import CommandsSettings

TEXT_CHARS_MAX = 4096
"""Characters of a message that is no SMS."""
ALARM_TYPES = frozenset(each.value for each in AlarmType if each is not AlarmType.SIM_CHANGED)
"""The phones' own nine (C-27)."""
MESSAGE_TYPES = frozenset(("text", "image", "video", "file"))
DELAY_MAX = 3600
_MESSAGE_ID = re.compile(rf"[A-Za-z0-9._:-]{{1,{CLIENT_ID_CHARS_MAX}}}")


class Checked(NamedTuple):
    """What a request comes to."""

    data: Mapping[str, Any]
    """What the device is told, without SIM and priority."""
    phone_number: str | None = None
    session_id: str | None = None
    segments: int | None = None


class CommandChecks:
    """Looks through requests by the settings. Raises InvalidCommand, whose `reason` and `field` say what is wrong."""

    def __init__(self, settings: CommandsSettings) -> None:
        self._settings = settings
        self._region = settings.region or None
        self._numbers = NumberRules(settings.number_prefixes_allowed, settings.number_prefixes_denied)
        self._ussd = UssdRules(settings.ussd_allowed)
        self._checks: Mapping[CommandKind, Callable[[Mapping[str, Any]], Checked]] = {
            CommandKind.SEND_SMS: self._sms,
            CommandKind.SEND_USSD: self._ussd_code,
            CommandKind.USSD_REPLY: self._ussd_reply,
            CommandKind.SEND_RCS: self._rcs,
            CommandKind.FIND_DEVICE: self._find_device,
            CommandKind.ALARM_START: self._alarm_start,
            CommandKind.ALARM_STOP: lambda data: Checked({}),
        }

    def check(self, request: CommandRequest) -> Checked:
        """The request as it may be kept."""
        if request.message_id is not None and _MESSAGE_ID.fullmatch(request.message_id) is None:
            raise InvalidCommand("invalid_message_id", "message_id is 1 to 128 of A-Z a-z 0-9 . _ : -", "message_id")
        if not PRIORITY_MIN <= request.priority <= PRIORITY_MAX:
            raise InvalidCommand("invalid_priority", f"priority is {PRIORITY_MIN} to {PRIORITY_MAX}", "priority")
        if request.sim_slot is not None and not 0 <= request.sim_slot <= 7:
            raise InvalidCommand("invalid_sim_slot", "sim_slot is 0 to 7", "sim_slot")
        ttl_s = request.ttl_s
        if ttl_s is not None and not 0 < ttl_s <= self._settings.ttl_max_s:
            raise InvalidCommand("invalid_ttl", f"ttl_s is above 0 and at most {self._settings.ttl_max_s:g}", "ttl_s")
        return self._checks[request.kind](request.data)

    def _sms(self, data: Mapping[str, Any]) -> Checked:
        number, message = self._number(data), _text(data, "message", None)
        size = segments(message)
        if size.segments > self._settings.sms_parts_max:
            raise InvalidCommand(
                "message_too_long", f"the text takes {size.segments} parts, {self._settings.sms_parts_max} are allowed", "message"
            )
        return Checked({"phone_number": number, "message": message}, number, segments=size.segments)

    def _rcs(self, data: Mapping[str, Any]) -> Checked:
        number, message = self._number(data), _text(data, "message")
        message_type = data.get("message_type", "text")
        if message_type not in MESSAGE_TYPES:
            raise InvalidCommand("invalid_field", f"message_type is one of {', '.join(sorted(MESSAGE_TYPES))}", "message_type")
        return Checked({"phone_number": number, "message": message, "message_type": message_type}, number)

    def _ussd_code(self, data: Mapping[str, Any]) -> Checked:
        code = _text(data, "ussd_code")
        if (refusal := self._ussd.refusal(code)) is not None:
            raise InvalidCommand("ussd_refused", refusal, "ussd_code")
        delay, auto_cancel = data.get("delay", 0), data.get("auto_cancel", True)
        if isinstance(delay, bool) or not isinstance(delay, int) or not 0 <= delay <= DELAY_MAX:
            raise InvalidCommand("invalid_field", f"delay is a whole number of 0 to {DELAY_MAX}", "delay")
        session_id = None if data.get("session_id") is None else _text(data, "session_id", CLIENT_ID_CHARS_MAX)
        kept = {"ussd_code": code, "session_id": session_id, "delay": delay, "auto_cancel": bool(auto_cancel)}
        return Checked(kept, session_id=session_id)

    def _ussd_reply(self, data: Mapping[str, Any]) -> Checked:
        session_id, reply = _text(data, "session_id", CLIENT_ID_CHARS_MAX), _text(data, "reply", 182)
        if (refusal := self._ussd.reply_refusal(reply)) is not None:
            raise InvalidCommand("ussd_refused", refusal, "reply")
        return Checked({"session_id": session_id, "reply": reply}, session_id=session_id)

    def _find_device(self, data: Mapping[str, Any]) -> Checked:
        return Checked({"message": str(data.get("message") or "")[:TEXT_CHARS_MAX]})

    def _alarm_start(self, data: Mapping[str, Any]) -> Checked:
        alarm_type = data.get("alarm_type")
        if alarm_type not in ALARM_TYPES:
            raise InvalidCommand("invalid_field", f"alarm_type is one of {', '.join(sorted(ALARM_TYPES))}", "alarm_type")
        return Checked({"alarm_type": alarm_type, "message": str(data.get("message") or "")[:TEXT_CHARS_MAX]})

    def _number(self, data: Mapping[str, Any]) -> str:
        text = _text(data, "phone_number", 64)
        try:
            number = normalise(text, self._region, short_codes=self._settings.short_codes)
        except InvalidNumber as error:
            raise InvalidCommand("invalid_number", str(error), "phone_number") from None
        if (refusal := self._numbers.refusal(number)) is not None:
            raise InvalidCommand("number_refused", refusal, "phone_number")
        return number


def _text(data: Mapping[str, Any], name: str, chars_max: int | None = TEXT_CHARS_MAX) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidCommand("invalid_field", f"{name} is a text that is not empty", name)
    if "\0" in value or (chars_max is not None and len(value) > chars_max):
        limit = "" if chars_max is None else f" of at most {chars_max} characters"
        raise InvalidCommand("invalid_field", f"{name} is a text{limit} without NUL", name)
    return value
