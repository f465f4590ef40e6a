"""An hour in the life of a fleet and its gateway, with all that may go wrong, from one seed: for the checker, and for comparing runs.

    python -m signal_gateway.testing.simulation --seeds 0:100

Phones and agents beat, report and register over a bad network; some have a double that takes their place; the database refuses commits,
loses its answers and lets wait for them; the gateway is restarted in good order and crashes. The last minutes are calm, so that at the
end everything must be as it should. What happened is in the history; `testing.checker` says whether it may.
"""

import argparse
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from random import Random
from typing import Any

import trio
from trio.testing import MockClock

from protocol.frame import FrameType
from protocol.payload import PayloadKind
from signal_gateway.config import Config
from signal_gateway.domain.access import Scope
from signal_gateway.observe.collector import collector_settled
from signal_gateway.services.authentication import AuthSettings
from signal_gateway.services.commands import Commands
from signal_gateway.services.device_directory import KnownDevice
from signal_gateway.services.room_desk import RoomDesk
from signal_gateway.services.sim_rules import SimRulesOf
from signal_gateway.storage import commands as kept
from signal_gateway.storage.inline import Image
from signal_gateway.testing.agent import SimulatedAgent
from signal_gateway.testing.behaviour import FLAWLESS
from signal_gateway.testing.checker import check
from signal_gateway.testing.client import Client, LinkClosed, NoLink
from signal_gateway.testing.command_laws import CommandHistory, breaches
from signal_gateway.testing.determinism import drawn_from
from signal_gateway.testing.device import SimulatedDevice
from signal_gateway.testing.faults import PERFECT, Network
from signal_gateway.testing.history import SIMULATION, History
from signal_gateway.testing.lane_watch import LaneWatch
from signal_gateway.testing.numbers import FleetNumbers
from signal_gateway.testing.operators import SimulatedOperator
from signal_gateway.testing.phone import SimulatedPhone, invent_phone
from signal_gateway.testing.room_laws import check_rooms
from signal_gateway.testing.room_party import RoomParty, RoomPlay
from signal_gateway.testing.sick_disk import SickDisk
from signal_gateway.testing.simulation_plan import OPERATED, SimulationPlan, roomed
from signal_gateway.testing.world import WORLD_BEGINS_MS, World, open_world

ENROLMENT_KEY = "demo-enrolment-key"
TOKEN = "test-token"  # noqa: S105 - of a client that exists nowhere else
DRAIN_S, CLOSE_S = 8.0, 1.0
DOWN_S = (1.0, 20.0)
"""Seconds from the end of one life of the gateway to the next."""
CRASH_S = (0.0, 3.0)
"""Seconds before a crash in which nothing is committed any more."""
SETTLE_S = 30.0
"""Seconds from the last thing that a device does of its own accord to the look at what is so."""


def simulate(plan: SimulationPlan, seed: int) -> History:
    """One run, on a clock of its own."""
    return simulated(plan, seed).history


def simulated(plan: SimulationPlan, seed: int) -> "Simulation":
    """The same, with all that came of it."""

    async def run() -> Simulation:
        simulation = Simulation(plan, seed)
        await simulation.run()
        return simulation

    with collector_settled():  # a sixth of the run is looking for garbage else
        return trio.run(run, clock=MockClock(autojump_threshold=0))


class Simulation:
    """A fleet that outlives its gateways. Everything that is drawn is drawn from the seed."""

    def __init__(self, plan: SimulationPlan, seed: int) -> None:
        self._plan = plan
        self._seed = seed
        self._random = Random(f"simulation {seed}")
        self._numbers = FleetNumbers()
        self._reported: Counter[str] = Counter()
        self._world: World | None = None
        self._is_calm = False
        self._is_over = False
        """Whether devices begin nothing new any more."""
        self.history = History(quiet=True)
        self._disk = SickDisk(plan, self.history, self._random)
        self.network = Network(plan.faults, Random(f"network of {seed}"), self.history.note_fault)
        agents = [f"sim-agent-{number:04d}" for number in range(plan.agents)]
        self._registering = frozenset(agents[::2] if plan.play is None else agents)
        self._config = Config(
            auth=AuthSettings(
                api_keys=tuple(f"{agent}:{TOKEN}" for agent in agents if agent not in self._registering),
                enrolment_keys=(f"demo:{ENROLMENT_KEY}",),
            ),
            commands=plan.commands,
            phones=plan.phone_settings,
            rooms=plan.rooms,
        )
        self.devices = self._muster(agents)
        names = sorted({phone.device_id for phone in self.devices if isinstance(phone, SimulatedPhone)})
        self.operator = SimulatedOperator("operator", names, self._served, Random(f"operator of {seed}"), self._wall_ms)
        self.party = self._gather(plan.play)
        self.commands = CommandHistory((), {}, {})
        """What became of commands; known at the end."""
        self._lanes = LaneWatch()

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

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[World]:
        async with (
            open_world(self._config, self._seed, self._disk.database, network=self.network, history=self.history) as world,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._lanes.look, world)
            yield world
            nursery.cancel_scope.cancel()

    async def _live(self, seconds: float, crashes: bool) -> None:
        image: Image | None = None
        async with self._open() as world:
            self._tell_rooms(world)
            self._disk.fall_ill()
            self._world = world
            await trio.sleep(seconds)
            if crashes:  # the disk goes first
                self._disk.die()
                await trio.sleep(self._random.uniform(*CRASH_S))
            self._world = None
            if crashes:
                image = world.crash()
            else:
                await world.gateway.hub.drain(DRAIN_S, CLOSE_S)
        self._disk.recover()  # a gateway that cannot start has no life
        if image is not None:
            self._disk.restore(image)

    async def _live_last(self, seconds: float, fleet: trio.Nursery) -> None:
        async with self._open() as world:
            self._tell_rooms(world)
            self._disk.fall_ill()
            self._world = world
            await trio.sleep(seconds)
            self._calm_down()
            self._disk.recover()
            await trio.sleep(self._plan.calm_s)
            self._is_over = True
            if self.party is not None:
                self.party.is_over = True
            await trio.sleep(SETTLE_S)
            self._tell_truth(world)
            self._world = None
            fleet.cancel_scope.cancel()
            await trio.sleep(SETTLE_S)
            self._tell_truth(world)
            self.history.note(SIMULATION, "connections left", len(world.links.child_tasks))

    def _calm_down(self) -> None:
        self.network.plan = PERFECT
        self._is_calm = True
        for device in self.devices:
            if isinstance(device, SimulatedPhone):
                device.handset.behaviour = FLAWLESS

    def _tell_rooms(self, world: World) -> None:
        """Who sits where, as the gateway has it."""
        rooms = [
            (room.room_id, tuple((seat.client_id, seat.role.value, seat.joined_at) for seat in room.seats.values()))
            for room in world.gateway.rooms.opened()
        ]
        self.history.note(SIMULATION, "rooms", tuple(rooms))

    def _desk(self) -> RoomDesk | None:
        return None if self._world is None or self._world.has_crashed else self._world.gateway.room_desk

    def _served(self) -> Commands | None:
        """The service of the gateway that runs. One whose disk is dying answers nobody."""
        return None if self._world is None or self._world.has_crashed else self._world.gateway.commands

    def _tell_truth(self, world: World) -> None:
        """Of each device, whether it has a link, and whether the gateway says so."""
        linked = {device.device_id for device in self.devices if device.client is not None}
        views = {device.device_id: world.gateway.presence.view(device.device_id) for device in self.devices}
        told = [(device_id, device_id in linked, view is not None and view.linked) for device_id, view in views.items()]
        self.history.note(SIMULATION, "truth", tuple(told))
        self._tell_rooms(world)

    def _tell_end(self, tasks_left: int) -> None:
        self.history.note(SIMULATION, "tasks left", tasks_left)
        for table in ("reports", "registrations", "connection_logs", "device_status", "rooms", "room_members"):
            self.history.note(SIMULATION, f"rows of {table}", tuple(self._disk.database.rows(table)))
        self.commands = self._commands_at_the_end()
        self._disk.database.close()

    def _commands_at_the_end(self) -> CommandHistory:
        with self._disk.database.engine.connect() as connection:
            commands = {
                each.message_id: each for each in kept.search(connection, Scope(), None, (), None, None, len(self.operator.asked) + 1)
            }
            steps = {message_id: kept.steps_of(connection, message_id) for message_id in commands}
        phones = [device for device in self.devices if isinstance(device, SimulatedPhone)]
        rules = SimRulesOf(self._config.commands)
        any_phone = KnownDevice("", "phone", None, self._config.phones)
        return CommandHistory(
            self.operator.accepted,
            commands,
            steps,
            self.history.effects(),
            self.operator.asked,
            partial(rules.of, any_phone),
            [message_id for phone in phones for message_id in phone.known_as_done()],
            sorted(self._lanes.found),
        )

    # the fleet's side

    def _muster(self, agents: Sequence[str]) -> list[SimulatedDevice]:
        plan = self._plan
        of_phones = min(plan.doubles // 2, plan.phones)
        phones = [self._phone(number) for number in [*range(plan.phones), *range(of_phones)]]
        names = [*agents, *agents[: plan.doubles - of_phones]]
        kinds = [PayloadKind.JSON if plan.play is None or number % 3 else PayloadKind.CBOR for number in range(len(names))]
        return [*phones, *map(self._agent, names, kinds)]

    def _phone(self, number: int) -> SimulatedPhone:
        profile = invent_phone(number, Random(f"phone {number} of {self._seed}"))
        dial = partial(self._dial, profile.device_id)
        random, tell = Random(self._random.random()), self.history.note_effect
        return SimulatedPhone(
            profile, ENROLMENT_KEY, dial, self._numbers, random, wall_ms=self._wall_ms, behaviour=self._plan.behaviour, tell=tell
        )

    def _agent(self, name: str, kind: PayloadKind) -> SimulatedAgent:
        registers = name in self._registering
        token, dial = ENROLMENT_KEY if registers else TOKEN, partial(self._dial, name)
        return SimulatedAgent(name, token, dial, self._numbers, Random(self._random.random()), payload_kind=kind, registers=registers)

    def _gather(self, play: RoomPlay | None) -> RoomParty | None:
        if play is None:
            return None
        agents = [device for device in self.devices if isinstance(device, SimulatedAgent)]
        return RoomParty(agents, self._desk, partial(self.history.note, SIMULATION), Random(f"party of {self._seed}"), play)

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
            if self._plan.command_every_s is not None:
                fleet.start_soon(self._operate, self._plan.command_every_s)
            if self.party is not None:
                fleet.start_soon(self.party.run)
            task_status.started(fleet)

    async def _operate(self, every_s: float) -> None:
        with trio.CancelScope() as working:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.operator.work, every_s, self._plan.ttl_s)
                while not self._is_calm:  # noqa: ASYNC110 - looked at now and then is enough
                    await trio.sleep(1)
                working.cancel()

    async def _own(self, device: SimulatedDevice) -> None:
        """Somebody who starts a device again that was told to stay away."""
        await trio.sleep(device.random.uniform(0, 60))
        while not self._is_over:
            await device.live()
            seconds = device.random.uniform(*self._plan.come_back_s)
            if self.party is None:
                await trio.sleep(seconds)
            else:
                await self.party.rest(device, seconds)

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


def main() -> None:
    """Run seeds one after the other, and say of each what was wrong."""
    parser = argparse.ArgumentParser(description="Simulated hours of a fleet and its gateway.")
    parser.add_argument("--seeds", default="0:10", help="from:to, the last one left out; or one seed")
    parser.add_argument("--operated", action="store_true", help="rough phones that an operator commands, instead of a fleet that reports")
    parser.add_argument("--rooms", action="store_true", help="clients who make each other's life in rooms hard")
    parser.add_argument("--digest", action="store_true", help="print the digest of each history and nothing else")
    asked = parser.parse_args()
    first, _, end = asked.seeds.partition(":")
    wrong = 0
    for seed in range(int(first), int(end or int(first) + 1)):
        plan = roomed(seed) if asked.rooms else OPERATED if asked.operated else SimulationPlan()
        simulation = simulated(plan, seed)
        history = simulation.history
        if asked.digest:
            print(history.digest())
            continue
        faults = check(history) + breaches(simulation.commands) + check_rooms(history, plan.rooms)
        wrong += bool(faults)
        print(f"seed {seed}: {len(history.entries)} entries, {len(faults)} findings", flush=True)
        for fault in faults:
            print(f"  {fault}", flush=True)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
