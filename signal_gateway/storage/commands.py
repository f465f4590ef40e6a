"""Commands on disk: kept in the order of acceptance, changed only by the rules of their life (DESIGN.md §7)."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Integer, Select, Text, and_, bindparam, cast, exists, func, insert, or_, select

from signal_gateway.domain.access import Scope, scope_of, scope_values
from signal_gateway.domain.command import ON_ITS_WAY, Command, CommandKind, CommandState, Step
from signal_gateway.storage.engine import write_json
from signal_gateway.storage.prepared import PreparedLookUp, PreparedWrite
from signal_gateway.storage.tables import command_steps, commands, devices

CANDIDATES_MAX = 200
"""Of the newest commands of a device, so many are looked through for the one that a report without an id may mean."""
STOPS_MAX = 10
"""Of those that wait for one device, more are read in their turn: any one of them does what all do."""

_COLUMNS = tuple(commands.c)
_NAMES = tuple(column.name for column in _COLUMNS)
_ALL = select(*_COLUMNS)
_INSERTS: dict[tuple[str, ...], PreparedWrite] = {}
_INSERT_STEPS = PreparedWrite(insert(command_steps).inline(), ("message_id", "at", "state", "attempt", "detail"))

# Built once: to make one of these costs as much as to run it.
_IS_QUEUED = (commands.c.final_at.is_(None), commands.c.state == CommandState.QUEUED.value)
_BY_ID = _ALL.where(commands.c.message_id == bindparam("message_id"))
_OF_FAN_OUT = _ALL.where(or_(commands.c.message_id == bindparam("message_id"), commands.c.fan_out_id == bindparam("message_id"))).order_by(
    commands.c.id
)
_ASKED = _ALL.where(or_(commands.c.message_id == bindparam("message_id"), commands.c.key_id == bindparam("key_id")))
_BY_IDS = PreparedLookUp(_ALL.with_for_update(), commands.c.message_id)
_DUE = (
    _ALL.where(
        *_IS_QUEUED,
        commands.c.expires_at > bindparam("now_ms"),
        or_(commands.c.not_before.is_(None), commands.c.not_before <= bindparam("now_ms")),
    )
    .order_by(commands.c.priority.desc(), commands.c.id)
    .limit(bindparam("page", type_=Integer))
)
_NEXT_DUE_AT = select(func.min(commands.c.not_before)).where(*_IS_QUEUED, commands.c.not_before > bindparam("now_ms"))
_ON_THEIR_WAY = _ALL.where(
    commands.c.device_id == bindparam("device"),
    commands.c.final_at.is_(None),
    commands.c.state.in_([state.value for state in ON_ITS_WAY]),
)  # in no order: SQLite would rather walk through all that the device ever had than put a few in order
_OVERDUE = (
    select(commands.c.message_id)
    .where(commands.c.deadline_at.is_not(None), commands.c.deadline_at <= bindparam("now_ms"))
    .order_by(commands.c.deadline_at)
    .limit(bindparam("page", type_=Integer))
)
_NEWEST_OF = _ALL.where(commands.c.device_id == bindparam("device")).order_by(commands.c.id.desc()).limit(CANDIDATES_MAX)


_NOT_DONE = (CommandState.QUEUED.value, *(state.value for state in ON_ITS_WAY))


def _of_both(query: Select[Any]) -> tuple[Select[Any], Select[Any]]:
    """The same for one device, named `device`, and for those that any phone may take."""
    return query.where(commands.c.device_id == bindparam("device")), query.where(commands.c.device_id.is_(None))


_DUE_OF_DEVICE, _DUE_OF_ANY = _of_both(_DUE)
_STOPS_DUE = _DUE_OF_DEVICE.where(commands.c.kind == CommandKind.ALARM_STOP.value)
_NEXT_DUE_AT_OF_DEVICE, _NEXT_DUE_AT_OF_ANY = _of_both(_NEXT_DUE_AT)


class Kept(NamedTuple):
    """What became of a new command."""

    command: Command
    """As it is kept: itself, or the one that has its id already."""
    is_new: bool


class KeptFanOut(NamedTuple):
    """What became of new commands that were asked for at once."""

    commands: tuple[Command, ...]
    """As they are kept: themselves, or those that the same request came to before."""
    is_new: bool


def keep(connection: Connection, new: Sequence[Command]) -> list[Kept]:
    """Write new commands: the work of a job of the batch writer. That it was queued is a command's first step, without a row of its own.

    One whose id is known is not written; the known one is returned instead. Of several jobs together any conflict fails them all, and the
    writer does them one by one.
    """
    if len(new) == 1 and (known := find(connection, new[0].message_id)) is not None:
        return [Kept(known, False)]
    _insert(connection, new)
    return [Kept(command, True) for command in new]


def keep_keyed(connection: Connection, new: Sequence[Command]) -> list[Kept]:
    """The same of commands that were asked for under an idempotency key: one under whose key something else is kept is not written either,
    and that is returned. Each is looked for by itself, since what is found under one key need not break any rule of the table."""
    kept: list[Kept] = []
    for command in new:
        known = find_asked(connection, command.message_id, command.key_id)
        if known is None:
            _insert(connection, [command])
        kept.append(Kept(known or command, known is None))
    return kept


def keep_fan_outs(connection: Connection, new: Sequence[tuple[Command, ...]]) -> list[KeptFanOut]:
    """The same of several commands at once, of which all are written or none. The first has the id of their request, so a command of
    whatever kind that has this id already is found, and finds it."""
    kept: list[KeptFanOut] = []
    for together in new:
        known = fan_out_of(connection, together[0].message_id)
        if not known:
            _insert(connection, together)
        kept.append(KeptFanOut(known or together, not known))
    return kept


def fan_out_of(connection: Connection, message_id: str) -> tuple[Command, ...]:
    """The commands that a request of this id came to, in their order; the one of this id if it stands alone."""
    return tuple(map(command_of, connection.execute(_OF_FAN_OUT, {"message_id": message_id})))


def _insert(connection: Connection, new: Sequence[Command]) -> None:
    """Those with the same columns in one statement. What is unknown yet, half of them, is left out: an empty column costs, too."""
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for command in new:
        values = {name: value for name, value in values_of(command).items() if value is not None}
        by_columns.setdefault(tuple(values), []).append(values)
    for names, rows in by_columns.items():
        insertion = _INSERTS.get(names)
        if insertion is None:  # one of few: each kind of command leaves the same columns empty
            insertion = _INSERTS[names] = PreparedWrite(insert(commands).inline(), names)
        insertion.run(connection, rows)


def values_of(command: Command) -> dict[str, Any]:
    """Every column of a command."""
    values: dict[str, Any] = {name: getattr(command, name) for name in _NAMES}
    values["kind"], values["state"] = command.kind.value, command.state.value
    values["scope"] = None if command.scope is None else scope_values(command.scope)
    return values


def command_of(row: Sequence[Any]) -> Command:
    """A command as it was kept."""
    values: dict[str, Any] = dict(zip(_NAMES, row, strict=True))
    values["kind"], values["state"] = CommandKind(values["kind"]), CommandState(values["state"])
    values["digest"] = bytes(values["digest"])
    values["scope"] = None if values["scope"] is None else scope_of(values["scope"])
    return Command(**values)


def find(connection: Connection, message_id: str) -> Command | None:
    """One command."""
    row = connection.execute(_BY_ID, {"message_id": message_id}).first()
    return None if row is None else command_of(row)


def find_asked(connection: Connection, message_id: str, key_id: str | None) -> Command | None:
    """The command of this id, else the one that was asked for under this key."""
    found = [command_of(row) for row in connection.execute(_ASKED, {"message_id": message_id, "key_id": key_id})]
    return next((command for command in found if command.message_id == message_id), found[0] if found else None)


def find_seen(connection: Connection, scope: Scope, message_id: str) -> Command | None:
    """One command, if it is of this part of the fleet."""
    row = connection.execute(_ALL.where(commands.c.message_id == message_id, *_seen_by(scope))).first()
    return None if row is None else command_of(row)


def find_many(connection: Connection, message_ids: Sequence[str]) -> dict[str, Command]:
    """These commands, locked until the transaction ends; those that are not there are left out."""
    rows = _BY_IDS.rows(connection, [(message_id,) for message_id in message_ids])
    return {command.message_id: command for command in map(command_of, rows)}


def asked_under(connection: Connection, key_id: str) -> dict[str, bytes]:
    """The digests of what was asked for under this key, by message_id."""
    query = select(commands.c.message_id, commands.c.digest).where(commands.c.key_id == key_id)
    return {message_id: bytes(digest) for message_id, digest in connection.execute(query)}


def steps_of(connection: Connection, message_id: str) -> list[Step]:
    """The timeline of a command, oldest first, without its beginning, which is `created_at`."""
    columns = command_steps.c
    query = select(columns.at, columns.state, columns.attempt, columns.detail).where(columns.message_id == message_id).order_by(columns.id)
    return [Step(at=row.at, state=CommandState(row.state), attempt=row.attempt, detail=row.detail) for row in connection.execute(query)]


def write_steps(connection: Connection, steps: Sequence[tuple[str, Step]]) -> None:
    """Add to timelines, each step to that of its `message_id`."""
    if steps:
        rows = [
            {"message_id": message_id, "at": step.at, "state": step.state.value, "attempt": step.attempt, "detail": step.detail}
            for message_id, step in steps
        ]
        _INSERT_STEPS.run(connection, rows)


def search(
    connection: Connection,
    scope: Scope,
    device_id: str | None,
    states: Sequence[CommandState],
    kind: CommandKind | None,
    before: int | None,
    limit: int,
) -> list[Command]:
    """Commands of this part of the fleet, newest first, of ids below `before`. No `states`: in any."""
    conditions: list[ColumnElement[bool]] = []
    if device_id is not None:
        conditions.append(commands.c.device_id == device_id)
    if states:
        # Of one device, by the index of its commands: SQLite would choose that of the states, which holds those of the whole fleet.
        state = commands.c.state if device_id is None else commands.c.state.op("||")("")
        conditions.append(state.in_([each.value for each in states]))
    if kind is not None:
        conditions.append(commands.c.kind == kind.value)
    if before is not None:
        conditions.append(commands.c.id < before)
    query = _ALL.where(*conditions, *_seen_by(scope)).order_by(commands.c.id.desc()).limit(limit)
    return [command_of(row) for row in connection.execute(query)]


def _seen_by(scope: Scope) -> list[ColumnElement[bool]]:
    """What a command must be: of a device of the scope, by the group that it is in now; before one was chosen, and after it is gone, of a
    group of the scope; or for whichever phone of this very scope."""
    if scope.is_whole_fleet:
        return []
    groups = sorted(scope.groups or ())
    device = exists().where(devices.c.device_id == commands.c.device_id)
    for_any = and_(commands.c.device_id.is_(None), commands.c.device_group.is_(None))
    return [
        or_(
            commands.c.device_id.in_(sorted(scope.devices or ())),
            device.where(devices.c.device_group.in_(groups)),
            and_(~device, commands.c.device_group.in_(groups)),
            and_(for_any, cast(commands.c.scope, Text) == write_json(scope_values(scope))),
        )
    ]


def due(connection: Connection, device_id: str | None, now_ms: int, limit: int) -> list[Command]:
    """What waits for this device, or, None, for any: those whose time has come, in the order in which they go out."""
    parameters = {"now_ms": now_ms, "page": limit, **({} if device_id is None else {"device": device_id})}
    query = _DUE_OF_ANY if device_id is None else _DUE_OF_DEVICE
    return [command_of(row) for row in connection.execute(query, parameters)]


def due_stops(connection: Connection, device_id: str, now_ms: int) -> list[Command]:
    """What of `alarm_stop` waits for a device and is due: it overtakes all else."""
    parameters = {"now_ms": now_ms, "page": STOPS_MAX, "device": device_id}
    return [command_of(row) for row in connection.execute(_STOPS_DUE, parameters)]


def next_due_at(connection: Connection, device_id: str | None, now_ms: int) -> int | None:
    """When the next one comes whose time has not come yet."""
    if device_id is None:
        return connection.scalar(_NEXT_DUE_AT_OF_ANY, {"now_ms": now_ms})
    return connection.scalar(_NEXT_DUE_AT_OF_DEVICE, {"now_ms": now_ms, "device": device_id})


def on_their_way(connection: Connection, device_id: str) -> list[Command]:
    """What this device was sent and has not answered, oldest first."""
    found = [command_of(row) for row in connection.execute(_ON_THEIR_WAY, {"device": device_id})]
    return sorted(found, key=lambda command: command.id)


def open_ids(connection: Connection, device_id: str, limit: int, created_until: int | None = None) -> list[str]:
    """The ids of what waits for a device, due or not, or is on its way to it; of all, or of what is no newer than `created_until`."""
    query = select(commands.c.message_id).where(
        commands.c.device_id == device_id, commands.c.final_at.is_(None), commands.c.state.in_(_NOT_DONE)
    )
    if created_until is not None:
        query = query.where(commands.c.created_at <= created_until)
    return list(connection.scalars(query.limit(limit)))


def open_before(connection: Connection, command: Command, kind: CommandKind) -> list[Command]:
    """What of this kind was accepted for the same device before a command, and is in no final state."""
    query = _ALL.where(commands.c.device_id == command.device_id, commands.c.id < command.id, commands.c.final_at.is_(None))
    return [command_of(row) for row in connection.execute(query.where(commands.c.kind == kind.value).order_by(commands.c.id))]


def overdue(connection: Connection, now_ms: int, limit: int) -> list[str]:
    """The ids of commands whose deadline has passed, oldest deadline first."""
    return list(connection.scalars(_OVERDUE, {"now_ms": now_ms, "page": limit}))


def newest_of(connection: Connection, device_id: str, kinds: Iterable[CommandKind]) -> list[Command]:
    """The newest commands of a device that a report might mean, oldest first."""
    wanted = frozenset(kinds)
    newest = map(command_of, connection.execute(_NEWEST_OF, {"device": device_id}))
    return [command for command in newest if command.kind in wanted][::-1]


def count_open(connection: Connection) -> dict[str | None, int]:
    """How many commands of each device are not in a final state; under None, those whose phone is still to be chosen."""
    query = select(commands.c.device_id, func.count()).where(commands.c.final_at.is_(None)).group_by(commands.c.device_id)
    return {row[0]: row[1] for row in connection.execute(query)}


def newest_id(connection: Connection) -> int:
    """The highest id that was ever given."""
    return connection.scalar(select(func.max(commands.c.id))) or 0
