"""The `[storage]` section: where rows are kept, how safely, and how many may wait for it."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]


class StorageSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator may choose about storage. Times in seconds."""

    url: str = ""
    """`sqlite:///path` or `postgresql://user:password@host/name`; empty means SQLite in `<data_dir>/gateway.db`."""

    durability: Literal["power", "process"] = "power"
    """What an acknowledged row survives: a power cut (each commit reaches the disk), or only the end of this process."""

    job_timeout_s: Seconds = 5.0
    """How long one piece of database work may take before its asker is told that the database is down."""

    busy_timeout_s: Seconds = 2.0
    """SQLite: how long to wait for a lock that another process holds, such as `signal-gateway key create`."""

    readers: Count = 3
    """Connections that only read. Writing always has one of its own."""

    batch_rows_max: Count = 500
    """Rows and jobs written in one transaction."""

    batch_calls_max: Count = 16
    """Calls done in one transaction, such as registrations: they cost much, and rows that come behind them need not wait for all."""

    batch_wait_s: Annotated[float, Meta(ge=0)] = 0.002
    """How long rows wait for company before they are written. Calls are not kept waiting."""

    high_water_rows: Count = 20_000
    """Rows waiting from which doors stop hearing all but heartbeats, pings and closes."""

    rows_max: Count = 50_000
    """Rows waiting from which more are refused and counted."""

    retry_first_s: Seconds = 0.05
    """First pause after the database was down or full; it doubles each time."""

    retry_max_s: Seconds = 1.0
    """Longest such pause."""

    flush_s: Seconds = 5.0
    """How long the end of the process may wait for rows to be written and for the database thread to end."""

    def __repr__(self) -> str:
        """Without the URL, which may hold a password."""
        return f"StorageSettings(durability={self.durability!r}, {'at a URL' if self.url else 'in the data folder'})"
