"""Rows in few statements: which may be merged, which stand together, and the Core construct of each kind, built once.

Tables go parents first. Inside a table the order of rows is kept for each key; different keys may pass each other, so that the rows of
one shape (the same kind of row with the same columns) stand together and are sent as one statement with many parameters.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import JSON, ColumnElement, Connection, Table, and_, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.schema import ScalarElementColumnDefault

from signal_gateway.storage.prepared import PreparedWrite
from signal_gateway.storage.rows import Insert, Row, Update, Upsert
from signal_gateway.storage.tables import metadata

KEY_PREFIX = "key_of_row_"
"""Names the parameters of an Update's key apart from those of its values."""

PARENTS_FIRST = {table: place for place, table in enumerate(metadata.sorted_tables)}

Source = tuple[Any, Row]
"""A row, and the one who gave it."""


class Shape(NamedTuple):
    """What makes one statement: the kind of row, its table, the columns of its key and, sorted, of its values."""

    kind: type[Row]
    table: Table
    key: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(eq=False, slots=True)
class Planned:
    """One row of a statement: the last word of all its `sources`."""

    kind: type[Row]
    table: Table
    key: Mapping[str, Any]
    values: dict[str, Any]
    sources: list[Source]

    @property
    def shape(self) -> Shape:
        """The statement it belongs to."""
        return Shape(self.kind, self.table, tuple(self.key), tuple(sorted(self.values)))


@dataclass(eq=False, slots=True)
class Group:
    """Rows that one statement writes."""

    shape: Shape
    rows: list[Planned] = field(default_factory=list[Planned])


def plan(sources: Iterable[Source]) -> list[Group]:
    """The statements that write these rows, in the order in which they must run."""
    by_table: dict[Table, list[Source]] = {}
    for source in sources:
        by_table.setdefault(source[1].table, []).append(source)
    tables = sorted(by_table, key=lambda table: PARENTS_FIRST.get(table, len(PARENTS_FIRST)))
    return [group for table in tables for group in _plan_table(by_table[table])]


def execute(connection: Connection, shape: Shape, rows: Sequence[Planned]) -> None:
    """Write rows of one shape with one statement."""
    if shape.kind is Update:
        parameters = [{**row.values, **{KEY_PREFIX + name: value for name, value in row.key.items()}} for row in rows]
    else:
        parameters = [row.values for row in rows]
    prepared_of(connection.dialect.name, shape).run(connection, parameters)


@lru_cache(maxsize=1024)  # shapes come from our own code: a few dozen
def prepared_of(dialect: str, shape: Shape) -> PreparedWrite:
    """The statement of a shape."""
    return PreparedWrite(statement_of(dialect, shape), shape.columns)


def statement_of(dialect: str, shape: Shape) -> ClauseElement:
    """The Core construct of a shape."""
    columns = shape.table.c
    unknown = {*shape.key, *shape.columns} - set(columns.keys())
    if unknown:  # SQLAlchemy would leave it out without a word
        raise ValueError(f"{shape.table.name} has no column {', '.join(sorted(unknown))}")
    if shape.kind is Update:
        if set(shape.key) & set(shape.columns):
            raise ValueError(f"an Update of {shape.table.name} names a column both in its key and in its values")
        keys: list[ColumnElement[bool]] = [columns[name] == bindparam(KEY_PREFIX + name, type_=columns[name].type) for name in shape.key]
        return shape.table.update().where(and_(*keys))
    insert = sqlite.insert(shape.table) if dialect == "sqlite" else postgresql.insert(shape.table)
    if shape.kind is Upsert:
        others = {name: insert.excluded[name] for name in shape.columns if name not in shape.key}
        if others:
            insert = insert.on_conflict_do_update(index_elements=shape.key, set_=others)
        else:
            insert = insert.on_conflict_do_nothing(index_elements=shape.key)
    return insert.inline()  # nobody asks for the new row's id


def _plan_table(sources: Sequence[Source]) -> list[Group]:
    keys = {tuple(row.key) for _, row in sources if not isinstance(row, Insert)}
    # With several kinds of key in use two rows may be the same one unseen: then nothing is merged, nothing passes anything.
    key = next(iter(keys), ()) if len(keys) < 2 else None
    groups: list[Group] = []
    place_of: dict[Hashable, int] = {}
    for row, identity in _merged(sources, key):
        shape = row.shape
        earliest = place_of.get(identity, 0) if key is not None else max(0, len(groups) - 1)
        place = next((place for place in range(earliest, len(groups)) if groups[place].shape == shape), len(groups))
        if place == len(groups):
            groups.append(Group(shape))
        groups[place].rows.append(row)
        if identity is not None:
            place_of[identity] = place
    return groups


def _merged(sources: Sequence[Source], key: tuple[str, ...] | None) -> list[tuple[Planned, Hashable]]:
    """Each row with what it shares with other rows of its key; several upserts and updates of one key become one row."""
    rows: list[tuple[Planned, Hashable]] = []
    latest: dict[Hashable, Planned] = {}
    for source in sources:
        row = source[1]
        identity = _identity_of(row, key)
        known = latest.get(identity) if identity is not None else None
        if known is not None and _goes_into(row, known):
            known.values.update(row.values)
            known.sources.append(source)
            continue
        planned = _planned(source)
        rows.append((planned, identity))
        if identity is not None:
            latest[identity] = planned
    return rows


def _goes_into(row: Row, known: Planned) -> bool:
    """Whether writing `known` with the values of `row` over its own is the same as writing both."""
    if isinstance(row, Upsert):
        return known.kind is Upsert
    return isinstance(row, Update) and known.kind is not Insert and row.key.keys().isdisjoint(row.values)


def _identity_of(row: Row, key: tuple[str, ...] | None) -> Hashable | None:
    """The values of `key` in this row; None when it has none, as a new row whose key the database makes."""
    if not key:
        return None
    held = row.key if isinstance(row, Update) else row.values
    try:
        identity = tuple(held[name] for name in key)
        hash(identity)
    except (KeyError, TypeError):
        return None
    return identity


def _planned(source: Source) -> Planned:
    row = source[1]
    if isinstance(row, Insert):
        return Planned(Insert, row.table, {}, {**_left_out(row.table), **row.values}, [source])
    if isinstance(row, Upsert):
        return Planned(Upsert, row.table, dict.fromkeys(row.key), dict(row.values), [source])
    return Planned(Update, row.table, row.key, dict(row.values), [source])


@lru_cache(maxsize=256)
def _left_out(table: Table) -> Mapping[str, Any]:
    """What columns hold that a new row does not name, so that all new rows of a table have one shape, and keep their order.

    Not of JSON columns: there a None would be written as the JSON word null, which is not NULL.
    """
    values: dict[str, Any] = {}
    for column in table.columns:
        if column.primary_key or column.server_default is not None or isinstance(column.type, JSON):
            continue
        if isinstance(column.default, ScalarElementColumnDefault):
            values[column.name] = column.default.arg
        elif column.default is None and column.nullable:
            values[column.name] = None
    return values
