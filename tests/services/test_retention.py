"""Old rows go, in steps; young ones, open ones and those that are to be kept for ever stay."""

from typing import Any

import pytest
import trio
from sqlalchemy import func, insert, select
from sqlalchemy.dialects import sqlite
from trio.testing import MockClock

from signal_gateway.domain.command import CommandState
from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.retention import MS_PER_DAY, Retention, RetentionSettings
from signal_gateway.storage import commands as kept
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.retention import _KINDS, KINDS
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.storage.tables import (
    alarms,
    audit,
    command_steps,
    commands,
    connection_logs,
    device_status,
    metadata,
    reports,
    revoked_tokens,
    room_members,
    room_sessions,
    rooms,
    sim_recipients,
)
from tests.domain.commands_made import command

NOW = 1_767_225_600_000
DAY = MS_PER_DAY


def fill(connection: kept.Connection, age_days: float, count: int = 1) -> None:
    """Rows of every kind that are so old."""
    at = NOW - round(age_days * DAY)
    for number in range(count):
        name = f"{age_days}-{number}"
        for kind in ("heartbeat", "sms_message"):
            connection.execute(insert(reports).values(device_id="d", type=kind, data={}, received_at=at))
        times = {"connected_at": at - 1, "disconnected_at": at}
        connection.execute(insert(connection_logs).values(device_id="d", socket_id=name, client_type="phone", **times))
        connection.execute(insert(audit).values(at=at, actor="a", action="b", subject="c", outcome="ok"))
        values = {
            "device_id": "d",
            "severity": "warning",
            "message": "",
            "source": "server",
            "occurrences": 1,
            "raised_at": at,
            "last_at": at,
        }
        connection.execute(insert(alarms).values(alarm_type="offline", cleared_at=at, **values))
        connection.execute(insert(alarms).values(alarm_type="offline", cleared_at=None, **values))
        connection.execute(insert(revoked_tokens).values(token_id=name, subject="s", revoked_at=at, expires_at=at))
        room = {"room_id": name, "app_id": "p2p", "state": "inactive", "creation_type": "client", "created_by": "a", "stays": 1}
        connection.execute(insert(rooms).values(created_at=at, ended_at=at, **room))
        connection.execute(insert(rooms).values(created_at=at, **{**room, "room_id": f"open {name}", "state": "active"}))
        stay = {"room_id": name, "client_id": "a", "role": "sender", "session_id": name, "joined_at": at}
        connection.execute(insert(room_members).values(stay_id=name, left_at=at, **stay))
        connection.execute(insert(room_members).values(stay_id=f"open {name}", **stay))
        connection.execute(insert(room_sessions).values(stay_id=name, session_id=name, ended_at=at))
        here = 100_000_000 - round(age_days * 1000) + number
        done = command(id=here, message_id=name, state=CommandState.SENT, created_at=at, final_at=at, deadline_at=None)
        open_one = command(id=here + 500_000_000, message_id=f"open {name}", created_at=at)
        kept.keep(connection, [done])
        kept.keep(connection, [open_one])
        connection.execute(insert(command_steps).values(message_id=name, at=at, state="sent", attempt=1))


def counts(connection: kept.Connection) -> dict[str, int]:
    of_rooms = (rooms, room_members, room_sessions)
    tables = (reports, connection_logs, audit, alarms, revoked_tokens, commands, command_steps, sim_recipients, *of_rooms)
    return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def writer(metrics: Metrics, nursery: trio.Nursery):
    database = InlineDatabase()
    writer = BatchWriter(database, StorageSettings(), metrics)
    await nursery.start(writer.run)
    yield writer
    database.close()


ALL_OLD = RetentionSettings(
    heartbeats_days=10,
    reports_days=10,
    commands_days=10,
    alarms_days=10,
    connections_days=10,
    rooms_days=10,
    audit_days=10,
    step_rows=3,
    every_s=60,
)


async def test_what_is_old_goes_in_steps_and_what_is_young_or_open_stays(autojump_clock: MockClock, writer: BatchWriter, metrics: Metrics):
    await writer.call(lambda connection: fill(connection, 11, 7))
    await writer.call(lambda connection: fill(connection, 0.5, 2))
    await Retention(writer, ALL_OLD, metrics, lambda: NOW).delete_old()
    assert await writer.call(counts) == {
        "reports": 4,
        "connection_logs": 2,
        "audit": 2,
        "alarms": 2 + 9,
        "revoked_tokens": 2,
        "commands": 2 + 9,
        "command_steps": 2,
        "sim_recipients": 0,
        "rooms": 2 + 9,
        "room_members": 2 + 9,
        "room_sessions": 2,
    }
    text = metrics.text().decode()
    assert 'signal_gateway_retention_rows_deleted_total{kind="commands"} 7.0' in text
    assert 'signal_gateway_retention_rows_deleted_total{kind="heartbeats"} 7.0' in text


async def test_of_guests_nothing_is_known_after_a_week(autojump_clock: MockClock, writer: BatchWriter, metrics: Metrics):
    def add(connection: kept.Connection) -> None:
        for device_id, days in (("guest-1", 8), ("guest-2", 6), ("guess", 8), ("guest", 8), ("guestbook", 8), ("phone-1", 8)):
            connection.execute(insert(device_status).values(device_id=device_id, linked=False, updated_at=NOW - days * DAY))

    await writer.call(add)
    await Retention(writer, ALL_OLD, metrics, lambda: NOW).delete_old()
    left = await writer.call(lambda connection: set(connection.scalars(select(device_status.c.device_id))))
    assert left == {"guest-2", "guess", "guest", "guestbook", "phone-1"}


async def test_zero_days_keep_for_ever(autojump_clock: MockClock, writer: BatchWriter, metrics: Metrics):
    await writer.call(lambda connection: fill(connection, 9999))
    for_ever = RetentionSettings(
        heartbeats_days=0, reports_days=0, commands_days=0, alarms_days=0, connections_days=0, rooms_days=0, audit_days=0, every_s=60
    )
    before = await writer.call(counts)
    await Retention(writer, for_ever, metrics, lambda: NOW).delete_old()
    assert await writer.call(counts) == {**before, "revoked_tokens": 0}


async def test_recipients_of_months_that_count_no_more_are_forgotten(autojump_clock: MockClock, writer: BatchWriter, metrics: Metrics):
    def add(connection: kept.Connection) -> None:
        for month in ("2025-09", "2025-10", "2025-11", "2026-01"):
            connection.execute(insert(sim_recipients).values(device_id="d", slot=0, month=month, phone_number="+1"))

    await writer.call(add)
    await Retention(writer, ALL_OLD, metrics, lambda: NOW).delete_old()
    months = await writer.call(lambda connection: sorted(connection.scalars(select(sim_recipients.c.month))))
    assert months == ["2025-10", "2025-11", "2026-01"]


async def test_no_step_is_larger_than_it_may_be(autojump_clock: MockClock, writer: BatchWriter, metrics: Metrics):
    def add(connection: kept.Connection) -> None:
        rows = [{"device_id": "d", "slot": 0, "month": "2025-01", "phone_number": f"+{number}"} for number in range(10)]
        connection.execute(insert(sim_recipients), rows)
        fill(connection, 11, 10)

    await writer.call(add)
    real, gone = writer.call, list[int]()

    async def call(work: Any) -> Any:
        before = sum((await real(counts)).values())
        result = await real(work)
        gone.append(before - sum((await real(counts)).values()))
        return result

    writer.call = call  # type: ignore[method-assign]
    await Retention(writer, ALL_OLD, metrics, lambda: NOW).delete_old()
    assert max(gone) == 6  # three commands with a line of timeline each
    assert (await real(counts))["sim_recipients"] == 0


async def test_old_commands_that_are_open_do_not_stop_the_walk(autojump_clock: MockClock, writer: BatchWriter, metrics: Metrics):
    def add(connection: kept.Connection) -> None:
        for number in range(1, 21):
            ended = {} if number <= 10 else {"state": CommandState.SENT, "final_at": NOW - 11 * DAY, "deadline_at": None}
            made = command(id=number, message_id=f"c-{number:02}", created_at=NOW - 12 * DAY if number < 20 else NOW, **ended)
            kept.keep(connection, [made])

    await writer.call(add)
    await Retention(writer, ALL_OLD, metrics, lambda: NOW).delete_old()
    ids = await writer.call(lambda connection: sorted(connection.scalars(select(commands.c.id))))
    assert ids == list(range(1, 11))


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_reads_by_an_index_and_never_the_whole_table(kind: str):
    """The last step of a pass finds few rows: without an index in the order of age it would read all that are young."""
    table, is_old, by_age = _KINDS[kind]
    query = select(table.primary_key.columns[0]).where(is_old(5)).order_by(by_age).limit(3)
    text = str(query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    database = InlineDatabase()
    with database.engine.connect() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    database.close()
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan
    assert all(line.startswith(f"SEARCH {table.name} USING") for line in plan) or kind == "tokens", plan


async def test_it_goes_on_after_a_database_was_away(
    autojump_clock: MockClock, writer: BatchWriter, metrics: Metrics, nursery: trio.Nursery
):
    await writer.call(lambda connection: fill(connection, 11, 4))
    retention = Retention(writer, ALL_OLD, metrics, lambda: NOW)
    real, failures = writer.call, iter([True])

    async def call(work: object) -> object:
        if next(failures, False):
            raise DatabaseDown
        return await real(work)  # type: ignore[arg-type]

    writer.call = call  # type: ignore[method-assign]
    await nursery.start(retention.run)
    await trio.sleep(61)
    assert (await real(counts))["audit"] == 4
    await trio.sleep(61)
    assert (await real(counts))["audit"] == 0


def test_every_table_is_kept_by_age_or_is_what_is_so_now():
    """A new table must say how long it keeps its rows."""
    by_age = {reports, connection_logs, audit, alarms, revoked_tokens, commands, command_steps, sim_recipients}
    by_age |= {rooms, room_members, room_sessions}
    of_now = {"credentials", "devices", "registrations", "device_status", "sims"}
    assert {table.name for table in by_age} | of_now == set(metadata.tables)
