"""Bodies of commands, as an operator writes them (T-64 and its siblings, CONTRACT.md §6), and commands as an operator reads them."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

from protocol.fields import AlarmType, MessageType
from signal_gateway.api.shapes import ID_MAX, Answer, Asked, Body, Id, Millis, Word, instant
from signal_gateway.domain.command import PRIORITY_MAX, PRIORITY_MIN, Command, CommandKind, CommandRequest, CommandView, Target, priority_of
from signal_gateway.domain.errors import BadRequest

Kind = Literal["send_sms", "send_ussd", "ussd_reply", "send_rcs", "find_device", "alarm_start", "alarm_stop"]
State = Literal["queued", "dispatched", "accepted", "sent", "delivered", "failed", "expired", "cancelled", "dead", "unknown"]
Priority = Annotated[
    Literal["low", "normal", "high", "urgent", "critical"] | Annotated[int, Field(ge=PRIORITY_MIN, le=PRIORITY_MAX)],
    Field(description="A word, or a number of -128 to 127; higher goes first."),
]
SimSlot = Annotated[int | None, Field(ge=0, le=7, description="The SIM of the phone; left out: any that may.")]
Text = Annotated[str, Field(max_length=10_000)]
Number = Annotated[str, Field(min_length=1, max_length=64)]
Code = Annotated[str, Field(min_length=1, max_length=182)]


class Terms(Body):
    """On what terms a command goes out: fields that every command may have."""

    priority: Priority = "normal"
    message_id: Annotated[
        str | None, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$", description="Your own; the same one again is the same command.")
    ] = None
    ttl_s: Annotated[
        float | None, Field(gt=0, le=31_536_000, allow_inf_nan=False, description="Seconds until it expires if it is not on its way.")
    ] = None
    not_before: Annotated[Millis | str | None, Field(description="Milliseconds since 1970, or RFC 3339 with a zone.")] = None
    delivery_report: Annotated[bool, Field(description="Whether `sent` is followed until `delivered`.")] = False
    retry_safe: Annotated[bool, Field(description="Whether it may be sent again although the outcome of an attempt is unknown.")] = False


NOT_DATA = frozenset({*Terms.model_fields, "sim_slot", "to", "kind", "data"})


class SendSms(Terms):
    """An SMS (T-64)."""

    sim_slot: SimSlot = None
    phone_number: Number
    message: Annotated[Text, Field(min_length=1)]


class SendUssd(Terms):
    """A USSD code."""

    sim_slot: SimSlot = None
    ussd_code: Code
    session_id: Word | None = None
    delay: Annotated[int | None, Field(ge=0, le=3_600_000)] = None
    auto_cancel: bool | None = None


class UssdReply(Terms):
    """An answer to the menu of a USSD session that is open."""

    sim_slot: SimSlot = None
    session_id: Word
    reply: Code


class SendRcs(Terms):
    """An RCS message."""

    sim_slot: SimSlot = None
    phone_number: Number
    message: Annotated[Text, Field(min_length=1)]
    message_type: MessageType | None = None


class FindDevice(Terms):
    """Let the phone make itself noticed."""

    message: Text | None = None


class AlarmStart(Terms):
    """Let the phone ring."""

    alarm_type: AlarmType
    message: Text | None = None


class AlarmStop(Terms):
    """Let it be silent again."""


class To(Body):
    """To whom: exactly one of these."""

    device: Id | None = None
    group: Annotated[
        Word | None, Field(description="Any one phone of it; find_device, alarm_start and alarm_stop are for every phone of it.")
    ] = None
    any: Literal[True] | None = None


class BatchItem(Terms):
    """One command of many. `data` has the fields of the single command of this kind; those of the terms stand beside it.

    What is wrong with one, its result tells; the others are not hindered.
    """

    to: To
    kind: Kind
    sim_slot: SimSlot = None
    data: dict[str, Any] = {}


class WrongItem(NamedTuple):
    """An item that is none: what was sent, and why it is refused."""

    sent: Any
    error: BadRequest


def _item_or_why_not(sent: Any, read: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read(sent)
    except ValidationError as error:
        return WrongItem(sent, BadRequest(wrong_fields(error), "invalid_field"))


def wrong_fields(error: ValidationError, within: str = "") -> str:
    """Names the fields, never what was in them."""
    told = error.errors(include_input=False, include_url=False)[:5]
    return "; ".join(f"{'.'.join([*filter(None, [within]), *map(str, each['loc'])]) or 'item'}: {each['msg']}" for each in told)


Item = Annotated[BatchItem, WrapValidator(_item_or_why_not)]
"""A BatchItem, or a WrongItem in its place, so that one that is wrong hinders no other."""


class CommandsAsked(Asked):
    """Filters of the list of commands, newest first."""

    device: Id | None = None
    state: State | None = None
    kind: Kind | None = None


class Queued(Answer):
    """The command is on disk and goes out while it lives."""

    status: Literal["queued"]
    message_id: str


class OneOfEach(Answer):
    """One of the commands that a request for every phone of a group came to."""

    message_id: str
    device_id: str


class QueuedForEach(Answer):
    """A command for each phone of the group is on disk, and goes out while it lives."""

    status: Literal["queued"]
    commands: list[OneOfEach]


class Refused(Answer):
    """Nothing was kept of this one: why, in words, and as a stable word."""

    error: str
    code: str


class Waits(Answer):
    """Why a queued command is not on its way, and until when, where that is known: milliseconds since 1970, UTC."""

    reason: str
    until: int | None


class TimelineStep(Answer):
    """One step of a command's life. `at` is milliseconds since 1970, UTC."""

    state: State
    at: int
    attempt: int
    detail: dict[str, Any] | None = None


class CommandAnswer(Answer):
    """A command. Times are milliseconds since 1970, UTC; what does not apply to it is left out."""

    message_id: str
    device_id: str | None
    kind: Kind
    state: State
    priority: int
    sim_slot: int | None
    attempts: int
    created_at: Annotated[int, Field(le=ID_MAX)]
    expires_at: int
    device_group: str | None = None
    phone_number: str | None = None
    segments: Annotated[int | None, Field(description="Parts of an SMS.")] = None
    not_before: int | None = None
    final_at: int | None = None
    result: Annotated[dict[str, Any] | None, Field(description="What the phone reported: parts that arrived, an answer to a code, …")] = (
        None
    )
    error: Annotated[str | None, Field(description="Why it failed: a stable word.")] = None
    error_message: str | None = None
    fan_out_id: Annotated[str | None, Field(description="The message_id of the first command of the same request for a group.")] = None


class CommandInFull(CommandAnswer):
    """A command with its life so far, and why it waits."""

    timeline: list[TimelineStep]
    waits: Waits | None = None


DATA_OF: Mapping[str, type[Terms]] = {
    "send_sms": SendSms,
    "send_ussd": SendUssd,
    "ussd_reply": UssdReply,
    "send_rcs": SendRcs,
    "find_device": FindDevice,
    "alarm_start": AlarmStart,
    "alarm_stop": AlarmStop,
}
"""The single body of each kind: what `data` of a batch item may hold beside the terms."""


def request_of(kind: CommandKind, target: Target, body: Terms, idempotency_key: str | None) -> CommandRequest:
    """What a single body asks for. Raises BadRequest."""
    fields = body.__dict__
    data = {name: value for name, value in fields.items() if value is not None and name not in NOT_DATA}
    return _request(kind, target, body, data, fields.get("sim_slot"), idempotency_key)


def digest_of(items: Sequence[BatchItem | WrongItem]) -> bytes:
    """Of a call with many items: SHA-256, in whatever order the fields of each were written."""
    said = [item.sent if isinstance(item, WrongItem) else item.model_dump(mode="json", exclude_unset=True) for item in items]
    return sha256(msgspec.json.encode(said, order="sorted")).digest()


def batch_request(item: BatchItem, idempotency_key: str | None, call: bytes) -> CommandRequest:
    """What one item of many asks for. Raises BadRequest, and pydantic's ValidationError for its data.

    An item with a `message_id` of its own is the same command in any call.
    """
    chosen = [item.to.device, item.to.group, item.to.any]
    if sum(each is not None for each in chosen) != 1:
        raise BadRequest("to names exactly one of device, group and any", "invalid_field")
    misplaced = sorted(item.data.keys() & NOT_DATA)
    if misplaced:
        raise BadRequest(f"{misplaced[0]} stands beside data, not in it", "invalid_field")
    data = DATA_OF[item.kind].model_validate(item.data).model_dump(exclude_none=True, exclude=set(NOT_DATA))
    request = _request(CommandKind(item.kind), Target(item.to.device, item.to.group), item, data, item.sim_slot, idempotency_key)
    return request if item.message_id is not None else msgspec.structs.replace(request, call=call)


def _request(
    kind: CommandKind, target: Target, terms: Terms, data: Mapping[str, Any], sim_slot: int | None, idempotency_key: str | None
) -> CommandRequest:
    return CommandRequest(
        kind=kind,
        target=target,
        data=data,
        sim_slot=sim_slot,
        priority=priority_of(terms.priority),
        message_id=terms.message_id,
        idempotency_key=idempotency_key,
        ttl_s=terms.ttl_s,
        not_before=instant(terms.not_before, "not_before"),
        delivery_report=terms.delivery_report,
        retry_safe=terms.retry_safe,
    )


def command_told(command: Command) -> dict[str, Any]:
    """A command as it is sent; what does not apply to it is left out."""
    told: dict[str, Any] = {
        "message_id": command.message_id,
        "device_id": command.device_id,
        "kind": command.kind.value,
        "state": command.state.value,
        "priority": command.priority,
        "sim_slot": command.sim_slot,
        "attempts": command.attempts,
        "created_at": command.created_at,
        "expires_at": command.expires_at,
    }
    optional = {
        "device_group": command.device_group,
        "phone_number": command.phone_number,
        "segments": command.segments,
        "not_before": command.not_before,
        "final_at": command.final_at,
        "result": command.result,
        "error": command.error,
        "error_message": command.error_message,
        "fan_out_id": command.fan_out_id,
    }
    return told | {name: value for name, value in optional.items() if value is not None}


def view_told(view: CommandView) -> dict[str, Any]:
    """The same with its timeline, and why it waits."""
    told = command_told(view.command)
    if view.waits is not None:
        told["waits"] = {"reason": view.waits.reason, "until": view.waits.until}
    steps = [{"state": step.state.value, "at": step.at, "attempt": step.attempt} for step in view.timeline]
    for line, step in zip(steps, view.timeline, strict=True):
        if step.detail is not None:
            line["detail"] = step.detail  # type: ignore[assignment]
    return told | {"timeline": steps}
