"""How the parts of a server start and end together: stages of loops, and the signals that end them (DESIGN.md §3, Nurseries)."""

import os
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from signal_gateway.observe.logs import logger

AT_ONCE_S = 10.0
"""Seconds after the second signal that storage has for what was put before."""

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

    def _end_in_any_case(self) -> None:
        """What was put is still written, unless the disk itself hangs: then no cancellation reaches it, and the process ends without."""
        timer = threading.Timer(AT_ONCE_S, os._exit, (1,))
        timer.daemon = True
        timer.start()

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
                    self._end_in_any_case()
                    everything.cancel()
                    return
                else:
                    self.asked.set()
