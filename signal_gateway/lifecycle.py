"""How the parts of a server start and end together: stages of loops, and the signals that end them (DESIGN.md §3, Nurseries)."""

import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from signal_gateway.observe.logs import logger

log = logger("server")

Loop = Callable[..., Awaitable[Any]]
"""A `run` that calls `task_status.started()` when it is ready, and ends when it is cancelled."""


@asynccontextmanager
async def stage(*loops: Loop) -> AsyncGenerator[None, None]:
    """One floor: start its loops, in order, each ready before the next; end them when the floors above have ended.

    A loop that fails ends the floor, and so the process: without it the server would lie about what it does.
    """
    async with trio.open_nursery() as nursery:
        for loop in loops:
            await nursery.start(loop)
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()


class Stop:
    """How the server is asked to end: `asked` on the first signal, and the whole server at once on the second, or while it starts."""

    def __init__(self, reload: Callable[[], None]) -> None:
        self.asked = trio.Event()
        self.at_once = False
        """Whether there was no time for a goodbye."""
        self.is_serving = False
        """Whether there are links to say goodbye to."""
        self._reload = reload

    async def watch_signals(self, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """SIGTERM and SIGINT ask to end; a second one ends `everything` now. SIGHUP reads certificate and log level again."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            task_status.started()
            async for number in signals:
                log.info("signal", name=signal.Signals(number).name)
                if number == signal.SIGHUP:
                    self._reload()
                elif self.asked.is_set() or not self.is_serving:
                    self.at_once = True
                    everything.cancel()
                    return
                else:
                    self.asked.set()
