"""What a report of a device tells about a command (T-21 to T-35, C-24 to C-26), whatever its wire was."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from signal_gateway.domain.command import CommandKind
from signal_gateway.domain.report import Report
from signal_gateway.domain.ussd import failure_words, is_menu, is_permanent
from signal_gateway.domain.ussd_sessions import USSD_CANCELLED

SMS, USSD, RCS = CommandKind.SEND_SMS, CommandKind.SEND_USSD, CommandKind.SEND_RCS
USSD_KINDS = frozenset({USSD, CommandKind.USSD_REPLY})
READ = "read"
USSD_TIMEOUT, USSD_SIM_ERROR, USSD_NETWORK_ERROR = 5, 4, 1

SMS_PERMANENT = frozenset({3, 6, 7, 8, 11, 14, 18, 24, 104, 107, 109, 114})
"""Codes of Android's SmsManager that another try cannot help: no PDU (3), a number that fixed dialling (6) or the rules of short codes
(7, 8) refuse, arguments (11, 104), format (14, 107), encoding (18, 109), not supported (24, 114).
All are the fault of the message, its number or the phone: carrier and SIM had no part in them."""
SMS_SIM_ERRORS = frozenset({120})
"""Codes of Android's SmsManager that say that there is no SIM."""


class Outcome(StrEnum):
    """What became of a command, as far as one report tells."""

    ACCEPTED = "accepted"
    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PENDING = "pending"
    """The network is still trying: nothing changes."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One report, read as an answer. It names its command by `message_id`, or is matched by what else it says (C-24)."""

    device_id: str
    kinds: frozenset[CommandKind]
    """What it may answer."""
    outcome: Outcome
    at: int
    message_id: str | None = None
    report_id: str | None = None
    """What exactly the same report again has, too: it is no news. None: it cannot be told from another."""
    sim_slot: int | None = None
    phone_number: str | None = None
    text: str | None = None
    session_id: str | None = None
    error: str | None = None
    """A stable word."""
    error_message: str | None = None
    is_permanent: bool = False
    """Of a failure: another try cannot help."""
    blames_sim: bool = False
    """Of a failure: it speaks of the SIM, its carrier or the radio between them."""
    is_delivery_report: bool = False
    is_read: bool = False
    """The message was not only delivered: somebody has read it."""
    said_at: int | None = None
    """When by the device's own clock, which tells its reports apart; None: it does not say."""
    part: int | None = None
    parts: int | None = None
    """Of a delivery report for one part of a long SMS: which one of how many, from 1."""
    result: Mapping[str, Any] | None = None
    balance: str | None = None
    """What a USSD answer says is left on the SIM, as a decimal."""


def answer_of(report: Report, report_id: str | None = None) -> Answer | None:
    """The report as an answer; None when its type answers no command."""
    read = _READERS.get(report.type)
    if read is None:
        return None
    said = read(report.data)
    if said is None:
        return None
    data = report.data
    return Answer(
        device_id=report.device_id,
        at=report.received_at,
        message_id=report.message_id or _text(data, "message_id"),
        report_id=report_id,
        sim_slot=_number(data, "sim_slot"),
        phone_number=_text(data, "phone_number"),
        session_id=_text(data, "session_id"),
        said_at=report.reported_at if (told_at := _number(data, "timestamp")) is None else told_at,
        **said,
    )


def ack_of(device_id: str, message_id: str | None, at: int) -> Answer:
    """COMMAND_ACK: the device has taken a command on."""
    return Answer(device_id=device_id, kinds=frozenset(CommandKind), outcome=Outcome.ACCEPTED, at=at, message_id=message_id)


def result_of(device_id: str, message_id: str, status: object, result: object, error: object, at: int) -> Answer:
    """COMMAND_RESULT: done, in a status of 2xx or one of the words for it, or failed. One of 4xx is permanent."""
    words = {"ok", "success", "done", "completed", "delivered"}
    is_done = 200 <= status < 300 if isinstance(status, int) else str(status).lower() in words
    is_sent = isinstance(status, str) and status.lower() == "sent"
    outcome = Outcome.SENT if is_sent else Outcome.DELIVERED if is_done else Outcome.FAILED
    return Answer(
        device_id=device_id,
        kinds=frozenset(CommandKind),
        outcome=outcome,
        at=at,
        message_id=message_id,
        error=None if outcome is not Outcome.FAILED else "device_failed",
        error_message=None if error is None else str(error),
        is_permanent=isinstance(status, int) and 400 <= status < 500,
        result=None if result is None else {"result": result},
    )


_Said = dict[str, Any]
_UNDELIVERED: Mapping[str, Any] = {
    "is_delivery_report": True,
    "error": "not_delivered",
    "error_message": "the network reports that it was not delivered",
    "is_permanent": True,
}


def _sms_log(data: Mapping[str, Any]) -> _Said:
    said = _message_log(data, SMS)
    code = _number(data, "error_code")
    if said["outcome"] is Outcome.FAILED and code is not None:
        said |= {
            "error": "sim_error" if code in SMS_SIM_ERRORS else "send_failed",
            "error_message": f"the phone could not send it: error code {code}",
            "is_permanent": code in SMS_PERMANENT,
            "result": {"error_code": code},
        }
    said["blames_sim"] = said["outcome"] is Outcome.FAILED and code not in SMS_PERMANENT  # without a code it is the likeliest
    if (segments := _number(data, "segments")) is not None:
        said["result"] = {**said.get("result", {}), "segments_sent": segments}
    return said


def _rcs_log(data: Mapping[str, Any]) -> _Said:
    """`read` says more than `delivered`. A failure may be that of the delivery, where it says so or comes after `sent`."""
    if data.get("status") == Outcome.FAILED and data.get("delivery_report") is True:
        return {"kinds": frozenset({RCS}), "outcome": Outcome.FAILED, "text": _text(data, "message"), **_UNDELIVERED}
    if data.get("status") != READ:
        return _message_log(data, RCS)
    said = _message_log({**data, "status": Outcome.DELIVERED.value}, RCS)
    return said | {"is_read": True, "result": {"read": True}}


def _message_log(data: Mapping[str, Any], kind: CommandKind) -> _Said:
    outcome = Outcome(str(data.get("status")))
    said: _Said = {"kinds": frozenset({kind}), "outcome": outcome, "text": _text(data, "message")}
    said["is_delivery_report"] = outcome is Outcome.DELIVERED
    if outcome is Outcome.FAILED:
        said |= {"error": "send_failed", "error_message": "the phone could not send it"}
    return said


def _delivery_report(data: Mapping[str, Any]) -> _Said:
    outcome = Outcome(str(data.get("status")))
    said: _Said = {"kinds": frozenset({SMS}), "outcome": outcome, "is_delivery_report": True}
    part, parts = _number(data, "part"), _number(data, "parts")
    if part is not None and parts is not None and 1 <= part <= parts <= 255:
        said |= {"part": part, "parts": parts}
    if outcome is Outcome.FAILED:
        said |= _UNDELIVERED
    return said


def _ussd_response(data: Mapping[str, Any]) -> _Said:
    response = str(data.get("response") or "")
    result = {
        "response": response,
        "cleaned_response": data.get("cleaned_response"),
        "session_id": data.get("session_id"),
        "is_menu": bool(data.get("is_menu")) or is_menu(response),
    }
    return {"kinds": USSD_KINDS, "outcome": Outcome.DELIVERED, "result": {key: value for key, value in result.items() if value is not None}}


def _ussd_failed(data: Mapping[str, Any]) -> _Said:
    code = _number(data, "failure_code")
    if code is None:
        code = USSD_TIMEOUT if data.get("status") == "TIMEOUT" else -1
    return {
        "kinds": USSD_KINDS,
        "outcome": Outcome.FAILED,
        "error": "sim_error" if code == USSD_SIM_ERROR else "ussd_failed",
        "error_message": _text(data, "error_message") or failure_words(code),
        "is_permanent": is_permanent(code),
        "blames_sim": code in (USSD_SIM_ERROR, USSD_NETWORK_ERROR),
        "result": {"failure_code": code, "failure": failure_words(code)},
    }


def _ussd_cancelled(data: Mapping[str, Any]) -> _Said:
    reason = _text(data, "reason") or "cancelled"
    return {"kinds": USSD_KINDS, "outcome": Outcome.CANCELLED, "error": USSD_CANCELLED, "error_message": reason}


def _done(kind: CommandKind) -> Any:
    def read(data: Mapping[str, Any]) -> _Said:
        return {"kinds": frozenset({kind}), "outcome": Outcome.DELIVERED}

    return read


def _not_done(kind: CommandKind) -> Any:
    def read(data: Mapping[str, Any]) -> _Said:
        words = _text(data, "error") or _text(data, "message") or "the device could not do it"
        return {"kinds": frozenset({kind}), "outcome": Outcome.FAILED, "error": "device_failed", "error_message": words}

    return read


_READERS: Mapping[str, Any] = {
    "sms_log": _sms_log,
    "rcs_log": _rcs_log,
    "sms_delivery_report": _delivery_report,
    "ussd_response": _ussd_response,
    "ussd_response_failed": _ussd_failed,
    "ussd_cancelled": _ussd_cancelled,
    "find_device_success": _done(CommandKind.FIND_DEVICE),
    "find_device_failed": _not_done(CommandKind.FIND_DEVICE),
    "alarm_started": _done(CommandKind.ALARM_START),
    "alarm_failed": _not_done(CommandKind.ALARM_START),
    "alarm_stopped": _done(CommandKind.ALARM_STOP),
    "alarm_stop_failed": _not_done(CommandKind.ALARM_STOP),
}


def _text(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    return value if isinstance(value, str) and value else None


def _number(data: Mapping[str, Any], name: str) -> int | None:
    value = data.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
