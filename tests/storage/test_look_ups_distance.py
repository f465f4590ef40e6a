"""How trips keep their distance, on a clock of its own: the thread at their other end is played by a list."""

from collections.abc import Callable
from typing import Any, cast

import outcome
import trio
from trio.testing import MockClock

from signal_gateway.storage.island import Island
from signal_gateway.storage.look_ups import DISTANCE_S, Answers, LookUps


class Trips:
    """Takes every trip and answers it at once; notes when it began and how many it carried."""

    def __init__(self) -> None:
        self.begun: list[tuple[float, int]] = []
        self.look_ups = LookUps(cast("Island", self), cast("Any", self._answer))

    def start(self, job: Callable[[], Answers], answered: Callable[[outcome.Outcome[Answers]], None]) -> None:
        result = outcome.Value(job())
        self.begun.append((trio.current_time(), len(result.value)))
        trio.lowlevel.spawn_system_task(self._tell, answered, result)

    async def _tell(self, answered: Callable[[outcome.Outcome[Answers]], None], result: outcome.Outcome[Answers]) -> None:
        answered(result)

    def _answer(self, work: Callable[[Any], Answers]) -> Answers:
        return work(None)


async def test_who_comes_alone_goes_at_once_and_who_comes_soon_after_goes_together(autojump_clock: MockClock):
    trips = Trips()
    assert await trips.look_ups.run(lambda _: 1) == 1
    assert trips.begun == [(0.0, 1)]
    found: list[int] = []

    async def ask(number: int) -> None:
        found.append(await trips.look_ups.run(lambda _: number))

    async with trio.open_nursery() as nursery:
        for number in (2, 3, 4):
            nursery.start_soon(ask, number)
    assert sorted(found) == [2, 3, 4]
    assert trips.begun == [(0.0, 1), (DISTANCE_S, 3)]
    await trio.sleep(1)
    begun_at = trio.current_time()
    assert await trips.look_ups.run(lambda _: 5) == 5
    assert trio.current_time() == begun_at


async def test_no_trip_sets_out_for_those_who_stopped_waiting(autojump_clock: MockClock):
    """At the end the database is gone a moment after the last asker."""
    trips = Trips()
    await trips.look_ups.run(lambda _: 1)
    with trio.move_on_after(DISTANCE_S / 2):
        await trips.look_ups.run(lambda _: 2)
    await trio.sleep(1)
    assert len(trips.begun) == 1
