"""`signal-gateway rooms`: what is kept of rooms, for other programs (S-33 to S-40)."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from signal_gateway.cli_errors import CommandFailed
from signal_gateway.cli_keys import wall_ms
from signal_gateway.cli_options import ConfigOption, read_config

if TYPE_CHECKING:
    from signal_gateway.config import Config

rooms = typer.Typer(help="Rooms and who stayed in them.", no_args_is_help=True, rich_markup_mode=None)


@rooms.callback()
def root() -> None:
    """Rooms and who stayed in them."""


@rooms.command()
def export(
    since: Annotated[
        str | None, typer.Option("--from", help="Rooms that were made then or later: 2026-01-31, or 2026-01-31T12:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Rooms that were made before.")] = None,
    clients: Annotated[bool, typer.Option(help="The records of registered clients, too.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print rooms, stays and their ends as JSON lines: `collection` and `document`, in the form of the source's collections."""
    begin = None if since is None else _instant(since, "--from")
    end = None if until is None else _instant(until, "--to")
    _export(read_config(config), begin, end, clients)


def _export(config: "Config", since: int | None, until: int | None, clients: bool) -> None:
    import trio

    from signal_gateway.cli_start import database_open
    from signal_gateway.services.room_export import Document, read_clients, read_rooms

    def tell(documents: list[Document]) -> None:
        for collection, document in documents:
            print(json.dumps({"collection": collection, "document": document}, ensure_ascii=False, separators=(",", ":")))

    async def run() -> None:
        async with database_open(config) as database:
            place, is_over = None, False
            while not is_over:
                documents, place = await read_rooms(database, since, until, place, wall_ms())
                tell(documents)
                is_over = place is None
            name: str | None = "" if clients else None
            while name is not None:
                documents, name = await read_clients(database, name)
                tell(documents)

    trio.run(run)


def _instant(text: str, name: str) -> int:
    """Milliseconds since 1970 of a day, or of a time with its zone."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CommandFailed(f"{name} is a day, 2026-01-31, or a time with its zone, 2026-01-31T12:00:00Z") from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)
