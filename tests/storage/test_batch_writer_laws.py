"""What a batch writer promises, on every database that we have: in memory, a SQLite file, PostgreSQL."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
from sqlalchemy import Connection, delete, insert
from sqlalchemy.exc import IntegrityError

from signal_gateway.observe.metrics import Metrics
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.database import Database
from signal_gateway.storage.rows import Insert, Row, Update, Upsert
from signal_gateway.storage.settings import StorageSettings
from signal_gateway.storage.tables import audit, connection_logs, device_status, devices, reports

from .rows_kept import POISON, entry, insert_entry, rows_of, status, status_change, subjects, subjects_in


class Refusal(Exception):
    """What a caller's work may raise."""


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def writer(database: Database, metrics: Metrics, nursery: trio.Nursery) -> AsyncIterator[BatchWriter]:
    writer = BatchWriter(database, StorageSettings(batch_rows_max=20), metrics)
    await nursery.start(writer.run)
    yield writer
    writer.close()


async def settle(writer: BatchWriter) -> None:
    """Until all that was put is durable."""
    await writer.call(lambda connection: None)


async def test_all_rows_are_written_once_and_in_order(database: Database, writer: BatchWriter, metrics: Metrics):
    wanted = [f"row-{number}" for number in range(150)]
    for first in range(0, 150, 3):
        assert writer.put([entry(subject) for subject in wanted[first : first + 3]])
    await settle(writer)

    assert await subjects(database) == wanted
    assert b"signal_gateway_storage_rows_written_total 150.0" in metrics.text()
    assert writer.rows_waiting == 0


async def test_durable_is_told_in_the_order_of_the_puts_and_before_a_later_caller_hears(writer: BatchWriter):
    told: list[int] = []
    for number in range(45):
        writer.put([entry("row")], partial(told.append, number))
    assert told == []
    await settle(writer)

    assert told == list(range(45))


async def test_a_call_sees_what_was_put_before_it(writer: BatchWriter):
    for number in range(50):
        writer.put([entry(f"row-{number}")])
        assert len(await writer.call(subjects_in)) == number + 1


async def test_a_call_that_raises_undoes_itself_alone_and_tells_its_caller_alone(database: Database, writer: BatchWriter):
    answers: dict[str, Any] = {}

    def refuse(connection: Connection) -> None:
        insert_entry(connection, "refused")
        raise Refusal

    async def ask(name: str, work: Any) -> None:
        try:
            answers[name] = await writer.call(work)
        except Refusal as refusal:
            answers[name] = type(refusal)

    async with trio.open_nursery() as callers:
        writer.put([entry("put")])
        callers.start_soon(ask, "good", partial(insert_entry, subject="good"))
        callers.start_soon(ask, "bad", refuse)
        callers.start_soon(ask, "other", partial(insert_entry, subject="other"))

    assert answers == {"good": "good done", "bad": Refusal, "other": "other done"}
    assert sorted(await subjects(database)) == ["good", "other", "put"]


async def test_a_work_may_use_savepoints_of_its_own(database: Database, writer: BatchWriter):
    def try_twice(connection: Connection) -> str:
        with pytest.raises(IntegrityError), connection.begin_nested():
            connection.execute(insert(audit), [POISON.values])
        return insert_entry(connection, "second try")

    assert await writer.call(try_twice) == "second try done"
    assert await subjects(database) == ["second try"]


async def test_of_a_batch_only_the_poison_is_lost_and_counted(database: Database, writer: BatchWriter, metrics: Metrics):
    durable: list[int] = []
    failed: list[int] = []
    for number in range(15):
        rows: list[Row] = [entry(f"row-{number}"), POISON] if number in (4, 11) else [entry(f"row-{number}")]
        writer.put(rows, partial(durable.append, number), partial(failed.append, number))
    await settle(writer)

    assert await subjects(database) == [f"row-{number}" for number in range(15)]
    assert failed == [4, 11]
    assert durable == [number for number in range(15) if number not in failed]
    assert b'signal_gateway_storage_rows_refused_total{table="audit"} 2.0' in metrics.text()
    assert b"signal_gateway_storage_rows_written_total 15.0" in metrics.text()


@pytest.mark.parametrize(
    "values",
    [
        {"data": {"unwritable": object()}},
        {"received_at": 2**70},
        {"received_at": None},
        {"message_id": {"a": "mapping"}},
        {"type": "\ud800"},
        {"no_such_column": 1},
    ],
    ids=["not JSON", "over 64 bits", "null", "mapping for text", "lone surrogate", "unknown column"],
)
async def test_no_kind_of_poison_stops_the_writer(database: Database, writer: BatchWriter, metrics: Metrics, values: dict[str, Any]):
    good = {"device_id": "phone-1", "type": "heartbeat", "data": {"level": 1}, "received_at": 1}
    failed: list[bool] = []
    writer.put([Insert(reports, good), Insert(reports, {**good, **values}), Insert(reports, good)], None, lambda: failed.append(True))
    await settle(writer)

    kept = await rows_of(database, reports)
    assert [row["data"] for row in kept] == [{"level": 1}, {"level": 1}]
    assert failed == [True]
    assert b'signal_gateway_storage_rows_refused_total{table="reports"} 1.0' in metrics.text()
    assert await writer.call(lambda connection: "still here") == "still here"


async def test_several_upserts_of_one_key_leave_the_last_word_on_each_column(database: Database, writer: BatchWriter):
    durable: list[str] = []
    writer.put([status("a", battery_level=50, reported="online")], partial(durable.append, "first"))
    writer.put([status("b", battery_level=10)], partial(durable.append, "second"))
    writer.put([status_change("a", battery_level=49)], partial(durable.append, "third"))
    writer.put([status("a", linked=False, signal_dbm=-70, updated_at=2)], partial(durable.append, "fourth"))
    await settle(writer)

    kept = {row["device_id"]: row for row in await rows_of(database, device_status)}
    assert [kept["a"][name] for name in ("linked", "battery_level", "reported", "signal_dbm", "updated_at")] == [
        False,
        49,
        "online",
        -70,
        2,
    ]
    assert kept["b"]["battery_level"] == 10
    assert durable == ["first", "second", "third", "fourth"]


async def test_of_merged_upserts_only_the_poisoned_one_is_lost(database: Database, writer: BatchWriter):
    fates: list[str] = []
    changes: tuple[dict[str, Any], ...] = ({"battery_level": 50}, {"sim_cards": object()}, {"battery_level": 48})
    for number, change in enumerate(changes):
        row = Upsert(device_status, ("device_id",), {"device_id": "a", "linked": True, "updated_at": 1, **change})
        writer.put([row], partial(fates.append, f"{number} durable"), partial(fates.append, f"{number} failed"))
    await settle(writer)

    (kept,) = await rows_of(database, device_status)
    assert (kept["battery_level"], kept["sim_cards"]) == (48, None)
    assert fates == ["0 durable", "1 failed", "2 durable"]


async def test_a_row_and_its_change_in_one_batch_come_in_order(database: Database, writer: BatchWriter):
    opened = {"device_id": "a", "client_type": "phone", "connected_at": 1}
    for number in range(5):
        writer.put([Insert(connection_logs, {**opened, "socket_id": f"s{number}"})])
        writer.put([Update(connection_logs, {"socket_id": f"s{number}"}, {"disconnected_at": 10 + number, "reason": "bye"})])
    writer.put([Update(connection_logs, {"socket_id": "unknown"}, {"disconnected_at": 1})])
    await settle(writer)

    assert [(row["socket_id"], row["disconnected_at"], row["reason"]) for row in await rows_of(database, connection_logs)] == [
        (f"s{number}", 10 + number, "bye") for number in range(5)
    ]


async def test_an_upsert_leaves_alone_what_it_does_not_name(database: Database, writer: BatchWriter):
    row = {"device_id": "a", "kind": "phone", "created_at": 1, "updated_at": 1}
    writer.put([Insert(devices, {**row, "model": "known"})])
    await settle(writer)
    writer.put([Upsert(devices, ("device_id",), {**row, "updated_at": 2})])
    await settle(writer)

    (kept,) = await rows_of(database, devices)
    assert (kept["model"], kept["updated_at"], kept["settings_version"]) == ("known", 2, 1)


async def test_what_is_put_when_a_call_has_been_answered_comes_behind_it(database: Database, writer: BatchWriter):
    """A deletion between two upserts: only what came after it is left."""

    async def forget() -> None:
        await writer.call(lambda connection: connection.execute(delete(device_status)))

    writer.put([status("a", battery_level=50)])
    await forget()
    writer.put([status("b", battery_level=51)])

    await settle(writer)
    assert [row["device_id"] for row in await rows_of(database, device_status)] == ["b"]


async def test_what_json_columns_hold_comes_back(database: Database, writer: BatchWriter):
    data = {"text": "ünï ☃", "list": [1, 2.5, None, True], "deep": {"": {}}, "big": 2**62}
    writer.put([Insert(reports, {"device_id": "a", "type": "x", "data": data, "received_at": 1})])
    await settle(writer)

    (kept,) = await rows_of(database, reports)
    assert (kept["data"], kept["message_id"]) == (data, None)


async def test_a_caller_that_is_cancelled_stops_waiting_and_its_work_is_done(database: Database, writer: BatchWriter):
    with trio.move_on_after(0) as gone:
        await writer.call(partial(insert_entry, subject="never asked"))
    assert gone.cancelled_caught

    async with trio.open_nursery() as callers:
        callers.start_soon(writer.call, partial(insert_entry, subject="asked"))
        while writer.rows_waiting == 0:
            await trio.lowlevel.checkpoint()
        callers.cancel_scope.cancel()
    await settle(writer)

    assert await subjects(database) == ["asked"]


async def test_closed_it_writes_what_waits_and_ends(database: Database, metrics: Metrics):
    writer = BatchWriter(database, StorageSettings(batch_rows_max=20), metrics)
    durable: list[int] = []
    for number in range(50):
        writer.put([entry(f"row-{number}")], partial(durable.append, number))
    writer.close()
    assert not writer.put([entry("too late")])
    await writer.run()

    assert durable == list(range(50))
    assert await subjects(database) == [f"row-{number}" for number in range(50)]
