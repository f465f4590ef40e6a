"""What it costs to look for the commands of one device: as much in a large fleet as in a small one, and with a long past as with none."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Connection

from signal_gateway.domain.access import Scope
from signal_gateway.domain.command import CommandState
from signal_gateway.storage import commands
from signal_gateway.storage.inline import InlineDatabase
from signal_gateway.storage.lanes import read_lane, read_pool
from tests.domain.commands_made import AT, command

from .sqlite_steps import steps

OTHERS, MANY_OTHERS = 10, 300
PAST = 300
"""Commands of the device that ended."""
S = CommandState

LOOKS: dict[str, Callable[[Connection], Any]] = {
    "a lane": lambda connection: read_lane(connection, "phone-1", AT, 128),
    "what any phone may take": lambda connection: read_pool(connection, AT, 128),
    "what a deleted device leaves": lambda connection: commands.open_ids(connection, "phone-1", 100),
    "an operator's look": lambda connection: commands.search(connection, Scope(), "phone-1", (S.QUEUED,), None, None, 5),
}


@pytest.fixture
def numbers() -> Iterator[int]:
    return count(1)


def fill(connection: Connection, numbers: Iterator[int], others: int) -> None:
    """Five that wait, one scheduled and two on their way to phone-1, two for any phone, and others' before and behind them."""

    def keep(how_many: int, **changes: Any) -> None:
        some = [command(id=number, message_id=f"m{number}", **changes) for number in (next(numbers) for _ in range(how_many))]
        commands.keep(connection, some)

    def others_wait(name: str) -> None:
        for other in range(others):
            keep(5, device_id=f"{name}-{other}")
            keep(2, device_id=f"{name}-{other}", not_before=AT + 1000)

    others_wait("phone-before")
    keep(5)
    keep(1, not_before=AT + 500)
    keep(2, state=S.DISPATCHED, dispatched_at=AT)
    keep(2, device_id=None, any_device=True)
    others_wait("phone-0")


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
def test_it_does_not_grow_with_the_fleet(look: Callable[[Connection], Any], numbers: Iterator[int]):
    costs: list[int] = []
    for others in (OTHERS, MANY_OTHERS):
        database = InlineDatabase()
        with database.engine.connect() as connection:
            fill(connection, numbers, others)
            costs.append(steps(connection, look))
            connection.rollback()
        database.close()
    assert costs[1] <= 1.2 * costs[0], costs


def test_a_lane_does_not_grow_with_what_its_device_has_done(numbers: Iterator[int]):
    database = InlineDatabase()
    with database.engine.connect() as connection:
        fill(connection, numbers, OTHERS)
        before = steps(connection, LOOKS["a lane"])
        done = [command(id=each, message_id=f"m{each}", state=S.SENT, final_at=AT) for each in (next(numbers) for _ in range(PAST))]
        commands.keep(connection, done)
        after = steps(connection, LOOKS["a lane"])
        connection.rollback()
    database.close()
    assert after <= 1.2 * before, (before, after)
