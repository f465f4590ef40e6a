"""How rows become few statements, without changing what they mean."""

import sqlite3
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, StaticPool, create_engine, func, select
from sqlalchemy.dialects import postgresql, sqlite

from signal_gateway.storage.engine import ENGINE_OPTIONS
from signal_gateway.storage.rows import Insert, Row, Update, Upsert
from signal_gateway.storage.statements import Shape, execute, plan, prepared_of, statement_of
from signal_gateway.storage.tables import audit, connection_logs, device_status, devices, metadata, reports

from .rows_kept import entry, status, status_change


def planned(*rows: Row) -> list[tuple[str, str, int]]:
    """Kind, table and number of rows of each statement."""
    return [(group.shape.kind.__name__, group.shape.table.name, len(group.rows)) for group in plan((None, row) for row in rows)]


def opened(socket_id: str) -> Insert:
    return Insert(connection_logs, {"device_id": "a", "socket_id": socket_id, "client_type": "phone", "connected_at": 1})


def closed(socket_id: str) -> Update:
    return Update(connection_logs, {"socket_id": socket_id}, {"disconnected_at": 2})


def test_rows_of_one_shape_become_one_statement_though_others_stood_between():
    rows = [row for number in range(4) for row in (opened(f"s{number}"), closed(f"s{number}"))]

    assert planned(*rows) == [("Insert", "connection_logs", 4), ("Update", "connection_logs", 4)]


def test_a_row_never_passes_another_of_its_key():
    """The row that s1 opens again stands behind the change of s1, in a statement of its own."""
    assert planned(opened("s1"), closed("s1"), opened("s1"), opened("s2")) == [
        ("Insert", "connection_logs", 2),
        ("Update", "connection_logs", 1),
        ("Insert", "connection_logs", 1),
    ]


def test_tables_go_in_the_order_of_the_schema():
    order = [table.name for table in metadata.sorted_tables]
    data = {"device_id": "a", "type": "x", "data": {}, "received_at": 1}
    device = {"device_id": "a", "kind": "phone", "created_at": 1, "updated_at": 1}

    tables = [table for _, table, _ in planned(Insert(reports, data), entry("x"), Insert(devices, device), status("a"))]

    assert tables == sorted(tables, key=order.index)
    assert len(tables) == 4


def test_new_rows_have_one_shape_whatever_they_leave_out():
    assert planned(entry("a"), entry("b", address="::1"), entry("c", detail="why")) == [("Insert", "audit", 3)]


def test_upserts_and_changes_of_one_key_become_one_row():
    assert planned(status("a"), status_change("a", linked=False), status("b"), status("a", reported="busy")) == [
        ("Upsert", "device_status", 1),
        ("Upsert", "device_status", 1),
    ]


def test_an_upsert_is_not_merged_into_a_change_that_may_find_no_row():
    assert planned(status_change("a", linked=False), status("a")) == [("Update", "device_status", 1), ("Upsert", "device_status", 1)]


def test_with_two_kinds_of_key_nothing_passes_anything():
    by_kind = Update(device_status, {"reported": "busy"}, {"linked": False})

    assert planned(status("a"), by_kind, status("a"), status("b")) == [
        ("Upsert", "device_status", 1),
        ("Update", "device_status", 1),
        ("Upsert", "device_status", 2),
    ]


@pytest.mark.parametrize("values", [{"linked": True}, {"device_id": ["no", "key"], "linked": True}], ids=["missing", "unhashable"])
def test_a_key_that_is_none_is_left_to_the_database_to_refuse(values: dict[str, Any]):
    assert planned(Upsert(device_status, ("device_id",), values), status("a")) == [
        ("Upsert", "device_status", 1),
        ("Upsert", "device_status", 1),
    ]


def test_a_column_that_is_not_there_or_in_both_places_is_refused():
    with pytest.raises(ValueError, match="device_status has no column colour"):
        statement_of("sqlite", Shape(Upsert, device_status, ("device_id",), ("colour", "device_id")))
    with pytest.raises(ValueError, match="both in its key and in its values"):
        statement_of("sqlite", Shape(Update, device_status, ("device_id",), ("device_id",)))


def test_an_upsert_of_nothing_but_its_key_leaves_a_known_row_alone():
    shape = Shape(Upsert, device_status, ("device_id",), ("device_id",))

    for name, dialect in (("sqlite", sqlite.dialect()), ("postgresql", postgresql.dialect())):
        assert str(statement_of(name, shape).compile(dialect=dialect, column_keys=["device_id"])).endswith(
            "ON CONFLICT (device_id) DO NOTHING"
        )


class Noting(sqlite3.Connection):
    """Knows how many rows it was given with each statement that gives none."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.given: list[tuple[str, int]] = []

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        self.given.append((sql, len(parameters)))
        return super().executemany(sql, parameters)


def test_many_rows_reach_the_driver_in_few_statements_that_were_compiled_once():
    """Each of them must ask a busy event loop for the interpreter."""
    driver = sqlite3.connect(":memory:", factory=Noting, isolation_level=None)
    engine = create_engine("sqlite://", creator=lambda: driver, poolclass=StaticPool, **ENGINE_OPTIONS)
    metadata.create_all(engine)
    with engine.begin() as connection:
        write_planned(connection, [entry(str(number)) for number in range(300)])
        assert connection.scalar(select(func.count()).select_from(audit)) == 300
    engine.dispose()

    assert [rows * sql.count("(?") for sql, rows in driver.given] == [256, 16, 16, 4, 4, 4]
    assert all(rows == 1 for _, rows in driver.given)
    shape = plan([(None, entry("x"))])[0].shape
    assert prepared_of("sqlite", shape) is prepared_of("sqlite", shape)


KEYS = st.sampled_from(["a", "b", "c"])
VALUES = st.fixed_dictionaries({}, optional={"battery_level": st.integers(0, 3), "reported": st.sampled_from(["x", "y"])})
ROWS = st.one_of(
    st.builds(lambda key, values: status(key, **values), KEYS, VALUES),
    st.builds(lambda key, values: status_change(key, **{"linked": False, **values}), KEYS, VALUES),
    st.builds(lambda key, values: Insert(device_status, {"device_id": key + "2", "linked": True, "updated_at": 9, **values}), KEYS, VALUES),
    st.builds(lambda key, values: status_change(key + "2", **{"linked": False, **values}), KEYS, VALUES),
    st.builds(lambda word, values: Update(device_status, {"reported": word}, {"linked": True, "signal_dbm": -1}), st.just("x"), VALUES),
)


def has_no_two_of_one_new_row(rows: list[Row]) -> bool:
    """A second Insert of a key is poison, which is another test's."""
    new = [row.values["device_id"] for row in rows if isinstance(row, Insert)]
    return len(new) == len(set(new))


@given(rows=st.lists(ROWS, max_size=12).filter(has_no_two_of_one_new_row))
@settings(max_examples=150, deadline=None)
def test_planned_together_rows_leave_what_they_leave_one_by_one(rows: list[Row]):
    together, apart = ENGINES
    with together.connect() as first, apart.connect() as second:
        write_planned(first, rows)
        for row in rows:
            write_planned(second, [row])
        assert kept(first) == kept(second)


def write_planned(connection: Connection, rows: list[Row]) -> None:
    for group in plan((None, row) for row in rows):
        execute(connection, group.shape, group.rows)


def kept(connection: Connection) -> list[Any]:
    return list(connection.execute(select(device_status).order_by(device_status.c.device_id)))


def empty_engine() -> Engine:
    engine = create_engine("sqlite://", **ENGINE_OPTIONS)
    metadata.create_all(engine)
    return engine


ENGINES = (empty_engine(), empty_engine())
