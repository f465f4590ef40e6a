"""Short reads that come together share one trip to the database's thread.

A trip wakes two threads, borrows a connection and brackets it with a transaction: several times what finding one row costs. A fleet that
comes back asks for hundreds of rows at once. So what is asked while a trip is under way waits for the next one, and goes with all the
others that wait; and trips keep a distance of a few milliseconds. Who comes alone goes at once.
"""

from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import outcome
import trio
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from signal_gateway.domain.errors import DatabaseDown, DiskFull
from signal_gateway.storage.faults import refusal_of
from signal_gateway.storage.island import Island

T = TypeVar("T")
LookUp = Callable[[Connection], Any]
Answers = list[outcome.Outcome[Any]]

TRIPS_MAX = 2
"""Trips under way at once: while one waits for a slow disk or network, another still goes."""
TRIP_LOOK_UPS_MAX = 64
DISTANCE_S = 0.004
"""From the start of one trip to that of the next. Without it a trip that is quicker than the next asker carries one."""


class LookUps:
    """Collects short reads. `trip` runs a function over a Connection on the island, and raises what that means."""

    def __init__(self, island: Island, trip: Callable[[Callable[[Connection], Answers]], Coroutine[Any, Any, Answers]]) -> None:
        self._island = island
        self._trip = trip
        self._under_way = 0
        self._next_at = float("-inf")
        self._is_holding_back = False
        self._waiting: deque[tuple[LookUp, list[trio.lowlevel.Task]]] = deque()

    async def run(self, look_up: Callable[[Connection], T]) -> T:
        """The result of `look_up`. Who is cancelled stops waiting."""
        await trio.lowlevel.checkpoint_if_cancelled()
        asker = [trio.lowlevel.current_task()]

        def abandon(_: Callable[[], object]) -> trio.lowlevel.Abort:
            asker.clear()
            return trio.lowlevel.Abort.SUCCEEDED

        self._waiting.append((look_up, asker))
        self._set_out()
        return await trio.lowlevel.wait_task_rescheduled(abandon)

    def _set_out(self) -> None:
        while self._waiting and not self._waiting[0][1]:  # nobody waits for it any more: at the end not even the database does
            self._waiting.popleft()
        if self._under_way >= TRIPS_MAX or not self._waiting or self._is_holding_back:
            return
        now = trio.current_time()
        if now < self._next_at:
            self._is_holding_back = True
            trio.lowlevel.spawn_system_task(self._set_out_later)
            return
        self._next_at = now + DISTANCE_S
        passengers = [self._waiting.popleft() for _ in range(min(len(self._waiting), TRIP_LOOK_UPS_MAX))]
        look_ups = [look_up for look_up, _ in passengers]
        self._under_way += 1
        self._island.start(
            lambda: self._trip(lambda connection: answer_all(connection, look_ups)), lambda result: self._back(passengers, result)
        )

    async def _set_out_later(self) -> None:
        await trio.sleep_until(self._next_at)
        self._is_holding_back = False
        self._set_out()

    def _back(self, passengers: Sequence[tuple[LookUp, list[trio.lowlevel.Task]]], result: outcome.Outcome[Answers]) -> None:
        """A trip has ended. Where it stopped at a fault of the database, those behind it go again."""
        self._under_way -= 1
        if isinstance(result, outcome.Error):
            answers: Answers = [outcome.Error(_own(result.error)) for _ in passengers]
        else:
            answers = result.unwrap()
        self._waiting.extendleft(reversed(passengers[len(answers) :]))
        for (_, asker), answer in zip(passengers, answers, strict=False):
            if asker:
                trio.lowlevel.reschedule(asker.pop(), answer)
        self._set_out()


def _own(error: BaseException) -> BaseException:
    """For one of those who share a refusal: one object raised in many tasks would gather all their tracebacks."""
    if not isinstance(error, DatabaseDown | DiskFull):
        return error
    own = type(error)()
    own.__cause__ = error
    return own


def answer_all(connection: Connection, look_ups: Sequence[LookUp]) -> Answers:
    """What each found or raised, up to the first at which the database failed: after that a transaction answers nothing more.

    Raises what failed, when that was the first and the database is the cause; else it goes again, as the first of its trip.
    """
    answers: Answers = []
    for look_up in look_ups:
        try:
            answers.append(outcome.Value(look_up(connection)))
        except Exception as error:
            if not isinstance(error, SQLAlchemyError) and refusal_of(error) is None:
                answers.append(outcome.Error(error))  # its own fault, which leaves the transaction as it was
                continue
            if answers:
                return answers
            if refusal_of(error) is not None:
                raise
            return [outcome.Error(error)]
    return answers
