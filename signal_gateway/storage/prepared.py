"""Statements that are made out once: what runs for every command and report.

SQLAlchemy looks each execution up in its cache, arranges and converts the parameters and wraps the rows: for a row of ours that takes
several times as long as SQLite does. A write is arranged here, once, and runs by its text from then on; so is a look-up for several keys,
one of few statements of fixed sizes. Its dialects make the text and convert the values, and its errors are raised, as ever; the text
goes to SQLite at once (`direct`). PostgreSQL's look-ups are run by SQLAlchemy, which knows their results from the time before.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import Column, Connection, Dialect, Select, and_, bindparam, or_
from sqlalchemy.sql import ClauseElement
from sqlalchemy.types import TypeEngine

from signal_gateway.storage.direct import fetch, run, sqlite_of

KEYS_AT_ONCE = 128
"""Keys of one look-up: more take several."""

ROWS_TOGETHER = 256, 64, 16, 4, 2
"""Rows of one INSERT into SQLite, most first, as many as are left.

It takes half as long as one for each row. And the driver lets go of the interpreter once for each statement: to have it back it waits for
the event loop, milliseconds while that is busy. (An UPDATE of many rows out of a table of values takes longer than one for each.)
"""
PARAMETERS_MAX = 32_766
"""Of one statement, as SQLite is built by default."""

Convert = Callable[[Any], Any]


class PreparedWrite:
    """An INSERT, UPDATE or upsert whose rows all give values for `names`. Scalar defaults of other columns are added.

    It is made out once for each kind of database: all engines of one kind are made alike (`ENGINE_OPTIONS`).
    """

    def __init__(self, statement: ClauseElement, names: Sequence[str]) -> None:
        self._statement = statement
        self._names = tuple(names)
        self._made_out: dict[str, _Text] = {}

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it with each of these rows; with none, not at all."""
        if not rows:
            return
        text = self._made_out.get(connection.dialect.name)
        if text is None:
            text = self._made_out[connection.dialect.name] = _Text(self._statement, connection.dialect, self._names)
        for sql, parameters in text.statements(rows):
            run(connection, sql, parameters)


class PreparedQuery:
    """A SELECT that is asked for ever; its parameters are texts and numbers, which no driver wants otherwise."""

    def __init__(self, query: Select[*tuple[Any, ...]]) -> None:
        self._query = query
        self._made_out: _Query | None = None

    def rows(self, connection: Connection, **values: Any) -> Sequence[Sequence[Any]]:
        """Its rows, with these values for its parameters."""
        driver = sqlite_of(connection)
        if driver is None:
            return connection.execute(self._query, values).all()
        if self._made_out is None:
            self._made_out = _Query(self._query, connection.dialect)
        return self._made_out.converted(fetch(driver, self._made_out.sql, self._made_out.in_order(values)))


class PreparedLookUp:
    """The rows of a SELECT whose key is one of several. `key` has its columns: texts and numbers, which no driver wants otherwise."""

    def __init__(self, query: Select[Any], *key: Column[Any]) -> None:
        self._query = query
        self._key = key
        self._of_size: dict[int, Select[Any]] = {}
        self._made_out: dict[int, _Query] = {}

    def rows(self, connection: Connection, keys: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
        """Those that are there, in no order. Each key is a value for every column of it."""
        found: list[Sequence[Any]] = []
        driver = sqlite_of(connection)
        for begin in range(0, len(keys), KEYS_AT_ONCE):
            asked = list(keys[begin : begin + KEYS_AT_ONCE])
            size = 1 << (len(asked) - 1).bit_length()
            asked += [asked[-1]] * (size - len(asked))  # what is left over asks for the last one again
            if driver is None:
                values = {f"{column}_{place}": value for place, key in enumerate(asked) for column, value in enumerate(key)}
                found += connection.execute(self._statement(size), values)
                continue
            query = self._made_out.get(size)
            if query is None:
                query = self._made_out[size] = _Query(self._statement(size), connection.dialect)
            found += query.converted(fetch(driver, query.sql, [value for key in asked for value in key]))
        return found

    def _statement(self, size: int) -> Select[Any]:
        statement = self._of_size.get(size)
        if statement is None:
            ones = (
                and_(*(each == bindparam(f"{column}_{place}", type_=each.type) for column, each in enumerate(self._key)))
                for place in range(size)
            )
            statement = self._of_size[size] = self._query.where(or_(*ones))
        return statement


class _Query:
    """A look-up as SQLite is given it."""

    def __init__(self, statement: Select[*tuple[Any, ...]], dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        self.sql = str(compiled)
        self._parameters: list[tuple[str, Any]] = [(name, compiled.params[name]) for name in compiled.positiontup or ()]
        processors = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in statement.selected_columns]
        self._converts: list[tuple[int, Convert]] = [(place, convert) for place, convert in enumerate(processors) if convert is not None]

    def in_order(self, values: Mapping[str, Any]) -> list[Any]:
        """Values for its parameters as SQLite counts them; what is not given has the value that stands in the statement."""
        return [values.get(name, itself) for name, itself in self._parameters]

    def converted(self, rows: list[tuple[Any, ...]]) -> list[Sequence[Any]]:
        """Rows of the driver with their values as SQLAlchemy has them."""
        found: list[Sequence[Any]] = []
        for row in rows:
            values = list(row)
            for place, convert in self._converts:
                values[place] = convert(values[place])
            found.append(values)
        return found


class _Text:
    """A write as the driver is given it."""

    def __init__(self, statement: ClauseElement, dialect: Dialect, names: Sequence[str]) -> None:
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(names))
        self._sql = str(compiled)
        self._order: tuple[str, ...] = tuple(compiled.positiontup)  # both of our drivers count parameters
        self._together = _together(self._sql, len(self._order)) if dialect.name == "sqlite" else ()
        self._added = {column.key: column.default.arg for column in compiled.insert_prefetch}
        types: dict[str, TypeEngine[Any]] = {name: compiled.binds[name].type for name in self._order}
        processors = {name: each.dialect_impl(dialect).bind_processor(dialect) for name, each in types.items()}
        self._converts: list[tuple[str, Convert]] = [(name, convert) for name, convert in processors.items() if convert is not None]
        self._pick: Callable[[Mapping[str, Any]], Any] = itemgetter(*self._order)

    def statements(self, rows: Sequence[Mapping[str, Any]]) -> Generator[tuple[str, list[tuple[Any, ...]]]]:
        """What is to be run, in order, and with which parameters each time."""
        parameters, at = self._parameters(rows), 0
        for size, sql in self._together:
            while len(parameters) - at >= size:
                yield sql, [tuple(chain.from_iterable(parameters[at : at + size]))]
                at += size
        if at < len(parameters):
            yield self._sql, parameters[at:] if at else parameters

    def _parameters(self, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
        """Those of each row as the driver takes them."""
        if self._converts or self._added:
            rows = [self._converted(row) for row in rows]
        return [self._pick(row) for row in rows] if len(self._order) > 1 else [(self._pick(row),) for row in rows]

    def _converted(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        values = {**self._added, **row}
        for name, convert in self._converts:
            values[name] = convert(values[name])
        return values


def _together(sql: str, columns: int) -> tuple[tuple[int, str], ...]:
    """The same INSERT for several rows, by their number; none for all that is no INSERT of plain parameters."""
    one = f"({', '.join('?' * columns)})"
    before, values, after = sql.partition(f" VALUES {one}")
    if not (sql.startswith("INSERT ") and values) or "?" in after:
        return ()
    sizes = (size for size in ROWS_TOGETHER if size * columns <= PARAMETERS_MAX)
    return tuple((size, f"{before} VALUES {', '.join([one] * size)}{after}") for size in sizes)
