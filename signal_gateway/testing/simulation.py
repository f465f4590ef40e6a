"""An hour in the life of a fleet and its gateway, with all that may go wrong, from one seed: for the checker, and for comparing runs.

    python -m signal_gateway.testing.simulation --seeds 0:100

Phones and agents beat, report and register over a bad network; some have a double that takes their place; the database refuses commits
and loses its answers; the gateway is restarted in good order and crashes. The last minutes are calm, so that at the end everything
must be as it should. What happened is in the history; `testing.checker` says whether it may.
"""

import argparse
import gc
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import trio
from trio.testing import MockClock

from protocol.frame import FrameType
from signal_gateway.app import GC_THRESHOLD_OBJECTS
from signal_gateway.config import Config
from signal_gateway.domain.errors import DatabaseDown
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.storage.database import InlineDatabase
from signal_gateway.storage.faults import OutcomeUnknown
from signal_gateway.storage.inline import Image
from signal_gateway.testing.agent import SimulatedAgent
from signal_gateway.testing.checker import check
from signal_gateway.testing.client import Client, LinkClosed, NoLink
from signal_gateway.testing.determinism import drawn_from
from signal_gateway.testing.device import SimulatedDevice
from signal_gateway.testing.faults import PERFECT, FaultPlan, Network
from signal_gateway.testing.history import DATABASE, SIMULATION, History
from signal_gateway.testing.numbers import FleetNumbers
from signal_gateway.testing.phone import SimulatedPhone, invent_phone
from signal_gateway.testing.world import WORLD_BEGINS_MS, World, open_world

STORM = FaultPlan(
    delay_s=(0.005, 0.4),
    split_chance=0.2,
    stall_chance=0.004,
    stall_s=(1.0, 40.0),
    cut_chance=0.003,
    reset_chance=0.003,
    vanish_chance=0.003,
    notice_s=(20.0, 240.0),
)
"""About three faults for each device and hour."""
ENROLMENT_KEY = "demo-enrolment-key"
TOKEN = "test-token"  # noqa: S105 - of a client that exists nowhere else
DRAIN_S, CLOSE_S = 8.0, 1.0
DOWN_S = (1.0, 20.0)
"""Seconds from the end of one life of the gateway to the next."""
CRASH_S = (0.0, 3.0)
"""Seconds before a crash in which nothing is committed any more."""
COME_BACK_S = (60.0, 600.0)
"""Seconds after which somebody starts a device again that was told to stay away."""
SETTLE_S = 30.0
"""Seconds from the last thing that a device does of its own accord to the look at what is so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationPlan:
    """What happens in one run."""

    phones: int = 10
    agents: int = 10
    """Half of them CONNECT, half REGISTER."""
    doubles: int = 2
    """Phones and agents of which there are two, who take each other's place."""
    storm_s: float = 3300.0
    """Seconds with faults, over all lives of the gateway."""
    calm_s: float = 300.0
    """Seconds without, at the end."""
    faults: FaultPlan = STORM
    lives: int = 3
    """Of the gateway: one in two of the changes is a crash, the others are restarts in good order."""
    report_every_s: float = 300.0
    """Mean time between two reports of a device."""
    unregister_every_s: float = 1200.0
    """Mean time between two UNREGISTERs of an agent that registers."""
    commit_fails_chance: float = 0.01
    """That the database is down when a transaction commits."""
    commit_doubt_chance: float = 0.005
    """That its answer to a commit is lost."""


def simulate(plan: SimulationPlan, seed: int) -> History:
    """One run, on a clock of its own."""

    async def run() -> History:
        return await Simulation(plan, seed).run()

    thresholds = gc.get_threshold()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, *thresholds[1:])  # as in the real server: a sixth of the run is looking for garbage else
    try:
        return trio.run(run, clock=MockClock(autojump_threshold=0))
    finally:
        gc.set_threshold(*thresholds)


class Simulation:
    """A fleet that outlives its gateways. Everything that is drawn is drawn from the seed."""

    def __init__(self, plan: SimulationPlan, seed: int) -> None:
        self._plan = plan
        self._seed = seed
        self._random = Random(f"simulation {seed}")
        self._numbers = FleetNumbers()
        self._reported: Counter[str] = Counter()
        self._world: World | None = None
        self._database = InlineDatabase()
        self._is_over = False
        """Whether devices begin nothing new any more."""
        self.history = History(quiet=True)
        self.network = Network(plan.faults, Random(f"network of {seed}"), self.history.note_fault)
        agents = [f"sim-agent-{number:04d}" for number in range(plan.agents)]
        self._registering = frozenset(agents[::2])
        self._config = Config(
            auth=AuthSettings(
                api_keys=tuple(f"{agent}:{TOKEN}" for agent in agents if agent not in self._registering),
                enrolment_keys=(f"demo:{ENROLMENT_KEY}",),
            )
        )
        self.devices = self._muster(agents)

    async def run(self) -> History:
        """All lives of the gateway, and the calm at the end."""
        tasks_before = trio.lowlevel.current_statistics().tasks_living
        with drawn_from(self._seed):
            async with trio.open_nursery() as everything:
                fleet: trio.Nursery = await everything.start(self._live_as_fleet)
                for seconds in self._lives():
                    await self._live(seconds, crashes=self._random.random() < 0.5)
                    await trio.sleep(self._random.uniform(*DOWN_S))
                await self._live_last(self._plan.storm_s / self._plan.lives, fleet)
            self._tell_end(trio.lowlevel.current_statistics().tasks_living - tasks_before)
        return self.history

    # the gateway's side

    def _lives(self) -> Sequence[float]:
        """How long each life of the gateway is, but the last one."""
        mean_s = self._plan.storm_s / self._plan.lives
        return [self._random.uniform(0.5, 1.5) * mean_s for _ in range(self._plan.lives - 1)]

    def _open(self) -> AbstractAsyncContextManager[World]:
        return open_world(self._config, self._seed, self._database, network=self.network, history=self.history)

    async def _live(self, seconds: float, crashes: bool) -> None:
        image: Image | None = None
        async with self._open() as world:
            self._disturb_commits()
            self._world = world
            await trio.sleep(seconds)
            if crashes:  # the disk goes first
                self._database.before_commit = _refuse
                await trio.sleep(self._random.uniform(*CRASH_S))
            self._world = None
            if crashes:
                image = world.crash()
            else:
                await world.gateway.hub.drain(DRAIN_S, CLOSE_S)
        self._database.before_commit = self._database.after_commit = _nothing  # a gateway that cannot start has no life
        if image is not None:
            self._database.close()
            self._database = InlineDatabase(image=image)

    async def _live_last(self, seconds: float, fleet: trio.Nursery) -> None:
        async with self._open() as world:
            self._disturb_commits()
            self._world = world
            await trio.sleep(seconds)
            self.network.plan = PERFECT
            self._database.before_commit = self._database.after_commit = _nothing
            await trio.sleep(self._plan.calm_s)
            self._is_over = True
            await trio.sleep(SETTLE_S)
            self._tell_truth(world)
            self._world = None
            fleet.cancel_scope.cancel()
            await trio.sleep(SETTLE_S)
            self._tell_truth(world)
            self.history.note(SIMULATION, "connections left", len(world.links.child_tasks))

    def _disturb_commits(self) -> None:
        """Hooks of this life's database; the number of a commit says nothing, chance does."""
        plan, random = self._plan, self._random

        def before(_number: int) -> None:
            if random.random() < plan.commit_fails_chance:
                self.history.note(DATABASE, "down")
                raise DatabaseDown

        def after(_number: int) -> None:
            if random.random() < plan.commit_doubt_chance:
                self.history.note(DATABASE, "answer lost")
                raise OutcomeUnknown("", None)

        self._database.before_commit, self._database.after_commit = before, after

    def _tell_truth(self, world: World) -> None:
        """Of each device, whether it has a link, and whether the gateway says so."""
        linked = {device.device_id for device in self.devices if device.client is not None}
        views = {device.device_id: world.gateway.presence.view(device.device_id) for device in self.devices}
        told = [(device_id, device_id in linked, view is not None and view.linked) for device_id, view in views.items()]
        self.history.note(SIMULATION, "truth", tuple(told))

    def _tell_end(self, tasks_left: int) -> None:
        self.history.note(SIMULATION, "tasks left", tasks_left)
        for table in ("reports", "registrations", "connection_logs", "device_status"):
            self.history.note(SIMULATION, f"rows of {table}", tuple(self._database.rows(table)))
        self._database.close()

    # the fleet's side

    def _muster(self, agents: Sequence[str]) -> list[SimulatedDevice]:
        plan = self._plan
        phones = [self._phone(number) for number in [*range(plan.phones), *range(plan.doubles // 2)]]
        return [*phones, *(self._agent(name) for name in [*agents, *agents[: plan.doubles - plan.doubles // 2]])]

    def _phone(self, number: int) -> SimulatedPhone:
        profile = invent_phone(number, Random(f"phone {number} of {self._seed}"))
        dial = partial(self._dial, profile.device_id)
        return SimulatedPhone(profile, ENROLMENT_KEY, dial, self._numbers, Random(self._random.random()), wall_ms=self._wall_ms)

    def _agent(self, name: str) -> SimulatedAgent:
        registers = name in self._registering
        token, dial = ENROLMENT_KEY if registers else TOKEN, partial(self._dial, name)
        return SimulatedAgent(name, token, dial, self._numbers, Random(self._random.random()), registers=registers)

    def _wall_ms(self) -> int:
        return WORLD_BEGINS_MS + round(self.history.now_s() * 1000)

    @asynccontextmanager
    async def _dial(self, who: str, resource: str, headers: Mapping[str, str]) -> AsyncGenerator[Client]:
        if self._world is None:
            raise NoLink("the gateway is down")
        async with self._world.dial_quickly(who, resource, headers) as client:
            yield client

    async def _live_as_fleet(self, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
        async with trio.open_nursery() as fleet:
            for device in self.devices:
                fleet.start_soon(self._own, device)
                fleet.start_soon(self._report_on, device)
                if device.device_id in self._registering and isinstance(device, SimulatedAgent):
                    fleet.start_soon(self._unregister_now_and_then, device)
            task_status.started(fleet)

    async def _own(self, device: SimulatedDevice) -> None:
        """Somebody who starts a device again that was told to stay away."""
        await trio.sleep(device.random.uniform(0, 60))
        while not self._is_over:
            await device.live()
            await trio.sleep(device.random.uniform(*COME_BACK_S))

    async def _report_on(self, device: SimulatedDevice) -> None:
        """Report an SMS now and then, or several at once."""
        async with trio.open_nursery() as reports:
            while True:
                await trio.sleep(device.random.expovariate(1 / self._plan.report_every_s))
                for _ in range(device.random.choice((1, 1, 1, 4))):
                    self._reported[device.device_id] += 1
                    reports.start_soon(self._report, device, f"r:{device.device_id}/{self._reported[device.device_id]};")

    async def _report(self, device: SimulatedDevice, text: str) -> None:
        """Report again and again until it is acknowledged."""
        data = {"phone_number": "+905551234567", "message": text, "direction": "received"}
        while not await self._is_acknowledged(device, data):  # noqa: ASYNC110 - a device tries again when it likes
            await trio.sleep(device.random.uniform(1, 10))

    async def _is_acknowledged(self, device: SimulatedDevice, data: Mapping[str, Any]) -> bool:
        if device.client is None or self._is_over:
            return False
        try:
            if isinstance(device, SimulatedAgent):
                asked = {"type": "sms_message", "timestamp": self._wall_ms(), "data": data}
                return (await device.ask(FrameType.REPORT, asked))[0] == FrameType.REPORT_ACK
            if isinstance(device, SimulatedPhone):
                await device.report("sms_message", data)
        except (LinkClosed, trio.TooSlowError):
            return False
        return True

    async def _unregister_now_and_then(self, agent: SimulatedAgent) -> None:
        record = {"version": "1.0.0", "client_id": agent.device_id, "auth_token": ENROLMENT_KEY}
        while True:
            await trio.sleep(agent.random.expovariate(1 / self._plan.unregister_every_s))
            registers_again = agent.random.random() < 0.3  # or with its next link
            for frame_type in (FrameType.UNREGISTER, FrameType.REGISTER)[: 1 + registers_again]:
                if agent.client is not None and not self._is_over:
                    with suppress(LinkClosed, trio.TooSlowError):
                        await agent.ask(frame_type, record)


def _nothing(_number: int) -> None:
    pass


def _refuse(_number: int) -> None:
    raise DatabaseDown


def main() -> None:
    """Run seeds one after the other, and say of each what was wrong."""
    parser = argparse.ArgumentParser(description="Simulated hours of a fleet and its gateway.")
    parser.add_argument("--seeds", default="0:10", help="from:to, the last one left out; or one seed")
    parser.add_argument("--digest", action="store_true", help="print the digest of each history and nothing else")
    asked = parser.parse_args()
    first, _, end = asked.seeds.partition(":")
    wrong = 0
    for seed in range(int(first), int(end or int(first) + 1)):
        history = simulate(SimulationPlan(), seed)
        if asked.digest:
            print(history.digest())
            continue
        faults = check(history)
        wrong += bool(faults)
        print(f"seed {seed}: {len(history.entries)} entries, {len(faults)} findings", flush=True)
        for fault in faults:
            print(f"  {fault}", flush=True)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
