"""Commands as their operators see them: accepted when they are on disk, read, cancelled, requeued (CONTRACT.md §5, §6)."""

import hmac
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
import trio

from signal_gateway.domain.access import Operator
from signal_gateway.domain.command import Command, CommandKind, CommandRequest, CommandState, CommandView, Step, Wait
from signal_gateway.domain.command_rules import Cancelled, CommandEvent, Requeued
from signal_gateway.domain.errors import (
    CommandNotFound,
    DatabaseDown,
    DeviceNotFound,
    GatewayError,
    IdTaken,
    InvalidCommand,
    KeyReused,
    QueueFull,
    TooLate,
)
from signal_gateway.domain.ids import uuid_v4
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.command_checks import Checked, CommandChecks
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.services.device_directory import DeviceDirectory
from signal_gateway.services.dispatcher import Dispatcher
from signal_gateway.storage import commands as kept
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.commands import Kept
from signal_gateway.storage.database import Database

NEEDS_DEVICE = frozenset({CommandKind.USSD_REPLY, CommandKind.FIND_DEVICE, CommandKind.ALARM_START, CommandKind.ALARM_STOP})
"""What means nothing without the one device that it is for."""
ID_BITS_OF_COUNTER = 20


class CommandIds:
    """Ids in the order in which they are made: milliseconds since 1970 above, a counter below. `floor` is the highest given before."""

    def __init__(self, wall_ms: Callable[[], int], floor: int = 0) -> None:
        self._wall_ms = wall_ms
        self.newest = floor

    def next(self) -> int:
        """The next id, above all that were given, whatever the wall clock does."""
        self.newest = max(self.newest + 1, self._wall_ms() << ID_BITS_OF_COUNTER)
        return self.newest


class _Keeping:
    """A command that was given to the writer. `settled` hears of it as soon as it is on disk, whoever still waits."""

    __slots__ = ("_came", "_is_there", "_settled", "command", "request")

    def __init__(self, request: CommandRequest, command: Command, settled: Callable[[Kept], None]) -> None:
        self.request = request
        self.command = command
        self._settled = settled
        self._came: Kept | Exception | None = None
        self._is_there = trio.Event()

    def done(self, came: Kept | Exception) -> None:
        """The writer has an answer; after a commit of unknown outcome it may have another one later."""
        if self._came is None:
            self._came = came
            self._is_there.set()
        if isinstance(came, Kept):
            self._settled(came)

    async def result(self) -> Kept:
        """What the writer answered. Raises DatabaseDown, DiskFull."""
        await self._is_there.wait()
        assert self._came is not None  # noqa: S101 - set before the event
        if isinstance(self._came, Exception):
            raise self._came
        return self._came


class Commands:
    """Takes commands in and tells of them. Sending them is the dispatcher's."""

    def __init__(
        self,
        database: Database,
        writer: BatchWriter,
        directory: DeviceDirectory,
        dispatcher: Dispatcher,
        settings: CommandsSettings,
        metrics: Metrics,
        pepper: bytes,
        wall_ms: Callable[[], int],
        new_uuid: Callable[[], UUID],
    ) -> None:
        self._database = database
        self._writer = writer
        self._directory = directory
        self._dispatcher = dispatcher
        self._settings = settings
        self._checks = CommandChecks(settings)
        self._pepper = pepper
        self._wall_ms = wall_ms
        self._new_uuid = new_uuid
        self._ids = CommandIds(wall_ms)
        self._limits = metrics.limits
        self._accepted = metrics.counter("commands_accepted_total", "Commands that are on disk and were answered 202.", ("kind",))
        self._refused = metrics.counter("commands_refused_total", "Commands that were refused, by reason.", ("reason",))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Go on with ids where the last run ended; there is nothing to do afterwards. Ready when new commands may come."""
        self._ids.newest = max(self._ids.newest, await self._database.read(kept.newest_id))
        task_status.started()

    # taken in

    async def submit(self, request: CommandRequest, operator: Operator) -> Command:
        """Accept a command: it is on disk when this returns. The same id or key again is the same command.

        Raises InvalidCommand, DeviceNotFound, IdTaken, KeyReused, QueueFull, DatabaseDown, DiskFull.
        """
        return await self._kept(await self._begin(request, operator))

    async def submit_many(self, requests: Sequence[CommandRequest], operator: Operator) -> list[Command | GatewayError]:
        """Each by itself, in this order: what one is refused for hinders no other."""
        begun: list[_Keeping | GatewayError] = []
        for request in requests:
            try:
                begun.append(await self._begin(request, operator))
            except GatewayError as error:
                begun.append(error)
        results: list[Command | GatewayError] = []
        for each in begun:
            try:
                results.append(await self._kept(each) if isinstance(each, _Keeping) else each)
            except GatewayError as error:
                results.append(error)
        return results

    async def _begin(self, request: CommandRequest, operator: Operator) -> "_Keeping":
        """Look a request through, and give it to the writer."""
        try:
            keeping = _Keeping(request, await self._draft(request, operator), self._settled)
            if not self._writer.post(kept.keep, keeping.command, keeping.done, lasts=False):
                raise DatabaseDown
        except GatewayError as error:
            self._refused.add(error.reason)
            raise
        return keeping

    async def _kept(self, keeping: "_Keeping") -> Command:
        """Once it is on disk. Who is cancelled stops waiting; the command is kept all the same."""
        try:
            known = await keeping.result()
            if not known.is_new:
                _check_is_the_same(known.command, keeping.command, keeping.request)
        except GatewayError as error:
            self._refused.add(error.reason)
            raise
        return known.command

    def _settled(self, came: Kept) -> None:
        if came.is_new:
            self._accepted.add(came.command.kind.value)
            self._dispatcher.offer(came.command)

    async def _draft(self, request: CommandRequest, operator: Operator) -> Command:
        checked = self._checks.check(request)
        target, now = request.target, self._wall_ms()
        group = target.device_group
        if target.device_id is not None:
            device = await self._directory.find(target.device_id)
            if device is None or not operator.scope.allows(device.device_id, device.device_group):
                raise DeviceNotFound
            group = device.device_group
        elif request.kind in NEEDS_DEVICE:
            raise InvalidCommand("device_needed", f"{request.kind.value} is for one device: name it", "to")
        elif group is not None and not operator.scope.allows_group(group):
            raise DeviceNotFound("Group not found")
        if self._dispatcher.open.total >= self._settings.open_max:
            self._limits.add("commands.open_max")
            raise QueueFull
        sim_slot = request.sim_slot
        if request.kind is CommandKind.USSD_REPLY and sim_slot is None:
            sim_slot = await self._sim_of_session(target.device_id or "", checked.session_id)
        expires_at = now + round(1000 * (request.ttl_s or self._settings.ttl_s))
        if request.not_before is not None and request.not_before >= expires_at:
            raise InvalidCommand("invalid_not_before", "not_before must be before the command expires", "not_before")
        message_id = request.message_id or self._id_of(request, operator)
        scope = None if target.device_id is not None or operator.scope.is_whole_fleet else operator.scope
        return Command(
            id=self._ids.next(),
            message_id=message_id,
            kind=request.kind,
            state=CommandState.QUEUED,
            device_id=target.device_id,
            device_group=group,
            scope=scope,
            sim_slot=sim_slot,
            any_device=target.device_id is None,
            any_sim=sim_slot is None,
            priority=request.priority,
            phone_number=checked.phone_number,
            session_id=_session_id(request.kind, checked, message_id),
            data=_told(request.kind, checked, message_id),
            segments=checked.segments,
            delivery_report=request.delivery_report,
            retry_safe=request.retry_safe,
            attempts=0,
            attempts_before=0,
            not_before=request.not_before,
            expires_at=expires_at,
            deadline_at=expires_at,
            digest=_digest(request),
            created_by=operator.subject,
            created_at=now,
        )

    def _id_of(self, request: CommandRequest, operator: Operator) -> str:
        """A fresh id; under an Idempotency-Key the one that this operator's key always gives, so that a second use finds the first."""
        if request.idempotency_key is None:
            return str(_ordered(self._new_uuid(), self._wall_ms()))
        text = f"{operator.subject}\0{request.idempotency_key}".encode("utf-8", "surrogatepass")
        return str(uuid_v4(hmac.digest(self._pepper, text, sha256)[:16]))

    async def _sim_of_session(self, device_id: str, session_id: str | None) -> int:
        """The SIM on which a USSD session was opened."""
        kinds = (CommandKind.SEND_USSD,)
        for command in reversed(await self._database.read(lambda connection: kept.newest_of(connection, device_id, kinds))):
            said = (command.result or {}).get("session_id")
            if session_id in (command.session_id, said) and command.sim_slot is not None:
                return command.sim_slot
        raise InvalidCommand("unknown_session", "no USSD session of this id is known: name the sim_slot", "session_id")

    # told of

    async def view(self, message_id: str, operator: Operator) -> CommandView:
        """A command with its timeline, and why it waits. Raises CommandNotFound, DatabaseDown."""
        command = await self._visible(message_id, operator)
        steps = await self._database.read(lambda connection: kept.steps_of(connection, message_id))
        begun = Step(at=command.created_at, state=CommandState.QUEUED, attempt=1)
        return CommandView(command=command, timeline=(begun, *steps), waits=self.wait_of(command))

    def wait_of(self, command: Command) -> Wait | None:
        """Why a queued command is not on its way; None for one that is."""
        return self._dispatcher.wait_of(command) if command.state is CommandState.QUEUED else None

    async def search(
        self,
        operator: Operator,
        *,
        device_id: str | None = None,
        states: Sequence[CommandState] = (),
        kind: CommandKind | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Command]:
        """Commands that this operator may see, newest first, of ids below `before`. Raises DatabaseDown."""
        return await self._database.read(lambda connection: kept.search(connection, operator.scope, device_id, states, kind, before, limit))

    # changed

    async def cancel(self, message_id: str, operator: Operator) -> Command:
        """Take it back, while it has not been sent to a device. Raises CommandNotFound, TooLate, DatabaseDown."""
        await self._visible(message_id, operator)
        return await self._change(Cancelled(message_id, operator.subject, self._wall_ms()), "it is {state} already and cannot be cancelled")

    async def requeue(self, message_id: str, operator: Operator) -> Command:
        """Try what ended badly again. Raises CommandNotFound, TooLate, DatabaseDown."""
        await self._visible(message_id, operator)
        return await self._change(
            Requeued(message_id, operator.subject, self._wall_ms()), "it is {state}: only what ended badly is requeued"
        )

    async def _change(self, event: CommandEvent, refusal: str) -> Command:
        applied = await self._dispatcher.change(event)
        if applied.before is None:
            raise CommandNotFound
        if applied.change is None:
            raise TooLate(refusal.format(state=applied.before.state.value))
        return applied.change.command

    async def _visible(self, message_id: str, operator: Operator) -> Command:
        command = await self._database.read(partial(kept.find, message_id=message_id))
        if command is None or not await self._sees(operator, command):
            raise CommandNotFound
        return command

    async def _sees(self, operator: Operator, command: Command) -> bool:
        if operator.scope.is_whole_fleet:
            return True
        if command.device_id is None:
            return command.device_group is not None and operator.scope.allows_group(command.device_group)
        device = await self._directory.find(command.device_id)
        return operator.scope.allows(command.device_id, device.device_group if device else command.device_group)


def _ordered(uuid: UUID, now_ms: int) -> UUID:
    """The same version 4 UUID with the time in its first 48 bits: keys that grow are written side by side, random ones all over the index.

    The 74 bits behind them stay random.
    """
    return UUID(bytes=now_ms.to_bytes(6, "big") + uuid.bytes[6:])


def _check_is_the_same(known: Command, asked: Command, request: CommandRequest) -> None:
    if known.digest == asked.digest:
        return
    raise KeyReused if request.message_id is None else IdTaken


def _digest(request: CommandRequest) -> bytes:
    """Of what is asked for, whatever it is called: SHA-256."""
    asked = msgspec.structs.replace(request, message_id=None, idempotency_key=None)
    return sha256(msgspec.json.encode(asked, order="sorted")).digest()


def _session_id(kind: CommandKind, checked: Checked, message_id: str) -> str | None:
    """A session that is to stay open needs a name for the reply; one that its sender did not name has the command's own."""
    if kind is CommandKind.SEND_USSD and checked.session_id is None and not checked.data["auto_cancel"]:
        return message_id
    return checked.session_id


def _told(kind: CommandKind, checked: Checked, message_id: str) -> Any:
    if kind is CommandKind.SEND_USSD:
        return {**checked.data, "session_id": _session_id(kind, checked, message_id)}
    return checked.data
