"""What each SIM has used of its limits, on disk, so that no restart and no second node gives it more (T-43, H29)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from signal_gateway.domain.sim_limits import SimUsage
from signal_gateway.storage.prepared import PreparedLookUp, PreparedWrite
from signal_gateway.storage.rows import Upsert
from signal_gateway.storage.statements import Shape, prepared_of
from signal_gateway.storage.tables import sim_recipients, sims

SimKey = tuple[str, int]
"""Device id and slot."""

_NAMES = (
    "day",
    "day_used",
    "month",
    "month_used",
    "recipients",
    "last_sent_at",
    "balance",
    "balance_at",
    "parked_until",
    "parked_reason",
    "failures",
    "disabled_reason",
)
_USAGE = select(sims.c.device_id, sims.c.slot, *(sims.c[name] for name in _NAMES))
_OF_DEVICE = _USAGE.where(sims.c.device_id == bindparam("device"))
_OF_KEYS = PreparedLookUp(_USAGE.with_for_update(), sims.c.device_id, sims.c.slot)
_KEEP = Shape(Upsert, sims, ("device_id", "slot"), tuple(sorted(("device_id", "slot", *_NAMES))))
_SUBSCRIBERS = PreparedLookUp(select(*(sims.c[name] for name in ("device_id", "slot", "subscriber"))), sims.c.device_id, sims.c.slot)
_SET_SUBSCRIBER = PreparedWrite(
    update(sims).where(sims.c.device_id == bindparam("key_device"), sims.c.slot == bindparam("key_slot")), ("subscriber",)
)


def find_of(connection: Connection, device_id: str) -> dict[int, SimUsage]:
    """What the SIMs of a device have used, by slot. One that has never been used is not there."""
    return {row.slot: _usage_of(row) for row in connection.execute(_OF_DEVICE, {"device": device_id})}


def find_many(connection: Connection, keys: Iterable[SimKey]) -> dict[SimKey, SimUsage]:
    """The same of these SIMs, locked until the transaction ends."""
    return {(row[0], row[1]): _usage_of(row) for row in _OF_KEYS.rows(connection, sorted(set(keys)))}


def keep(connection: Connection, usages: Mapping[SimKey, SimUsage]) -> None:
    """Write what they have used by now."""
    if not usages:
        return
    rows: list[dict[str, Any]] = [
        {"device_id": device_id, "slot": slot, **{name: getattr(usage, name) for name in _NAMES}}
        for (device_id, slot), usage in usages.items()
    ]
    prepared_of(connection.dialect.name, _KEEP).run(connection, rows)


def knows_recipient(connection: Connection, key: SimKey, month: str, phone_number: str) -> bool:
    """Whether this SIM has sent to this number this month."""
    return connection.execute(select(sim_recipients.c.slot).where(*_is_recipient(key, month, phone_number))).first() is not None


def add_recipient(connection: Connection, key: SimKey, month: str, phone_number: str) -> None:
    """It sends to this number for the first time this month."""
    connection.execute(insert(sim_recipients).values(device_id=key[0], slot=key[1], month=month, phone_number=phone_number))


def forget_recipient(connection: Connection, key: SimKey, month: str, phone_number: str) -> bool:
    """It did not send to this number after all. False: it is not known that it did."""
    return connection.execute(delete(sim_recipients).where(*_is_recipient(key, month, phone_number))).rowcount == 1


def _is_recipient(key: SimKey, month: str, phone_number: str) -> tuple[Any, ...]:
    columns = sim_recipients.c
    return columns.device_id == key[0], columns.slot == key[1], columns.month == month, columns.phone_number == phone_number


def _usage_of(row: Sequence[Any]) -> SimUsage:
    return SimUsage(**dict(zip(_NAMES, row[2:], strict=True)))


@dataclass(frozen=True, slots=True)
class Seen:
    """Which subscriber and which phone a SIM said it is: digests of IMSI, ICCID and IMEI, as far as it says so."""

    key: SimKey
    ids: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Switch:
    """A SIM is not to be used, for this reason; None: it may be used again."""

    key: SimKey
    reason: str | None


def note_seen(connection: Connection, seen: Sequence[Seen]) -> list[bool]:
    """The work of a job: keep what SIMs said of themselves. True where that is another SIM, or another phone, than before."""
    keys = sorted({each.key for each in seen})
    known: dict[SimKey, Mapping[str, str]] = {
        (device_id, slot): subscriber or {} for device_id, slot, subscriber in _SUBSCRIBERS.rows(connection, keys)
    }
    keep(connection, {key: SimUsage() for key in keys if key not in known})
    changed: dict[SimKey, Mapping[str, str]] = {}
    are_others: list[bool] = []
    for each in seen:
        before = known.get(each.key) or {}
        after = {**before, **each.ids}
        are_others.append(any(after[name] != digest for name, digest in before.items()))
        if after != before:
            known[each.key] = changed[each.key] = after
    _SET_SUBSCRIBER.run(connection, [{"key_device": key[0], "key_slot": key[1], "subscriber": ids} for key, ids in changed.items()])
    return are_others


def switch(connection: Connection, switches: Sequence[Switch]) -> list[SimUsage]:
    """The work of a job: switch SIMs off or on. Each as it is afterwards."""
    return [_switch(connection, each) for each in switches]


def _switch(connection: Connection, asked: Switch) -> SimUsage:
    usage = find_many(connection, [asked.key]).get(asked.key) or SimUsage()
    usage = msgspec.structs.replace(usage, disabled_reason=asked.reason)
    keep(connection, {asked.key: usage})
    return usage
