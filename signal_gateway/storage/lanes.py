"""What waits for one device, read in one trip: its queue, what is on its way, its SIMs."""

from dataclasses import dataclass

from sqlalchemy import Connection

from signal_gateway.domain.command import Command
from signal_gateway.domain.device import SimCard
from signal_gateway.domain.sim_limits import SimUsage
from signal_gateway.storage import commands as kept
from signal_gateway.storage import records, sims


@dataclass(frozen=True, slots=True)
class LaneContents:
    """What one read of the database tells about a device."""

    queued: list[Command]
    """Due, in the order in which they go out: no more than a page, and what overtakes them (`due_stops`)."""
    on_their_way: list[Command]
    usages: dict[int, SimUsage]
    sim_cards: tuple[SimCard, ...] | None
    """What the phone last told; None when it never did."""
    next_due_at: int | None
    """When the next of those comes that are to wait."""
    is_all: bool
    """Whether nothing more is due than `queued`."""


@dataclass(frozen=True, slots=True)
class PoolContents:
    """What waits for any phone."""

    queued: list[Command]
    next_due_at: int | None
    is_all: bool


def read_lane(connection: Connection, device_id: str, now_ms: int, page: int, *, is_known: bool = False) -> LaneContents:
    """All that there is for one device; of one that `is_known`, whose SIMs and commands on their way memory has, what is queued alone."""
    queued = kept.due(connection, device_id, now_ms, page)
    is_all = len(queued) < page
    if not is_all:
        there = {command.message_id for command in queued}
        queued += [stop for stop in kept.due_stops(connection, device_id, now_ms) if stop.message_id not in there]
    next_due_at = kept.next_due_at(connection, device_id, now_ms)
    if is_known:
        return LaneContents(queued, on_their_way=[], usages={}, sim_cards=None, next_due_at=next_due_at, is_all=is_all)
    status = records.find_status(connection, device_id)
    return LaneContents(
        queued=queued,
        on_their_way=kept.on_their_way(connection, device_id),
        usages=sims.find_of(connection, device_id),
        sim_cards=None if status is None else status.status.sim_cards,
        next_due_at=next_due_at,
        is_all=is_all,
    )


def read_pool(connection: Connection, now_ms: int, page: int) -> PoolContents:
    """What waits for any phone, and when more does."""
    queued = kept.due(connection, None, now_ms, page)
    return PoolContents(queued, kept.next_due_at(connection, None, now_ms), is_all=len(queued) < page)
