"""Routes of commands: each kind to one device, many at once, one command's life, dead letters (T-63, T-64; CONTRACT.md §6).

A handler of these is thin on purpose: body in, one call, one line out. What a command must be is decided by the service.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response
from pydantic import Field, ValidationError

from signal_gateway.api.access import Commander, Viewer
from signal_gateway.api.bodies import StrictRoute
from signal_gateway.api.command_shapes import (
    AlarmStart,
    AlarmStop,
    BatchItem,
    CommandAnswer,
    CommandInFull,
    CommandsAsked,
    FindDevice,
    Item,
    Queued,
    QueuedForEach,
    Refused,
    SendRcs,
    SendSms,
    SendUssd,
    Terms,
    UssdReply,
    WrongItem,
    batch_request,
    command_told,
    digest_of,
    request_of,
    view_told,
    wrong_fields,
)
from signal_gateway.api.desk import Desk, answer
from signal_gateway.api.shapes import NOT_FOUND, STORES, Asked, DevicePath, IdempotencyKey, MessagePath, Page, page, told
from signal_gateway.domain.access import Operator
from signal_gateway.domain.command import Command, CommandKind, CommandRequest, CommandState, FanOut, Target
from signal_gateway.domain.errors import BadRequest, GatewayError

BATCH_MAX = 1000
KINDS: Sequence[tuple[str, CommandKind, type[Terms], str]] = (
    ("send-sms", CommandKind.SEND_SMS, SendSms, "Send an SMS"),
    ("send-ussd", CommandKind.SEND_USSD, SendUssd, "Dial a USSD code"),
    ("ussd-reply", CommandKind.USSD_REPLY, UssdReply, "Answer a USSD menu"),
    ("send-rcs", CommandKind.SEND_RCS, SendRcs, "Send an RCS message"),
    ("find", CommandKind.FIND_DEVICE, FindDevice, "Make the phone noticed"),
    ("alarm-start", CommandKind.ALARM_START, AlarmStart, "Let the phone ring"),
    ("alarm-stop", CommandKind.ALARM_STOP, AlarmStop, "Let it be silent"),
)
"""The last part of the path, the kind, the body, and what it is for."""
NEED_NO_BODY = (FindDevice, AlarmStop)
OF_SUBMIT = (
    NOT_FOUND
    | STORES
    | told(400, "The command cannot be: a number that is none, too many parts, a code that is not allowed.")
    | told(409, "The message_id is taken by another command.")
)
Result = Queued | QueuedForEach | Refused
OF_MANY: dict[int | str, dict[str, Any]] = {
    207: {"description": "Some were refused: each result says which and why.", "model": list[Result]}
}

Handler = Callable[..., Coroutine[Any, Any, Response]]


def command_routes(desk: Desk) -> APIRouter:
    """All routes of commands."""
    router = APIRouter(tags=["commands"], route_class=StrictRoute)
    commands = desk.commands

    for path, kind, shape, summary in KINDS:
        router.add_api_route(
            f"/api/devices/{{device_id}}/{path}",
            _submit_one(desk, kind, shape),
            methods=["POST"],
            status_code=202,
            response_model=Queued,
            responses=OF_SUBMIT,
            summary=summary,
            name=path,
        )

    @router.post("/api/commands", summary="Up to 1,000 commands at once", response_model=list[Result], responses=OF_MANY)
    async def submit_many(
        operator: Commander,
        items: Annotated[list[Item], Field(min_length=1, max_length=BATCH_MAX)],
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        results = await _submit_all(desk, items, operator, idempotency_key)
        return answer(results, 207 if any("error" in result for result in results) else 200)

    @router.get("/api/commands", summary="Commands, newest first", response_model=Page)
    async def list_commands(operator: Viewer, asked: Annotated[CommandsAsked, Query()]) -> Response:
        state = None if asked.state is None else CommandState(asked.state)
        kind = None if asked.kind is None else CommandKind(asked.kind)
        return await _listed(desk, operator, asked, asked.device, state, kind)

    @router.get("/api/dead-letters", summary="Commands whose retries are used up", response_model=Page)
    async def dead_letters(operator: Viewer, asked: Annotated[Asked, Query()]) -> Response:
        return await _listed(desk, operator, asked, None, CommandState.DEAD, None)

    @router.get("/api/commands/{message_id}", summary="One command and its life", response_model=CommandInFull, responses=NOT_FOUND)
    async def get_command(operator: Viewer, message_id: MessagePath) -> Response:
        return answer(view_told(await commands.view(message_id, operator)))

    @router.delete(
        "/api/commands/{message_id}",
        summary="Cancel it",
        response_model=CommandAnswer,
        responses=NOT_FOUND | STORES | told(409, "It is on its way, or has ended."),
    )
    async def cancel(operator: Commander, message_id: MessagePath) -> Response:
        return answer(command_told(await commands.cancel(message_id, operator)))

    @router.post(
        "/api/commands/{message_id}/requeue",
        summary="Let it go again",
        response_model=CommandAnswer,
        responses=NOT_FOUND | STORES | told(409, "It is under way, or has succeeded."),
    )
    async def requeue(operator: Commander, message_id: MessagePath) -> Response:
        return answer(command_told(await commands.requeue(message_id, operator)))

    return router


def _submit_one(desk: Desk, kind: CommandKind, shape: type[Terms]) -> Handler:
    commands = desk.commands

    async def submit(operator: Commander, device_id: DevicePath, body: Terms, idempotency_key: IdempotencyKey = None) -> Response:
        command = await commands.submit(request_of(kind, Target(device_id), body, idempotency_key), operator)
        return answer({"status": "queued", "message_id": command.message_id}, 202)

    async def submit_without_body(
        operator: Commander, device_id: DevicePath, body: Terms | None = None, idempotency_key: IdempotencyKey = None
    ) -> Response:
        return await submit(operator, device_id, shape() if body is None else body, idempotency_key)

    submit.__annotations__["body"] = shape  # what this kind's body is, for the framework
    submit_without_body.__annotations__["body"] = Annotated[shape | None, Body()]
    return submit_without_body if shape in NEED_NO_BODY else submit


async def _submit_all(desk: Desk, items: Sequence[BatchItem | WrongItem], operator: Operator, key: str | None) -> list[dict[str, Any]]:
    """One result for each item, in order. What one item lacks hinders no other. Raises KeyReused for other items under a known key."""
    requests: list[CommandRequest | GatewayError] = []
    call = b"" if key is None else digest_of(items)
    for number, item in enumerate(items):
        if isinstance(item, WrongItem):
            requests.append(item.error)
            continue
        try:
            requests.append(batch_request(item, None if key is None else _key_of_item(key, number), call))
        except GatewayError as error:
            requests.append(error)
        except ValidationError as error:
            requests.append(BadRequest(wrong_fields(error, "data"), "invalid_field"))
    good = [request for request in requests if isinstance(request, CommandRequest)]
    if key is not None:
        await desk.commands.check_key(key, good, operator)
    answers = iter(await desk.commands.submit_many(good, operator, key) if good else [])
    return [_result(request if isinstance(request, GatewayError) else next(answers)) for request in requests]


def _key_of_item(key: str, number: int) -> str:
    return f"{key}/{number}"


def _result(outcome: Command | FanOut | GatewayError) -> dict[str, Any]:
    if isinstance(outcome, GatewayError):
        return {"error": outcome.message, "code": outcome.reason}
    if isinstance(outcome, FanOut):
        told = [{"message_id": command.message_id, "device_id": command.device_id} for command in outcome.commands]
        return {"status": "queued", "commands": told}
    return {"status": "queued", "message_id": outcome.message_id}


async def _listed(
    desk: Desk, operator: Operator, asked: Asked, device_id: str | None, state: CommandState | None, kind: CommandKind | None
) -> Response:
    states = () if state is None else (state,)
    found = await desk.commands.search(
        operator, device_id=device_id, states=states, kind=kind, before=asked.position, limit=asked.limit + 1
    )
    shown = found[: asked.limit]
    return answer(page([command_told(command) for command in shown], shown[-1].id if len(found) > asked.limit else None))
