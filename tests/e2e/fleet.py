"""Simulated phones on real sockets against the real process: many at once, each telling what it was told is kept."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from random import Random

import trio

from signal_gateway.testing.client import Client, LinkClosed, NoLink, open_client_over
from signal_gateway.testing.crowd import connect_from
from signal_gateway.testing.numbers import FleetNumbers
from signal_gateway.testing.phone import SimulatedPhone, invent_phone
from tests.e2e.server import Server

DIALS_AT_ONCE = 32
CONNECT_S = 10


@asynccontextmanager
async def _dial_from(source: str, port: int, resource: str, headers: Mapping[str, str]) -> AsyncGenerator[Client]:
    try:
        with trio.fail_after(CONNECT_S):
            stream = await connect_from(source, "127.0.0.1", port)
    except (OSError, trio.TooSlowError):
        raise NoLink(f"nobody listens on port {port}") from None
    async with open_client_over(stream, resource, headers, deadline_s=30) as client:
        yield client


class Fleet:
    """Phones that live in a nursery, and what they have been told is kept."""

    def __init__(self, port: int, count: int) -> None:
        self.port = port
        self.numbers = FleetNumbers()
        self.acknowledged: set[str] = set()
        """The texts of all reports whose acknowledgement came."""
        self._told = trio.Event()
        self.phones = [self._phone(number) for number in range(count)]

    def _phone(self, number: int) -> SimulatedPhone:
        """A phone with an address of its own, and none of a hostile crowd's: whole fleets seldom share one."""
        dial = partial(_dial_from, f"127.0.{1 + number // 250}.{1 + number % 250}", self.port)
        return SimulatedPhone(invent_phone(number, Random(number)), "demo-enrolment-key", dial, self.numbers)

    async def come(self, nursery: trio.Nursery) -> None:
        """Every phone dials, not all at the same moment; returns when all have their links."""
        dialling = trio.CapacityLimiter(DIALS_AT_ONCE)

        async def come_in(phone: SimulatedPhone) -> None:
            async with dialling:
                await nursery.start(phone.live)

        async with trio.open_nursery() as arriving:
            for phone in self.phones:
                arriving.start_soon(come_in, phone)

    async def report_on(self, phone: SimulatedPhone, gap_s: float) -> None:
        """Report texts of its own, one after the other's acknowledgement, until cancelled; what is lost with a link is not counted."""
        for number in range(1_000_000):
            await trio.sleep(phone.random.uniform(0, 2 * gap_s))
            if phone.client is None:
                continue
            text = f"{phone.device_id} {number}"
            with suppress(LinkClosed, trio.TooSlowError):
                await phone.report("sms_message", {"phone_number": "+905551234567", "message": text, "direction": "received"})
                self.acknowledged.add(text)
                self._told.set()

    async def wait_for_acknowledged(self, count: int) -> None:
        """Until so many more reports are acknowledged."""
        wanted = len(self.acknowledged) + count
        while len(self.acknowledged) < wanted:
            self._told = trio.Event()
            await self._told.wait()


@asynccontextmanager
async def living(server: Server, count: int, gap_s: float = 1.0) -> AsyncGenerator[Fleet]:
    """So many phones, linked and reporting about every `gap_s` seconds while the context lasts."""
    fleet = Fleet(server.port, count)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(90):
            await fleet.come(nursery)
        for phone in fleet.phones:
            nursery.start_soon(fleet.report_on, phone, gap_s)
        yield fleet
        nursery.cancel_scope.cancel()
