"""Events of commands, applied to what is on disk in one transaction: the commands, their timelines, and what their SIMs have used.

`apply` is the work of a job of the batch writer (`BatchWriter.post`): however many events come together, they cost a handful of
statements. Of two events for one command the later sees what the earlier did, and of a hundred sends at a limit's last one, one passes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, bindparam, update

from signal_gateway.domain.command import OPPOSITES, Command, CommandKind, CommandState, Step, Wait
from signal_gateway.domain.command_answers import Outcome
from signal_gateway.domain.command_matching import match
from signal_gateway.domain.command_rules import SUPERSEDED, Change, CommandEvent, CommandPolicy, Dispatched, Heard, Withdrawn
from signal_gateway.domain.sim_limits import SimRules, SimUsage, Windows, after_failure, after_success, refunded, used, wait_for
from signal_gateway.storage import commands as kept
from signal_gateway.storage import sims
from signal_gateway.storage.prepared import PreparedWrite
from signal_gateway.storage.sims import SimKey
from signal_gateway.storage.tables import commands

NEW_RECIPIENT = "new_recipient"
"""In the detail of a dispatch, in a command's timeline: its number was counted as one more that its SIM writes to this month."""
Rules = Callable[[int], SimRules]
"""The rules of the SIMs of one device, by slot."""

_CHANGING = (
    "state",
    "device_id",
    "sim_slot",
    "attempts",
    "attempts_before",
    "not_before",
    "expires_at",
    "life_ms",
    "deadline_at",
    "dispatched_at",
    "final_at",
    "error",
    "error_message",
    "result",
    "last_report",
)
_UPDATE = PreparedWrite(update(commands).where(commands.c.id == bindparam("key_id")), _CHANGING)


@dataclass(frozen=True, slots=True)
class Item:
    """One event, and what is needed beside it."""

    event: CommandEvent
    rules: Rules | None = None
    """Of the SIM that it sets out by, or was sent by; by slot. None where no SIM is concerned."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of an event."""

    event: CommandEvent
    before: Command | None = None
    """None: there is no such command, or none that a report fits."""
    change: Change | None = None
    """None: it changed nothing."""
    wait: Wait | None = None
    """Why a command may not set out yet."""
    usage: SimUsage | None = None
    """Of its SIM, afterwards."""
    withdrawn: "tuple[Applied, ...]" = ()
    """What else changed by it: the earlier opposites of what sets out (OPPOSITES)."""

    @property
    def reason(self) -> str | None:
        """What kind of report brought it there, where that is of interest."""
        return "delivery_report" if isinstance(self.event, Heard) and self.event.answer.is_delivery_report else None


@dataclass(slots=True)
class _Ledger:
    """What the events of one transaction have read and changed so far."""

    connection: Connection
    policy: CommandPolicy
    commands: dict[str, Command]
    usages: dict[SimKey, SimUsage]
    changed: dict[str, Command] = field(default_factory=dict[str, Command])
    changed_usages: dict[SimKey, SimUsage] = field(default_factory=dict[SimKey, SimUsage])
    steps: list[tuple[str, Step]] = field(default_factory=list[tuple[str, Step]])


def apply(connection: Connection, items: Sequence[Item], policy: CommandPolicy) -> Sequence[Applied]:
    """Apply these events in order."""
    candidates = [_candidates(connection, item) for item in items]
    likely = [_named(item, each) for item, each in zip(items, candidates, strict=True)]
    found = kept.find_many(connection, sorted({item.event.message_id for item in likely if item.event.message_id is not None}))
    keys = {key for item in likely if item.rules is not None and (key := _sim_of(item.event, found)) is not None}
    ledger = _Ledger(connection, policy, found, sims.find_many(connection, keys) if keys else {})
    applied = [_apply(ledger, _named_now(ledger, item, each)) for item, each in zip(items, candidates, strict=True)]
    if ledger.changed:
        rows = [{"key_id": command.id, **_changing(command)} for command in ledger.changed.values()]
        _UPDATE.run(connection, rows)
    kept.write_steps(connection, ledger.steps)
    sims.keep(connection, ledger.changed_usages)
    return applied


def _apply(ledger: _Ledger, item: Item) -> Applied:
    event = item.event
    command = None if event.message_id is None else ledger.commands.get(event.message_id)
    if command is None:
        return Applied(event)
    change = event.apply(command, ledger.policy)
    if change is None:
        return Applied(event, command)
    usage = None
    if item.rules is not None and (key := _sim_of(event, ledger.commands)) is not None:
        usage = ledger.usages.get(key) or SimUsage()
        if isinstance(event, Dispatched):
            charged = _charge(ledger, key, item.rules(key[1]), usage, command, event.at)
            if charged.wait is not None:
                return Applied(event, command, wait=charged.wait, usage=usage)
            usage = charged.usage
            if charged.is_new_recipient:
                detail = {**(change.step.detail or {}), NEW_RECIPIENT: True}
                change = change._replace(step=msgspec.structs.replace(change.step, detail=detail))
        else:
            usage = _settle(ledger, key, item, usage, command, change)
        ledger.usages[key] = ledger.changed_usages[key] = usage
    ledger.commands[command.message_id] = ledger.changed[command.message_id] = change.command
    ledger.steps.append((command.message_id, change.step))
    opposite = OPPOSITES.get(command.kind) if isinstance(event, Dispatched) else None
    withdrawn = () if opposite is None else _withdraw(ledger, change.command, opposite, event.at)
    return Applied(event, command, change, usage=usage, withdrawn=withdrawn)


def _withdraw(ledger: _Ledger, command: Command, opposite: CommandKind, at: int) -> tuple[Applied, ...]:
    """End what the one that sets out was accepted after: a try of it that came later would undo what this one does."""
    earlier = kept.open_before(ledger.connection, command, opposite)
    ledger.commands = {each.message_id: each for each in earlier} | ledger.commands  # what this transaction has changed is newer
    words = f"{command.kind.value} {command.message_id} came after it"
    return tuple(_apply(ledger, Item(Withdrawn(each.message_id, SUPERSEDED, words, at))) for each in earlier)


class _Charged(NamedTuple):
    usage: SimUsage
    wait: Wait | None = None
    """Why it may not set out yet."""
    is_new_recipient: bool = False


def _charge(ledger: _Ledger, key: SimKey, rules: SimRules, usage: SimUsage, command: Command, at: int) -> _Charged:
    """Count what sets out against its SIM; or why it may not yet."""
    is_sms = command.kind is CommandKind.SEND_SMS
    windows = rules.windows(at)
    number = command.phone_number
    counts_recipients = is_sms and rules.recipients_max > 0 and rules.limits_enabled and number is not None
    is_new = counts_recipients and not sims.knows_recipient(ledger.connection, key, windows.month, number or "")
    units = rules.units(command.segments)
    wait = wait_for(rules, usage, units, is_new, at) if is_sms else wait_for(rules, usage, 0, False, at, is_sms=False)
    if wait is not None or not is_sms:
        return _Charged(usage, wait)
    if is_new:
        sims.add_recipient(ledger.connection, key, windows.month, number or "")
    return _Charged(used(usage, windows, units, is_new, at), is_new_recipient=is_new)


def _settle(ledger: _Ledger, key: SimKey, item: Item, usage: SimUsage, command: Command, change: Change) -> SimUsage:
    """What an answer says about the SIM: it works, it failed, it did not send after all, it holds so much. RCS goes over data: that it was
    sent proves nothing of the carrier."""
    event = item.event
    if item.rules is None:
        return usage
    rules = item.rules(key[1])
    if not change.counts and command.kind is CommandKind.SEND_SMS:
        of_then = rules.windows(command.dispatched_at or event.at)
        usage = refunded(usage, rules.units(command.segments), of_then, _has_forgotten(ledger, key, rules, usage, command, of_then))
    if isinstance(event, Heard):
        if event.answer.outcome is Outcome.FAILED and event.answer.blames_sim:
            usage = after_failure(usage, event.at, rules.park_after, rules.park_s, rules.park_max_s)
        elif change.command.state in (CommandState.SENT, CommandState.DELIVERED) and command.kind is not CommandKind.SEND_RCS:
            usage = after_success(usage)
        if event.answer.balance is not None:
            usage = msgspec.structs.replace(usage, balance=event.answer.balance, balance_at=event.at)
    return usage


def _has_forgotten(ledger: _Ledger, key: SimKey, rules: SimRules, usage: SimUsage, command: Command, of_then: Windows) -> bool:
    """Whether the number of what was not sent is none of the SIM's recipients any more: it became one for that dispatch, as its step in the
    timeline tells, and the SIM has sent nothing since, so that nothing else went there."""
    if rules.recipients_max == 0 or usage.month != of_then.month or usage.last_sent_at != command.dispatched_at:
        return False
    steps = kept.steps_of(ledger.connection, command.message_id)
    steps += [step for message_id, step in ledger.steps if message_id == command.message_id]
    dispatch = next((step for step in reversed(steps) if step.state is CommandState.DISPATCHED), None)
    if command.phone_number is None or dispatch is None or not (dispatch.detail or {}).get(NEW_RECIPIENT):
        return False
    return sims.forget_recipient(ledger.connection, key, of_then.month, command.phone_number)


def _candidates(connection: Connection, item: Item) -> Sequence[Command]:
    """What a report that names no command may mean: the newest of its device. Nothing for what names its own."""
    event = item.event
    if not isinstance(event, Heard) or event.message_id is not None:
        return ()
    return kept.newest_of(connection, event.answer.device_id, event.answer.kinds)


def _named(item: Item, candidates: Sequence[Command]) -> Item:
    """The item with the command that it means, if it means one of these."""
    event = item.event
    found = match(event.answer, candidates) if candidates and isinstance(event, Heard) else None
    if found is None or not isinstance(event, Heard):
        return item
    return Item(msgspec.structs.replace(event, message_id=found.message_id), item.rules)


def _named_now(ledger: _Ledger, item: Item, candidates: Sequence[Command]) -> Item:
    """The same after what this transaction has changed: of two reports that look alike the second means another command than the first."""
    if not candidates:
        return item
    named = _named(item, [ledger.commands.get(command.message_id, command) for command in candidates])
    message_id = named.event.message_id
    if message_id is not None and message_id not in ledger.commands:
        ledger.commands |= kept.find_many(ledger.connection, [message_id])
        key = _sim_of(named.event, ledger.commands)
        if key is not None and key not in ledger.usages:
            ledger.usages |= sims.find_many(ledger.connection, [key])
    return named


def _sim_of(event: CommandEvent, found: dict[str, Command]) -> SimKey | None:
    if isinstance(event, Dispatched):
        return None if event.sim_slot is None else (event.device_id, event.sim_slot)
    command = found.get(event.message_id or "")
    if command is None or command.device_id is None or command.sim_slot is None:
        return None
    return command.device_id, command.sim_slot


def _changing(command: Command) -> dict[str, Any]:
    values = kept.values_of(command)
    return {name: values[name] for name in _CHANGING}
