"""What is made out once says the same as what SQLAlchemy would send each time, to each of our databases."""

from typing import Any

import pytest
from sqlalchemy import bindparam, func, insert, select

from signal_gateway.domain.sim_limits import SimUsage
from signal_gateway.storage import commands as kept
from signal_gateway.storage import sims
from signal_gateway.storage.database import Database, InlineDatabase
from signal_gateway.storage.prepared import KEYS_AT_ONCE, PreparedQuery, PreparedWrite
from signal_gateway.storage.rows import Upsert
from signal_gateway.storage.statements import Shape, prepared_of
from signal_gateway.storage.tables import device_status, devices
from tests.domain.commands_made import command

NAMES = ("device_id", "kind", "created_at", "updated_at", "info", "settings")
ROWS: list[dict[str, Any]] = [
    {"device_id": "a", "kind": "phone", "created_at": 1, "updated_at": 2, "info": {"é": [1, None, True]}, "settings": None},
    {"device_id": "b", "kind": "agent", "created_at": 2**40, "updated_at": 3, "info": None, "settings": {"sim1_guard_interval": 3}},
]


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_a_prepared_write_keeps_what_sqlalchemy_would_keep(database: Database, count: int):
    plain = [{**row, "device_id": row["device_id"] + "-plain"} for row in ROWS[:count]]
    prepared = PreparedWrite(insert(devices).inline(), NAMES)
    await database.write(lambda connection: prepared.run(connection, ROWS[:count]))
    for row in plain:
        await database.write(lambda connection, row=row: connection.execute(insert(devices), [row]))
    rows = await database.read(lambda connection: connection.execute(select(devices)).mappings().all())
    found = {row["device_id"]: {name: value for name, value in row.items() if name not in ("id", "device_id")} for row in rows}
    assert len(found) == 2 * count
    for row in ROWS[:count]:
        assert found[row["device_id"]] == found[row["device_id"] + "-plain"]
        assert found[row["device_id"]]["settings_version"] == 1  # the default of a column that nobody named


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 21, 256, 600])
async def test_however_many_rows_are_written_each_is_kept_once_and_in_their_order(database: Database, count: int):
    rows = [{"device_id": f"d{number:04}", "kind": "phone", "created_at": number, "updated_at": 2, "info": None} for number in range(count)]
    prepared = PreparedWrite(insert(devices).inline(), list(rows[0]))
    await database.write(lambda connection: prepared.run(connection, rows))
    query = select(devices.c.device_id, devices.c.created_at, devices.c.settings_version).order_by(devices.c.created_at)
    kept = await database.read(lambda connection: connection.execute(query).all())
    assert [tuple(row) for row in kept] == [(row["device_id"], row["created_at"], 1) for row in rows]


@pytest.mark.parametrize("count", [2, 5, 300])
async def test_of_several_upserts_of_one_key_in_one_statement_the_last_holds(inline: InlineDatabase, count: int):
    """PostgreSQL refuses that; the writer merges them before, and rows of several kinds of key may still meet."""
    shape = Shape(Upsert, device_status, ("device_id",), ("battery_level", "device_id", "linked", "updated_at"))
    rows = [{"device_id": f"d{number % 2}", "linked": True, "updated_at": number, "battery_level": number % 100} for number in range(count)]
    made = [{"device_id": name, "kind": "phone", "created_at": 1, "updated_at": 1} for name in ("d0", "d1")]
    await inline.write(lambda connection: connection.execute(insert(devices), made))
    await inline.write(lambda connection: prepared_of("sqlite", shape).run(connection, rows))
    query = select(device_status.c.device_id, device_status.c.updated_at)
    kept = await inline.read(lambda connection: connection.execute(query).all())
    assert sorted(tuple(row) for row in kept) == sorted({row["device_id"]: (row["device_id"], row["updated_at"]) for row in rows}.values())


@pytest.mark.parametrize("count", [0, 1, 2, 3, KEYS_AT_ONCE, KEYS_AT_ONCE + 3])
async def test_a_look_up_finds_each_of_its_keys_once(database: Database, count: int):
    new = [command(id=number, message_id=f"m{number}", any_sim=number % 2 == 0) for number in range(KEYS_AT_ONCE + 10)]
    await database.write(lambda connection: kept.keep(connection, new))
    wanted = [f"m{number}" for number in range(count)]
    found = await database.write(lambda connection: kept.find_many(connection, [*wanted, "nobody's"]))
    assert found == {f"m{number}": new[number] for number in range(count)}


async def test_a_key_of_two_columns_is_met_in_both(database: Database):
    usages = {(device, slot): SimUsage(day_used=10 * slot + 1) for device in "ab" for slot in (0, 1)}
    await database.write(lambda connection: sims.keep(connection, usages))
    found = await database.write(lambda connection: sims.find_many(connection, [("a", 1), ("b", 0), ("c", 0)]))
    assert found == {key: usages[key] for key in [("a", 1), ("b", 0)]}


async def test_a_query_takes_its_parameters_by_name_whatever_their_places(database: Database):
    await database.write(lambda connection: connection.execute(insert(devices), ROWS))
    created, kind = devices.c.created_at, devices.c.kind
    query = select(devices.c.device_id, devices.c.info, func.coalesce(devices.c.sitename, "none")).where(
        created <= bindparam("until"), kind == "phone", created > bindparam("after")
    )
    prepared = PreparedQuery(query)
    for after, until in ((0, 1), (1, 2), (0, 2**41)):
        rows = await database.read(lambda connection, of=(after, until): prepared.rows(connection, after=of[0], until=of[1]))
        assert [tuple(row) for row in rows] == [("a", ROWS[0]["info"], "none")] * (after < 1)
