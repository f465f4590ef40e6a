"""Sends each command when its time has come: the right phone, the right SIM, one at a time, within its limits (DESIGN.md §7).

Nothing is sent before the database has it as dispatched, and nothing is decided but on what the database holds: what stands in memory
only says where to look. A device that is linked and has commands has a lane; all else waits on disk.
"""

from collections.abc import Callable
from functools import partial
from math import inf

import trio

from signal_gateway.bus.local import Bus
from signal_gateway.domain.command import Command, CommandState, Wait
from signal_gateway.domain.command_rules import CommandEvent, Dispatched, LinkLost, Unsent
from signal_gateway.domain.device import SimCard
from signal_gateway.domain.events import (
    CommandChanged,
    CommandDue,
    DeviceLinked,
    DeviceMoved,
    DeviceSeen,
    DeviceUnlinked,
    SettingsChanged,
    SimSwitched,
)
from signal_gateway.observe.metrics import Metrics
from signal_gateway.services.backlog_pace import TURN_S, BacklogPace
from signal_gateway.services.command_lanes import Lane, Place
from signal_gateway.services.command_pool import CommandPool
from signal_gateway.services.command_posts import CommandPosts
from signal_gateway.services.command_reports import CommandReports
from signal_gateway.services.command_settings import CommandsSettings
from signal_gateway.services.command_sweeps import CommandSweeps
from signal_gateway.services.device_directory import DeviceDirectory, KnownDevice
from signal_gateway.services.device_endings import DeviceEndings
from signal_gateway.services.lane_reader import LaneReader
from signal_gateway.services.open_commands import OpenCommands
from signal_gateway.services.sim_rules import SimRulesOf
from signal_gateway.services.wake_times import WakeTimes
from signal_gateway.storage import commands as kept
from signal_gateway.storage.batch_writer import BatchWriter
from signal_gateway.storage.command_changes import Applied
from signal_gateway.storage.database import Database
from signal_gateway.storage.lanes import LaneContents, PoolContents

LANES_AT_ONCE = 16
"""A thousand phones that come at once would hold up the loop for tens of milliseconds."""
NOT_WRITTEN_S = 1.0
"""Until a dispatch that the writer did not take is tried again."""
POOL = ""
"""Stands among the ids of devices for what waits for any phone."""
SimsTold = Callable[[str], tuple[SimCard, ...] | None]
"""The SIMs that a phone has told of, as far as memory knows."""


class Dispatcher:
    """All lanes. `run` is its loop; all else may be called by anybody, and only `change` waits."""

    def __init__(
        self,
        database: Database,
        writer: BatchWriter,
        bus: Bus,
        directory: DeviceDirectory,
        settings: CommandsSettings,
        rules: SimRulesOf,
        sims_told: SimsTold,
        metrics: Metrics,
        wall_ms: Callable[[], int],
    ) -> None:
        self._database = database
        self._bus = bus
        self._directory = directory
        self._settings = settings
        self._rules_of = rules.of
        self._sims_told = sims_told
        self._wall_ms = wall_ms
        self._posts = CommandPosts(writer, settings.policy(), rules.of)
        self._linked: dict[str, DeviceLinked] = {}
        self.lanes: dict[str, Lane] = {}
        """Of linked devices, as far as they are in memory."""
        self._pool = CommandPool(self.lanes, self._linked)
        self.reports = CommandReports(bus, self.lanes, directory, rules, self._posts.post, self._follow, metrics)
        self.open = OpenCommands()
        """Commands that are not in a final state."""
        self.sweeps = CommandSweeps(
            database, bus, wall_ms, lambda event: self._posts.post(event, None, self._follow), lambda: self.open.total == 0
        )
        self.endings = DeviceEndings(writer, settings.policy(), self._follow)
        self._reader = LaneReader(database, directory, wall_ms, self._room, metrics)
        self._ready: dict[str, None] = {}
        self.pace = BacklogPace(settings.backlog_cpu, metrics)
        self._times = WakeTimes()
        self._woken = trio.Event()
        self._states = metrics.counter("command_states_total", "Steps of commands, by kind and the state they led to.", ("kind", "state"))
        metrics.gauge("commands_open", "Commands that are not in a final state.", lambda: self.open.total)
        metrics.gauge("command_lanes", "Linked devices whose commands are in memory.", lambda: len(self.lanes))
        metrics.gauge("commands_in_memory", "Queued commands in memory.", self._count_queued)
        bus.subscribe(DeviceLinked, self._hear_linked)
        bus.subscribe(DeviceUnlinked, self._hear_unlinked)
        bus.subscribe(DeviceSeen, self._hear_seen)
        bus.subscribe(SettingsChanged, self._hear_changed)
        bus.subscribe(DeviceMoved, self._hear_changed)
        bus.subscribe(SimSwitched, self._hear_switched)

    # asked by others

    def expect(self, command: Command) -> None:
        """A new command is being written. Where nothing stands before it, it is written as dispatched in the same transaction, and sets out
        one commit earlier. `offer` follows once it is on disk."""
        lane, now = self.lanes.get(command.device_id or POOL), self._wall_ms()
        if lane is not None and not self.open.of(None):
            place = lane.place_at_once(command, now)
            if not isinstance(place, Wait):
                self._claim(lane, command, place, now)

    def offer(self, command: Command) -> None:
        """A new command is on disk."""
        self.open.opened(command)
        lane = self.lanes.get(command.device_id or POOL)
        if lane is None or command.message_id not in lane.claiming:
            self._line_up(command, is_new=True)

    def wait_of(self, command: Command) -> Wait:
        """Why a queued command is not on its way."""
        if command.not_before is not None and command.not_before > self._wall_ms():
            return Wait("not_before", command.not_before)
        if command.device_id is None:
            return self._pool.waits.get(command.message_id) or Wait("no_phone")
        if command.device_id not in self._linked:
            return Wait("offline")
        lane = self.lanes.get(command.device_id)
        return (lane.waits.get(command.message_id) if lane else None) or Wait("order")

    async def change(self, event: CommandEvent) -> Applied:
        """Apply an operator's event; on disk when this returns. Raises DatabaseDown, DiskFull."""
        return await self._posts.have_applied(event, self._follow)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send what is due, until cancelled."""
        self.open.begin(await self._database.read(kept.count_open))
        self._pool.has_more = self.open.of(None) > 0
        try:
            async with trio.open_nursery() as nursery:
                self._reader.nursery = nursery
                nursery.start_soon(self.sweeps.run)
                task_status.started()
                while True:
                    await self._advance()
                    await self._until_woken()
        finally:
            self._reader.nursery = None

    # events of others

    def _hear_linked(self, event: DeviceLinked) -> None:
        self._linked[event.device_id] = event
        self.lanes.pop(event.device_id, None)
        if self.open.of(event.device_id):
            self._read(event.device_id)
        if self.open.of(None):
            self._wake(POOL)

    def _hear_unlinked(self, event: DeviceUnlinked) -> None:
        linked = self._linked.get(event.device_id)
        if linked is not None and linked.generation == event.generation:
            del self._linked[event.device_id]
            self.lanes.pop(event.device_id, None)
            self.pace.forget(event.device_id)

    def _hear_seen(self, event: DeviceSeen) -> None:
        if event.status is None or event.status.sim_cards is None:
            return
        lane = self.lanes.get(event.device_id)
        if lane is not None and lane.has_told(event.status.sim_cards):
            self._wake(event.device_id)

    def _hear_switched(self, event: SimSwitched) -> None:
        lane = self.lanes.get(event.device_id)
        if lane is not None and lane.is_loaded:
            lane.switch(event.sim_slot, event.disabled_reason)
            self._wake(event.device_id)
        elif lane is not None:
            self._read(event.device_id)  # what is being read may show it as it was

    def _hear_changed(self, event: SettingsChanged | DeviceMoved) -> None:
        if event.device_id in self.lanes:
            self._read(event.device_id)

    # the loop

    async def _until_woken(self) -> None:
        await trio.lowlevel.checkpoint()
        self._woken = trio.Event()
        if self._ready:
            return
        with trio.move_on_after(min(self._times.wait_s(self._wall_ms()), TURN_S if self.pace else inf)):
            await self._woken.wait()

    async def _advance(self) -> None:
        now = self._wall_ms()
        for name in self._times.due(now):
            self._wake(name)
        ready, self._ready = self._ready, {}
        if self.open.of(None):  # before the lanes: what comes first in a phone's line leaves it a place, but not the other way round
            self._advance_pool(now)
        for place, device_id in enumerate(ready, 1):
            if place % LANES_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
                now = self._wall_ms()
            self._advance_device(now, device_id)
        self.pace.give_turns(partial(self._advance_device, now))

    def _advance_device(self, now: int, device_id: str) -> bool:
        """Whether something sets out to it."""
        lane = self.lanes.get(device_id)
        return lane is not None and lane.is_loaded and self._advance_lane(lane, now)

    def _advance_lane(self, lane: Lane, now: int) -> bool:
        device_id = lane.device.device_id
        if lane.next_due_at is not None and lane.next_due_at <= now:
            lane.next_due_at = None
            self._read(device_id)
        chosen = lane.next_ones(now)
        for command, place in chosen:
            self._claim(lane, command, place, now)
        if lane.has_more and not lane.queue:
            self._read(device_id)
        self._wake_at(lane.next_wake_at(), device_id)
        if len(self.lanes) > self._settings.in_memory_max and not self.open.of(device_id) and not lane.is_needed:
            del self.lanes[device_id]  # nothing is left to send: the next command reads a new one
        return bool(chosen)

    def _advance_pool(self, now: int) -> None:
        pool = self._pool
        if pool.next_due_at is not None and pool.next_due_at <= now:
            pool.next_due_at, pool.is_due = None, True
        if pool.wants_more:
            pool.begin_to_read()
            self._reader.read_pool(self._pool_read)
        for device_id in pool.wanted_lanes():
            self._read(device_id)
        for command, lane, place in pool.next_ones(now):
            self._claim(lane, command, place, now)
        self._wake_at(pool.wakes_at(now), POOL)

    def _claim(self, lane: Lane, command: Command, place: Place, now: int) -> None:
        """Have it written as dispatched. Its place is taken from now on."""
        lane.claim(command.message_id, place)
        self._pool.claim(command.message_id)
        event = Dispatched(command.message_id, lane.device.device_id, place, now)
        self._posts.post(event, lane.device, partial(self._claimed, lane, command), partial(self._unclaimed, lane, command))

    def _unclaimed(self, lane: Lane, command: Command) -> None:
        """A dispatch was not written, for want of room or by a fault that is counted: a little later its line is read anew."""
        lane.free(command.message_id)
        self._pool.settled(command.message_id)
        line, name = (self._pool, POOL) if command.any_device else (lane, lane.device.device_id)
        line.next_due_at = self._wall_ms() + round(1000 * NOT_WRITTEN_S)
        self._wake_at(line.next_due_at, name)

    def _claimed(self, lane: Lane, wanted: Command, applied: Applied) -> None:
        """It is written as dispatched, and goes out now; or it is not, and the lane looks on."""
        device_id, message_id = lane.device.device_id, wanted.message_id
        self._pool.settled(message_id)
        for other in applied.withdrawn:
            self._follow(other)
        lane.note_usage(applied.event, applied.usage)
        if applied.before is None:  # it could not be kept, or is there no more: what is on disk tells
            self._unclaimed(lane, wanted)
            return
        if applied.change is None:
            lane.free(message_id)
            if applied.wait is not None and isinstance(applied.event, Dispatched):
                self._refused(lane, wanted, applied.event, applied.wait)
            self._wake(device_id)
            return
        command = applied.change.command
        self.open.moved(applied.before, command)
        if self.lanes.get(device_id) is not lane:
            self._posts.post(Unsent(message_id, command.attempts, self._wall_ms()), lane.device, self._follow)
            return
        lane.sent(command)
        self._states.add(command.kind.value, command.state.value)
        self._bus.publish(CommandDue(command))
        self._bus.publish(CommandChanged.between(applied.before, command))
        self._wake(device_id)

    def _refused(self, lane: Lane, command: Command, event: Dispatched, wait: Wait) -> None:
        """A limit that memory did not know of: it waits on, and another SIM or phone may be tried."""
        if not lane.refused(command, event, wait):  # memory would send it at once, and be refused again: whatever the cause, not now
            self._unclaimed(lane, command)
            return
        self._line_up(command)
        lines = lane.queue, self._pool.queue
        lane.new_numbers.prune(sum(map(len, lines)), (each.phone_number for line in lines for each in line))

    # what became of it

    def _follow(self, applied: Applied) -> None:
        """A command has changed on disk: memory follows."""
        before, change = applied.before, applied.change
        if before is None or change is None:
            return
        command = change.command
        self.open.moved(before, command)
        self._pool.remove(command.message_id)
        lane = self.lanes.get(before.device_id or POOL)
        if lane is not None:
            lane.follow(command, before, applied.usage)
            self._wake(lane.device.device_id)
        if command.state is CommandState.QUEUED:
            self._line_up(command)
        if command.state is not before.state:
            self._states.add(command.kind.value, command.state.value)
            self._bus.publish(CommandChanged.between(before, command, applied.reason))

    # lines

    def _line_up(self, command: Command, *, is_new: bool = False) -> None:
        """A queued command is on disk: it stands in line for its device, or for any; or it is read when its time comes."""
        name = POOL if command.device_id is None else command.device_id
        line = self._pool if command.device_id is None else self.lanes.get(command.device_id)
        if command.not_before is not None and command.not_before > self._wall_ms():
            if line is not None and not line.is_loading:
                line.next_due_at = min(line.next_due_at or command.not_before, command.not_before)
                self._wake_at(command.not_before, name)
            elif isinstance(line, CommandPool):
                line.missed()
            else:
                self._read(name)
        elif isinstance(line, CommandPool):
            line.offer(command)
            self._wake(POOL)
        elif line is None or line.is_loading:
            if is_new and name in self._linked:
                self.pace.hurry(name)
            self._read(name)
        else:
            line.offer(command)
            self._wake(name, is_new=is_new)

    def _read(self, device_id: str) -> None:
        """Read the lane of a linked device."""
        linked = self._linked.get(device_id)
        if linked is None:
            return
        lane = self.lanes.get(device_id)
        if lane is None:
            device = self._directory.known(device_id) or KnownDevice(device_id, linked.kind, None, self._directory.settings_of_all)
            lane = self.lanes[device_id] = Lane(device, self._rules_of)
            if (cards := self._sims_told(device_id)) is not None:  # the database learns of them a little later
                lane.has_told(cards)
        self._reader.read(lane, self._lane_read)

    def _lane_read(self, lane: Lane, contents: LaneContents) -> None:
        if self.lanes.get(lane.device.device_id) is not lane:
            return
        is_first = not lane.is_loaded
        lane.fill(contents)
        if is_first:
            for command in contents.on_their_way:
                if command.may_be_repeated:
                    self._posts.post(LinkLost(command.message_id, self._wall_ms()), lane.device, self._follow)
        self._wake(lane.device.device_id, is_new=self.pace.is_in_a_hurry(lane.device.device_id))

    def _pool_read(self, contents: PoolContents) -> None:
        self._pool.fill(contents)
        self._wake(POOL)

    # inside

    def _wake(self, name: str, *, is_new: bool = False) -> None:
        """Look at its line: at once where somebody has just asked for something, and at the line for any phone; else in its turn."""
        if is_new or name == POOL or self.pace.is_off:
            self._ready[name] = None
        elif self.pace.add(name):
            return  # others wait for their turn: the loop comes back in any case
        self._woken.set()

    def _wake_at(self, at_ms: int | None, name: str) -> None:
        if self._times.add(at_ms, name):
            self._woken.set()

    def _room(self) -> int:
        return self._settings.in_memory_max - self._count_queued()

    def _count_queued(self) -> int:
        return sum(len(lane.queue) for lane in self.lanes.values()) + len(self._pool.queue)
