"""A simulated fleet against a running server, and a live table of what it sees: `signal-gateway simulate`."""

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from random import Random

import trio
from rich.console import Console
from rich.live import Live
from rich.table import Table

from signal_gateway.testing import crowd
from signal_gateway.testing.agent import SimulatedAgent
from signal_gateway.testing.behaviour import FLAWLESS, Behaviour
from signal_gateway.testing.calls import SimulatedCall
from signal_gateway.testing.client import Client, LinkClosed
from signal_gateway.testing.device import HEARTBEAT_S, Dial, SimulatedDevice
from signal_gateway.testing.numbers import FleetNumbers
from signal_gateway.testing.phone import SimulatedPhone, invent_phone
from signal_gateway.testing.quick_client import dial_quickly

TABLE_EVERY_S = 1.0
LINE_EVERY_S = 5.0
"""Where there is no terminal, one line is printed so often."""
CONNECTS_AT_ONCE = 32
"""Devices that dial at the same time: the server lets 64 strangers of one address in."""
FAILURES_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Plan:
    """What `simulate` is to do."""

    url: str
    """Of the server's endpoint, `ws://host:port/ws`."""
    phones: int = 50
    agents: int = 10
    seconds: float | None = None
    """None = until Ctrl-C."""
    enrolment_key: str = "demo-enrolment-key"
    rate_per_s: float = 1.0
    """Messages a second of each device, beside the phones' heartbeats."""
    prefix: str = "sim"
    """How the ids of the devices begin."""
    behaviour: Behaviour = FLAWLESS
    """How well the phones do what they are told."""
    rooms: int = 0
    """Pairs of agents beside the others, who call each other in rooms of two."""
    hostile: int = 0
    """Hostile clients of each kind beside the fleet; only against a server on this machine, and only with `seconds`."""

    @property
    def links(self) -> int:
        """Of devices that mean well."""
        return self.phones + self.agents + 2 * self.rooms


async def run(plan: Plan) -> bool:
    """Drive the server as planned and print what came of it. Returns whether every device had a link and nothing failed.

    Raises CrowdRefused when hostile clients are asked for against a server that is not on this machine.
    """
    numbers = FleetNumbers()
    ends: dict[str, Counter[str]] = {}
    attack = crowd.CrowdPlan(plan.url, plan.hostile, plan.seconds or 0.0)
    if plan.hostile:
        crowd.check(attack)
    crowd.allow_open_files()
    fleet, calls = _muster(plan, numbers), _pair_up(plan, numbers)
    dialling = trio.CapacityLimiter(CONNECTS_AT_ONCE)
    try:
        with trio.move_on_after(plan.seconds if plan.seconds is not None else float("inf")):
            async with trio.open_nursery() as nursery:
                if plan.hostile:
                    await nursery.start(crowd.run_beside, attack, ends, plan.enrolment_key)
                for device in fleet:
                    nursery.start_soon(_live, device, plan.rate_per_s, dialling)
                for call in calls:
                    for agent in (call.host, call.guest):
                        nursery.start_soon(_live, agent, 1 / HEARTBEAT_S, dialling)
                    nursery.start_soon(call.talk_on)
                await _show(plan, numbers, ends)
    except* KeyboardInterrupt:
        pass
    Console().print(_table(plan, numbers, ends, None))
    return numbers.links_most == plan.links and not numbers.failures


def _muster(plan: Plan, numbers: FleetNumbers) -> list[SimulatedDevice]:
    fleet: list[SimulatedDevice] = []
    dial = _dial(plan.url)
    for number in range(plan.phones):
        random = Random(f"{plan.prefix}-phone-{number}")
        profile = invent_phone(number, random, plan.prefix)
        fleet.append(SimulatedPhone(profile, plan.enrolment_key, dial, numbers, random, behaviour=plan.behaviour))
    for number in range(plan.agents):
        name = f"{plan.prefix}-agent-{number:04d}"
        fleet.append(SimulatedAgent(name, plan.enrolment_key, dial, numbers, Random(name), registers=True))
    return fleet


def _pair_up(plan: Plan, numbers: FleetNumbers) -> list[SimulatedCall]:
    dial = _dial(plan.url)
    calls: list[SimulatedCall] = []
    for number in range(plan.rooms):
        names = [f"{plan.prefix}-{who}-{number:04d}" for who in ("host", "guest")]
        host, guest = (SimulatedAgent(name, plan.enrolment_key, dial, numbers, Random(name), registers=True) for name in names)
        calls.append(SimulatedCall(host, guest, numbers, Random(names[0])))
    return calls


def _dial(url: str) -> Dial:
    base, random = url.removesuffix("/ws"), Random()

    def dial(resource: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Client]:
        return dial_quickly(base + resource, headers, random)

    return dial


async def _live(device: SimulatedDevice, rate_per_s: float, dialling: trio.CapacityLimiter) -> None:
    async with trio.open_nursery() as nursery:
        async with dialling:
            await nursery.start(device.live)
        # By its own clock, not so long after the answer: who is answered together would speak together from then on, and ever more of them.
        next_at = trio.current_time() + device.random.uniform(0, 1 / rate_per_s)
        while True:
            await trio.sleep_until(next_at)
            if device.client is not None:
                await _say_something(device, device.client)
            next_at = max(next_at + 1 / rate_per_s, trio.current_time())


async def _say_something(device: SimulatedDevice, client: Client) -> None:
    try:
        if isinstance(device, SimulatedPhone):
            await device.report_sms()
        else:
            await device.beat(client)
    except trio.TooSlowError:
        device.numbers.failures["no answer in time"] += 1
    except LinkClosed:
        pass  # the device itself hears the same, counts it and comes back


async def _show(plan: Plan, numbers: FleetNumbers, ends: Mapping[str, Counter[str]]) -> None:
    """A live table on a terminal; elsewhere a line now and then."""
    console = Console()
    begun_at = sent_at = trio.current_time()
    sent_before = 0
    with Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else nullcontext() as live:
        while True:
            await trio.sleep(LINE_EVERY_S if live is None else TABLE_EVERY_S)
            sent, now = numbers.sent.total(), trio.current_time()
            rate = (sent - sent_before) / (now - sent_at)
            sent_before, sent_at = sent, now
            if live is None:
                print(_line(numbers, now - begun_at, rate), flush=True)
            else:
                live.update(_table(plan, numbers, ends, rate), refresh=True)


def _line(numbers: FleetNumbers, seconds: float, rate: float) -> str:
    p50, p99 = (1000 * numbers.latency_s(share) for share in (0.5, 0.99))
    failed = numbers.failures.total()
    obeyed = f"  {numbers.commands.total()} commands  {numbers.effects.total()} done" if numbers.commands else ""
    obeyed += f"  {numbers.calls['made']} calls" if numbers.calls else ""
    return f"{seconds:6.0f} s  {numbers.links} links  {rate:.0f} messages/s  p50 {p50:.1f} ms  p99 {p99:.1f} ms  {failed} failures{obeyed}"


def _table(plan: Plan, numbers: FleetNumbers, ends: Mapping[str, Counter[str]], rate: float | None) -> Table:
    table = Table(title=f"{plan.phones} phones, {plan.agents} agents at {plan.url}", show_header=False)
    table.add_row("links open", f"{numbers.links} of {plan.links} (most: {numbers.links_most})")
    if rate is not None:
        table.add_row("messages sent a second", f"{rate:.0f}")
    for name, counts in (("sent", numbers.sent), ("heard", numbers.heard)):
        table.add_row(name, ", ".join(f"{kind} {count}" for kind, count in counts.most_common()) or "nothing")
    table.add_row(
        "answered in", "p50 {:.1f} ms, p95 {:.1f} ms, p99 {:.1f} ms".format(*(1000 * numbers.latency_s(x) for x in (0.5, 0.95, 0.99)))
    )
    for name, counts in (("commands heard", numbers.commands), ("done", numbers.effects), ("results reported", numbers.results)):
        if counts:
            table.add_row(name, ", ".join(f"{kind} {count}" for kind, count in counts.most_common()))
    if plan.rooms:
        table.add_row(f"calls in {plan.rooms} rooms", ", ".join(f"{what} {count}" for what, count in numbers.calls.most_common()) or "none")
    failures = numbers.failures.most_common(FAILURES_SHOWN)
    table.add_row("failures", ", ".join(f"{what}: {count}" for what, count in failures) or "none")
    for kind, counts in ends.items():
        table.add_row(f"{plan.hostile} {kind}", ", ".join(f"{end}: {count}" for end, count in counts.most_common()) or "under way")
    return table
