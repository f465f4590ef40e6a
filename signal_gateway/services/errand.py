"""Work that comes to its end whatever becomes of the one who waits for it: what it brings is then given to somebody else."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Errand(Generic[T]):
    """`run` in a nursery that outlives the one who asked, and `wait` where it was asked for. Of what is made for somebody who has gone
    meanwhile, a session at a backend say, `unwanted` hears."""

    def __init__(self, work: Callable[[], Awaitable[T]], unwanted: Callable[[T], None]) -> None:
        self._work = work
        self._unwanted = unwanted
        self._over = trio.Event()
        self._result: list[T] = []
        self._error: Exception | None = None
        self._is_wanted = True

    async def run(self) -> None:
        """Do it. Raises what goes wrong only if nobody waits for it any more: nobody else would hear of it."""
        try:
            result = await self._work()
        except Exception as error:
            if not self._is_wanted:
                raise
            self._error = error
        else:
            if self._is_wanted:
                self._result.append(result)
            else:
                self._unwanted(result)
        finally:
            self._over.set()

    async def wait(self, cut_short: Exception) -> T:
        """What the work returns or raises; `cut_short`, when the nursery of `run` has ended before it."""
        has_it = False
        try:
            await self._over.wait()
            has_it = True
        finally:
            self._is_wanted = has_it
            if not has_it:  # who waits is cancelled, perhaps at the moment in which the result came
                for result in self._result:
                    self._unwanted(result)
        if self._result:
            return self._result[0]
        raise self._error or cut_short
