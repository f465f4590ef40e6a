"""`signal-gateway rooms`: what is kept of rooms, for other programs (S-33 to S-40)."""

import json
from collections.abc import Mapping
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
    ended_since: Annotated[str | None, typer.Option("--ended-from", help="Rooms that ended then or later.")] = None,
    ended_until: Annotated[str | None, typer.Option("--ended-to", help="Rooms that ended before.")] = None,
    session: Annotated[str | None, typer.Option(help="The rooms in which somebody sat by this session.")] = None,
    client: Annotated[str | None, typer.Option(help="The rooms in which this client sat.")] = None,
    clients: Annotated[bool, typer.Option(help="The records of registered clients, too.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print rooms, stays and their ends as JSON lines: `collection` and `document`, in the form of the source's collections."""
    times = {
        "since": _instant(since, "--from"),
        "until": _instant(until, "--to"),
        "ended_since": _instant(ended_since, "--ended-from"),
        "ended_until": _instant(ended_until, "--ended-to"),
    }
    _export(read_config(config), times, session, client, clients)


def _export(config: "Config", times: Mapping[str, int | None], session: str | None, client: str | None, clients: bool) -> None:
    import trio

    from signal_gateway.cli_start import database_open
    from signal_gateway.services.room_export import Document, Wanted, read_clients, read_rooms

    wanted = Wanted(session_id=session, client_id=client, **times)

    def tell(documents: list[Document]) -> None:
        for collection, document in documents:
            print(json.dumps({"collection": collection, "document": document}, ensure_ascii=False, separators=(",", ":")))

    async def run() -> None:
        async with database_open(config) as database:
            place, is_over = None, False
            while not is_over:
                documents, place = await read_rooms(database, wanted, place, wall_ms())
                tell(documents)
                is_over = place is None
            name: str | None = "" if clients else None
            while name is not None:
                documents, name = await read_clients(database, name)
                tell(documents)

    trio.run(run)


def _instant(text: str | None, name: str) -> int | None:
    """Milliseconds since 1970 of a day, or of a time with its zone; None where none is given."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise CommandFailed(f"{name} is a day, 2026-01-31, or a time with its zone, 2026-01-31T12:00:00Z") from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return round(at.timestamp() * 1000)
