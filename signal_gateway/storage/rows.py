"""What may be given to the batch writer: rows as data, without a connection."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Table


class Insert(NamedTuple):
    """A new row. Columns that are left out get their default."""

    table: Table
    values: Mapping[str, Any]


class Upsert(NamedTuple):
    """A new row, or, where `key` (columns with a unique index, part of `values`) is known, the other values of the known one."""

    table: Table
    key: tuple[str, ...]
    values: Mapping[str, Any]


class Update(NamedTuple):
    """New values for every row that has these values of `key`; `values` names no column of the key. None fits: nothing happens."""

    table: Table
    key: Mapping[str, Any]
    values: Mapping[str, Any]


Row = Insert | Upsert | Update
