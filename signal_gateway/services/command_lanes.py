"""What waits for one linked device and what is on its way to it, as far as memory holds it: which command goes out next, and by which SIM.

The database is the truth: a lane is a hint, and each dispatch is decided once more on what is on disk. Order within a lane is priority,
then acceptance. One command at a time per SIM, and one that needs no SIM; but `alarm_stop` waits for nobody.
"""

from bisect import insort
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from signal_gateway.domain.command import ON_ITS_WAY, Command, CommandKind, Wait
from signal_gateway.domain.command_answers import Answer
from signal_gateway.domain.command_matching import match
from signal_gateway.domain.command_rules import CommandEvent, Dispatched
from signal_gateway.domain.device import SimCard
from signal_gateway.domain.phone_number import same_carrier
from signal_gateway.domain.sim_limits import OWN, RECIPIENTS_LIMIT, SimRules, SimUsage, remaining, wait_for
from signal_gateway.services.device_directory import KnownDevice
from signal_gateway.services.new_numbers import NewNumbers
from signal_gateway.storage.lanes import LaneContents

NO_SIM = None
"""The place of commands that need no SIM: one of them at a time."""
UNKNOWN_SLOTS = (0,)
"""Of a phone that has not told of its SIMs yet."""
SIM_WIDE = frozenset({"sim_parked"})
"""Reasons to wait that hold for whatever a SIM is to do. The others may be of SMS alone: another command is asked for its own."""
BUSY = Wait("busy")
"""For the SIM itself, which sends another one: over before anything else that a command may wait for."""
NO_SUCH_SIM = Wait("no_sim")
STOP = CommandKind.ALARM_STOP
OVERTAKEN = Wait("order")
"""For the stop that was asked for since: that ends it as soon as it sets out."""
Place = int | None


@dataclass(frozen=True, slots=True)
class Sim:
    """A SIM that a phone has told of."""

    slot: int
    carrier_name: str | None


class Lane:
    """One linked device. `rules_of` gives the rules of its SIMs."""

    def __init__(self, device: KnownDevice, rules_of: Callable[[KnownDevice, int], SimRules]) -> None:
        self.device = device
        self.sims: tuple[Sim, ...] | None = None
        """None: not told yet; then any slot that a command names is believed."""
        self._cards: tuple[SimCard, ...] | None = None  # of the last heartbeat that told of them
        self.queue: list[Command] = []
        self.on_way: dict[str, Command] = {}
        """Sent and not answered, oldest first."""
        self.busy: dict[Place, str] = {}
        """Which command each place is taken by: one that is on its way, or is being written as such."""
        self.claiming: set[str] = set()
        self.usages: dict[int, SimUsage] = {}
        self.new_numbers = NewNumbers()
        self.waits: dict[str, Wait] = {}
        """Why each of those that were looked at does not go out."""
        self.is_loaded = False
        self.is_loading = False
        self.is_asked_again = False
        self.changed: set[str] = set()
        """Commands that changed since the read under way began: of them it may show what is no more."""
        self.has_more = False
        """Whether the database may hold queued commands that are not here."""
        self.next_due_at: int | None = None
        self._rules: dict[int, SimRules] = {}
        self._rules_of = rules_of

    def rules(self, slot: int) -> SimRules:
        """The rules of one SIM."""
        found = self._rules.get(slot)
        if found is None:
            found = self._rules[slot] = self._rules_of(self.device, slot)
        return found

    def learn(self, device: KnownDevice) -> None:
        """Its settings, or its group, are others now."""
        self.device = device
        self._rules.clear()

    def begin_to_read(self) -> None:
        """What changes from now on may not be in what comes."""
        self.is_asked_again = False
        self.changed.clear()

    def has_told(self, cards: tuple[SimCard, ...]) -> bool:
        """A heartbeat has told of these; whether they are other SIMs than before. Who says the same again is given the same object."""
        if cards is self._cards:
            return False
        self._cards = cards
        told, before = sims_of(cards), self.sims
        self.sims = told
        return told != before

    def fill(self, contents: LaneContents) -> None:
        """Take what was read. What has changed meanwhile is known better here; what was queued anew is read once more."""
        known = self.changed | self.claiming | self.on_way.keys()
        self.queue = [command for command in contents.queued if command.message_id not in known]
        self.queue.sort(key=order_of)
        self.usages = {**contents.usages, **self.usages}
        if self.sims is None and contents.sim_cards is not None:
            self.sims = sims_of(contents.sim_cards)
        self.has_more = not contents.is_all
        self.next_due_at = contents.next_due_at
        if not self.is_loaded:
            for command in contents.on_their_way:
                if command.message_id in self.changed:
                    continue
                self.on_way[command.message_id] = command
                self.busy.setdefault(place_of(command), command.message_id)
        self.is_loaded = True

    def offer(self, command: Command) -> None:
        """One more stands in line; unless it stands behind what is here, and is read from the database in its turn. A stop has no turn."""
        if self.has_more and command.kind is not STOP:
            last = next((each for each in reversed(self.queue) if each.kind is not STOP), None)
            if last is None or order_of(command) > order_of(last):
                return
        if all(each.message_id != command.message_id for each in self.queue):
            insort(self.queue, command, key=order_of)

    def claim(self, message_id: str, place: Place) -> None:
        """It is being written as dispatched by this place."""
        self.remove(message_id)
        self.busy[place] = message_id
        self.claiming.add(message_id)

    def sent(self, command: Command) -> None:
        """It is on its way."""
        self.claiming.discard(command.message_id)
        self.on_way[command.message_id] = command
        self.new_numbers.discard(command.sim_slot, command.phone_number)

    def refused(self, command: Command, event: Dispatched, wait: Wait) -> bool:
        """The database would not have it set out by this SIM, for this reason. Whether it is known here now, too, that it has to wait.

        What a SIM has used came with the refusal (`note_usage`); that its number is new to the SIM does not stand there.
        """
        slot, number = event.sim_slot, command.phone_number
        if wait.reason == RECIPIENTS_LIMIT and slot is not None and number is not None:
            self.new_numbers.add(slot, number, self.rules(slot).windows(event.at).month)
        return self.wait(command, slot, event.at) is not None

    def follow(self, command: Command, before: Command, usage: SimUsage | None) -> None:
        """It has changed on disk."""
        if usage is not None and before.sim_slot is not None:
            self.usages[before.sim_slot] = usage
        if self.is_loading:
            self.changed.add(command.message_id)
        self.remove(command.message_id)
        if command.state in ON_ITS_WAY:
            self.on_way[command.message_id] = command
            self.busy.setdefault(place_of(command), command.message_id)
        else:
            self.free(command.message_id)

    def note_usage(self, event: CommandEvent, usage: SimUsage | None) -> None:
        """What a SIM has used after it was asked to send one more."""
        if usage is not None and isinstance(event, Dispatched) and event.sim_slot is not None:
            self.usages[event.sim_slot] = usage

    def switch(self, slot: int, reason: str | None) -> None:
        """A SIM was switched off, for this reason, or on."""
        self.usages[slot] = msgspec.structs.replace(self.usages.get(slot) or SimUsage(), disabled_reason=reason)

    @property
    def is_needed(self) -> bool:
        """Whether something is under way that it must know of."""
        return bool(self.queue or self.on_way or self.claiming or self.is_loading)

    def match(self, answer: Answer, answered: Container[str | None] = ()) -> str | None:
        """The id of the command on its way that a report without an id means; one that is `answered` already it does not mean."""
        found = match(answer, [command for command in self.on_way.values() if command.message_id not in answered])
        return None if found is None else found.message_id

    def remove(self, message_id: str) -> None:
        """It is not queued any more."""
        self.queue = [command for command in self.queue if command.message_id != message_id]

    def free(self, message_id: str) -> None:
        """It is not on its way any more."""
        self.on_way.pop(message_id, None)
        self.claiming.discard(message_id)
        for place in [place for place, busy_with in self.busy.items() if busy_with == message_id]:
            del self.busy[place]

    def next_ones(self, now_ms: int) -> list[tuple[Command, Place]]:
        """What may set out now, and by which SIM. Notes why the others wait; none overtakes another for the same SIM."""
        self.waits.clear()
        turn = Turn(self, now_ms)
        chosen: list[tuple[Command, Place]] = []
        last_stop = max((command.id for command in self.queue if command.kind is STOP), default=0)
        for command in self.queue:
            if command.kind is CommandKind.ALARM_START and command.id < last_stop:
                self.waits[command.message_id] = OVERTAKEN
                continue
            found = turn.take(command)
            if isinstance(found, Wait):
                self.waits[command.message_id] = found
            else:
                chosen.append((command, found))
        return chosen

    def place_at_once(self, command: Command, now_ms: int) -> Place | Wait:
        """By which SIM a new one may set out although it is not in line yet: where the line is known, and nobody stands in it."""
        if not self.is_loaded or self.is_loading or self.queue or self.has_more:
            return Wait("order")
        if command.not_before is not None and command.not_before > now_ms:
            return Wait("not_before", command.not_before)
        return Turn(self, now_ms).take(command)

    def next_wake_at(self) -> int | None:
        """When the first of what waits may go, as far as that is known; milliseconds since 1970."""
        times = [wait.until for wait in self.waits.values() if wait.until is not None]
        if self.next_due_at is not None:
            times.append(self.next_due_at)
        return min(times, default=None)

    def places_for(self, command: Command) -> list[Place]:
        """The SIMs that it may go by; none, where the phone has no such SIM."""
        if not command.uses_sim:
            return [NO_SIM]
        if command.sim_slot is not None:
            is_there = self.sims is None or any(sim.slot == command.sim_slot for sim in self.sims)
            return [command.sim_slot] if is_there else []
        return list(UNKNOWN_SLOTS) if self.sims is None else [sim.slot for sim in self.sims]

    def wait(self, command: Command, place: Place, now_ms: int) -> Wait | None:
        """Why it may not go by this SIM now, whatever else is before it; None when it may."""
        if place is None:
            return None
        rules, usage = self.rules(place), self.usages.get(place) or SimUsage()
        is_sms = command.kind is CommandKind.SEND_SMS
        is_new = bool(self.new_numbers) and self.new_numbers.holds(place, command.phone_number, rules.windows(now_ms).month)
        return wait_for(rules, usage, rules.units(command.segments) if is_sms else 0, is_new, now_ms, is_sms=is_sms)

    def worth(self, command: Command, place: Place, now_ms: int) -> int:
        """How well it would go by this SIM, higher is better: the one with the most left, then the one of the number's own carrier."""
        if place is None:
            return 0
        left = remaining(self.rules(place), self.usages.get(place) or SimUsage(), now_ms)
        carrier = next((sim.carrier_name for sim in self.sims or () if sim.slot == place), None)
        is_own = command.phone_number is not None and carrier is not None and same_carrier(command.phone_number, carrier)
        return 2 * left + is_own


class Turn:
    """One look along a lane's line, from its head on: which places are taken or held back for whatever stands further back.

    What holds SMS alone back holds no other kind back: a USSD code may be what tells of a better balance.
    """

    def __init__(self, lane: Lane, now_ms: int) -> None:
        self._lane = lane
        self._now_ms = now_ms
        self._closed: dict[Place, Wait] = dict.fromkeys(lane.busy, BUSY)
        self._closed_for_sms: dict[Place, Wait] = {}
        self._seen = 0

    def take(self, command: Command) -> Place | Wait:
        """By which SIM the next one goes, which then is busy; or why it waits, which may hold back those behind it.

        A stop finds no place busy: whoever has not answered yet, least of all the alarm itself, is no reason to let a phone ring on.
        """
        if command.kind is STOP:
            self._closed[NO_SIM] = BUSY
            return NO_SIM
        if command.sim_slot is not None and self._closed.get(command.sim_slot) is BUSY and command.uses_sim:  # nearly all of a long line
            return BUSY
        waits, ahead = self._waits(command)
        found = self._best(command, waits, ahead)
        if not isinstance(found, Wait):
            self._closed[found] = BUSY
            return found
        is_sms = command.kind is CommandKind.SEND_SMS
        for place, wait in waits.items():
            if wait is not None and wait.reason not in OWN:
                (self._closed_for_sms if is_sms and wait.reason not in SIM_WIDE else self._closed)[place] = wait
        return found

    def offer(self, command: Command) -> tuple[int, Place] | Wait:
        """For one that any phone may take: how well this one could send it, higher is better, and by which SIM; or why not now. It stands
        behind what comes first in the lane, and nothing else. Asked for one after the other, in their order."""
        queue = self._lane.queue
        while self._seen < len(queue) and order_of(queue[self._seen]) < order_of(command):
            self.take(queue[self._seen])
            self._seen += 1
        found = self._best(command, *self._waits(command))
        return found if isinstance(found, Wait) else (self._lane.worth(command, found, self._now_ms), found)

    def _waits(self, command: Command) -> tuple[dict[Place, Wait | None], dict[Place, Wait]]:
        """For each of its places what it waits for itself; or, in the other, what those ahead of it wait for."""
        is_sms, lane = command.kind is CommandKind.SEND_SMS, self._lane
        places = lane.places_for(command)
        closed, closed_for_sms = self._closed, self._closed_for_sms if is_sms else {}
        ahead = {place: wait for place in places if (wait := closed.get(place) or closed_for_sms.get(place))}
        return {place: lane.wait(command, place, self._now_ms) for place in places if place not in ahead}, ahead

    def _best(self, command: Command, waits: Mapping[Place, Wait | None], ahead: Mapping[Place, Wait]) -> Place | Wait:
        """Of SIMs that may send it, the best; or why none may."""
        free = [place for place, wait in waits.items() if wait is None]
        if free:
            return free[0] if len(free) == 1 else max(free, key=lambda place: self._lane.worth(command, place, self._now_ms))
        own = [wait for wait in waits.values() if wait is not None]
        found = [wait for wait in own if wait.reason not in OWN] or list(ahead.values()) or own
        return first_to_end(found) if found else NO_SUCH_SIM


def first_to_end(waits: Sequence[Wait]) -> Wait:
    """The one that is over first: BUSY before all others; what has no known end comes last."""
    return BUSY if BUSY in waits else min(waits, key=lambda wait: float("inf") if wait.until is None else wait.until)


def place_of(command: Command) -> Place:
    """Which place of its device a command takes."""
    return command.sim_slot if command.uses_sim else NO_SIM


def order_of(command: Command) -> tuple[int, int]:
    """Higher priorities first, then in the order of acceptance."""
    return -command.priority, command.id


def sims_of(cards: Iterable[SimCard]) -> tuple[Sim, ...]:
    """The SIMs of a heartbeat that are in use."""
    return tuple(Sim(card.slot_index, card.carrier_name) for card in cards if card.is_active is not False)
