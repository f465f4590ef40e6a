"""The end of a device, and with it that of its commands: in one transaction, so that none is left for whoever has the id next."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from signal_gateway.domain.command_rules import CommandPolicy, Withdrawn
from signal_gateway.storage import commands as kept
from signal_gateway.storage import fleet
from signal_gateway.storage.command_changes import Applied, Item, apply

PAGE = 500
"""Commands that end in one transaction: with a hundred thousand all others would wait for seconds."""


class Ending(NamedTuple):
    """A device that is to be deleted, and by whom."""

    device_id: str
    actor: str
    at: int


class Ended(NamedTuple):
    """How far that came."""

    withdrawn: Sequence[Applied]
    """Its commands that ended now."""
    is_deleted: bool
    """False: it has more commands, and stands until the page that finds the last of them."""
    revoked: list[str] | None = None
    """Ids of the keys that were its own; None when there is no such device (any more)."""


def end_devices(connection: Connection, endings: Sequence[Ending], policy: CommandPolicy) -> list[Ended]:
    """The work of a job of the batch writer: end a page of what is open of each device, and delete those of which that is all."""
    ended: list[Ended] = []
    for device_id, actor, at in endings:
        ids = kept.open_ids(connection, device_id, PAGE)
        withdrawn = apply(connection, [Item(Withdrawn.by_deletion(message_id, at)) for message_id in ids], policy)
        if len(ids) < PAGE:
            ended.append(Ended(withdrawn, True, fleet.delete_device(connection, device_id, actor, at)))
        else:
            ended.append(Ended(withdrawn, False))
    return ended
