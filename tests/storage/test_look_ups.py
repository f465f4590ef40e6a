"""Short reads that come together: each gets its own answer, whatever the others ask."""

from typing import Any

import pytest
import trio
from sqlalchemy import Connection, literal, select, text
from sqlalchemy.exc import SQLAlchemyError

from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.storage.database import Database, IslandDatabase
from signal_gateway.storage.look_ups import TRIP_LOOK_UPS_MAX, TRIPS_MAX

pytestmark = pytest.mark.slow


def look_for(number: int) -> Any:
    return lambda connection: connection.execute(select(literal(number))).scalar_one()


def no_table(connection: Connection) -> None:
    connection.execute(text("SELECT * FROM there_is_no_such_table"))


def fail(connection: Connection) -> None:
    raise KeyError("a bug of ours")


async def ask(database: Database, look_ups: list[Any]) -> list[Any]:
    """Ask all at once; what each found, or raised."""
    found: list[Any] = [None] * len(look_ups)

    async def one(place: int, look_up: Any) -> None:
        try:
            found[place] = await database.look_up(look_up)
        except Exception as error:
            found[place] = error

    async with trio.open_nursery() as nursery:
        for place, look_up in enumerate(look_ups):
            nursery.start_soon(one, place, look_up)
    return found


async def test_each_gets_its_own_answer(database: Database):
    assert await ask(database, [look_for(number) for number in range(300)]) == list(range(300))
    assert await database.look_up(look_for(7)) == 7
    assert database.jobs_outstanding == 0


async def test_what_one_gets_wrong_is_its_own_affair(database: Database):
    asked = [look_for(0), no_table, look_for(2), fail, no_table, look_for(5), no_table, look_for(7)] * 3
    found = await ask(database, asked)
    for place, answer in enumerate(found):
        if asked[place] is no_table:
            assert isinstance(answer, SQLAlchemyError)
        elif asked[place] is fail:
            assert isinstance(answer, KeyError)
        else:
            assert answer == place % 8


async def test_they_share_their_trips(sqlite: IslandDatabase, monkeypatch: pytest.MonkeyPatch):
    trips = 0
    read = sqlite._read

    async def counted(work: Any, timeout_s: float) -> Any:
        nonlocal trips
        trips += 1
        return await read(work, timeout_s)

    monkeypatch.setattr(sqlite, "_read", counted)
    asked = 10 * TRIP_LOOK_UPS_MAX
    await ask(sqlite, [look_for(number) for number in range(asked)])
    assert trips <= 10 + 2 * TRIPS_MAX
    trips = 0
    await sqlite.look_up(look_for(1))
    assert trips == 1


async def test_who_is_cancelled_stops_waiting_and_the_others_are_answered(sqlite: IslandDatabase):
    found: list[int] = []

    async def note(number: int) -> None:
        found.append(await sqlite.look_up(look_for(number)))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            with trio.CancelScope() as scope:
                scope.cancel()
                await sqlite.look_up(look_for(-1))
            nursery.start_soon(note, number)
        with trio.move_on_after(0):
            await sqlite.look_up(fail)
    assert sorted(found) == list(range(10))


async def test_a_database_that_is_down_is_told_to_all_who_share_the_trip(sqlite: IslandDatabase):
    def down(connection: Connection) -> None:
        raise OSError("no route")

    found = await ask(sqlite, [down, *[look_for(number) for number in range(20)]])
    assert isinstance(found[0], DatabaseDown)
    assert all(isinstance(answer, DatabaseDown) or answer == place - 1 for place, answer in enumerate(found[1:], 1))
    assert await sqlite.look_up(look_for(1)) == 1


async def test_each_who_shares_a_trip_is_told_by_an_error_of_its_own(sqlite: IslandDatabase):
    """One object raised in many tasks would gather all their tracebacks."""

    def down(connection: Connection) -> None:
        raise OSError("no route")

    told = await ask(sqlite, [down] * 20)
    assert all(isinstance(error, DatabaseDown) for error in told)
    assert len({id(error) for error in told}) == 20
    assert len({id(error.__cause__) for error in told}) < 20  # by which they shared trips
