"""What must be so of commands, whatever happened: laws over what was accepted, what the phones did, and what is on disk at the end.

Each law yields a sentence for every breach. They know nothing of how a gateway works, only what it promises (DESIGN.md §7).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from signal_gateway.domain.command import ALWAYS_FINAL, AT_MOST_ONCE, ON_ITS_WAY, Command, CommandState, Step
from signal_gateway.domain.command_rules import RANKS
from signal_gateway.testing.modem import Effect

LAST = (CommandState.SENT, CommandState.UNKNOWN)
"""States that may be a command's last beside those that always are."""


@dataclass(slots=True)
class CommandHistory:
    """Everything that is looked at."""

    accepted: Sequence[str]
    """Ids that the gateway said it had."""
    commands: Mapping[str, Command]
    """What is on disk."""
    steps: Mapping[str, Sequence[Step]]
    """Timelines, without their beginning."""
    effects: Sequence[Effect] = field(default_factory=tuple[Effect, ...])
    """What all phones did, over all lives of the gateway."""


Findings = Iterator[str]
Law = Callable[[CommandHistory], Findings]


def nothing_is_lost(history: CommandHistory) -> Findings:
    """What was accepted is on disk."""
    for message_id in history.accepted:
        if message_id not in history.commands:
            yield f"{message_id} was accepted and is gone"


def everything_ends(history: CommandHistory) -> Findings:
    """At the end each command is in a final state, and has no deadline."""
    for command in history.commands.values():
        if command.final_at is None or command.state not in (*ALWAYS_FINAL, *LAST):
            yield f"{command.message_id} is {command.state.value} for ever"
        if command.deadline_at is not None:
            yield f"{command.message_id} ended and has a deadline"


def nothing_is_done_twice(history: CommandHistory) -> Findings:
    """An SMS, a USSD code or an RCS message has one effect at the most, unless its sender allowed more."""
    done = Counter(effect.message_id for effect in history.effects if effect.message_id is not None)
    for message_id, times in done.items():
        command = history.commands.get(message_id)
        if command is not None and times > 1 and command.kind in AT_MOST_ONCE and not command.retry_safe:
            failed = sum(step.state is CommandState.QUEUED for step in history.steps.get(message_id, ()))
            if times > 1 + failed or command.kind.value.startswith("send_sms"):
                yield f"{message_id} was done {times} times"


def what_is_told_was_done(history: CommandHistory) -> Findings:
    """What is sent or delivered was done, and by the phone and the SIM that it says; what expired or was cancelled was not."""
    by_id = {effect.message_id: effect for effect in history.effects}
    for command in history.commands.values():
        effect = by_id.get(command.message_id)
        if command.kind not in AT_MOST_ONCE:
            continue
        if command.state in (CommandState.SENT, CommandState.DELIVERED):
            if effect is None:
                yield f"{command.message_id} is {command.state.value}, and no phone did it"
            elif (effect.device_id, effect.sim_slot) != (command.device_id, command.sim_slot):
                yield f"{command.message_id} was done by {effect.device_id}, and {command.device_id} has the praise"
        if effect is not None and command.kind.value == "send_sms" and command.attempts == 0:
            yield f"{command.message_id} was done and never dispatched"


def no_step_leads_back(history: CommandHistory) -> Findings:
    """Within an attempt states go forward; a new attempt begins in the queue, and nothing follows an end."""
    for message_id, steps in history.steps.items():
        before, attempt = CommandState.QUEUED, 1
        for step in steps:
            if before in ALWAYS_FINAL:
                yield f"{message_id} went from {before.value} to {step.state.value}"
            if step.state is not CommandState.QUEUED and before is not CommandState.QUEUED:
                is_late = before is CommandState.SENT and step.state is CommandState.UNKNOWN
                if RANKS.get(step.state, 9) < RANKS.get(before, 9) and not is_late:
                    yield f"{message_id} went back from {before.value} to {step.state.value}"
            if step.attempt < attempt and CommandState.QUEUED not in (before, step.state):  # else a late word about the attempt before
                yield f"{message_id} fell back to attempt {step.attempt}"
            before, attempt = step.state, max(attempt, step.attempt)


def the_last_step_is_the_state(history: CommandHistory) -> Findings:
    """A timeline tells the same as the command."""
    for message_id, command in history.commands.items():
        steps = history.steps.get(message_id, ())
        last = steps[-1].state if steps else CommandState.QUEUED
        if last is not command.state:
            yield f"{message_id} is {command.state.value}, and its timeline ends with {last.value}"


def first_tries_go_in_order(history: CommandHistory) -> Findings:
    """Of one device, SIM and priority, what was accepted earlier sets out earlier."""
    lines: dict[tuple[object, ...], list[tuple[int, int, str]]] = {}
    for message_id, command in history.commands.items():
        if command.any_sim or command.any_device or command.attempts_before:
            continue
        first = next((step.at for step in history.steps.get(message_id, ()) if step.state is CommandState.DISPATCHED), None)
        if first is not None:
            line = (command.device_id, command.sim_slot if command.uses_sim else None, command.priority, command.kind)
            lines.setdefault(line, []).append((command.id, first, message_id))
    for line in lines.values():
        line.sort()
        for (_, earlier, one), (_, later, other) in pairwise(line):
            if later < earlier:
                yield f"{other} set out before {one}"


def a_sim_does_one_thing_at_a_time(history: CommandHistory) -> Findings:
    """What sets out by a SIM does so when the SIM has nothing on its way any more."""
    busy: dict[tuple[object, object], list[tuple[int, float, str]]] = {}
    for message_id, command in history.commands.items():
        steps = history.steps.get(message_id, ()) if command.uses_sim else ()
        for place, step in enumerate(steps):
            if step.state is not CommandState.DISPATCHED:
                continue
            where = step.detail or {}
            ended_at = next((later.at for later in steps[place + 1 :] if later.state not in ON_ITS_WAY), float("inf"))
            sim = where.get("device_id", command.device_id), where.get("sim_slot", command.sim_slot)
            busy.setdefault(sim, []).append((step.at, ended_at, message_id))
    for turns in busy.values():
        turns.sort()
        for (_, ended_at, one), (begun_at, _, other) in pairwise(turns):
            if begun_at < ended_at:
                yield f"{other} set out while {one} was on its way by the same SIM"


def nothing_sets_out_too_late(history: CommandHistory) -> Findings:
    """Not after it expired."""
    for message_id, command in history.commands.items():
        for step in history.steps.get(message_id, ()):
            if step.state is CommandState.DISPATCHED and step.at >= command.expires_at:
                yield f"{message_id} set out after it had expired"


LAWS: tuple[Law, ...] = (
    nothing_is_lost,
    everything_ends,
    nothing_is_done_twice,
    what_is_told_was_done,
    no_step_leads_back,
    the_last_step_is_the_state,
    first_tries_go_in_order,
    a_sim_does_one_thing_at_a_time,
    nothing_sets_out_too_late,
)


def breaches(history: CommandHistory) -> list[str]:
    """Everything that is not as it must be."""
    return [finding for law in LAWS for finding in law(history)]
