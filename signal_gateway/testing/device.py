"""What every simulated device does: dial, live on its link, come back when it may (T-05, DESIGN.md §6)."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from random import Random

import trio

from protocol.close_codes import may_reconnect
from signal_gateway.testing.client import Client, LinkClosed, NoLink
from signal_gateway.testing.numbers import FleetNumbers

RECONNECT_S = (1.0, 5.0)
"""A device that lost its link comes back after a random time between these."""
HEARTBEAT_S = 30.0
REFUSED_FOR_GOOD = frozenset(range(400, 500)) - {429}
"""A device stays away after such an answer to its upgrade, unless `Retry-After` asks it to come back."""

Dial = Callable[[str, Mapping[str, str]], AbstractAsyncContextManager[Client]]
"""Opens a link: takes path with query, and headers."""


class SimulatedDevice(ABC):
    """One device of a fleet. `live` keeps it linked until cancelled, or until the server says that it must not come back."""

    def __init__(self, device_id: str, dial: Dial, numbers: FleetNumbers, random: Random, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.device_id = device_id
        self.numbers = numbers
        self.random = random
        self.heartbeat_s = heartbeat_s
        self._dial = dial
        self.client: Client | None = None
        """The open link, while there is one."""
        self._link_scope: trio.CancelScope | None = None
        self._away_s = 0.0

    async def live(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Dial, and dial again. Started when the first link stands, or was refused for good."""
        is_started = False

        def started() -> None:
            nonlocal is_started
            if not is_started:
                is_started = True
                task_status.started()

        while True:
            asked_to_wait_s = 0.0
            try:
                with trio.CancelScope() as self._link_scope:
                    await self._live_once(started)
            except NoLink as refused:
                self.numbers.failures[f"no link: {refused.status or 'unreachable'}"] += 1
                if refused.status in REFUSED_FOR_GOOD and refused.retry_after_s is None:
                    started()
                    return
                asked_to_wait_s = refused.retry_after_s or 0.0
            except LinkClosed as closed:
                self.numbers.failures[f"closed: {closed.code}"] += 1
                if not may_reconnect(closed.code):
                    started()
                    return
            except trio.TooSlowError:  # an upgrade that was answered, and then silence: as good as no link
                self.numbers.failures["no answer in time"] += 1
            away_s, self._away_s = self._away_s, 0.0
            await trio.sleep(asked_to_wait_s + away_s + self.random.uniform(*RECONNECT_S))

    def hang_up(self, away_s: float = 0.0) -> None:
        """End the link, if there is one, and stay away for so many seconds longer than usual."""
        if self.client is not None and self._link_scope is not None:
            self._away_s = away_s
            self.client = None  # from now on nothing more is said on it
            self._link_scope.cancel()

    @abstractmethod
    def where(self) -> tuple[str, Mapping[str, str]]:
        """Path with query, and headers, of the upgrade."""

    @abstractmethod
    async def introduce(self, client: Client) -> None:
        """What comes first on a new link. Raises LinkClosed when the server refuses."""

    @abstractmethod
    async def beat(self, client: Client) -> None:
        """One heartbeat."""

    @abstractmethod
    async def hear(self, client: Client, message: bytes | str) -> None:
        """One message of the server."""

    async def _live_once(self, started: Callable[[], None]) -> None:
        resource, headers = self.where()
        async with self._dial(resource, headers) as client:
            await self.introduce(client)
            self.client = client
            self.numbers.link_opened()
            started()
            try:
                await self._talk(client)
            finally:
                self.client = None
                self.numbers.links -= 1

    async def _talk(self, client: Client) -> None:
        ended: list[LinkClosed] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat_on, client)
            try:
                while True:
                    await self.hear(client, await client.receive(float("inf")))
            except LinkClosed as closed:  # raised outside of the nursery, where it is no group
                ended.append(closed)
            nursery.cancel_scope.cancel()
        raise ended[0]

    async def _beat_on(self, client: Client) -> None:
        await trio.sleep(self.random.uniform(0, self.heartbeat_s))  # a fleet does not beat as one
        try:
            while True:
                await self.beat(client)
                await trio.sleep(self.heartbeat_s)
        except LinkClosed:
            pass  # whoever listens hears the same
