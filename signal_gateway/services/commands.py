"""Commands as their operators see them: accepted when they are on disk, read, cancelled, requeued (CONTRACT.md §5, §6)."""

import hmac
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

import msgspec
import trio

from signal_gateway.domain.access import Operator
from signal_gateway.domain.command import (
    FOR_EACH,
    Command,
    CommandKind,
    CommandRequest,
    CommandState,
    CommandView,
    FanOut,
    Step,
    Wait,
)
from signal_gateway.domain.command_answers import USSD_KINDS
from signal_gateway.domain.command_rules import Cancelled, CommandEvent, Requeued
from signal_gateway.domain.errors import (
    CommandNotFound,
    DatabaseDown,
    DeviceNotFound,
    GatewayError,
    InvalidCommand,
    KeyReused,
    QueueFull,
    SessionNotOpen,
    TooLate,
)
from signal_gateway.domain.ids import uuid_v4
from signal_gateway.domain.ussd_sessions import sim_of_session
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.command_checks import Checked, CommandChecks
from signal_gateway.services.command_keeping import FAN_OUT_TOO_LARGE, CommandIds, Keeping, check_fits, check_is_the_same, digest, within
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.services.device_directory import DeviceDirectory
from signal_gateway.services.dispatcher import Dispatcher
from signal_gateway.storage import commands as kept
from signal_gateway.storage import fleet
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.commands import Kept, KeptFanOut
from signal_gateway.storage.database import Database

NEEDS_DEVICE = FOR_EACH | {CommandKind.USSD_REPLY}
"""What means nothing where any phone may take it."""


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
        new_id: Callable[[], str],
    ) -> None:
        self._database = database
        self._writer = writer
        self._directory = directory
        self._dispatcher = dispatcher
        self._settings = settings
        self._checks = CommandChecks(settings)
        self._pepper = pepper
        self._wall_ms = wall_ms
        self._new_id = new_id
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
        result = await self._kept(await self._begin(self._keeping(request, operator, request.idempotency_key), operator), operator)
        assert isinstance(result, Command)  # noqa: S101 - nothing else was begun
        return result

    async def submit_many(
        self, requests: Sequence[CommandRequest], operator: Operator, key: str | None = None
    ) -> list[Command | FanOut | GatewayError]:
        """Each by itself, in this order: what one is refused for hinders no other. `key` stands for all of them: see `check_key`.

        One of FOR_EACH to a group is a command for every phone of the group that the operator may command: all of them are kept or none.
        Together they are at most `commands.fan_out_max`.
        """
        begun: list[Keeping | GatewayError] = []
        room = self._settings.fan_out_max
        for request in requests:
            asked = self._keeping(request, operator, key)
            try:
                if request.kind in FOR_EACH and request.target.device_group is not None:
                    keeping, taken = await self._begin_fan_out(asked, operator, room)
                    room -= taken
                else:
                    keeping = await self._begin(asked, operator)
                begun.append(keeping)
            except GatewayError as error:
                begun.append(error)
        results: list[Command | FanOut | GatewayError] = []
        for each in begun:
            try:
                results.append(await self._kept(each, operator) if isinstance(each, Keeping) else each)
            except GatewayError as error:
                results.append(error)
        return results

    async def check_key(self, key: str, requests: Sequence[CommandRequest], operator: Operator) -> None:
        """Whether all that is known under this key is what one of `requests` asks for. Raises KeyReused, DatabaseDown."""
        asked = {self._id_of(request, operator): digest(request) for request in requests}
        key_id = self._id_under(key, operator)
        known = await self._database.read(lambda connection: kept.asked_under(connection, key_id))
        if any(asked.get(message_id) != each for message_id, each in known.items()):
            self._refused.add(KeyReused.reason)
            raise KeyReused

    def _keeping(self, request: CommandRequest, operator: Operator, key: str | None) -> Keeping:
        key_id = None if key is None else self._id_under(key, operator)
        return Keeping(request, self._id_of(request, operator), key_id, key == request.idempotency_key, self._settled)

    async def _begin(self, keeping: Keeping, operator: Operator) -> Keeping:
        """Look a request through, and give it to the writer."""
        request = keeping.request
        try:
            try:
                draft = await self._draft(keeping, operator)
            except (DeviceNotFound, SessionNotOpen):  # perhaps since: what was accepted before then still was
                if request.message_id is None and request.idempotency_key is None:
                    raise
                find = partial(kept.find_asked, message_id=keeping.message_id, key_id=keeping.own_key_id)
                known = await self._database.read(find)
                if known is None or known.created_by != operator.subject:
                    raise
                keeping.done(Kept(known, False))
                return keeping
            keep = kept.keep if keeping.own_key_id is None else kept.keep_keyed
            if not self._writer.post(keep, draft, keeping.done, lasts=False, makes=True):
                raise DatabaseDown
            self._dispatcher.expect(draft)
        except GatewayError as error:
            self._refused.add(error.reason)
            raise
        return keeping

    async def _begin_fan_out(self, keeping: Keeping, operator: Operator, room: int) -> tuple[Keeping, int]:
        """The same of one for every phone of a group. Also returns how many commands that is.

        What the same request came to before is looked up first: it stands, whoever is in the group by now. The writer looks again, for
        the same request may be under way.
        """
        request, message_id = keeping.request, keeping.message_id
        try:
            checked = self._checks.check(request)
            if known := await self._database.read(partial(kept.fan_out_of, message_id=message_id)):
                check_fits(len(known), room)
                keeping.done(KeptFanOut(known, False))
                return keeping, len(known)
            group = request.target.device_group or ""
            phones = await self._database.read(lambda connection: fleet.find_phones(connection, operator.scope, group, room + 1))
            check_fits(len(phones), room)
            self._check_is_room(len(phones))
            first = self._made(keeping, operator, checked, group, None)
            together = [msgspec.structs.replace(first, device_id=phones[0], any_device=False, scope=None, fan_out_id=message_id)]
            for device_id in phones[1:]:
                own_id = self._new_id()
                together.append(
                    msgspec.structs.replace(together[0], id=self._ids.next(), message_id=own_id, device_id=device_id, key_id=None)
                )
            if not self._writer.post(kept.keep_fan_outs, tuple(together), keeping.done, lasts=False, makes=True):
                raise DatabaseDown
        except GatewayError as error:
            if error.reason == FAN_OUT_TOO_LARGE:
                self._limits.add("commands.fan_out_max")
            self._refused.add(error.reason)
            raise
        return keeping, len(together)

    async def _kept(self, keeping: Keeping, operator: Operator) -> Command | FanOut:
        """Once it is on disk. Who is cancelled stops waiting; what was begun is kept all the same."""
        try:
            known = await keeping.result()
            commands = known.commands if isinstance(known, KeptFanOut) else (known.command,)
            if not known.is_new:
                check_is_the_same(commands, keeping)
            if isinstance(known, KeptFanOut):
                return FanOut(within(operator, commands))
        except GatewayError as error:
            self._refused.add(error.reason)
            raise
        return known.command

    def _settled(self, came: Kept | KeptFanOut) -> None:
        if came.is_new:
            for command in came.commands if isinstance(came, KeptFanOut) else (came.command,):
                self._accepted.add(command.kind.value)
                self._dispatcher.offer(command)

    def _check_is_room(self, more: int) -> None:
        if self._dispatcher.open.total + more > self._settings.open_max:
            self._limits.add("commands.open_max")
            raise QueueFull

    async def _draft(self, keeping: Keeping, operator: Operator) -> Command:
        request = keeping.request
        checked, target = self._checks.check(request), request.target
        group = target.device_group
        if target.device_id is not None:
            device = await self._directory.find(target.device_id)
            if device is None or not operator.scope.allows(device.device_id, device.device_group):
                raise DeviceNotFound
            group = device.device_group
        elif request.kind in NEEDS_DEVICE:
            whom = "one device, or each of a group" if request.kind in FOR_EACH else "one device"
            raise InvalidCommand("device_needed", f"{request.kind.value} is for {whom}: name it", "to")
        elif group is not None and not operator.scope.allows_group(group):
            raise DeviceNotFound("Group not found")
        self._check_is_room(1)
        sim_slot = request.sim_slot
        if request.kind is CommandKind.USSD_REPLY:
            sim_slot = await self._sim_of_session(target.device_id or "", checked.session_id, sim_slot)
        return self._made(keeping, operator, checked, group, sim_slot)

    def _made(self, keeping: Keeping, operator: Operator, checked: Checked, group: str | None, sim_slot: int | None) -> Command:
        request, message_id = keeping.request, keeping.message_id
        target, now = request.target, self._wall_ms()
        expires_at = now + round(1000 * (request.ttl_s or self._settings.ttl_s))
        if request.not_before is not None and request.not_before >= expires_at:
            raise InvalidCommand("invalid_not_before", "not_before must be before the command expires", "not_before")
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
            digest=digest(request),
            created_by=operator.subject,
            created_at=now,
            key_id=keeping.key_id,
        )

    def _id_of(self, request: CommandRequest, operator: Operator) -> str:
        """The caller's own; else a fresh one; under an Idempotency-Key the one that this operator's key always gives, so that a second
        use finds the first."""
        if request.message_id is not None:
            return request.message_id
        if request.idempotency_key is None:
            return self._new_id()
        return self._id_under(request.idempotency_key, operator)

    def _id_under(self, key: str, operator: Operator) -> str:
        text = f"{operator.subject}\0{key}".encode("utf-8", "surrogatepass")
        return str(uuid_v4(hmac.digest(self._pepper, text, sha256)[:16]))

    async def _sim_of_session(self, device_id: str, session_id: str | None, sim_slot: int | None) -> int:
        """The SIM on which a USSD session was opened, which may be named. Raises InvalidCommand where it is not open."""
        newest = await self._database.read(lambda connection: kept.newest_of(connection, device_id, USSD_KINDS))
        return sim_of_session(reversed(newest), session_id, sim_slot)

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
        command = await self._database.read(lambda connection: kept.find_seen(connection, operator.scope, message_id))
        if command is None:
            raise CommandNotFound
        return command


def _session_id(kind: CommandKind, checked: Checked, message_id: str) -> str | None:
    """A session that is to stay open needs a name for the reply; one that its sender did not name has the command's own."""
    if kind is CommandKind.SEND_USSD and checked.session_id is None and not checked.data["auto_cancel"]:
        return message_id
    return checked.session_id


def _told(kind: CommandKind, checked: Checked, message_id: str) -> Any:
    if kind is CommandKind.SEND_USSD:
        return {**checked.data, "session_id": _session_id(kind, checked, message_id)}
    return checked.data
