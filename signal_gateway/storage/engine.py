"""What both databases share: which one the settings mean, and how SQLAlchemy is to speak to it."""

from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import URL, exc, make_url

from signal_gateway.storage.faults import StorageUnusable
from signal_gateway.storage.settings import StorageSettings

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}


def write_json(value: Any) -> str:
    """JSON columns, compact. msgspec says null for NaN, which PostgreSQL would refuse."""
    return msgspec.json.encode(value).decode()


ENGINE_OPTIONS: dict[str, Any] = {
    "json_serializer": write_json,
    "json_deserializer": msgspec.json.decode,
    "hide_parameters": True,  # an error that is logged shows the statement, never the values of a row
}


def database_url(settings: StorageSettings, data_dir: Path) -> URL:
    """The database that the settings mean, with its driver. Raises StorageUnusable, never showing a password."""
    if not settings.url:
        return URL.create(DRIVERS["sqlite"], database=str(data_dir / "gateway.db"))
    try:
        url = make_url(settings.url)
    except exc.ArgumentError as error:
        raise StorageUnusable('storage.url must be like "sqlite:///gateway.db" or "postgresql://user@host/name"') from error
    name = url.drivername.partition("+")[0]
    if name not in DRIVERS:
        raise StorageUnusable(f'storage.url begins with "{name}"; known are "sqlite" and "postgresql"')
    if name == "sqlite" and url.database in (None, "", ":memory:"):
        raise StorageUnusable('storage.url names no file; write "sqlite:///gateway.db"')
    return url.set(drivername=DRIVERS[name])
