"""What each SIM has used of its limits, on disk, so that no restart and no second node gives it more (T-43, H29)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select, update

from signal_gateway.domain.sim_limits import SimUsage
from signal_gateway.storage.prepared import PreparedLookUp
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
    return [_note_seen(connection, each) for each in seen]


def switch(connection: Connection, switches: Sequence[Switch]) -> list[SimUsage]:
    """The work of a job: switch SIMs off or on. Each as it is afterwards."""
    return [_switch(connection, each) for each in switches]


def _note_seen(connection: Connection, seen: Seen) -> bool:
    here = (sims.c.device_id == seen.key[0]) & (sims.c.slot == seen.key[1])
    row = connection.execute(select(sims.c.subscriber).where(here)).first()
    if row is None:
        keep(connection, {seen.key: SimUsage()})
    known: Mapping[str, str] = (row.subscriber if row is not None else None) or {}
    if all(known.get(name) == digest for name, digest in seen.ids.items()):
        return False
    connection.execute(update(sims).where(here).values(subscriber={**known, **seen.ids}))
    return any(name in known and known[name] != digest for name, digest in seen.ids.items())


def _switch(connection: Connection, asked: Switch) -> SimUsage:
    usage = find_many(connection, [asked.key]).get(asked.key) or SimUsage()
    usage = msgspec.structs.replace(usage, disabled_reason=asked.reason)
    keep(connection, {asked.key: usage})
    return usage
