"""What must be so of commands, whatever happened: laws over what was accepted, what the phones did, and what is on disk at the end.

Each law yields a sentence for every breach. They know nothing of how a gateway works, only what it promises (DESIGN.md §7).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from signal_gateway.domain.command import ALWAYS_FINAL, AT_MOST_ONCE, ON_ITS_WAY, Command, CommandKind, CommandRequest, CommandState, Step
from signal_gateway.domain.command_rules import RANKS, REQUEUEABLE
from signal_gateway.domain.sim_limits import SimRules
from signal_gateway.testing.handset import Effect

LAST = (CommandState.SENT, CommandState.UNKNOWN)
"""States that may be a command's last beside those that always are."""
ENDED_ALL_THE_SAME = ("ussd_cancelled", "not_delivered")
"""Errors that say that something had been done before."""


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
    asked: Mapping[str, CommandRequest] | None = None
    """Everything that was tried, by id; None where that is not known."""
    rules: Callable[[int], SimRules] | None = None
    """The limits of every phone's SIMs, by slot; None where they are not known."""
    reported: Sequence[str] = ()
    """Commands whose success their phone has reported by id, in a report that was acknowledged."""
    held: Sequence[tuple[str, str]] = ()
    """Device and id of commands that the gateway takes a device to be busy with, and that are on their way no more."""


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
    """An SMS, a USSD code or an RCS message has one effect at the most, unless its sender allowed more or an operator requeued it."""
    done = Counter(effect.message_id for effect in history.effects if effect.message_id is not None)
    for message_id, times in done.items():
        command = history.commands.get(message_id)
        if command is None or _may_be_repeated(command):
            continue
        requeued = sum("requeued_by" in (step.detail or {}) for step in history.steps.get(message_id, ()))
        if times > 1 + requeued:
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
            elif (effect.device_id, effect.sim_slot) != (command.device_id, command.sim_slot) and not _may_be_repeated(command):
                yield f"{command.message_id} was done by {effect.device_id}, and {command.device_id} has the praise"
        if effect is not None and command.kind.value == "send_sms" and command.attempts == 0:
            yield f"{command.message_id} was done and never dispatched"


def what_was_done_is_told(history: CommandHistory) -> Findings:
    """What was done is not told as if it had never been: expired, taken back or given up.

    A USSD menu of which the phone says no more than that it ended it is cancelled (C-26); an SMS of which nothing is heard but that the
    network could not deliver it has failed.
    """
    done = {effect.message_id for effect in history.effects}
    for message_id, command in history.commands.items():
        if message_id not in done or _may_be_repeated(command) or command.attempts_before:
            continue
        was_sent = any(step.state in (CommandState.SENT, CommandState.DELIVERED) for step in history.steps.get(message_id, ()))
        if command.state in ALWAYS_FINAL and not was_sent and command.error not in ENDED_ALL_THE_SAME:
            yield f"{message_id} was done, and is told as {command.state.value}"


def what_was_done_had_set_out(history: CommandHistory) -> Findings:
    """A phone does nothing that was not dispatched to it, and to this SIM, before."""
    for effect in history.effects:
        if effect.message_id is not None and _dispatch_of(history, effect) is None:
            yield f"{effect.device_id} did {effect.message_id} by SIM {effect.sim_slot} at {effect.at}, and was not told to"


def no_step_leads_back(history: CommandHistory) -> Findings:
    """Within an attempt states go forward; a new attempt begins in the queue, and nothing follows an end but an operator's requeue."""
    for message_id, steps in history.steps.items():
        before, attempt = CommandState.QUEUED, 1
        for step in steps:
            detail = step.detail or {}
            is_requeue = "requeued_by" in detail and step.state is CommandState.QUEUED and before in REQUEUEABLE
            if before in ALWAYS_FINAL and not detail.get("read") and not is_requeue:  # that it was read is told after its end
                yield f"{message_id} went from {before.value} to {step.state.value}"
            if step.state is not CommandState.QUEUED and before is not CommandState.QUEUED:
                is_late = before is CommandState.SENT and step.state is CommandState.UNKNOWN
                if RANKS.get(step.state, 9) < RANKS.get(before, 9) and not is_late:
                    yield f"{message_id} went back from {before.value} to {step.state.value}"
            if step.attempt < attempt and CommandState.QUEUED not in (before, step.state):  # else a late word about the attempt before
                yield f"{message_id} fell back to attempt {step.attempt}"
            before, attempt = step.state, step.attempt


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
        request = (history.asked or {}).get(message_id)
        if command.any_sim or command.any_device or command.attempts_before or (request is not None and request.not_before is not None):
            continue
        first = next((step.at for step in history.steps.get(message_id, ()) if _sets_out(step)), None)
        if first is not None:
            line = (command.device_id, command.sim_slot if command.uses_sim else None, command.priority, command.kind)
            lines.setdefault(line, []).append((command.id, first, message_id))
    for line in lines.values():
        line.sort()
        for (_, earlier, one), (_, later, other) in pairwise(line):
            if later < earlier:
                yield f"{other} set out before {one}"


def nothing_sets_out_too_late(history: CommandHistory) -> Findings:
    """Not after it expired."""
    for message_id, command in history.commands.items():
        for step in history.steps.get(message_id, ()):
            if _sets_out(step) and step.at >= command.expires_at:
                yield f"{message_id} set out after it had expired"


def nothing_sets_out_too_early(history: CommandHistory) -> Findings:
    """Not before its sender wanted it."""
    for message_id, request in (history.asked or {}).items():
        first = next((step.at for step in history.steps.get(message_id, ()) if _sets_out(step)), None)
        if first is not None and first < (request.not_before or 0):
            yield f"{message_id} set out {(request.not_before or 0) - first} ms too early"


def nothing_is_made_up(history: CommandHistory) -> Findings:
    """What is on disk was asked for."""
    if history.asked is not None:
        for message_id in history.commands.keys() - history.asked.keys():
            yield f"{message_id} is on disk, and nobody asked for it"


def a_timeline_counts_its_attempts(history: CommandHistory) -> Findings:
    """A command was dispatched as often as it says, attempt after attempt; what was taken back in time counts for none."""
    for message_id, command in history.commands.items():
        made = 0
        for step in history.steps.get(message_id, ()):
            if _sets_out(step):
                made += 1
                if step.attempt != made:
                    yield f"{message_id} set out for the time {made}, and its timeline says {step.attempt}"
            elif _is_unsent(step):
                made -= 1
        if made != command.attempts:
            yield f"{message_id} set out {made} times, and says {command.attempts}"


def a_sim_does_one_thing_at_a_time(history: CommandHistory) -> Findings:
    """From dispatch to the next step of that command its SIM is sent nothing else."""
    busy: defaultdict[tuple[Any, Any], list[tuple[int, float, str]]] = defaultdict(list)
    for message_id, command in history.commands.items():
        if not command.uses_sim:
            continue
        steps = history.steps.get(message_id, ())
        for place, step in enumerate(steps):
            if _sets_out(step):
                over = (later.at for later in steps[place + 1 :] if later.state not in ON_ITS_WAY)
                busy[_sim_of(step, command)].append((step.at, next(over, float("inf")), message_id))
    for sim, times in busy.items():
        times.sort()
        for (_, ended, one), (began, _, other) in pairwise(times):
            if began < ended:
                yield f"{other} was sent to SIM {sim[1]} of {sim[0]}, which was busy with {one}"


def the_limits_of_a_sim_hold(history: CommandHistory) -> Findings:
    """A SIM sends no more in a day and a month than it may, counted by when each was dispatched, and keeps its pauses."""
    if history.rules is None:
        return
    spent: Counter[tuple[str, int | None, str, int]] = Counter()
    for effect in history.effects:
        at = _dispatch_of(history, effect) if effect.kind == CommandKind.SEND_SMS else None
        if at is None:
            continue
        rules = history.rules(effect.sim_slot or 0)
        if rules.limits_enabled:
            of_then, units = rules.windows(at), rules.units(effect.segments)
            spent[effect.device_id, effect.sim_slot, of_then.day, rules.daily_max] += units
            spent[effect.device_id, effect.sim_slot, of_then.month, rules.monthly_max] += units
    for (device_id, slot, window, limit), units in spent.items():
        if units > limit:
            yield f"SIM {slot} of {device_id} sent {units} in {window}, and may {limit}"
    sent: defaultdict[tuple[Any, Any], list[int]] = defaultdict(list)
    for message_id, command in history.commands.items():
        for step in history.steps.get(message_id, ()):
            if command.kind is CommandKind.SEND_SMS and _sets_out(step):
                sent[_sim_of(step, command)].append(step.at)
    for (device_id, slot), times in sent.items():
        guard_ms = 1000 * history.rules(slot or 0).guard_s
        for one, other in pairwise(sorted(times)):
            if other - one < guard_ms:
                yield f"SIM {slot} of {device_id} was sent an SMS {other - one} ms after another"


def what_a_phone_has_reported_is_known(history: CommandHistory) -> Findings:
    """A report of success that was acknowledged is in the timeline of its command."""
    told = (CommandState.SENT, CommandState.DELIVERED)
    for message_id in history.reported:
        command = history.commands.get(message_id)
        if command is None or _may_be_repeated(command):
            continue
        if not any(step.state in told for step in history.steps.get(message_id, ())):
            yield f"{message_id} was reported as done and acknowledged, and is {command.state.value}"


def what_has_ended_holds_nothing(history: CommandHistory) -> Findings:
    """A device is free for the next command once the last one has ended."""
    for device_id, message_id in history.held:
        yield f"{device_id} is taken to be busy with {message_id}, which has ended"


LAWS: tuple[Law, ...] = (
    nothing_is_lost,
    everything_ends,
    nothing_is_done_twice,
    what_is_told_was_done,
    what_was_done_is_told,
    what_was_done_had_set_out,
    nothing_is_made_up,
    no_step_leads_back,
    the_last_step_is_the_state,
    first_tries_go_in_order,
    nothing_sets_out_too_late,
    nothing_sets_out_too_early,
    a_timeline_counts_its_attempts,
    a_sim_does_one_thing_at_a_time,
    the_limits_of_a_sim_hold,
    what_a_phone_has_reported_is_known,
    what_has_ended_holds_nothing,
)


def breaches(history: CommandHistory) -> list[str]:
    """Everything that is not as it must be."""
    return [finding for law in LAWS for finding in law(history)]


def _dispatch_of(history: CommandHistory, effect: Effect) -> int | None:
    """When the command of an effect was dispatched to where it was done; None: never before."""
    command = history.commands.get(effect.message_id or "")
    if command is None:
        return None
    times = [
        step.at
        for step in history.steps.get(command.message_id, ())
        if _sets_out(step) and step.at <= effect.at and _sim_of(step, command) == (effect.device_id, effect.sim_slot)
    ]
    return max(times, default=None)


def _may_be_repeated(command: Command) -> bool:
    """Whether it may have more than one effect. Said here once more: a law does not take the word of what it judges."""
    return command.retry_safe or command.kind not in AT_MOST_ONCE


def _sets_out(step: Step) -> bool:
    """Whether this step is a dispatch, not the delivery of one part of what was dispatched."""
    return step.state is CommandState.DISPATCHED and "part" not in (step.detail or {})


def _sim_of(step: Step, command: Command) -> tuple[Any, Any]:
    """Device and slot of a dispatch, by its timeline; by the command where the timeline does not say."""
    detail = step.detail or {}
    return detail.get("device_id", command.device_id), detail.get("sim_slot", command.sim_slot)


def _is_unsent(step: Step) -> bool:
    """Whether this step took a dispatch back whose first byte was never sent."""
    return step.state is CommandState.QUEUED and (step.detail or {}).get("reason") == "link_lost"
